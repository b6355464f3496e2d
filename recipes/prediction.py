"""From decoded frames to masks, streaming: memory is flat in the length of a video."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import cv2
import numpy as np
import torch

from datamodules.inputs import ImageReader
from datamodules.transforms import fit_longest_side, resize
from datamodules.video import VideoReader
from modules.predictors import Predictor
from pseudolabel.align import ActionAligner
from pseudolabel.decision import Decision, find_objects
from pseudolabel.types import DataError, FloatArray, UInt8Array

SCORE_BYTES = 512 * 2**20
"""Scores held at once; batches of large frames with many classes become smaller."""


def segment_frames(
    segmenter: Predictor,
    reader: VideoReader | ImageReader,
    *,
    batch_size: int = 8,
    threshold: float | None = None,
    align_radius: int | None = 5,
) -> Iterator[tuple[UInt8Array, UInt8Array]]:
    """Segment a video as it is decoded.

    Args:
        segmenter: the network; frames longer than its ``max_side`` are shrunk for it and their scores grown back.
        reader: the video.
        batch_size: frames at once, at most.
        threshold: see :func:`label_scores`.
        align_radius: neighbouring frames on each side that vote on an instance's action; None = no vote.

    Yields:
        frame uint8 (H, W, 3) and class ids uint8 (H, W), in order, ``align_radius`` frames behind the decoder.

    Raises:
        DataError: the video is broken, or the device has not enough memory.
    """
    size = fit_longest_side(reader.size, segmenter.max_side)
    batch_size = max(1, min(batch_size, SCORE_BYTES // (4 * segmenter.space.num_classes * size[0] * size[1])))
    aligner = None if align_radius is None else ActionAligner(segmenter.space, align_radius)
    waiting: deque[UInt8Array] = deque()
    for _, frames in reader.chunks(batch_size):
        shrunk = frames if size == reader.size else np.stack([resize(frame, size) for frame in frames])
        try:
            scores = segmenter.predict_scores(shrunk, batch_size=batch_size)  # (n, C, h, w)
        except torch.OutOfMemoryError as error:
            raise DataError(
                f"{reader.path}: not enough memory for {len(frames)} frames of {size[0]}x{size[1]}. "
                "Lower batch_size= or use device=cpu."
            ) from error
        for frame, of_frame in zip(frames, scores, strict=True):
            waiting.append(frame)
            labels = label_scores(of_frame, size=reader.size, threshold=threshold, decision=segmenter.decision)
            for aligned in [labels] if aligner is None else aligner.push(labels):
                yield waiting.popleft(), aligned
    for aligned in [] if aligner is None else aligner.flush():
        yield waiting.popleft(), aligned


def label_scores(
    scores: FloatArray,
    *,
    size: tuple[int, int],
    threshold: float | None = None,
    decision: Decision = "likeliest",
) -> UInt8Array:
    """Decide on the classes of one frame, at full size, with one class at a time in memory.

    Args:
        scores: softmax scores float32 (C, h, w); class 0 is background.
        size: (H, W) of the result; the scores, not the labels, are resized to it (bilinear).
        threshold: None = as ``decision`` says; else the foreground class of the largest score where that is at least
            ``threshold``, and background elsewhere.
        decision: see :func:`pseudolabel.decision.decide`.

    Returns:
        uint8 (H, W).
    """
    first = 0 if threshold is None and decision == "likeliest" else 1
    labels = np.full(size, first, np.uint8)
    best = _to_size(scores[first], size).copy()
    for index in range(first + 1, len(scores)):
        plane = _to_size(scores[index], size)
        labels[plane > best] = index
        np.maximum(best, plane, out=best)
    if threshold is not None:
        labels[best < threshold] = 0
    elif decision != "likeliest":
        labels[~find_objects(1 - _to_size(scores[0], size), decision)] = 0
    return labels


def _to_size(plane: FloatArray, size: tuple[int, int]) -> FloatArray:
    if plane.shape == size:
        return plane
    return np.asarray(cv2.resize(plane, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.float32)
