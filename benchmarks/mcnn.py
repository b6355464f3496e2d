"""The tables of M-CNN: ``python -m benchmarks.mcnn seeds=[0,1,2] variants=[m-cnn,hard,em-large,em-small,small]``.

All variants of one seed share what their settings leave as it is, so that differences are paired; the motion segments
are the same for all. Runs that are done are not done again. Any key of ``train.py`` may be given as well. Variants:
``m-cnn`` (stages A, B and, with images, C in one run), ``hard``, ``em-large``, ``em-small``, ``small`` (M-CNN* with the
small field of view), ``em-images``, ``images-em``, ``per-epoch``, ``iterations-1`` … ``iterations-5``, ``alpha-0.5`` …
``alpha-10``, ``tune-alpha-0.5`` … ``tune-alpha-10``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from benchmarks.variants import Changes, run_variants, spread
from recipes.command_line import command_line
from recipes.configuration import load_config
from recipes.mcnn_report import DOMAINS
from recipes.tables import show

_NO_MORE = {"finetune.enabled": False, "twin": False, "colocalise.enabled": False}
"""What only the complete method does."""

ITERATIONS = (1, 2, 3, 4, 5)

ALPHAS = (0.5, 1.0, 2.0, 3.0, 10.0)

VARIANTS: dict[str, Changes] = {
    "m-cnn": {},
    "hard": {"labels.name": "hard", **_NO_MORE},
    "em-large": {"labels.name": "em_adapt", **_NO_MORE},
    "em-small": {"labels.name": "em_adapt", "segmenter.model.head": "small_fov", **_NO_MORE},
    "small": {"segmenter.model.head": "small_fov", **_NO_MORE},
    "per-epoch": {"labels.mode": "epoch", **_NO_MORE},
    "em-images": {"train_on": "images", "labels.name": "em_adapt", **_NO_MORE},
    "images-em": {"with_images.labels": "em_adapt", "twin": False, "colocalise.enabled": False},
    **{f"iterations-{n}": {"energy.iterations": n, **_NO_MORE} for n in ITERATIONS},
    **{f"alpha-{a:g}": {"labels.alpha": a, **_NO_MORE} for a in ALPHAS},
    **{
        f"tune-alpha-{a:g}": {
            "finetune.alpha": a,
            "with_images.enabled": False,
            "twin": False,
            "colocalise.enabled": False,
        }
        for a in ALPHAS
    },
}
"""The settings that each row changes; everything else is as given."""

_LATER = {"twin", "colocalise.enabled", "finetune.enabled"}

_FIRST_STAGE = ("labels.", "energy.", "segmenter.", "train_on", "stage_a.", "motion.", "shots.")


def shared_stages(changes: Changes) -> dict[str, str]:
    """Return the stages that a variant has in common with ``m-cnn``."""
    stages = {"motion": "pa/v0"}
    mine = set(changes) - _LATER
    if not any(key.startswith(_FIRST_STAGE) for key in mine):
        stages["stage_a"] = "stage_a"
        if not any(key.startswith("finetune.") for key in mine):
            stages["stage_b"] = "stage_b"
    return stages


def make_tables(cfg: DictConfig) -> list[dict[str, Any]]:
    """Run all variants on all seeds, print Tables 1, 2 and 4 and the sensitivities, and write them as CSV.

    Args:
        cfg: configuration ``mcnn_tables``.

    Returns:
        one row per variant and seed: ``variant``, ``seed`` and the run's results.
    """
    rows = list(run_variants(cfg, VARIANTS, lead="m-cnn", shared=shared_stages))
    _tables(rows, Path(cfg.root) / "tables")
    return rows


def _tables(rows: list[dict[str, Any]], folder: Path) -> None:
    where = next((name for name in DOMAINS if any(name in model for row in rows for model in row["models"])), "train")
    seeds = len({row["seed"] for row in rows})
    note = f"IoU % on {where}, {seeds} seeds, mean ± std"
    lead = [row for row in rows if row["variant"] == "m-cnn"]
    twins = {row["seed"]: row["twin"].get(where, {}) for row in lead}
    table_1 = []
    for label, variant, stage in (
        ("EM-Adapt, small FOV", "em-small", "stage_a"),
        ("EM-Adapt, large FOV", "em-large", "stage_a"),
        ("M-CNN*, small FOV", "small", "stage_a"),
        ("M-CNN*, large FOV", "m-cnn", "stage_a"),
        ("M-CNN* hard, large FOV", "hard", "stage_a"),
        ("M-CNN* labels per epoch", "per-epoch", "stage_a"),
        ("M-CNN", "m-cnn", "stage_b"),
    ):
        if found := _of(rows, variant, stage, where):
            table_1.append(_line(label, found, twins))
    if any(twins.values()):
        table_1.append(_line("supervised twin", list(twins.items()), twins))
    names = [name for _, scores in _of(rows, None, None, where)[:1] for name in scores.get("classes", {})]
    show(f"Table 1. Variants, {note}", ("method", *names, "average", "share of twin %"), table_1, folder, name="table1")
    table_2 = []
    for label, variant, stage in (
        ("EM-Adapt, videos", "em-large", "stage_a"),
        ("EM-Adapt, images", "em-images", "stage_a"),
        ("M-CNN, videos", "m-cnn", "stage_b"),
        ("M-CNN, videos + images (EM-Adapt labels)", "images-em", "stage_c"),
        ("M-CNN, videos + images (network's labels)", "m-cnn", "stage_c"),
    ):
        if found := _of(rows, variant, stage, where):
            table_2.append(_line(label, found, twins))
    if table_2:
        header = ("method, data", *names, "average", "share of twin %")
        show(f"Table 2. Videos and images, {note}", header, table_2, folder, name="table2")
    _sensitivity(rows, where, note, folder)
    _table_4(lead, folder)


def _of(rows: list[dict[str, Any]], variant: str | None, stage: str | None, where: str) -> list[tuple[int, Any]]:
    """Return (seed, scores) of a variant's model."""
    return [
        (row["seed"], model[where])
        for row in rows
        for model in row["models"]
        if variant in (None, row["variant"]) and stage in (None, model["stage"]) and model.get(where)
    ]


