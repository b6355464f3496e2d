"""Which pixels lie inside a moving object: motion boundaries and inside-outside maps of one frame.

Papazoglou and Ferrari, "Fast object segmentation in unconstrained video", ICCV 2013, section 3.1. Constants are those
of the authors' program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from numba import njit

from pseudolabel.types import BoolArray, DataError, FloatArray, UInt8Array

Partials = Literal["cross", "along", "all"]
"""Derivatives in the norm of a flow's gradient: ``"along"`` du/dx and dv/dy, ``"cross"`` du/dy and dv/dx, or all."""

RAYS = 8

SECOND_GAINS = (0.71, 0.81, 0.91, 1.01, 1.11, 1.21, 1.31, 1.41)
"""Values of lambda_m that are tried where the first map is poor."""


@njit(cache=True)
def _gradient_norm(flow: FloatArray, back: int, along: bool, across: bool, out: FloatArray) -> None:
    height, width = flow.shape[:2]
    for y in range(height):
        up, down = max(y - back, 0), min(y + 1, height - 1)
        per_y = np.float32(1.0 / max(down - up, 1))
        for x in range(width):
            left, right = max(x - back, 0), min(x + 1, width - 1)
            per_x = np.float32(1.0 / max(right - left, 1))
            total = np.float32(0.0)
            if along:
                ux = (flow[y, right, 0] - flow[y, left, 0]) * per_x
                vy = (flow[down, x, 1] - flow[up, x, 1]) * per_y
                total += ux * ux + vy * vy
            if across:
                uy = (flow[down, x, 0] - flow[up, x, 0]) * per_y
                vx = (flow[y, right, 1] - flow[y, left, 1]) * per_x
                total += uy * uy + vx * vx
            out[y, x] = np.sqrt(total)


def gradient_norm(flow: FloatArray, *, partials: Partials = "cross", central: bool = False) -> FloatArray:
    """Return the norm of the flow's gradient at every pixel.

    Args:
        flow: float32 (H, W, 2), (dx, dy) in pixels.
        partials: which derivatives count; the authors' program takes one per channel.
        central: central instead of forward differences.

    Returns:
        float32 (H, W), >= 0, pixels of motion per pixel.

    Raises:
        DataError: the flow is not (H, W, 2), or not finite.
    """
    check_flow(flow)
    if partials not in ("cross", "along", "all"):
        raise ValueError(f"partials must be 'cross', 'along' or 'all', got {partials!r}")
    out = np.empty(flow.shape[:2], np.float32)
    field = np.ascontiguousarray(flow, np.float32)
    _gradient_norm(field, int(central), partials != "cross", partials != "along", out)
    return out


@njit(cache=True)
def _combine(
    flow: FloatArray, strength: FloatArray, gain: float, sure: float, doubtful: float, faint: float, out: FloatArray
) -> None:
    height, width = strength.shape
    inverse = np.zeros((height, width), np.float32)  # of the speed; what does not move has no direction
    for y in range(height):
        for x in range(width):
            squared = flow[y, x, 0] * flow[y, x, 0] + flow[y, x, 1] * flow[y, x, 1]
            if squared > 0.0:
                inverse[y, x] = 1.0 / np.sqrt(squared)
    for y in range(height):
        for x in range(width):
            magnitude = 1.0 - np.exp(-gain * strength[y, x])
            if magnitude > sure:
                out[y, x] = magnitude
                continue
            if magnitude < doubtful:
                out[y, x] = faint * magnitude
                continue
            u, v = flow[y, x, 0] * inverse[y, x], flow[y, x, 1] * inverse[y, x]
            lowest = 1.0
            for j in range(max(y - 1, 0), min(y + 2, height)):
                for i in range(max(x - 1, 0), min(x + 2, width)):
                    if inverse[y, x] > 0.0 and inverse[j, i] > 0.0:
                        lowest = min(lowest, (u * flow[j, i, 0] + v * flow[j, i, 1]) * inverse[j, i])
            widest = np.arccos(max(-1.0, lowest))
            out[y, x] = magnitude * (1.0 - np.exp(-widest * widest))


