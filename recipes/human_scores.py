"""How the target's masks are scored: IoU of the class and J. Nothing here feeds back into training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datamodules.images import ImageSource
from datamodules.records import VideoRecord
from modules.predictors import Predictor
from pseudolabel.store import PAStore
from recipes.scoring import score_images, score_segmenter, score_version, thinned
from recipes.workspace import Workspace


def held_back(records: Sequence[VideoRecord], taught: Mapping[str, Sequence[int]]) -> list[VideoRecord]:
    """Return records with those frames with a true mask that never taught."""
    return [
        replace(record, annotated=tuple(f for f in record.annotated if f not in set(taught.get(record.name, ()))))
        for record in records
    ]


def score_target(
    workspace: Workspace,
    predictor: Predictor,
    images: ImageSource | None,
    *,
    most: int | None,
) -> dict[str, Any]:
    """Score a model where true masks exist; ``iou`` is the class's over all pixels, ``jaccard`` the mean J of videos.

    Args:
        workspace: the data.
        predictor: the model.
        images: still images, some with true masks; or None.
        most: frames of a video that are scored at most; None = all.

    Returns:
        scores on ``test`` videos, ``train`` (videos that carry the tag), ``held_back`` (frames of these that never
        taught), ``images_val`` and ``images_test``; each only where there are true masks.
    """
    shown = [record for record in workspace.train + workspace.val if record.tags]
    taught = {
        record.name: [int(workspace.cache.indices(record)[p]) for p in workspace.positions(record, validation=False)]
        for record in shown
    }
    parts = {
        "train": thinned(shown, most),
        "held_back": thinned(held_back(shown, taught), most),
        "test": thinned(workspace.test, most),
    }
    found: dict[str, Any] = {}
    for name, records in parts.items():
        annotated = any(record.annotated for record in records)
        if annotated and (scores := score_segmenter(workspace, predictor, records, radius=0)):
            found[name] = scores
    max_side = workspace.cfg.data.max_side
    for split in () if images is None else ("val", "test"):
        if images is None or not images.select(split):
            continue
        if of_images := score_images(workspace, predictor, images, split, max_side=max_side, negatives=True):
            found[f"images_{split}"] = of_images
    return found


def score_versions(workspace: Workspace, store: PAStore, taught: int) -> list[dict[str, Any]]:
    """Score the masks of every version on the key frames of training videos that carry the tag.

    Args:
        workspace: the data.
        store: the versions.
        taught: so many of them taught a network; of these the selected frames are scored as well.
    """
    shown = {name for name, record in workspace.by_name.items() if record.tags}
    found = []
    for version in store.versions():
        rows = [row for row in workspace.split_index(store.index(version), validation=False) if row.video in shown]
        entry: dict[str, Any] = {"version": version, "frames": len(rows)}
        entry["full"] = score_version(workspace, store, version, rows)
        if version < taught:
            chosen = [row for row in rows if row.selected]
            entry["selected"] = score_version(workspace, store, version, chosen)
            entry["selected_share"] = round(len(chosen) / max(1, len(rows)), 4)
        found.append(entry)
    return found
