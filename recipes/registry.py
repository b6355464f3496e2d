"""Recipes by name: a new paper is one file, its report, one config and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from recipes import human, human_report, mcnn, mcnn_report, webly, webly_report, ws2, ws2_report


class Recipe(NamedTuple):
    """What a recipe offers.

    Attributes:
        run: does its stages in order; (cfg, run folder, loggers) -> results of the stages.
        describe: (cfg, results of the stages) -> its part of ``results.json``.
        show_tables: (cfg, results of the stages, described results, folder) prints its tables and writes them.
    """

    run: Callable[..., dict[str, Any]]
    describe: Callable[..., dict[str, Any]]
    show_tables: Callable[..., None]


RECIPES = {
    "ws2": Recipe(ws2.run, ws2_report.describe, ws2_report.show_tables),
    "mcnn": Recipe(mcnn.run, mcnn_report.describe, mcnn_report.show_tables),
    "webly": Recipe(webly.run, webly_report.describe, webly_report.show_tables),
    "human": Recipe(human.run, human_report.describe, human_report.show_tables),
}
