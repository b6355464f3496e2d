"""What a run of recipe human ends with: its results as plain numbers, Table 1's column and Table 3's row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from recipes.tables import percent, show

DOMAINS = ("images_test", "images_val", "test", "held_back", "train")
"""Where a model may be scored, the paper's own kind first: still images, then held-out videos, then held-out frames."""

DETECTED = ("videos", "frames", "frames_with_boxes", "boxes", "videos_without_boxes")
"""What is counted of the detector's work."""


def describe(cfg: DictConfig, stages: dict[str, Any]) -> dict[str, Any]:
    """Return the part of ``results.json`` that is the recipe's own, from the results of its stages."""
    models, twin = stages["scores"]["models"], stages.get("twin", {})
    where = next((name for name in DOMAINS if models[-1].get(name)), "train")
    test, full = models[-1].get(where, {}), twin.get(where, {})
    share = test["iou"] / max(full["iou"], 1e-9) if test and full else None
    reports = {report["version"]: report for report in stages["segmenter"]["versions"]}
    criterion = f"val/{cfg.rounds.criterion}"
    versions = [
        {
            "version": entry["version"],
            "pa_miou_full": entry["full"].get("miou"),
            "pa_miou_selected": entry.get("selected", {}).get("miou"),
            "pa_jaccard_full": entry["full"].get("jaccard"),
            "pa_jaccard_selected": entry.get("selected", {}).get("jaccard"),
            "pa_iou_full": entry["full"].get("iou"),
            "pa_iou_selected": entry.get("selected", {}).get("iou"),
            "selected_share": entry.get("selected_share"),
            "criterion": reports.get(entry["version"], {}).get("best", {}).get(criterion),
            "epochs": reports.get(entry["version"], {}).get("epochs"),
        }
        for entry in stages["scores"]["annotations"]
    ]
    return {
        "target": cfg.target,
        "versions": versions,
        "best_version": versions[-1]["version"],
        "models": models,
        "key_frames": {name: stages["key_frames"][name] for name in ("frames", "num_shots", "key_frames")},
        "detector": {"name": cfg.detector.name, **_taught(stages)},
        "detections": {name: stages["contexts"][name] for name in DETECTED},
        "test": test,
        "tested_on": where,
        "metric": "iou",
        "twin": twin,
        "share_of_twin": share,
        "checkpoint": f"{next(name for name in ('extra', 'finish', 'segmenter') if name in stages)}/best.ckpt",
    }


def _taught(stages: dict[str, Any]) -> dict[str, int]:
    """Return how many still images and boxes the detector of this run has seen, if it has."""
    trained = stages.get("detector")
    return {} if trained is None else {name: trained[name] for name in ("images", "boxes")}


def _told(detector: dict[str, Any]) -> str:
    """Return a detector's name, and what a person had to give for it."""
    if "boxes" not in detector:
        return str(detector["name"])
    return f"{detector['name']} on {detector['boxes']} boxes in {detector['images']} still images"


def show_tables(cfg: DictConfig, stages: dict[str, Any], results: dict[str, Any], folder: Path) -> None:
    """Print the rounds' masks and networks (Table 1), and what was found in the videos, and write them as CSV."""
    found, seen = results["key_frames"], results["detections"]
    rows = [
        ("frames, shots, key frames", f"{found['frames']}, {found['num_shots']}, {found['key_frames']}"),
        ("frames that were looked at", f"{seen['frames']}, {seen['frames_with_boxes']} with boxes"),
        ("detector", _told(results["detector"])),
        ("boxes", str(seen["boxes"])),
        ("videos of the target without any box", str(seen["videos_without_boxes"])),
    ]
    show(f"Videos, {cfg.target}", ("what", "number"), rows, folder, name="videos")
    rounds = [
        (
            f"PA.v{entry['version']}",
            percent(entry["pa_iou_full"]),
            percent(entry["pa_jaccard_full"]),
            percent(entry["pa_iou_selected"]),
            percent(entry["pa_jaccard_selected"]),
            percent(entry["selected_share"]),
            percent(entry["criterion"]),
        )
        for entry in results["versions"]
    ]
    header = ("masks", "IoU", "J", "IoU selected", "J selected", "% selected", f"{cfg.rounds.criterion} of the network")
    show("Masks of the key frames, against the truth", header, rounds, folder, name="masks")
    if all(set(model) == {"round"} for model in results["models"]):
        print(f"nothing that shows {cfg.target} has a true mask, so the networks are not scored: look at the pictures")
        return
    shown = [name for name in DOMAINS if any(model.get(name) for model in results["models"])]
    lines = [(str(model["round"]), *_cells(model, shown)) for model in results["models"]]
    if results["twin"]:
        lines.append(("supervised twin", *_cells(results["twin"], shown)))
    columns = ("round", *(f"IoU {name}" for name in shown), "J train", "J held back")
    show(f"Table 1. Networks, IoU of {cfg.target}", columns, lines, folder, name="table1")


def _cells(model: dict[str, Any], shown: list[str]) -> list[str]:
    ious = [percent(model.get(name, {}).get("iou")) for name in shown]
    return [*ious, *(percent(model.get(name, {}).get("jaccard")) for name in ("train", "held_back"))]
