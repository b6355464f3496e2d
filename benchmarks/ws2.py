"""The ablation of WS2 (Tables 1 to 4): ``python -m benchmarks.ws2 seeds=[0,1,2] variants=[baseline,model-s,ws2]``.

Every variant of one seed starts from the same stage 1 and the same PA.v0 where the switch does not touch them, so that
differences are paired. Runs that are done are not done again. Any key of ``train.py`` may be given as well.
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
from recipes.tables import show

VARIANTS: dict[str, dict[str, Any]] = {
    "baseline": {"selection": "full", "criterion": "miou_pa"},
    "model-s": {"selection": "wise", "criterion": "miou_pa"},
    "ws2": {},
    "actor-cue": {"cues": "actor"},
    "action-cue": {"cues": "action"},
    "no-refine": {"refine.enabled": False},
    "discriminator": {"selector.use": "discriminator"},
    "classifier": {"selector.use": "classifier"},
    "no-colours": {"rounds.colours.weight": 0.0},
    "no-crf": {"rounds.colours.weight": 0.0, "rounds.crf.enabled": False},
    "otsu-no-crf": {"rounds.colours.weight": 0.0, "rounds.crf.enabled": False, "rounds.decision": "otsu"},
}
"""The settings that each row of the table changes; everything else is as given."""

_NOT_V0 = {
    "selection",
    "criterion",
    "selector.use",
    "rounds.colours.weight",
    "rounds.crf.enabled",
    "rounds.decision",
}
"""Switches that leave PA.v0 as it is."""


def shared_stages(changes: Changes) -> dict[str, str]:
    """Return the stages that a variant has in common with ``ws2``."""
    kept = {name: name for name in ("encoder2d", "encoder3d", "twin")}
    return {**kept, "v0": "pa/v0"} if set(changes) <= _NOT_V0 else kept


def ablate(cfg: DictConfig) -> list[dict[str, Any]]:
    """Run all variants on all seeds, print Tables 1 to 4 and write them as CSV.

    Args:
        cfg: configuration ``ablation``.

    Returns:
        one row per variant and seed: ``variant``, ``seed`` and the run's results.
    """
    rows = list(run_variants(cfg, VARIANTS, lead="ws2", shared=shared_stages))
    _tables(rows, list(cfg.variants), Path(cfg.root) / "tables")
    return rows


def _tables(rows: list[dict[str, Any]], variants: Sequence[str], folder: Path) -> None:
    of = {name: [row for row in rows if row["variant"] == name] for name in variants}
    seeds = len({row["seed"] for row in rows})
    table_1 = []
    for name, runs in of.items():
        settings = {**{"selection": "wise", "criterion": "ric"}, **VARIANTS[name]}
        table_1.append(
            (
                name,
                ", ".join(f"{key}={value}" for key, value in settings.items()),
                spread([_best(run).get("val", {}).get("miou") for run in runs]),
                spread([run["test"].get("miou") for run in runs]),
                spread([run["share_of_twin"] for run in runs]),
            )
        )
    header = ("model", "settings", "mIoU_GT val", "mIoU_GT test", "share of twin %")
    show(f"Table 1. Variants, {seeds} seeds, mean ± std", header, table_1, folder, name="table1")
    runs = of.get("ws2") or next(iter(of.values()))
    show(
        "Table 2. mIoU_GT of the pseudo-annotations",
        ("version", "by miou_pa, full", "full", "selected", "selected share %", "selected − full"),
        [_table_2_row(version, runs) for version in sorted({v["version"] for run in runs for v in run["versions"]})],
        folder,
        name="table2",
    )
    metrics = ("miou", "actor_miou", "action_miou")
    table_3 = []
    for version in sorted({model["version"] for run in runs for model in run["models"]}):
        tests = [m["test"] for run in runs for m in run["models"] if m["version"] == version]
        table_3.append((f"model.v{version}", *(spread([test.get(metric) for test in tests]) for metric in metrics)))
    twins = [run["twin"].get("test", {}) for run in runs]
    table_3.append(("supervised twin", *(spread([twin.get(metric) for twin in twins]) for metric in metrics)))
    columns = ("model", "actor-action", "actor", "action")
    show("Table 3. mIoU_GT on the test videos", columns, table_3, folder, name="table3")
    accuracies = ("cls_acc", "actor_cls_acc", "action_cls_acc", "glo_acc", "actor_glo_acc", "action_glo_acc")
    table_4 = [
        (label, *(spread([test.get(metric) for test in tests]) for metric in accuracies))
        for label, tests in (("final model", [run["test"] for run in runs]), ("supervised twin", twins))
    ]
    show("Table 4. Accuracy", ("model", *accuracies), table_4, folder, name="table4")


def _best(run: dict[str, Any]) -> dict[str, Any]:
    return next(model for model in run["models"] if model["version"] == run["best_version"])


def _table_2_row(version: int, runs: list[dict[str, Any]]) -> tuple[str, ...]:
    entries = [v for run in runs for v in run["versions"] if v["version"] == version]
    taught = [v for v in entries if v["pa_miou_selected"] is not None]
    return (
        f"PA.v{version}",
        spread([v.get("pa_miou_full_by_miou_pa") for v in entries]) if version else "-",
        spread([v["pa_miou_full"] for v in entries]),
        spread([v["pa_miou_selected"] for v in taught]),
        spread([v["selected_share"] for v in taught]),
        spread([v["pa_miou_selected"] - v["pa_miou_full"] for v in taught]),
    )


def main(arguments: list[str]) -> int:
    """Compose the configuration, run the ablation, report mistakes in one line."""
    return command_line(arguments, doc=__doc__ or "", load=lambda o: load_config("ablation", o), work=ablate)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
