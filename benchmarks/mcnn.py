"""The tables of M-CNN: ``python -m benchmarks.mcnn seeds=[0,1,2] variants=[m-cnn,hard,em-large,em-small,small]``.

All variants of one seed share what their settings leave as it is, so that differences are paired; the motion segments
are the same for all. Runs that are done are not done again. Any key of ``train.py`` may be given as well. Variants:

  m-cnn                         stages A (M-CNN*), B (M-CNN) and, with images, C in one run
  hard                          M-CNN* with the motion segments as labels
  em-large, em-small            EM-Adapt on the videos, with the large and the small field of view
  small                         M-CNN* with the small field of view
  per-epoch                     M-CNN* with labels by the weights at the start of each epoch
  em-images, em-images-small    EM-Adapt on the tagged images alone, with both fields of view
  images-em, images-network     M-CNN whose tagged images are labelled by EM-Adapt, or by the network
  iterations-1 … iterations-5   M-CNN* with other iterations of cut and colours
  alpha-0.5, -1, -2, -3, -10    M-CNN* with another weight of the network's scores
  tune-alpha-0.5 … -10          M-CNN with another weight of the scores in fine-tuning
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from omegaconf import DictConfig

from benchmarks.mcnn_variants import ALPHAS, IMAGES, ITERATIONS, VARIANTS, shared_stages
from benchmarks.variants import run_variants, spread
from recipes.command_line import command_line
from recipes.configuration import load_config
from recipes.mcnn_report import DOMAINS
from recipes.tables import show

Rows = Sequence[Mapping[str, Any]]
"""One per variant and seed: ``variant``, ``seed`` and the run's results."""

Found = Sequence[tuple[int, Mapping[str, Any]]]
"""(seed, scores) of one model, as of :mod:`recipes.scoring`."""


def make_tables(cfg: DictConfig) -> list[dict[str, Any]]:
    """Run all variants on all seeds, print Tables 1, 2 and 4, what they say in pairs, and write all as CSV.

    Args:
        cfg: configuration ``mcnn_tables``.

    Returns:
        one row per variant and seed: ``variant``, ``seed`` and the run's results.
    """
    rows = list(run_variants(cfg, VARIANTS, lead="m-cnn", shared=shared_stages))
    show_tables(rows, Path(cfg.root) / "tables", images_by=cfg.with_images.labels)
    return rows


def show_tables(rows: Rows, folder: Path, *, images_by: str = "network") -> None:
    """Print all tables for which there are runs, and write ``<folder>/*.csv``.

    Args:
        rows: see :data:`Rows`.
        folder: gets ``table1``, ``table2``, ``table4``, ``differences``, ``sensitivity`` and ``cost``.
        images_by: what labels the images of ``m-cnn``, a value of ``with_images.labels``.
    """
    where = next((name for name in DOMAINS if any(model.get(name) for row in rows for model in row["models"])), "train")
    note = f"IoU % on {where}, {len({row['seed'] for row in rows})} seeds, mean ± std"
    lead = [row for row in rows if row["variant"] == "m-cnn"]
    twins = {row["seed"]: row["twin"][where] for row in lead if row["twin"].get(where)}
    em_videos = _better(rows, {"small": "em-small", "large": "em-large"}, where)
    with_images = {
        labels: _of(rows, "m-cnn" if labels == images_by else name, "stage_c", where) for labels, name in IMAGES.items()
    }
    em_images = _better(rows, {"small": "em-images-small", "large": "em-images"}, where)
    table_1 = [
        ("EM-Adapt, small FOV", _of(rows, "em-small", "stage_a", where)),
        ("EM-Adapt, large FOV", _of(rows, "em-large", "stage_a", where)),
        ("M-CNN*, small FOV", _of(rows, "small", "stage_a", where)),
        ("M-CNN*, large FOV", _of(rows, "m-cnn", "stage_a", where)),
        ("M-CNN* hard, large FOV", _of(rows, "hard", "stage_a", where)),
        ("M-CNN* labels per epoch", _of(rows, "per-epoch", "stage_a", where)),
        ("M-CNN", _of(rows, "m-cnn", "stage_b", where)),
        ("supervised twin", list(twins.items())),
    ]
    table_2 = [
        (f"EM-Adapt, videos ({em_videos[0]} FOV, the better)", em_videos[1]),
        (f"EM-Adapt, images ({em_images[0]} FOV, the better)", em_images[1]),
        ("M-CNN, videos", _of(rows, "m-cnn", "stage_b", where)),
        ("M-CNN, videos + images (EM-Adapt labels)", with_images["em_adapt"]),
        ("M-CNN, videos + images (network's labels)", with_images["network"]),
    ]
    names = class_names([scores for _, found in (*table_1, *table_2) for _, scores in found])
    _by_class(f"Table 1. Variants, {note}", table_1, names, twins, folder, name="table1")
    _by_class(f"Table 2. Videos and images, {note}", table_2, names, twins, folder, name="table2")
    _differences(rows, em_videos, em_images, with_images, where, folder)
    _sensitivity(rows, where, note, folder)
    _table_4(lead, folder)
    _cost(rows, folder)


