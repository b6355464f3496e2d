"""Scores against the true masks. Nothing here feeds back into training, thresholds or the choice of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from datamodules.frame_cache import FrameCache
from datamodules.images import ImageSource
from datamodules.progress import follow
from datamodules.records import VideoRecord
from datamodules.transforms import resize
from modules.distributed import gather_lists, own_share
from modules.metrics import SegmentationScores, SequenceJaccard
from modules.predictors import Predictor
from pseudolabel.align import align_actions
from pseudolabel.decision import decide
from pseudolabel.store import Index, PAStore
from pseudolabel.types import LabelSpace, UInt8Array
from recipes.images import read_with_truth
from recipes.workspace import Workspace

FRAMES_AT_ONCE = 32
"""Scores of so many frames are held at a time: all of a long video's would not fit."""


FrameLabels = Callable[[int], UInt8Array | None]
"""Number of a frame -> uint8 (H, W) class ids, None beyond the video's end."""


class ScoreBoard:
    """Both families of scores at once: confusion-matrix scores of the label space, and J over sequences."""

    def __init__(self, space: LabelSpace, names: Sequence[str]) -> None:
        self.names = space.names
        self.scores = SegmentationScores(space, sync_on_compute=False)
        self.jaccard = SequenceJaccard(max(1, len(names)), sync_on_compute=False)
        self.numbers = {name: number for number, name in enumerate(names)}
        self.frames = 0

    def add(self, video: str, predicted: Any, truth: Any) -> None:
        """Add one frame (H, W)."""
        a, b = torch.from_numpy(predicted.astype(np.int64))[None], torch.from_numpy(truth.astype(np.int64))[None]
        self.scores.update(a, b)
        self.jaccard.update(a, b, [self.numbers[video]])
        self.frames += 1

    def merge_ranks(self) -> None:
        """Add up what every rank has counted, on every rank."""
        for metric in (self.scores, self.jaccard):
            for name in metric._defaults:  # all states are sums
                setattr(metric, name, torch.stack(gather_lists([getattr(metric, name)])).sum(0))
        self.frames = sum(gather_lists([self.frames]))

    def results(self) -> dict[str, float]:
        """Plain numbers; empty without a single true mask. Of a single class also its ``iou``."""
        if not self.frames:
            return {}
        found = {name: round(float(value), 5) for name, value in self.scores.compute().items()}
        if len(self.names) == 2:
            found["iou"] = round(float(self.scores.iou_per_class()[1].nan_to_num(0.0)), 5)
        return {**found, "jaccard": round(float(self.jaccard.compute()), 5), "frames": self.frames}


def thinned(records: Sequence[VideoRecord], most: int | None) -> list[VideoRecord]:
    """Return records with at most ``most`` of their frames with a true mask each, evenly spread; None = all."""
    found = []
    for record in records:
        chosen = record.annotated
        if most is not None and len(chosen) > most:
            chosen = tuple(chosen[i] for i in np.linspace(0, len(chosen) - 1, most).round().astype(int))
        found.append(replace(record, annotated=chosen))
    return found


def score_version(workspace: Workspace, store: PAStore, version: int, rows: Index) -> dict[str, float]:
    """Score the pseudo-annotations of ``rows`` where true masks exist (Table 2)."""
    names = sorted({row.video for row in rows})
    board = ScoreBoard(workspace.space, names)
    for row in rows:
        labels = store.read(version, row.video, row.frame)
        truth = workspace.truth(workspace.by_name[row.video], row.frame, labels.shape)  # type: ignore[arg-type]
        if truth is not None:
            board.add(row.video, labels, truth)
    return board.results()


