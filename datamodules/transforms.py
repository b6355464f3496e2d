"""Augmentations as pure functions of arrays and a random generator: the same seed gives the same crop on any rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pseudolabel.types import VOID, FloatArray, UInt8Array

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


@dataclass(frozen=True)
class RandomCrop:
    """A resized, cropped and perhaps mirrored picture; what it shows and what is marked on it go the same way.

    Attributes:
        size: (H, W) to which the picture is resized first.
        top: first row of the crop.
        left: first column of the crop.
        side: of the square crop in pixels; beyond the resized picture it is padded.
        mirrored: left and right are swapped at last.
    """

    size: tuple[int, int]
    top: int
    left: int
    side: int
    mirrored: bool

    @classmethod
    def draw(
        cls,
        size: tuple[int, int],
        side: int,
        rng: np.random.Generator,
        *,
        scales: tuple[float, float] = (1.0, 1.0),
        mirror: bool = True,
    ) -> RandomCrop:
        """Draw one for a picture of ``size`` = (H, W); see :func:`crop_and_pad`."""
        factor = rng.uniform(*scales)
        resized = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
        top = int(rng.integers(max(0, resized[0] - side) + 1))
        left = int(rng.integers(max(0, resized[1] - side) + 1))
        return cls(resized, top, left, side, mirror and bool(rng.random() < 0.5))

    def image(self, image: UInt8Array) -> UInt8Array:
        """Return the crop of a picture (H, W, 3), padded by its edge pixels: uint8 (side, side, 3)."""
        return self._cut(resize(image, self.size), mode="edge")

    def labels(self, labels: UInt8Array) -> UInt8Array:
        """Return the crop of a mask (H, W), padded by void, which no loss sees: uint8 (side, side)."""
        return self._cut(resize(labels, self.size, nearest=True), constant_values=VOID)

    def boxes(self, boxes: FloatArray, size: tuple[int, int], *, least: float = 0.3) -> FloatArray:
        """Return the boxes that the crop shows, cut to it.

        Args:
            boxes: float32 (N, 4), x0, y0, x1, y1 in a picture of ``size``.
            size: its (H, W).
            least: share of a box's area that must be inside, else it is left out.

        Returns:
            float32 (M, 4), M <= N, in the crop.
        """
        scale = np.array([self.size[1] / size[1], self.size[0] / size[0]] * 2)
        moved = boxes * scale - np.array([self.left, self.top] * 2)
        inside = np.clip(moved, 0, self.side)
        whole, kept = _area(moved), _area(inside)
        inside = inside[(kept > 0) & (kept >= least * whole)]
        if self.mirrored:
            inside = np.stack([self.side - inside[:, 2], inside[:, 1], self.side - inside[:, 0], inside[:, 3]], axis=1)
        return inside.astype(np.float32)

    def _cut(self, values: UInt8Array, **padding: Any) -> UInt8Array:
        bottom, right = max(0, self.side - values.shape[0]), max(0, self.side - values.shape[1])
        if bottom or right:
            values = np.pad(values, ((0, bottom), (0, right), (0, 0))[: values.ndim], **padding)
        values = values[self.top : self.top + self.side, self.left : self.left + self.side]
        return np.ascontiguousarray(values[:, ::-1] if self.mirrored else values)


def _area(boxes: FloatArray) -> FloatArray:
    return np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)


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
    drawn = RandomCrop.draw((image.shape[0], image.shape[1]), crop, rng, scales=scales, mirror=mirror)
    return drawn.image(image), drawn.labels(labels)
