"""What a run of ``recipe=webly`` ends with: plain numbers, and Tables 1, 2 and 4 of the paper (Hong et al. 2017)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from recipes.tables import percent, show

NAMES = {
    "cam_one_scale": "CAM, one scale",
    "cam": "CAM",
    "decoder": "decoder, no adaptation",
    "adapted": "decoder, adapted",
    "twin": "supervised twin",
}

WAYS = {
    "attention_motion_colour": "attention + motion + colour",
    "attention_motion": "attention + motion",
    "attention_colour": "attention + colour",
    "attention": "attention",
    "motion": "motion",
}


def describe(cfg: DictConfig, stages: dict[str, Any]) -> dict[str, Any]:
    """Return the part of ``results.json`` that is the recipe's own, from the results of its stages."""
    models = {model["stage"]: model for model in stages["scores"]["models"]}
    best = "adapted" if "adapted" in models else "decoder"
    where = next((name for name in ("images_test", "images_val") if models[best].get(name)), "images_val")
    test, full = models[best].get(where, {}), models.get("twin", {}).get(where, {})
    videos = stages["scores"]["videos"]
    whole = videos.get("attention_motion_colour", {})
    return {
        "versions": [
            {
                "version": 0,
                "pa_miou_full": whole.get("miou"),
                "pa_jaccard_full": whole.get("jaccard"),
                **{key: stages["videos"].get(key) for key in ("videos", "used", "intervals", "kept")},
            }
        ],
        "best_version": best,
        "models": [model for name, model in models.items() if name != "twin"],
        "videos": videos,
        "retrieval": stages.get("web", {}),
        "test": test,
        "tested_on": where,
        "twin": models.get("twin", {}),
        "share_of_twin": test["miou"] / max(full["miou"], 1e-9) if test and full else None,
        "checkpoint": f"{best}/best.ckpt",
    }


def show_tables(cfg: DictConfig, stages: dict[str, Any], results: dict[str, Any], folder: Path) -> None:
    """Print what was retrieved and Tables 1, 2 and 4, and write them as CSV."""
    if results["retrieval"]:
        show_retrieval(results["retrieval"], folder)
    where, twin = results["tested_on"], results["twin"]
    models = [*results["models"], *([twin] if twin else [])]
    full = twin.get(where, {}).get("miou")
    shown = [split for split in ("images_val", "images_test") if models[0].get(split)]
    header = ("model", "share of the twin", *(f"mIoU {split}" for split in shown))
    rows = []
    for model in models:
        mious = [model.get(split, {}).get("miou") for split in shown]
        own = model.get(where, {}).get("miou")
        share = "-" if not full or own is None else f"{100 * own / full:.1f} %"
        rows.append((model_name(cfg, model["stage"]), share, *map(percent, mious)))
    show("Table 1. Models on still images", header, rows, folder, name="table1")
    classes = list(results["test"].get("classes", {}))
    if classes:
        lines = [
            (model_name(cfg, model["stage"]), *(percent(model[where]["classes"].get(name)) for name in classes))
            for model in models
            if model.get(where)
        ]
        show(f"Table 2. IoU per class on {where}", ("model", *classes), lines, folder, name="table2")
    if results["videos"]:
        ways = [
            (WAYS[way], percent(of.get("miou")), percent(of.get("jaccard"))) for way, of in results["videos"].items()
        ]
        count = next(iter(results["videos"].values()))["videos"]
        title = f"Table 4. Segmentation of {count} training videos"
        show(title, ("evidence", "class average (mIoU)", "video average (J)"), ways, folder, name="table4")


def model_name(cfg: DictConfig, stage: str) -> str:
    """Return the name of a model's row."""
    together = cfg.training == "end_to_end" and stage in ("decoder", "adapted")
    return NAMES[stage] + (", end to end" if together else "")


def show_retrieval(found: dict[str, Any], folder: Path | None = None) -> None:
    """Print how much was found of each class, and how much of it is right where that is known; write it as CSV."""
    quality = found.get("quality", {})
    header = ("class", "videos", "clips", "seconds", *(("precision", "recall") if quality else ()))
    rows = []
    for name in found["videos"]:
        rates = quality.get("classes", {}).get(name, {})
        cells = [str(found[key].get(name, 0)) for key in ("videos", "clips")]
        cells.append(f"{found['clip_seconds'].get(name, 0):.0f}")
        rows.append(
            (name, *cells, *((percent(rates.get("precision")), percent(rates.get("recall"))) if quality else ()))
        )
    if quality:
        for label, rates in (("all", quality), ("all, of the key frames seen", quality["key_frames"])):
            rows.append((label, "", "", "", percent(rates["precision"]), percent(rates["recall"])))
    show("Retrieved from the web", header, rows, folder, name="retrieval")