def score_segmenter(
    workspace: Workspace, segmenter: Predictor, records: Sequence[VideoRecord], *, radius: int
) -> dict[str, float]:
    """Score a segmenter on the annotated frames of videos, after action alignment over their neighbours.

    Args:
        workspace: the data.
        segmenter: the model.
        records: videos with true masks; others are passed over.
        radius: neighbouring frames on each side that vote on the action; 0 = no alignment.
    """
    board = ScoreBoard(workspace.space, [record.name for record in records])
    for record in follow(own_share([record for record in records if record.annotated]), "scoring videos", least=20):
        for frame, labels in _predict_annotated(segmenter, workspace.cache, record, radius):
            truth = workspace.truth(record, frame, labels.shape)
            if truth is not None:
                board.add(record.name, labels, truth)
    board.merge_ranks()
    return board.results()


def score_masks(
    workspace: Workspace, records: Sequence[VideoRecord], masks: Callable[[VideoRecord], FrameLabels]
) -> dict[str, float]:
    """Score given labels of videos, such as their motion segments, on the annotated frames.

    Args:
        workspace: the data.
        records: videos with true masks; others are passed over.
        masks: opens a video: number of a frame -> uint8 (H, W) class ids, None beyond its end.
    """
    board = ScoreBoard(workspace.space, [record.name for record in records])
    for record in follow(own_share([record for record in records if record.annotated]), "scoring masks", least=20):
        labels_of = masks(record)
        for frame in record.annotated:
            labels = labels_of(frame)
            if labels is not None:
                truth = workspace.truth(record, frame, (labels.shape[0], labels.shape[1]))
                if truth is not None:
                    board.add(record.name, labels, truth)
    board.merge_ranks()
    return board.results()


def score_images(
    workspace: Workspace,
    segmenter: Predictor,
    source: ImageSource,
    split: str,
    *,
    max_side: int | None,
    negatives: bool = False,
) -> dict[str, float | dict[str, float]]:
    """Score a segmenter on still images, over the classes that they have in common with it (SPEC M11).

    Scores of classes that the images do not have are left out of the decision; ``classes`` has the IoU of each.
    A broken image or mask is listed in ``skipped.csv`` and passed over.

    Args:
        workspace: lists what is broken.
        segmenter: the model.
        source: tagged images with true masks.
        split: which of them.
        max_side: longer side of the images in pixels; None = as they are.
        negatives: images that show none of the classes count as well.
    """
    space = segmenter.space
    common = np.flatnonzero(space.allowed(source.common))
    records = source.select(split)
    if negatives:
        records = records + [record for record in source.negatives if record.split == split]
    board = ScoreBoard(space, [record.name for record in records])
    for record in follow(own_share(records), "scoring images", least=100):
        pair = read_with_truth(workspace, source, record, max_side=max_side)
        if pair is None:
            continue
        image, truth = pair
        scores = segmenter.predict_scores(image[None])[0, common]  # (C', h, w)
        labels = common[decide(scores, segmenter.decision)].astype(np.uint8)
        board.add(record.name, resize(labels, (truth.shape[0], truth.shape[1]), nearest=True), truth)
    board.merge_ranks()
    found = board.results()
    if not found:
        return {}
    each = board.scores.iou_per_class()
    shown = {str(name): round(float(iou), 5) for name, iou in zip(space.names, each, strict=True) if not iou.isnan()}
    return {**found, "classes": shown}


def _predict_annotated(
    segmenter: Predictor, cache: FrameCache, record: VideoRecord, radius: int
) -> list[tuple[int, Any]]:
    length = cache.length(record)
    near = sorted({n for f in record.annotated for n in range(max(0, f - radius), min(length, f + radius + 1))})
    frames = cache.read(record, near)
    parts = np.array_split(frames, -(-len(frames) // FRAMES_AT_ONCE))
    labels = np.concatenate([decide(segmenter.predict_scores(part), segmenter.decision) for part in parts])
    if radius and segmenter.space.has_actions:
        for run in np.split(np.arange(len(near)), np.flatnonzero(np.diff(near) > 1) + 1):
            labels[run] = align_actions(labels[run], segmenter.space, radius=radius)
    return [(frame, labels[near.index(frame)]) for frame in record.annotated if frame < length]
