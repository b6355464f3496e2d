"""What every run ends with: the recipe's tables, ``results.json`` and one summary."""

from __future__ import annotations

import json
from typing import Any

from omegaconf import DictConfig

from modules.distributed import rank
from recipes.registry import Recipe
from recipes.run_folder import RunFolder, write_json
from recipes.tables import percent, summary

METRICS = {"miou": "mIoU", "iou": "IoU"}
"""Scores that a recipe may call its own (``metric``), and how they are written."""


def close(cfg: DictConfig, run: RunFolder, recipe: Recipe, stages: dict[str, Any], *, seconds: float) -> dict[str, Any]:
    """Write ``results.json``, print the tables, return the results.

    Args:
        cfg: the configuration.
        run: the run folder.
        recipe: describes its stages and prints its tables.
        stages: results of the recipe's stages.
        seconds: of this call; stages done in earlier calls count with the seconds that they took then.
    """
    results = {
        "recipe": cfg.recipe,
        "data": cfg.data.name,
        "seed": cfg.seed,
        "seconds": round(max(seconds, sum(stage.get("seconds", 0) for stage in stages.values())), 1),
        "peak_memory_gib": max(stage.get("peak_memory_gib", 0) for stage in stages.values()),
        **recipe.describe(cfg, stages),
    }
    file = run.path / "results.json"
    if file.exists():  # looking at a finished run again takes no time from it
        results["seconds"] = max(results["seconds"], json.loads(file.read_text())["seconds"])
    if rank() == 0:
        write_json(file, results)
        recipe.show_tables(cfg, stages, results, run.path / "tables")
        twin = results["twin"]
        full = twin.get(results["tested_on"]) or twin.get("test", {})
        metric = results.get("metric", "miou")
        final, share = results["test"].get(metric), results["share_of_twin"]
        summary(
            {
                f"final {METRICS[metric]} / twin": f"{percent(final)} / {percent(full.get(metric))}",
                "share of the twin": "-" if share is None else f"{100 * share:.1f} %",
                "time": f"{results['seconds'] / 60:.1f} min",
                "peak memory": f"{results['peak_memory_gib']} GiB",
                "checkpoint": str(run.path / results["checkpoint"]),
                "pictures": str(run.path / "pictures"),
                "results": str(file),
            }
        )
    return results
