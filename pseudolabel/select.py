"""Select pseudo-annotations by cut and paste (Chen et al. 2020, WS2, Sec. 3.2 and Fig. 5).

An object that was cut out whole and with a clear boundary still looks real on another background of its own video (the
strict criterion, judged by a discriminator); one that shows its telling part is still recognised (the relaxed
criterion, judged by a classifier).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from pseudolabel.types import BoolArray, FloatArray, UInt8Array, is_object

SMALLEST_BACKGROUND = 0.25
"""A background square smaller than this share of the foreground's side would be too blurred to paste on."""


@dataclass(frozen=True)
class Square:
    """A square of a frame: rows ``y .. y + side - 1``, columns ``x .. x + side - 1``; it may reach over the border."""

    y: int
    x: int
    side: int


@dataclass
class PatchSet:
    """The patches of one video.

    Attributes:
        positions: int (N,), positions in the clip of the frames that show an object.
        foreground: uint8 (N, s, s, 3), the original patches.
        pasted: uint8 (N, s, s, 3), the object of each patch on background of the same video.
        has_background: bool (N,), False where the video had no free background and a mean colour stands in.
    """

    positions: npt.NDArray[np.int64]
    foreground: UInt8Array
    pasted: UInt8Array
    has_background: BoolArray


def foreground_square(mask: BoolArray, *, margin: float = 0.1) -> Square | None:
    """Return the smallest square around the object, with a margin, moved into the frame where it fits.

    A square that would be larger than the frame's shorter side gives up its margin first. Only where the object itself
    is longer than the frame's shorter side the square reaches over the border, evenly on both sides.

    Args:
        mask: bool (H, W), the object.
        margin: free space on each side as a share of the object's longer side, >= 0.

    Returns:
        The square, or None for an empty mask.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    tight = int(max(rows[-1] - rows[0], columns[-1] - columns[0])) + 1
    shorter = min(mask.shape)
    side = min(int(np.ceil(tight * (1 + 2 * margin))), shorter if tight <= shorter else max(mask.shape))

    def start(first: int, last: int, extent: int) -> int:
        if side > extent:
            return -((side - extent) // 2)
        return int(np.clip((first + last + 1 - side) // 2, 0, extent - side))

    height, width = mask.shape
    return Square(start(rows[0], rows[-1], height), start(columns[0], columns[-1], width), side)


class _FreeSpace:
    """Where a video shows no object: one integral image per frame answers for squares of every side."""

    def __init__(self, labels: UInt8Array) -> None:
        occupied = is_object(labels)
        self.size = labels.shape[1:]
        self.integrals = np.stack([cv2.integral(frame.view(np.uint8)) for frame in occupied])  # (T, H + 1, W + 1)

    def _free(self, frame: int, side: int) -> BoolArray:
        """Return bool (H - side + 1, W - side + 1): whether the square with this upper left corner is free."""
        table = self.integrals[frame]
        inside = table[side:, side:] - table[:-side, side:] - table[side:, :-side] + table[:-side, :-side]
        return np.asarray(inside == 0)

    @cached_property
    def largest(self) -> npt.NDArray[np.int64]:
        """(T,) side of each frame's largest free square, 0 = none (by bisection: a free square holds smaller ones)."""
        sides = np.zeros(len(self.integrals), np.int64)
        for frame in range(len(self.integrals)):
            low, high = 0, min(self.size)
            while low < high:
                side = (low + high + 1) // 2
                low, high = (side, high) if self._free(frame, side).any() else (low, side - 1)
            sides[frame] = low
        return sides

    def draw(self, side: int, rng: np.random.Generator, tries: int) -> tuple[int, int, int] | None:
        """Draw one of all free squares of a side, each equally likely: by rejection first, else from the full list."""
        height, width = self.size
        if not 1 <= side <= min(height, width):
            return None
        for _ in range(tries):
            frame = int(rng.integers(len(self.integrals)))
            y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
            table = self.integrals[frame]
            if table[y + side, x + side] - table[y, x + side] - table[y + side, x] + table[y, x] == 0:
                return frame, y, x
        frames = np.flatnonzero(self.largest >= side).tolist()
        if not frames:
            return None
        ends = np.cumsum([np.count_nonzero(self._free(frame, side)) for frame in frames])
        chosen = int(rng.integers(ends[-1]))
        place = int(np.searchsorted(ends, chosen, side="right"))
        corners = np.argwhere(self._free(frames[place], side))
        y, x = corners[chosen - ends[place]]  # counted from the end of this frame's squares
        return frames[place], int(y), int(x)


