"""Augmentations as pure functions of arrays and a random generator: the same seed gives the same crop on any rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pseudolabel.types import VOID, UInt8Array

AnyArray = npt.NDArray[Any]


def resize(image: AnyArray, size: tuple[int, int], *, nearest: bool = False) -> AnyArray:
    """Resize (H, W[, 3]) to ``size`` = (height, width); areas are averaged when shrinking.

    Args:
        image: uint8 image or mask.
        size: height and width in pixels.
        nearest: copy values instead of mixing them, as masks need.
    """
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    if nearest:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    shrinking = height < image.shape[0] and width < image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)


def fit_longest_side(size: tuple[int, int], longest: int | None) -> tuple[int, int]:
    """Return ``size`` = (height, width) scaled down until the longer side is at most ``longest`` (None = as it is)."""
    if longest is None or max(size) <= longest:
        return size
    scale = longest / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


@dataclass(frozen=True)
class CropBox:
    """A crop of ``height`` x ``width`` pixels whose upper left corner is (``top``, ``left``)."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: AnyArray) -> AnyArray:
        """Cut the box out of (..., H, W, 3) images or, for 2-D and 3-D masks, out of (..., H, W)."""
        rows, columns = slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)
        return image[..., rows, columns, :] if image.shape[-1] == 3 and image.ndim >= 3 else image[..., rows, columns]


def random_resized_box(
    size: tuple[int, int],
    rng: np.random.Generator,
    *,
    area: tuple[float, float],
    aspect: tuple[float, float] = (0.8, 1.25),
) -> CropBox:
    """Draw a box of a random share of the image's area (the usual classifier augmentation).

    Args:
        size: (H, W) of the image.
        rng: source of randomness.
        area: smallest and largest share of the image's area.
        aspect: smallest and largest width / height of the box, relative to the image's own.
    """
    height, width = size
    share = rng.uniform(*area)
    ratio = float(np.exp(rng.uniform(np.log(aspect[0]), np.log(aspect[1]))))
    box_h = min(height, max(1, round(height * np.sqrt(share / ratio))))
    box_w = min(width, max(1, round(width * np.sqrt(share * ratio))))
    return CropBox(int(rng.integers(height - box_h + 1)), int(rng.integers(width - box_w + 1)), box_h, box_w)


def jitter_colour(images: UInt8Array, rng: np.random.Generator, *, strength: float) -> UInt8Array:
    """Change contrast, brightness and the three channels' gains at random, alike for all (..., 3) images given."""
    if strength <= 0:
        return images
    gain = 1 + rng.uniform(-strength, strength, 3) * 0.5 + rng.uniform(-strength, strength)
    offset = 255 * rng.uniform(-strength, strength) * 0.5
    table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255).astype(np.uint8)  # (256, 3)
    return np.stack([table[:, channel][images[..., channel]] for channel in range(3)], axis=-1)


def crop_and_pad(
    image: UInt8Array,
    labels: UInt8Array,
    crop: int,
    rng: np.random.Generator,
    *,
    scales: tuple[float, float] = (1.0, 1.0),
    mirror: bool = True,
) -> tuple[UInt8Array, UInt8Array]:
    """Random scale, mirror and square crop for the segmenter (WS2 Sec. 5.2: random 224 x 224 crops).

    Frames smaller than the crop are padded: the image by replication, its labels by void, which no loss sees.

    Args:
        image: uint8 (H, W, 3).
        labels: uint8 (H, W).
        crop: side of the crop in pixels.
        rng: source of randomness.
        scales: smallest and largest factor of the size before cropping.
        mirror: flip left-right half of the time.

    Returns:
        uint8 (crop, crop, 3) and uint8 (crop, crop).
    """
    factor = rng.uniform(*scales)
    size = (max(1, round(image.shape[0] * factor)), max(1, round(image.shape[1] * factor)))
    image, labels = resize(image, size), resize(labels, size, nearest=True)
    bottom, right = max(0, crop - size[0]), max(0, crop - size[1])
    if bottom or right:
        image = np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="edge")
        labels = np.pad(labels, ((0, bottom), (0, right)), constant_values=VOID)
    top = int(rng.integers(image.shape[0] - crop + 1))
    left = int(rng.integers(image.shape[1] - crop + 1))
    image, labels = image[top : top + crop, left : left + crop], labels[top : top + crop, left : left + crop]
    if mirror and rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(labels)
