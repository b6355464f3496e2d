"""What a run of WS2 ends with: its results as plain numbers, and Tables 2 to 4 (Chen et al. 2020)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from recipes.tables import table_2, table_3, table_4


def describe(cfg: DictConfig, stages: dict[str, Any]) -> dict[str, Any]:
    """Return the part of ``results.json`` that is the recipe's own, from the results of its stages."""
    models, twin = stages["scores"]["models"], stages.get("twin", {})
    reports = {report["version"]: report for report in stages["segmenter"]["versions"]}
    best = next(model for model in models if model["version"] == stages["segmenter"]["best_version"])
    share = None
    if best["test"] and twin.get("test"):
        share = best["test"]["miou"] / max(twin["test"]["miou"], 1e-9)
    annotations = stages["scores"]["annotations"]
    return {
        "versions": [_version(entry, reports.get(entry["version"]), cfg.criterion) for entry in annotations],
        "best_version": best["version"],
        "models": models,
        "test": best["test"],
        "tested_on": best["tested_on"],
        "twin": twin,
        "share_of_twin": share,
        "checkpoint": "segmenter/best.ckpt",
    }


def show_tables(cfg: DictConfig, stages: dict[str, Any], results: dict[str, Any], folder: Path) -> None:
    """Print Tables 2 to 4 and write them as CSV."""
    best = results["models"][[model["version"] for model in results["models"]].index(results["best_version"])]
    table_2(stages["scores"]["annotations"], cfg.criterion, folder)
    table_3(results["models"], results["twin"], folder, tested_on=results["tested_on"])
    table_4([best], results["twin"], folder)


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