def motion_boundaries(
    flow: FloatArray,
    *,
    gain: float = 0.7,
    sure: float = 0.6,
    doubtful: float = 0.25,
    faint: float = 0.1,
    partials: Partials = "cross",
    strength: FloatArray | None = None,
) -> FloatArray:
    """Return the probability of a motion boundary at every pixel.

    b_m = 1 - exp(-gain |grad f|) is trusted where it is above ``sure``; where it is between ``doubtful`` and ``sure``
    it counts only as far as the flow's direction differs from a neighbour's, b_m (1 - exp(-angle^2)).

    Args:
        flow: float32 (H, W, 2), (dx, dy) in pixels.
        gain: lambda_m, steepness over the gradient.
        sure: b_m above which the gradient alone decides.
        doubtful: b_m below which there is hardly a boundary.
        faint: factor of b_m below ``doubtful``.
        partials: derivatives in |grad f|.
        strength: |grad f| when it is known, float32 (H, W); replaces ``partials``.

    Returns:
        float32 (H, W) in [0, 1).

    Raises:
        DataError: the flow is not (H, W, 2), or not finite.
    """
    if strength is None:
        strength = gradient_norm(flow, partials=partials)
    out = np.empty(flow.shape[:2], np.float32)
    _combine(np.ascontiguousarray(flow, np.float32), strength, gain, sure, doubtful, faint, out)
    return out


@njit(cache=True)
def _votes(walls: UInt8Array, votes: UInt8Array) -> None:
    """Count the rays with an odd number of crossings; two sweeps, each for the four rays that look back."""
    height, width = walls.shape
    rows = np.zeros((2, 3, width + 2), np.uint8)
    wall = np.zeros((2, width + 2), np.uint8)  # with a margin, so that nothing needs a test for the border
    for sweep in range(2):
        rows[:] = 0
        wall[:] = 0
        for k in range(height):
            y = k if sweep == 0 else height - 1 - k
            now, was = k % 2, 1 - k % 2
            for i in range(width):
                wall[now, i + 1] = walls[y, i if sweep == 0 else width - 1 - i]
            side = np.uint8(0)
            for i in range(1, width + 1):
                here = wall[now, i]
                free = np.uint8(1) - here
                left, above = wall[now, i - 1], wall[was, i]
                side ^= left & free
                # A curve of pixels that touch by their corners is closed: a diagonal ray cannot slip through.
                slip = free & (np.uint8(1) - wall[was, i - 1]) & left & above
                rows[now, 0, i] = rows[was, 0, i - 1] ^ (wall[was, i - 1] & free) ^ slip
                rows[now, 1, i] = rows[was, 1, i] ^ (above & free)
                slip = free & (np.uint8(1) - wall[was, i + 1]) & wall[now, i + 1] & above
                rows[now, 2, i] = rows[was, 2, i + 1] ^ (wall[was, i + 1] & free) ^ slip
                x = i - 1 if sweep == 0 else width - i
                votes[y, x] += free * (side + rows[now, 0, i] + rows[now, 1, i] + rows[now, 2, i])


def ray_votes(boundaries: BoolArray) -> UInt8Array:
    """Count for every pixel the rays, out of 8, that cross the boundaries an odd number of times.

    A run of boundary pixels along a ray is one crossing. Parities are carried from pixel to pixel, so that the time is
    linear in pixels. Boundary pixels get no vote.

    Args:
        boundaries: bool (H, W).

    Returns:
        uint8 (H, W) in 0..8.
    """
    votes = np.zeros(boundaries.shape, np.uint8)
    _votes(np.ascontiguousarray(boundaries).view(np.uint8), votes)
    return votes