def _line(label: str, found: Sequence[tuple[int, Any]], twins: dict[int, Any]) -> tuple[str, ...]:
    classes = found[0][1].get("classes", {})
    shares = [scores["miou"] / twins[seed]["miou"] for seed, scores in found if twins.get(seed)]
    each = (spread([scores["classes"].get(name) for _, scores in found]) for name in classes)
    return (label, *each, spread([scores["miou"] for _, scores in found]), spread(shares))


def _sensitivity(rows: list[dict[str, Any]], where: str, note: str, folder: Path) -> None:
    """The text of section 4.2: iterations of the cut, and alpha before and in fine-tuning."""
    lines = []
    for title, values, prefix, stage in (
        ("iterations", ITERATIONS, "iterations-", "stage_a"),
        ("alpha", ALPHAS, "alpha-", "stage_a"),
        ("alpha in fine-tuning", ALPHAS, "tune-alpha-", "stage_b"),
    ):
        for value in values:
            if found := _of(rows, f"{prefix}{value:g}", stage, where):
                lines.append((title, f"{value:g}", spread([scores["miou"] for _, scores in found])))
    if lines:
        show(f"Sensitivity, {note}", ("setting", "value", "average"), lines, folder, name="sensitivity")


def _table_4(lead: list[dict[str, Any]], folder: Path) -> None:
    scored = [row["corloc"] for row in lead if row["corloc"]]
    if not scored:
        return
    names = list(scored[0]["classes"])
    lines = [
        (label, *(spread([c["classes"][n][key] for c in scored]) for n in names), spread([c[key] for c in scored]))
        for label, key in (("motion segments", "motion"), ("M-CNN", "model"))
    ]
    show("Table 4. Co-localisation, CorLoc %", ("method", *names, "average"), lines, folder, name="table4")


def main(arguments: list[str]) -> int:
    """Compose the configuration, run the variants, report mistakes in one line."""
    return command_line(arguments, doc=__doc__ or "", load=lambda o: load_config("mcnn_tables", o), work=make_tables)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
