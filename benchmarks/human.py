"""The tables of Liang et al. 2017: ``python -m benchmarks.human seeds=[0,1,2] variants=[human,no-pair,no-higher]``.

All variants of one seed share what their settings leave as it is (supervoxels, boxes, graphs, version 0, rounds), so
that differences are paired. Runs that are done are not done again. Any key of ``train.py`` may be given as well.
Variants:

  human            the complete method
  no-pair          no pairwise term (Table 1)
  no-higher        no higher-order term
  image-based      neither: every node by itself
  no-weight        every mask counts alike in the loss (Table 2)
  no-negatives     no frames without a detection
  neither          no weights and no negatives
  boxes            + boxes of still images in the last round, or all that are averaged (Table 3)
  masks            + their masks
  image-level      every frame labelled by its tag alone (Sec. 4.4)
  em               the same, and frames predicted as nearly empty are dropped from round to round
  co-localisation  boxes of what moves, one round, no graph
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
from recipes.human_report import DOMAINS
from recipes.tables import show

_NO_TWIN = {"twin": False}
_NO_GRAPH = {"energy.pairwise": 0.0, "energy.higher": 0.0}

VARIANTS: dict[str, Changes] = {
    "human": {},
    "no-pair": {"energy.pairwise": 0.0, **_NO_TWIN},
    "no-higher": {"energy.higher": 0.0, **_NO_TWIN},
    "image-based": {**_NO_GRAPH, **_NO_TWIN},
    "no-weight": {"selection.weighting": "none", **_NO_TWIN},
    "no-negatives": {"selection.negatives": 0.0, **_NO_TWIN},
    "neither": {"selection.weighting": "none", "selection.negatives": 0.0, **_NO_TWIN},
    "boxes": {"extra.supervision": "boxes", **_NO_TWIN},
    "masks": {"extra.supervision": "masks", **_NO_TWIN},
    "image-level": {"labels": "image_level", **_NO_TWIN},
    "em": {"labels": "em", **_NO_TWIN},
    "co-localisation": {"detector.name": "motion", "rounds.max_versions": 1, **_NO_GRAPH, **_NO_TWIN},
}
"""The settings that each row changes; everything else is as given."""

TABLE_1 = ("image-based", "no-pair", "no-higher", "human")
TABLE_2 = ("neither", "no-negatives", "no-weight", "human")
WAYS = ("image-level", "em", "co-localisation", "human")
TABLE_3 = ("human", "boxes", "masks")

_STAGES: tuple[tuple[str, Folders, tuple[str, ...]], ...] = (
    ("encoder2d", ("encoder2d",), ("encoder2d.",)),
    ("key_frames", ("key_frames",), ("key_frames.", "supervoxels.", "data.", "target")),
    ("detector", ("detector",), ("detector.name", "box_detector.", "images.")),
    ("contexts", ("contexts",), ("detector.", "proposals.", "bow.", "negative_frames")),
    ("v0", ("pa/v0",), ("labels", "energy.")),
    ("segmenter", ("segmenter", "pa", "pictures"), ("selection.", "rounds.", "segmenter.")),
    ("finish", ("finish",), ("finish.",)),
)
"""Stages, what they write, and beginnings of the keys on which each depends, beside those of the stages before it."""

MASKS = "masks of key frames"
"""Scored beside the networks' :data:`DOMAINS`: what the energy itself gives, version by version."""

Rows = Sequence[Mapping[str, Any]]
"""One per variant and seed: ``variant``, ``seed`` and the run's results."""


def shared_stages(changes: Changes) -> dict[str, Folders]:
    """Return the stages that a variant has in common with ``human``, and what they have written."""
    stages: dict[str, Folders] = {}
    for name, written, keys in _STAGES:
        if any(key.startswith(keys) for key in changes):
            break
        stages[name] = written
    return stages


def make_tables(cfg: DictConfig) -> list[dict[str, Any]]:
    """Run the variants of ``cfg`` and print the tables.

    Args:
        cfg: ``configs/human_tables.yaml``.

    Returns:
        one row per variant and seed: ``variant``, ``seed`` and the run's results.
    """
    rows = list(run_variants(cfg, VARIANTS, lead="human", shared=shared_stages))
    show_tables(rows, Path(cfg.root) / "tables")
    return rows


