"""The tables of Hong et al. 2017: ``python -m benchmarks.webly seeds=[0,1,2] variants=[webly,end-to-end,one-scale]``.

All variants of one seed share what their settings leave as it is (the classifier, the videos, their labels), so that
differences are paired. Runs that are done are not done again. Any key of ``train.py`` may be given as well. Variants:

  webly            the complete method: decoder, then adapted to the images
  end-to-end       classifier and decoder learn together, from the same clips alone
  one-scale        attention of one scale in place of four, in labels, training and test
  by-attention     the decoder learns the shapes of attention alone
  by-motion        the decoder learns the shapes of a motion segmentation
  no-colour        no colour term in the segmentation of videos
  adapt-all        the classifier is adapted as well
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from benchmarks.variants import Changes, Folders, run_variants, show_cost, spread
from recipes.command_line import command_line
from recipes.configuration import load_config
from recipes.tables import show
from recipes.webly_report import NAMES, WAYS

_NO_MORE = {"twin": False, "compare": []}
"""What only the complete method does."""

VARIANTS: dict[str, Changes] = {
    "webly": {},
    "end-to-end": {"training": "end_to_end", "adapt.enabled": False, **_NO_MORE},
    "one-scale": {"attention.scales": [1.0], **_NO_MORE},
    "by-attention": {"graph.lambda_m": 0.0, "graph.lambda_c": 0.0, **_NO_MORE},
    "by-motion": {"graph.lambda_a": 0.0, **_NO_MORE},
    "no-colour": {"graph.lambda_c": 0.0, **_NO_MORE},
    "adapt-all": {"adapt.train": "all", **_NO_MORE},
}
"""The settings that each row changes; everything else is as given."""

_ENCODER = ("encoder2d.", "images.")
_WEB = ("retrieval.", "data.")
_VIDEOS = ("attention.", "relevance.", "graph.")
_DECODER = ("training", "decoder.")
"""Beginnings of the keys on which each stage depends, beside those of the stages before it."""

Rows = Sequence[Mapping[str, Any]]
"""One per variant and seed: ``variant``, ``seed`` and the run's results."""


def shared_stages(changes: Changes) -> dict[str, Folders]:
    """Return the stages that a variant has in common with ``webly``, and what they have written."""
    stages: dict[str, Folders] = {}
    for name, written, keys in (
        ("encoder2d", ("encoder2d",), _ENCODER),
        ("web", ("web",), _WEB),
        ("videos", ("videos", "pa"), _VIDEOS),
        ("decoder", ("decoder",), _DECODER),
    ):
        if any(key.startswith(keys) for key in changes):
            break
        stages[name] = written
    return stages


def make_tables(cfg: DictConfig) -> list[dict[str, Any]]:
    """Run all variants on all seeds, print Tables 1 and 4, what they say in pairs, and write all as CSV.

    Args:
        cfg: configuration ``webly_tables``.

    Returns:
        one row per variant and seed: ``variant``, ``seed`` and the run's results.
    """
    rows = list(run_variants(cfg, VARIANTS, lead="webly", shared=shared_stages))
    show_tables(rows, Path(cfg.root) / "tables")
    return rows


def show_tables(rows: Rows, folder: Path) -> None:
    """Print all tables for which there are runs, and write ``<folder>/*.csv``.

    Args:
        rows: see :data:`Rows`.
        folder: gets ``table1``, ``table4``, ``retrieval``, ``differences`` and ``cost``.
    """
    where = rows[0]["tested_on"]
    note = f"on {where}, {len({row['seed'] for row in rows})} seeds, mean ± std"
    _table_1(rows, where, note, folder)
    lead = [row for row in rows if row["variant"] == "webly"]
    videos = [row["videos"] for row in lead if row["videos"]]
    if videos:
        lines = [
            (WAYS[way], *(spread([of[way].get(key) for of in videos]) for key in ("miou", "jaccard")))
            for way in videos[0]
        ]
        header = ("evidence", "class average (mIoU)", "video average (J)")
        show("Table 4. Segmentation of the training videos, mean ± std", header, lines, folder, name="table4")
    found = [row["retrieval"]["quality"] for row in lead if row["retrieval"].get("quality")]
    if found:
        cells = [spread([of[key] for of in found]) for key in ("precision", "recall")]
        show("Retrieval, % of seconds, mean ± std", ("precision", "recall"), [cells], folder, name="retrieval")
    _differences(rows, lead, where, note, folder)
    show_cost(rows, folder)


def _of(rows: Rows, variant: str, stage: str, where: str) -> dict[int, float]:
    """Return seed -> mIoU of a variant's model."""
    return {
        row["seed"]: model[where]["miou"]
        for row in rows
        for model in [*row["models"], *([row["twin"]] if row["twin"] else [])]
        if variant == row["variant"] and stage == model["stage"] and model.get(where)
    }


def _table_1(rows: Rows, where: str, note: str, folder: Path) -> None:
    twins, lines = _of(rows, "webly", "twin", where), []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        for stage, name in NAMES.items():
            scores = _of(rows, variant, stage, where)
            if not scores or (stage.startswith("cam") and variant != "webly"):
                continue
            shares = [score / max(twins[seed], 1e-9) for seed, score in scores.items() if seed in twins]
            label = name if variant == "webly" else f"{name} ({variant})"
            lines.append((label, spread(list(scores.values())), spread(shares)))
    show(f"Table 1. Models, mIoU % {note}", ("model", "mIoU", "share of twin %"), lines, folder, name="table1")


def _differences(rows: Rows, lead: Rows, where: str, note: str, folder: Path) -> None:
    """What the paper claims, seed by seed."""

    def jaccard(way: str) -> dict[int, float]:
        return {row["seed"]: row["videos"][way]["jaccard"] for row in lead if row["videos"].get(way)}

    whole = jaccard("attention_motion_colour")
    decoder, adapted = (_of(rows, "webly", stage, where) for stage in ("decoder", "adapted"))
    pairs = (
        ("J of videos: all terms − motion", whole, jaccard("motion")),
        ("J of videos: all terms − attention", whole, jaccard("attention")),
        ("separate − end-to-end training", decoder, _of(rows, "end-to-end", "decoder", where)),
        ("adapted − not", adapted, decoder),
        ("CAM: four scales − one", _of(rows, "webly", "cam", where), _of(rows, "webly", "cam_one_scale", where)),
        ("decoder: four scales − one", decoder, _of(rows, "one-scale", "decoder", where)),
        ("adapted − CAM", adapted, _of(rows, "webly", "cam", where)),
        ("shapes of all terms − of attention", decoder, _of(rows, "by-attention", "decoder", where)),
        ("shapes of all terms − of motion", decoder, _of(rows, "by-motion", "decoder", where)),
        ("classifier adapted as well − not", _of(rows, "adapt-all", "adapted", where), adapted),
    )
    lines = []
    for label, first, second in pairs:
        gains = [score - second[seed] for seed, score in first.items() if seed in second]
        if gains:
            lines.append((label, spread(gains), f"{sum(gain > 0 for gain in gains)} of {len(gains)}"))
    if lines:
        header = ("pair", "difference in points", "seeds above 0")
        show(f"Paired differences, mIoU {note}", header, lines, folder, name="differences")


def main(arguments: list[str]) -> int:
    """Compose the configuration, run the variants, report mistakes in one line."""
    return command_line(arguments, doc=__doc__ or "", load=lambda o: load_config("webly_tables", o), work=make_tables)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
