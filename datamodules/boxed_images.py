"""Still images with boxes of one class, which teach a detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.datasets import to_channels_first
from datamodules.transforms import RandomCrop, jitter_colour
from pseudolabel.types import FloatArray, UInt8Array

BoxedPair = tuple[UInt8Array, FloatArray]
"""A picture uint8 (H, W, 3) and its boxes float32 (N, 4): x0, y0, x1, y1."""


class BoxedImages(Dataset[dict[str, Any]]):
    """Random square crops of images with the boxes that they show.

    Items have ``image`` uint8 (3, crop, crop), ``boxes`` float32 (most, 4), of which the first ``count`` count.

    Args:
        loaders: give an image and its boxes when called; images without a box are counter-examples.
        crop: side of the crops in pixels; smaller images are padded by their edge pixels.
        most: boxes per image; more are left out, the smallest first.
        scales: random scaling before the crop.
        jitter: strength of the colour jitter.
        seed: seed of the augmentation.
        epoch: number of the epoch.
    """

    def __init__(
        self,
        loaders: Sequence[Callable[[], BoxedPair]],
        *,
        crop: int,
        most: int = 32,
        scales: tuple[float, float] = (1.0, 1.0),
        jitter: float = 0.0,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        self.loaders, self.crop, self.most, self.scales, self.jitter = loaders, crop, most, scales, jitter
        self.seed, self.epoch = seed, epoch

    def __len__(self) -> int:
        return len(self.loaders)

    def __getitem__(self, item: int) -> dict[str, Any]:
        image, boxes = self.loaders[item]()
        rng = np.random.default_rng((self.seed, self.epoch, item))
        size = (image.shape[0], image.shape[1])
        drawn = RandomCrop.draw(size, self.crop, rng, scales=self.scales)
        shown = drawn.boxes(boxes, size)
        sides = shown[:, 2:] - shown[:, :2]
        shown = shown[np.argsort(-sides.prod(axis=1), kind="stable")][: self.most]
        padded = np.zeros((self.most, 4), np.float32)
        padded[: len(shown)] = shown
        return {
            "image": to_channels_first(jitter_colour(drawn.image(image), rng, strength=self.jitter)),
            "boxes": torch.from_numpy(padded),
            "count": len(shown),
        }
