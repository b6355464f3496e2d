"""How M-CNN's models and the motion segments that teach them are scored. Nothing here feeds back into training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodules.images import ImageSource
from datamodules.motion_masks import MotionMasks
from datamodules.records import VideoRecord
from modules.checkpoints import to_plain
from modules.crf_predictor import with_crf
from modules.segmenter import Segmenter
from pseudolabel.types import UInt8Array
from recipes.scoring import FrameLabels, score_images, score_masks, score_segmenter, thinned
from recipes.workspace import Workspace


def score_model(workspace: Workspace, segmenter: Segmenter, images: ImageSource | None) -> dict[str, Any]:
    """Return a model's scores on ``train`` and ``test`` videos and on ``images_val`` and ``images_test``, where given.

    Args:
        workspace: the data; its configuration has ``score_frames``, how many of a video are scored at most, and the
            dense CRF that follows the model.
        segmenter: the model.
        images: tagged images, some with true masks; or None.
    """
    most, model = workspace.cfg.score_frames, with_crf(segmenter, to_plain(workspace.cfg.crf))
    found: dict[str, Any] = {"train": score_segmenter(workspace, model, thinned(workspace.train, most), radius=0)}
    if workspace.test:
        found["test"] = score_segmenter(workspace, model, thinned(workspace.test, most), radius=0)
    for split in () if images is None else ("val", "test"):
        if images is not None and images.select(split):
            found[f"images_{split}"] = score_images(
                workspace, model, images, split, max_side=workspace.cfg.data.max_side
            )
    return found


def score_motion(workspace: Workspace, masks: MotionMasks, records: Sequence[VideoRecord]) -> dict[str, Any]:
    """Score the motion segments themselves as labels, on the videos with a single tag.

    Motion does not say which of several objects moves, so videos of several tags would measure the order of the tags.

    Returns:
        scores, and ``videos``: how many were scored, of ``all_videos`` with true masks; empty without true masks.
    """
    shown = [record for record in records if record.annotated and masks.is_written(record.name)]
    single = [record for record in shown if len(record.tags) == 1]

    def open_labels(record: VideoRecord) -> FrameLabels:
        moved, label = masks.open(record.name), np.uint8(workspace.space.index(record.tags[0]))

        def labels(frame: int) -> UInt8Array | None:
            return moved[frame].astype(np.uint8) * label if frame < len(moved) else None

        return labels

    found = score_masks(workspace, thinned(single, workspace.cfg.score_frames), open_labels)
    return {**found, "videos": len(single), "all_videos": len(shown)} if found else {}