def inside_outside(boundaries: BoolArray, *, votes: int = 5, border: int = 0) -> BoolArray:
    """Return the pixels that lie inside closed, or nearly closed, boundaries (section 3.1).

    A point inside a closed curve sees it an odd number of times along any ray; most of 8 rays decide, which bridges
    gaps. A boundary pixel itself is never inside.

    Args:
        boundaries: bool (H, W).
        votes: least number of odd rays, of 8.
        border: connected parts that come closer than so many pixels to the edge of the picture are dropped.

    Returns:
        bool (H, W).

    Raises:
        DataError: boundaries are not bool (H, W).
    """
    if boundaries.ndim != 2 or boundaries.dtype != np.bool_:
        raise DataError(
            f"Inside-outside map: boundaries must be bool (H, W), got {boundaries.dtype} {tuple(boundaries.shape)}. "
            "Threshold the motion boundaries first."
        )
    inside = ray_votes(boundaries) >= votes
    return _drop_at_border(inside, border) if border else inside


def _drop_at_border(mask: BoolArray, border: int) -> BoolArray:
    count, parts = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    touches = np.zeros(count, bool)
    for edge in (parts[:border], parts[-border:], parts[:, :border], parts[:, -border:]):
        touches[edge.ravel()] = True
    return mask & ~touches[parts]


def map_quality(inside: BoolArray) -> float:
    """Return area / spread^2 of an inside-outside map: high for one compact region, 0 for an empty map.

    Args:
        inside: bool (H, W).

    Returns:
        >= 0; 2 pi = 6.28 for a disc. Spread is the root mean square distance from the centre of mass.
    """
    moments = cv2.moments(inside.view(np.uint8), binaryImage=True)
    area = moments["m00"]
    if not area:
        return 0.0
    return float(area / max((moments["mu20"] + moments["mu02"]) / area, 1e-6))


def inside_outside_map(
    flow: FloatArray,
    *,
    gain: float = 0.7,
    threshold: float = 0.5,
    partials: Partials = "cross",
    votes: int = 5,
    border: int = 0,
    least_quality: float = 0.2,
    gains: Sequence[float] = SECOND_GAINS,
    strength: FloatArray | None = None,
) -> tuple[BoolArray, float]:
    """Return the inside-outside map of a flow field, with a second try where the first one is poor.

    Args:
        flow: float32 (H, W, 2), (dx, dy) in pixels.
        gain: lambda_m of :func:`motion_boundaries`.
        threshold: boundaries are where their probability is above it.
        partials: see :func:`gradient_norm`.
        votes: see :func:`inside_outside`.
        border: see :func:`inside_outside`.
        least_quality: below this :func:`map_quality`, ``gains`` are tried and the map of the best quality is taken.
        gains: the gains of the second try.
        strength: |grad f| when it is known, float32 (H, W).

    Returns:
        bool (H, W) and its quality.

    Raises:
        DataError: the flow is not (H, W, 2), or not finite.
    """
    field = np.ascontiguousarray(flow, np.float32)
    if strength is None:
        strength = gradient_norm(field, partials=partials)
    else:
        check_flow(field)

    def with_gain(value: float) -> tuple[BoolArray, float]:
        edges = motion_boundaries(field, gain=value, strength=strength) > threshold
        inside = inside_outside(edges, votes=votes, border=border)
        return inside, map_quality(inside)

    best = with_gain(gain)
    if best[1] < least_quality:
        return max([best, *(with_gain(value) for value in gains)], key=lambda found: found[1])
    return best


def check_flow(flow: npt.NDArray[np.generic]) -> None:
    """Refuse what is no flow field.

    Raises:
        DataError: the flow is not (H, W, 2), or not finite.
    """
    if flow.ndim != 3 or flow.shape[-1] != 2 or not flow.size:
        raise DataError(f"Flow must be (H, W, 2), (dx, dy) in pixels, got {tuple(flow.shape)}.")
    if not np.isfinite(flow).all():
        raise DataError(
            f"Flow holds {int((~np.isfinite(flow)).sum())} values that are NaN or infinite, expected pixels. Replace "
            "unknown flow by 0, or compute it anew."
        )
