"""The few lines that every entry point shares: ``--help``, ``--cfg``, and mistakes in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pseudolabel.types import DataError
from recipes.quiet import quieten
from recipes.worker_processes import end_worker_processes


def command_line(
    arguments: list[str], *, doc: str, load: Callable[[list[str]], DictConfig], work: Callable[[DictConfig], Any]
) -> int:
    """Run an entry point.

    Args:
        arguments: words of the command line.
        doc: what ``--help`` prints.
        load: composes the configuration from overrides.
        work: does the job.

    Returns:
        exit status: 0, 1 for unusable input, 130 when interrupted.
    """
    quieten()
    if any(word in ("-h", "--help") for word in arguments):
        print(doc.strip())
        return 0
    try:
        cfg = load([word for word in arguments if word != "--cfg"])
        if "--cfg" in arguments:
            print(OmegaConf.to_yaml(cfg, resolve=True), end="")
            return 0
        work(cfg)
        return 0
    except DataError as error:
        if os.environ.get("TAGMASK_TRACEBACK"):
            raise
        print("error:", " ".join(str(error).splitlines()), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as leaving:  # Lightning makes this of Ctrl-C while a network trains
        if not isinstance(leaving.__context__, KeyboardInterrupt):
            raise
        return _interrupted()
    finally:
        end_worker_processes()


def _interrupted() -> int:
    print("interrupted; the same command goes on from here", file=sys.stderr)
    return 130
