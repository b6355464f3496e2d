"""Textured cut-outs, the articulated bodies made of them, and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pseudolabel.types import BoolArray, FloatArray, UInt8Array

Point = tuple[float, float]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sprite:
    """A textured cut-out with its place in the coordinates of the part that wears it (x right, y down).

    Attributes:
        pixels: uint8 (n, m, 4), RGB and alpha; alpha is 0 or 255.
        centre: where the sprite's middle lies.
        half: half width and half height.
    """

    pixels: UInt8Array
    centre: Point
    half: Point


@dataclass(frozen=True)
class Part:
    """One rigid or bending piece of a body. A part's parent stands before it in the body.

    Attributes:
        name: what a motion calls it.
        parent: index of the parent in the body's parts, -1 for the root.
        joint: where it is hinged, in the parent's coordinates.
        sprite: what it looks like.
        depth: drawing order; smaller is farther away.
    """

    name: str
    parent: int
    joint: Point
    sprite: Sprite
    depth: int = 0


@dataclass(frozen=True)
class Body:
    """An articulated figure; ``limbs`` names its legs and arms with their phases in a walking cycle (radians)."""

    parts: tuple[Part, ...]
    limbs: tuple[tuple[str, float], ...] = ()

    @property
    def order(self) -> list[int]:
        """Indices of the parts from the farthest to the nearest."""
        return sorted(range(len(self.parts)), key=lambda index: self.parts[index].depth)


def cut_sprite(pixels: UInt8Array, inside: BoolArray, *, centre: Point, half: Point) -> Sprite:
    """Cut ``inside`` (h, w) out of a texture (h, w, 3)."""
    alpha = np.where(inside, 255, 0).astype(np.uint8)
    return Sprite(np.dstack([pixels, alpha]), centre, half)


def unit_grid(shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Return x and y of each pixel, float32 (h, w), in [-1, 1]."""
    ys, xs = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j].astype(np.float32)
    return xs, ys


def oval_sprite(rng: np.random.Generator, pixels: UInt8Array, *, half: Point, centre: Point = (0.0, 0.0)) -> Sprite:
    """Cut an egg-like oval with a slightly irregular outline, half sizes ``half``."""
    xs, ys = unit_grid(pixels.shape[:2])
    power = rng.uniform(1.9, 2.8)
    egg = 1.0 + rng.uniform(-0.25, 0.25) * xs
    wobble = 0.05 * np.sin(rng.integers(2, 5) * np.arctan2(ys, xs) + rng.uniform(0, 6.28))
    inside = np.abs(xs) ** power + np.abs(ys * egg / 0.98) ** power < (0.95 + wobble) ** power
    return cut_sprite(pixels, inside, centre=centre, half=half)


def capsule_sprite(pixels: UInt8Array, *, length: float, width: float, taper: float = 0.8) -> Sprite:
    """Cut a limb that hangs down from (0, 0) by ``length``; its end is ``taper`` times as wide as its start."""
    xs, ys = unit_grid(pixels.shape[:2])
    half = (width / 2 * max(1.0, taper), (length + width * max(1.0, taper)) / 2)
    y = ys * half[1] + length / 2
    stretch = np.clip(y / max(length, 1e-6), 0.0, 1.0)
    radius = width / 2 * (1.0 + (taper - 1.0) * stretch) * 0.98
    inside = np.hypot(xs * half[0], y - stretch * length) < radius
    return cut_sprite(pixels, inside, centre=(0.0, length / 2), half=half)


def affine(
    x: npt.ArrayLike = 0.0,
    y: npt.ArrayLike = 0.0,
    *,
    angle: npt.ArrayLike = 0.0,
    scale_x: npt.ArrayLike = 1.0,
    scale_y: npt.ArrayLike = 1.0,
) -> Array:
    """Return matrices (..., 3, 3) that scale, then rotate, then shift; all arguments broadcast."""
    x, y, angle, scale_x, scale_y = np.broadcast_arrays(x, y, angle, scale_x, scale_y)
    matrix = np.zeros((*x.shape, 3, 3))
    cos, sin = np.cos(angle), np.sin(angle)
    matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2] = cos * scale_x, -sin * scale_y, x
    matrix[..., 1, 0], matrix[..., 1, 1], matrix[..., 1, 2] = sin * scale_x, cos * scale_y, y
    matrix[..., 2, 2] = 1.0
    return matrix


def sprite_to_part(sprite: Sprite) -> Array:
    """Return the matrix (3, 3) from a sprite's pixel coordinates to its part's coordinates."""
    rows, columns = sprite.pixels.shape[:2]
    step_x, step_y = 2 * sprite.half[0] / (columns - 1), 2 * sprite.half[1] / (rows - 1)
    return affine(sprite.centre[0] - sprite.half[0], sprite.centre[1] - sprite.half[1], scale_x=step_x, scale_y=step_y)


def draw_sprite(layer: UInt8Array, sprite: Sprite, matrix: Array, *, bend: float = 0.0) -> None:
    """Draw a sprite on a layer, in place, with a hard edge.

    Args:
        layer: uint8 (h, w, 4).
        sprite: the cut-out.
        matrix: (3, 3) sprite pixels -> layer pixels.
        bend: shifts the sprite's ends across its long axis, as a share of half its short side.
    """
    rows, columns = sprite.pixels.shape[:2]
    corners = np.array([(0, 0, 1), (columns, 0, 1), (0, rows, 1), (columns, rows, 1)]) @ matrix[:2].T
    slack = 1.0 + abs(bend) * 0.5 * min(rows, columns) * float(np.abs(matrix[:2, :2]).sum(axis=1).max())
    low = np.maximum(np.floor(corners.min(axis=0) - slack), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(axis=0) + slack), layer.shape[1::-1]).astype(int)
    if (high <= low).any() or abs(np.linalg.det(matrix[:2, :2])) < 1e-6:
        return
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    local = matrix.copy()
    local[:2, 2] -= low
    if abs(bend) < 1e-3:
        drawn = cv2.warpAffine(sprite.pixels, local[:2], size)
    else:
        inverse = np.linalg.inv(local).astype(np.float32)
        xs, ys = np.arange(size[0], dtype=np.float32)[None], np.arange(size[1], dtype=np.float32)[:, None]
        u = inverse[0, 0] * xs + inverse[0, 1] * ys + inverse[0, 2]
        v = inverse[1, 0] * xs + inverse[1, 1] * ys + inverse[1, 2]
        if columns >= rows:
            v += np.float32(bend * rows / 2) * ((2 * u / columns - 1) ** 2 - np.float32(0.3))
        else:
            u += np.float32(bend * columns / 2) * (2 * v / rows - 1) ** 2
        drawn = cv2.remap(sprite.pixels, u, v, cv2.INTER_LINEAR)
    inside = cv2.threshold(drawn[..., 3], 127, 255, cv2.THRESH_BINARY)[1]
    drawn[..., 3] = 255
    cv2.copyTo(drawn, inside, layer[low[1] : high[1], low[0] : high[0]])