def class_names(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return every class that any of the models was scored on, the longest list's order first."""
    lists = sorted((list(each.get("classes", {})) for each in scores), key=len, reverse=True)
    return list(dict.fromkeys(name for names in lists for name in names))


def _of(rows: Rows, variant: str, stage: str, where: str) -> Found:
    """Return (seed, scores) of a variant's model."""
    return [
        (row["seed"], model[where])
        for row in rows
        for model in row["models"]
        if variant == row["variant"] and stage == model["stage"] and model.get(where)
    ]


def _better(rows: Rows, candidates: Mapping[str, str], where: str) -> tuple[str, Found]:
    """Return which candidate has the higher mean score, and its scores; the paper's Table 2 has "the best variants"."""
    found = {label: _of(rows, variant, "stage_a", where) for label, variant in candidates.items()}
    known = {label: runs for label, runs in found.items() if runs}
    best = max(known, key=lambda label: mean(scores["miou"] for _, scores in known[label]), default="")
    return best, known.get(best, [])


def _by_class(
    title: str,
    models: Sequence[tuple[str, Found]],
    names: Sequence[str],
    twins: Mapping[int, Mapping[str, Any]],
    folder: Path,
    *,
    name: str,
) -> None:
    """Print one line per model that was scored, one column per class."""
    lines = []
    for label, found in models:
        if found:
            each = [spread([scores.get("classes", {}).get(name) for _, scores in found]) for name in names]
            shares = [scores["miou"] / max(twins[seed]["miou"], 1e-9) for seed, scores in found if seed in twins]
            lines.append((label, *each, spread([scores["miou"] for _, scores in found]), spread(shares)))
    if lines:
        show(title, ("method", *names, "average", "share of twin %"), lines, folder, name=name)


def _differences(
    rows: Rows,
    em_videos: tuple[str, Found],
    em_images: tuple[str, Found],
    with_images: Mapping[str, Found],
    where: str,
    folder: Path,
) -> None:
    """What the paper claims, seed by seed: runs of one seed share all that the difference is not about."""
    before, after, added = (_of(rows, "m-cnn", stage, where) for stage in ("stage_a", "stage_b", "stage_c"))
    pairs = (
        ("motion soft − hard (M-CNN*)", before, _of(rows, "hard", "stage_a", where)),
        ("fine-tuned − not (M-CNN − M-CNN*)", after, before),
        ("M-CNN* − EM-Adapt, large FOV", before, _of(rows, "em-large", "stage_a", where)),
        (
            "M-CNN* − EM-Adapt, small FOV",
            _of(rows, "small", "stage_a", where),
            _of(rows, "em-small", "stage_a", where),
        ),
        (f"M-CNN − EM-Adapt, videos ({em_videos[0]} FOV)", after, em_videos[1]),
        ("large − small FOV (M-CNN*)", before, _of(rows, "small", "stage_a", where)),
        ("labels per step − per epoch (M-CNN*)", before, _of(rows, "per-epoch", "stage_a", where)),
        ("M-CNN, with images − without", added, after),
        (f"M-CNN with images − EM-Adapt, images ({em_images[0]} FOV)", added, em_images[1]),
        ("images labelled by network − by EM-Adapt", with_images["network"], with_images["em_adapt"]),
    )
    lines = []
    for label, first, second in pairs:
        other = {seed: scores["miou"] for seed, scores in second}
        gains = [scores["miou"] - other[seed] for seed, scores in first if seed in other]
        if gains:
            lines.append((label, spread(gains), f"{sum(gain > 0 for gain in gains)} of {len(gains)}"))
    if lines:
        title = f"Paired differences of mIoU in points on {where}, mean ± std over seeds"
        show(title, ("pair", "difference", "seeds above 0"), lines, folder, name="differences")


def _sensitivity(rows: Rows, where: str, note: str, folder: Path) -> None:
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


def _table_4(lead: Rows, folder: Path) -> None:
    scored = [row["corloc"] for row in lead if row["corloc"]]
    if not scored:
        return
    names = class_names(scored)
    lines = [
        (
            label,
            *(spread([corloc["classes"].get(name, {}).get(key) for corloc in scored]) for name in names),
            spread([corloc[key] for corloc in scored]),
        )
        for label, key in (("motion segments", "motion"), ("M-CNN", "model"))
    ]
    show("Table 4. Co-localisation, CorLoc %", ("method", *names, "average"), lines, folder, name="table4")


def _cost(rows: Rows, folder: Path) -> None:
    """Time and memory of the runs, what they took over included, and how long training waited for labels."""
    lines = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        runs = [row for row in rows if row["variant"] == variant]
        waits = [
            spread([row["label_wait_share"].get(stage) for row in runs]) for stage in ("stage_a", "stage_b", "stage_c")
        ]
        minutes, memory = mean(row["seconds"] for row in runs) / 60, max(row["peak_memory_gib"] for row in runs)
        lines.append((variant, *waits, f"{minutes:.1f}", f"{memory:.2f}"))
    header = ("variant", *(f"stage {stage}: wait for labels %" for stage in "ABC"), "minutes", "peak GiB")
    show("Cost; the wait is a share of a stage's last epoch", header, lines, folder, name="cost")


def main(arguments: list[str]) -> int:
    """Compose the configuration, run the variants, report mistakes in one line."""
    return command_line(arguments, doc=__doc__ or "", load=lambda o: load_config("mcnn_tables", o), work=make_tables)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
