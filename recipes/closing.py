"""What a run ends with: the tables, ``results.json`` and one summary."""

from __future__ import annotations

import json
from typing import Any

from omegaconf import DictConfig

from modules.distributed import rank
from recipes.run_folder import RunFolder, write_json
from recipes.tables import percent, summary, table_2, table_3, table_4


def close(cfg: DictConfig, run: RunFolder, stages: dict[str, Any], *, seconds: float) -> dict[str, Any]:
    """Write ``results.json``, print the tables, return the results.

    Args:
        cfg: the configuration.
        run: the run folder.
        stages: results of the recipe's stages.
        seconds: of this call; stages done in earlier calls count with the seconds that they took then.
    """
    annotations, models = stages["scores"]["annotations"], stages["scores"]["models"]
    twin = stages.get("twin", {})
    reports = {report["version"]: report for report in stages["segmenter"]["versions"]}
    criterion = cfg.criterion
    best = next(model for model in models if model["version"] == stages["segmenter"]["best_version"])
    share = None
    if best["test"] and twin.get("test"):
        share = best["test"]["miou"] / max(twin["test"]["miou"], 1e-9)
    results = {
        "recipe": cfg.recipe,
        "data": cfg.data.name,
        "seed": cfg.seed,
        "seconds": round(max(seconds, sum(stage.get("seconds", 0) for stage in stages.values())), 1),
        "peak_memory_gib": max(stage.get("peak_memory_gib", 0) for stage in stages.values()),
        "versions": [_version(entry, reports.get(entry["version"]), criterion) for entry in annotations],
        "best_version": best["version"],
        "models": models,
        "test": best["test"],
        "tested_on": best["tested_on"],
        "twin": twin,
        "share_of_twin": share,
    }
    file = run.path / "results.json"
    if file.exists():  # looking at a finished run again takes no time from it
        results["seconds"] = max(results["seconds"], json.loads(file.read_text())["seconds"])
    final, full = best["test"].get("miou"), twin.get("test", {}).get("miou")
    if rank() == 0:
        write_json(file, results)
        tables = run.path / "tables"
        table_2(annotations, criterion, tables)
        table_3(models, twin, tables, tested_on=best["tested_on"])
        table_4([best], twin, tables)
        summary(
            {
                "final mIoU / twin": f"{percent(final)} / {percent(full)}",
                "share of the twin": "-" if share is None else f"{100 * share:.1f} %",
                "time": f"{results['seconds'] / 60:.1f} min",
                "peak memory": f"{results['peak_memory_gib']} GiB",
                "checkpoint": str(run.path / "segmenter/best.ckpt"),
                "pictures": str(run.path / "pictures"),
                "results": str(file),
            }
        )
    return results


def _version(entry: dict[str, Any], report: dict[str, Any] | None, criterion: str) -> dict[str, Any]:
    scored: dict[str, Any] = {
        "version": entry["version"],
        "pa_miou_full": entry["full"].get("miou"),
        "pa_miou_selected": entry.get("selected", {}).get("miou"),
        "pa_jaccard_full": entry["full"].get("jaccard"),
        "selected_share": entry.get("selected_share"),
        "criterion": None if report is None else report["best"][f"val/{criterion}"],
        "epochs": None if report is None else report["epochs"],
    }
    for key, scores in entry.items():
        if key.startswith("full_by_"):
            scored[f"pa_miou_{key}"] = scores.get("miou")
    return scored
