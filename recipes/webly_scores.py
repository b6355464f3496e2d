"""How ``recipe=webly`` scores its models and its segmentation of videos. Nothing here feeds back into training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed

from datamodules.images import ImageSource
from datamodules.progress import follow
from datamodules.records import VideoRecord
from modules.attention_decoder import AttentionDecoder
from modules.cam_segmenter import CamSegmenter
from modules.distributed import barrier, gather_lists, rank
from modules.encoder2d import Encoder2D
from pseudolabel.sampling import sample_uniformly
from pseudolabel.types import DataError, LabelSpace, UInt8Array
from recipes.scoring import FrameLabels, score_images, score_masks
from recipes.webly_settings import part_of
from recipes.webly_videos import LabelOptions, attend, one_thread, read_frames, segment_by
from recipes.workspace import Workspace

WHOLE = "attention_motion_colour"
"""The paper's segmentation, among its parts."""

Masks = dict[str, dict[int, UInt8Array]]
"""Way of segmenting -> number of a frame -> its labels."""


def score_images_by(
    workspace: Workspace,
    images: ImageSource,
    encoder: Encoder2D,
    space: LabelSpace,
    checkpoints: Mapping[str, Path],
    *,
    scales: Sequence[float],
    device: torch.device,
) -> dict[str, Any]:
    """Score every model, and the CAM baseline with all scales and with one, on images ``val`` and ``test``."""
    found: dict[str, Any] = {"models": []}
    named: dict[str, Any] = {"cam_one_scale": lambda: CamSegmenter(encoder, space, scales=(1.0,))}
    named["cam"] = lambda: CamSegmenter(encoder, space, scales=scales)
    for name, path in checkpoints.items():
        named[name] = lambda path=path: AttentionDecoder.load(path).to(device)
    for name, load in named.items():
        model = load()
        scores: dict[str, Any] = {"stage": name}
        for split in ("val", "test"):
            if images.select(split):
                scores[f"images_{split}"] = score_images(
                    workspace, model, images, split, max_side=workspace.cfg.data.max_side
                )
        found["models"].append(scores)
    return found


def score_video_segments(
    workspace: Workspace, options: LabelOptions, *, compare: Sequence[str], most: int | None, workers: int
) -> dict[str, Any]:
    """Score the segmentation of whole training videos, and of its parts, on the videos of one tag with true masks.

    Args:
        workspace: the videos.
        options: how they are segmented.
        compare: the parts.
        most: of more videos than this, so many are scored, evenly spread over the list; None = all are.
        workers: processes.

    Returns:
        way of segmenting -> scores, J over sequences among them; empty without a true mask.
    """
    records = [record for record in workspace.train if record.annotated and len(record.tags) == 1]
    if not records:
        return {}
    records = [records[place] for place in sample_uniformly(len(records), most)]
    found: list[tuple[str, Masks]] = []
    if rank() == 0:
        run = Parallel(n_jobs=workers, return_as="generator_unordered")
        jobs = run(delayed(_segment_one)(record, workspace.space, options, tuple(compare)) for record in records)
        bar = follow(jobs, "segmenting videos in parts", total=len(records))
        for name, of_video, reason in bar:
            found.append((name, of_video))
            if reason:
                workspace.list_skipped(name, reason)
    barrier()
    masks = dict(gather_lists(found))
    ways = (WHOLE, *compare)

    def opened(way: str) -> Any:
        def labels_of(record: VideoRecord) -> FrameLabels:
            return lambda frame: masks[record.name].get(way, {}).get(frame)

        return labels_of

    return {way: {**score_masks(workspace, records, opened(way)), "videos": len(records)} for way in ways}


def _segment_one(
    record: VideoRecord, space: LabelSpace, options: LabelOptions, compare: tuple[str, ...]
) -> tuple[str, Masks, str]:
    """Return the name, the labels, and why they end early, if they do: what came before counts."""
    reason = ""
    ways = {WHOLE: options.graph, **{part: part_of(options.graph, part) for part in compare}}
    label, wanted = np.uint8(space.index(record.tags[0])), set(record.annotated)
    masks: Masks = {way: {} for way in ways}
    with one_thread():
        encoder = Encoder2D.load(options.encoder)
        try:
            frames = read_frames(record, max_side=options.max_side)
            seen = attend(frames, encoder, encoder.classes.index(str(record.tags[0])), scales=options.scales)
            for number, found in enumerate(segment_by(seen, ways)):
                if number in wanted:
                    for way, mask in found.items():
                        masks[way][number] = mask.astype(np.uint8) * label
        except DataError as error:
            reason = str(error)
    return record.name, masks, reason
