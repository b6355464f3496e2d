"""What a run of M-CNN ends with: its results as plain numbers, and Tables 1 and 4 (Tokmakov et al. 2016)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from recipes.tables import percent, show

NAMES = {"motion": "M-CNN", "hard": "M-CNN hard", "em_adapt": "EM-Adapt"}

DOMAINS = ("images_test", "images_val", "test", "train")
"""Where a model may be scored, the paper's own kind first: still images, then held-out videos, then the videos seen."""


def describe(cfg: DictConfig, stages: dict[str, Any]) -> dict[str, Any]:
    """Return the part of ``results.json`` that is the recipe's own, from the results of its stages."""
    scores, twin = stages["scores"], stages.get("twin", {})
    models = scores["models"]
    where = next((name for name in DOMAINS if models[-1].get(name)), "train")
    test, full = models[-1].get(where, {}), twin.get(where, {})
    share = test["miou"] / max(full["miou"], 1e-9) if test and full else None
    motion = scores["motion"]["train"]
    return {
        "versions": [
            {
                "version": 0,
                "pa_miou_full": motion.get("miou"),
                "pa_jaccard_full": motion.get("jaccard"),
                **{name: stages["motion"].get(name) for name in ("shots", "kept", "still")},
            }
        ],
        "best_version": models[-1]["stage"],
        "models": models,
        "motion": scores["motion"],
        "corloc": scores.get("corloc", {}),
        "classes_without_shot": stages["motion"].get("classes_without_shot", []),
        "label_wait_share": {model["stage"]: stages[model["stage"]].get("label_wait_share") for model in models},
        "selected_shots": len(stages.get("stage_b", {}).get("shots", [])),
        "test": test,
        "tested_on": where,
        "twin": twin,
        "share_of_twin": share,
        "checkpoint": f"{models[-1]['stage']}/best.ckpt",
    }


def show_tables(cfg: DictConfig, stages: dict[str, Any], results: dict[str, Any], folder: Path) -> None:
    """Print Tables 1 and 4 and how long training waited for labels, and write them as CSV."""
    shown = [name for name in DOMAINS if results["models"][-1].get(name)]
    full = stages.get("twin", {})
    named = [(motion_name(results["motion"]["train"]), results["motion"])]
    named += [(model_name(cfg, model["stage"]), model) for model in results["models"]]
    named += [("supervised twin", full)] if any(full.get(name) for name in shown) else []
    rows = [(name, _share(scores, full, shown), *_cells(scores, shown)) for name, scores in named]
    header = ("model", "share of the twin", *(f"mIoU {name}" for name in shown), "J train")
    show("Table 1. Models", header, rows, folder, name="table1")
    corloc = results["corloc"]
    if corloc:
        classes = corloc["classes"]
        lines = [
            (label, *(percent(classes[name][key]) for name in classes), percent(corloc[key]))
            for label, key in (("motion segments", "motion"), (model_name(cfg, results["best_version"]), "model"))
        ]
        show("Table 4. Co-localisation, CorLoc %", ("method", *classes, "average"), lines, folder, name="table4")
    waits = [
        (stage, str(stages[stage].get("steps", "-")), "-" if share is None else f"{100 * share:.1f} %")
        for stage, share in results["label_wait_share"].items()
    ]
    show("Waiting for labels", ("stage", "steps", "share of the training time"), waits, folder, name="waiting")


def motion_name(scores: dict[str, Any]) -> str:
    """Return the name of the motion segments' row; it says where it leaves out videos of several tags."""
    whole = scores.get("videos") == scores.get("all_videos")
    return "motion segments" if whole else f"motion segments ({scores['videos']} videos of one tag)"


def model_name(cfg: DictConfig, stage: str) -> str:
    """Return the paper's name of a stage's model; ``*`` = not fine-tuned."""
    base = NAMES[cfg.labels.name]
    return base + {"stage_a": "*", "stage_b": "", "stage_c": " + images"}[stage]


def _cells(scores: dict[str, Any], shown: list[str]) -> list[str]:
    mious = [percent(scores.get(name, {}).get("miou")) for name in shown]
    return [*mious, percent(scores.get("train", {}).get("jaccard"))]


def _share(model: dict[str, Any], full: dict[str, Any], shown: list[str]) -> str:
    where = shown[0] if shown else ""
    if not model.get(where) or not full.get(where):
        return "-"
    return f"{100 * model[where]['miou'] / max(full[where]['miou'], 1e-9):.1f} %"