def show_tables(rows: Rows, folder: Path) -> None:
    """Print all tables for which there are runs, and write ``<folder>/*.csv``.

    Args:
        rows: see :data:`Rows`.
        folder: gets ``table1`` (``table1_masks`` for the masks) to ``table3``, ``ways``, ``differences`` and ``cost``.
    """
    note = f"{len({row['seed'] for row in rows})} seeds, mean ± std"
    _table_1(rows, note, folder)
    for name, title, variants in (
        ("table2", "Table 2. Training strategies", TABLE_2),
        ("table3", "Table 3. Extra supervision", TABLE_3),
        ("ways", "Sec. 4.4. Ways of using videos", WAYS),
    ):
        _last_rounds(rows, variants, f"{title}, IoU %, {note}", folder, name)
    _differences(rows, note, folder)
    show_cost(rows, folder)


def scores_of(rows: Rows, variant: str, where: str, *, position: int = -1) -> dict[int, float]:
    """Return seed -> IoU of a variant's network of a round (the last one: -1) on ``where``, or of its masks."""
    found = {}
    for row in rows:
        if row["variant"] == variant:
            each = _of_rounds(row, where)
            if -len(each) <= position < len(each) and each[position] is not None:
                found[row["seed"]] = each[position]
    return found


def _of_rounds(row: Mapping[str, Any], where: str) -> list[Any]:
    """Return the IoU of every round, None where nothing was scored."""
    if where == MASKS:
        return [version["pa_iou_full"] for version in row["versions"]]
    return [model[where]["iou"] if model.get(where) else None for model in row["models"]]


def _domains(rows: Rows) -> list[str]:
    return [name for name in DOMAINS if any(row["models"][-1].get(name) for row in rows)]


def _masks(rows: Rows) -> list[str]:
    scored = (score for row in rows for score in _of_rounds(row, MASKS))
    return [] if all(score is None for score in scored) else [MASKS]


def _table_1(rows: Rows, note: str, folder: Path) -> None:
    """Rounds against terms of the energy."""
    shown = [variant for variant in TABLE_1 if any(row["variant"] == variant for row in rows)]
    names = {where: f"_{where}" if rank else "" for rank, where in enumerate(_domains(rows))} | {MASKS: "_masks"}
    for where in _domains(rows) + _masks(rows):
        rounds = max((len(_of_rounds(row, where)) for row in rows if row["variant"] in shown), default=0)
        lines = [
            (str(number + 1), *(spread(list(scores_of(rows, v, where, position=number).values())) for v in shown))
            for number in range(rounds)
        ]
        title = f"Table 1. IoU % {'of the' if where == MASKS else 'on'} {where}, {note}"
        show(title, ("round", *shown), lines, folder, name="table1" + names[where])


def _last_rounds(rows: Rows, variants: Sequence[str], title: str, folder: Path, name: str) -> None:
    shown = [variant for variant in variants if any(row["variant"] == variant for row in rows)]
    domains = _domains(rows) + ([] if name == "table3" else _masks(rows))  # extra supervision makes no masks
    if len(shown) < 2:
        return
    lines = [
        (variant, *(spread(list(scores_of(rows, variant, where).values())) for where in domains)) for variant in shown
    ]
    twins = [row["twin"] for row in rows if row["variant"] == "human" and row["twin"]]
    if twins:
        cells = [spread([twin[where]["iou"] for twin in twins if twin.get(where)]) for where in domains]
        lines.append(("supervised twin", *cells))
    show(title, ("method", *domains), lines, folder, name=name)


def _differences(rows: Rows, note: str, folder: Path) -> None:
    """What the paper claims, seed by seed."""
    lines = []
    for where in _domains(rows) + _masks(rows):

        def last(variant: str, where: str = where) -> dict[int, float]:
            return scores_of(rows, variant, where)

        pairs = [(f"full − {name}", last("human"), last(name)) for name in (*TABLE_1[:-1], *TABLE_2[:-1], *WAYS[:-1])]
        pairs += [(f"{name} − image-based", last(name), last("image-based")) for name in ("no-pair", "no-higher")]
        if where != MASKS:
            pairs += [("boxes − none", last("boxes"), last("human")), ("masks − boxes", last("masks"), last("boxes"))]
        pairs.append(("last round − first", last("human"), scores_of(rows, "human", where, position=0)))
        for label, first, second in pairs:
            gains = [score - second[seed] for seed, score in first.items() if seed in second]
            if gains:
                above = f"{sum(gain > 0 for gain in gains)} of {len(gains)}"
                lines.append((where, label, spread(gains), above))
    if lines:
        header = ("scored on", "pair", "difference in points", "seeds above 0")
        show(f"Paired differences, IoU, {note}", header, lines, folder, name="differences")


def main(arguments: list[str]) -> int:
    """Compose the configuration, run the variants, report mistakes in one line."""
    return command_line(arguments, doc=__doc__ or "", load=lambda o: load_config("human_tables", o), work=make_tables)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