def find_background_square(
    labels: UInt8Array, side: int, rng: np.random.Generator, *, tries: int = 20
) -> tuple[int, int, int] | None:
    """Draw a square of the video without any pseudo-object pixel, every valid position being equally likely.

    Args:
        labels: uint8 (T, H, W), pseudo-annotation; object = neither 0 nor 255 (void).
        side: side of the square, >= 1.
        rng: source of chance.
        tries: positions drawn at random before all valid ones are listed; changes the speed, not the distribution.

    Returns:
        (frame, y, x) of its upper left corner, or None when the video has no such square.
    """
    return _FreeSpace(labels).draw(side, rng, tries)


def cut_patch(image: npt.NDArray[Any], square: Square, size: int, *, nearest: bool = False) -> npt.NDArray[Any]:
    """Cut a square and resize it.

    Args:
        image: uint8 (H, W) or (H, W, C).
        square: what to cut; beyond the frame the edge pixels are repeated.
        size: side of the patch.
        nearest: take nearest pixels (for masks) instead of averaging.

    Returns:
        uint8 (size, size) or (size, size, C).
    """
    rows = np.clip(np.arange(square.y, square.y + square.side), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(square.x, square.x + square.side), 0, image.shape[1] - 1)
    patch = np.ascontiguousarray(image[rows[:, None], columns])
    if nearest:
        return cv2.resize(patch, (size, size), interpolation=cv2.INTER_NEAREST_EXACT)
    return cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA if square.side > size else cv2.INTER_LINEAR)


def cut_and_paste(
    frames: UInt8Array,
    labels: UInt8Array,
    *,
    size: int = 128,
    rng: np.random.Generator,
    margin: float = 0.1,
    tries: int = 20,
) -> PatchSet:
    """Cut the object of every frame and paste it onto background of the same video (Fig. 5).

    The background square is as large as the object's square; if the video has none of that side, its largest free
    square is enlarged, down to a quarter of the side; below that the object stands on the mean colour of its frame.

    Args:
        frames: uint8 (T, H, W, 3), RGB.
        labels: uint8 (T, H, W), pseudo-annotation; object = neither 0 nor 255 (void).
        size: side s of the patches.
        rng: source of chance.
        margin: see :func:`foreground_square`.
        tries: see :func:`find_background_square`.

    Returns:
        The patches of the N frames that show an object.
    """
    objects = is_object(labels)
    positions = np.flatnonzero(objects.any(axis=(1, 2)))
    foreground = np.empty((len(positions), size, size, 3), np.uint8)
    pasted = np.empty_like(foreground)
    has_background = np.ones(len(positions), bool)
    if not len(positions):
        return PatchSet(positions, foreground, pasted, has_background)
    free = _FreeSpace(labels)
    for i, position in enumerate(positions):
        square = foreground_square(objects[position], margin=margin)
        assert square is not None  # the frame has an object
        foreground[i] = cut_patch(frames[position], square, size)
        mask = cut_patch(objects[position].view(np.uint8), square, size, nearest=True).astype(bool)
        side = square.side
        found = free.draw(side, rng, tries)
        if found is None and free.largest.max() >= SMALLEST_BACKGROUND * square.side:
            side = min(int(free.largest.max()), square.side)
            found = free.draw(side, rng, tries)
        if found is None:
            background: npt.NDArray[Any] = frames[position].mean(axis=(0, 1)).round().astype(np.uint8)
            has_background[i] = False
        else:
            background = cut_patch(frames[found[0]], Square(found[1], found[2], side), size)
        pasted[i] = np.where(mask[..., None], foreground[i], background)
    return PatchSet(positions, foreground, pasted, has_background)


def patch_passes(
    real_probability: FloatArray,
    top1: npt.ArrayLike,
    actor: npt.ArrayLike,
    *,
    use: Literal["either", "discriminator", "classifier"] = "either",
    threshold: float = 0.5,
) -> BoolArray:
    """Decide which pasted patches pass, so that their frames train the next network.

    Args:
        real_probability: (N,) in [0, 1], how real the discriminator finds each pasted patch.
        top1: int (N,), the class that the classifier gives each pasted patch.
        actor: int, or (N,), the class it should give: the video's actor.
        use: pass by the discriminator, by the classifier, or by either of them (the paper).
        threshold: a patch looks real above this probability.

    Returns:
        bool (N,).
    """
    real = np.asarray(real_probability) > threshold
    recognised = np.asarray(np.asarray(top1) == np.asarray(actor))
    if use == "either":
        return real | recognised
    if use == "discriminator":
        return real
    if use == "classifier":
        return recognised
    raise ValueError(f"use must be 'either', 'discriminator' or 'classifier', got {use!r}")
