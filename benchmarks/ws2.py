"""The ablation of WS2 (Tables 1 to 4): ``python -m benchmarks.ws2 seeds=[0,1,2] variants=[baseline,model-s,ws2]``.

Every variant of one seed starts from the same stage 1 and the same PA.v0 where the switch does not touch them, so that
differences are paired. Runs that are done are not done again. Any key of ``train.py`` may be given as well.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pseudolabel.types import DataError, nearest_name
from recipes.command_line import command_line
from recipes.configuration import load_config
from recipes.run_folder import write_json
from recipes.tables import percent, show
from train import train

VARIANTS: dict[str, dict[str, Any]] = {
    "baseline": {"selection": "full", "criterion": "miou_pa"},
    "model-s": {"selection": "wise", "criterion": "miou_pa"},
    "ws2": {},
    "actor-cue": {"cues": "actor"},
    "action-cue": {"cues": "action"},
    "no-refine": {"refine.enabled": False},
    "discriminator": {"selector.use": "discriminator"},
    "classifier": {"selector.use": "classifier"},
}
"""The settings that each row of the table changes; everything else is as given."""

_NOT_V0 = {"selection", "criterion", "selector.use"}
"""Switches that leave PA.v0 as it is."""


def inherit(donor: Path, folder: Path, *, same_v0: bool) -> None:
    """Copy a finished run's encoders, twin and, where it is the same, PA.v0, so that the variants are paired."""
    if (folder / "state.json").exists() or not (donor / "state.json").exists():
        return
    state = json.loads((donor / "state.json").read_text())
    kept = [name for name in ("encoder2d", "encoder3d", "twin", *(["v0"] if same_v0 else [])) if name in state]
    for name in kept:
        if name != "v0":
            shutil.copytree(donor / name, folder / name, dirs_exist_ok=True)
    if same_v0:
        shutil.copytree(donor / "pa/v0", folder / "pa/v0", dirs_exist_ok=True)
    write_json(folder / "state.json", {name: state[name] for name in kept})


def ablate(cfg: DictConfig) -> list[dict[str, Any]]:
    """Run all variants on all seeds, print Tables 1 to 4 and write them as CSV.

    Args:
        cfg: configuration ``ablation``.

    Returns:
        one row per variant and seed: ``variant``, ``seed`` and the run's results.
    """
    for name in cfg.variants:
        if name not in VARIANTS:
            raise DataError(f"Unknown variant '{name}'{nearest_name(name, VARIANTS)} Known: {', '.join(VARIANTS)}.")
    rows = []
    root = Path(cfg.root)
    for seed in cfg.seeds:
        donor: Path | None = None
        for name in sorted(cfg.variants, key=lambda variant: variant != "ws2"):
            run = _settings(cfg, seed, name)
            folder = Path(run.run_dir)
            if donor is not None:
                folder.mkdir(parents=True, exist_ok=True)
                inherit(donor, folder, same_v0=set(VARIANTS[name]) <= _NOT_V0)
            print(f"\n=== {name}, seed {seed}")
            rows.append({"variant": name, "seed": seed, **train(run)})
            donor = donor or folder
    _tables(rows, list(cfg.variants), root / "tables")
    return rows


def _settings(cfg: DictConfig, seed: int, name: str) -> DictConfig:
    plain: Any = OmegaConf.to_container(cfg)
    for key in ("seeds", "variants"):
        plain.pop(key)
    run = OmegaConf.create(plain)
    run.seed, run.name = seed, f"{name}-seed{seed}"
    for key, value in VARIANTS[name].items():
        OmegaConf.update(run, key, value)
    if run.data.cache_dir is None:
        run.data.cache_dir = str(Path(cfg.root) / "cache")
    OmegaConf.resolve(run)
    return run


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return percent(mean(known)) + (f" ± {percent(stdev(known))}" if len(known) > 1 else "")


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
                _spread([_best(run).get("val", {}).get("miou") for run in runs]),
                _spread([run["test"].get("miou") for run in runs]),
                _spread([run["share_of_twin"] for run in runs]),
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
        table_3.append((f"model.v{version}", *(_spread([test.get(metric) for test in tests]) for metric in metrics)))
    twins = [run["twin"].get("test", {}) for run in runs]
    table_3.append(("supervised twin", *(_spread([twin.get(metric) for twin in twins]) for metric in metrics)))
    columns = ("model", "actor-action", "actor", "action")
    show("Table 3. mIoU_GT on the test videos", columns, table_3, folder, name="table3")
    accuracies = ("cls_acc", "actor_cls_acc", "action_cls_acc", "glo_acc", "actor_glo_acc", "action_glo_acc")
    table_4 = [
        (label, *(_spread([test.get(metric) for test in tests]) for metric in accuracies))
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
        _spread([v.get("pa_miou_full_by_miou_pa") for v in entries]) if version else "-",
        _spread([v["pa_miou_full"] for v in entries]),
        _spread([v["pa_miou_selected"] for v in taught]),
        _spread([v["selected_share"] for v in taught]),
        _spread([v["pa_miou_selected"] - v["pa_miou_full"] for v in taught]),
    )


def main(arguments: list[str]) -> int:
    """Compose the configuration, run the ablation, report mistakes in one line."""
    return command_line(arguments, doc=__doc__ or "", load=lambda o: load_config("ablation", o), work=ablate)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
