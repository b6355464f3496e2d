"""Small video contexts for tests."""

from __future__ import annotations

import numpy as np

from pseudolabel.bags_of_words import BagOfWordsSettings
from pseudolabel.detect_boxes import Boxes
from pseudolabel.proposals import Proposals
from pseudolabel.video_context import VideoContext, build_context

FEW_WORDS = BagOfWordsSettings(words=5, samples=100)


def random_context(
    rng: np.random.Generator, *, frames: int, size: tuple[int, int], supervoxels: int, shots: int = 1
) -> VideoContext:
    """A context whose supervoxels are scattered pixels; every frame has two proposals and one box."""
    shape = (frames, *size)
    images = rng.integers(0, 255, (*shape, 3)).astype(np.uint8)
    labels = (10 + 7 * rng.integers(0, supervoxels, shape)).astype(np.int32)  # ids with gaps
    masks = np.zeros((2, *size), bool)
    masks[0, : (size[0] + 1) // 2] = True
    masks[1] = True
    return build_context(
        images,
        labels,
        3 + 2 * np.arange(frames),
        np.sort(rng.integers(0, shots, frames)),
        [Proposals.from_masks(masks)] * frames,
        [Boxes(np.array([[0, 0, size[1], 1]], np.float32), np.ones(1, np.float32))] * frames,
        settings=FEW_WORDS,
    )


def two_shots() -> tuple[np.ndarray, np.ndarray, VideoContext]:
    """Two shots of three frames, 24 x 32: a red square moves over green, its supervoxel is 4 in both shots, ground 9.

    Only frame 1 (shot 0) has a box. There is one proposal per frame, the square.

    Returns:
        frames, masks of the square, and the context.
    """
    frames = np.empty((6, 24, 32, 3), np.uint8)
    frames[:] = (40, 160, 60)
    masks = np.zeros(frames.shape[:3], bool)
    for k in range(6):
        masks[k, 6:16, 4 + 3 * k : 14 + 3 * k] = True
    frames[masks] = (210, 40, 30)
    frames += np.random.default_rng(0).integers(0, 20, frames.shape).astype(np.uint8)
    box = Boxes(np.array([[6, 5, 18, 17]], np.float32), np.array([0.5], np.float32))
    context = build_context(
        frames,
        np.where(masks, 4, 9).astype(np.int32),
        np.array([0, 4, 9, 20, 21, 30]),
        np.array([0, 0, 0, 1, 1, 1]),
        [Proposals.from_masks(mask[None]) for mask in masks],
        [box if k == 1 else Boxes.none() for k in range(6)],
        settings=FEW_WORDS,
    )
    return frames, masks, context
