"""The second domain: backgrounds, light and development of the synthetic still images.

Nothing here looks like the videos: pale, plain or painted grounds in place of dark textured scenery, cast shadows and a
hard light from one side in place of moving light, sharpened and contrasty in place of blurred and noisy. The actors
are the same, so a network that knows their heads knows them here.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from datamodules.studio.scenery import value_noise
from pseudolabel.types import BoolArray, FloatArray, UInt8Array

Size = tuple[int, int]


def pastel(rng: np.random.Generator, count: int) -> FloatArray:
    """Return pale colours between teal and pink, float32 (count, 3), RGB in [0, 255]."""
    hue = 360.0 * (rng.uniform(0.5, 0.95) + rng.normal(0, 0.04, count)) % 360.0
    saturation = np.clip(rng.uniform(0.08, 0.5) + rng.normal(0, 0.05, count), 0.0, 1.0)
    value = np.clip(rng.uniform(0.78, 1.0) + rng.normal(0, 0.05, count), 0.6, 1.0)
    hsv = np.stack([hue, saturation, value], axis=-1).astype(np.float32)[None]
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0].astype(np.float32) * np.float32(255.0)


def gradient_ground(rng: np.random.Generator, size: Size) -> FloatArray:
    """Return a studio backdrop: colours that flow from corner to corner, float32 (H, W, 3)."""
    corners = pastel(rng, 4).reshape(2, 2, 3) * rng.uniform(0.75, 1.05, (2, 2, 1)).astype(np.float32)
    return cv2.resize(corners, size[::-1], interpolation=cv2.INTER_LINEAR).astype(np.float32)


def painted_ground(rng: np.random.Generator, size: Size) -> FloatArray:
    """Return strokes of a broad brush over each other, float32 (H, W, 3)."""
    height, width = size
    canvas = np.ascontiguousarray(gradient_ground(rng, size))
    colours = pastel(rng, 6)
    slant = rng.uniform(0, np.pi)
    for _ in range(int(rng.integers(60, 140))):
        middle = np.array([rng.uniform(0, width), rng.uniform(0, height)])
        turn = slant + rng.normal(0, 0.5)
        reach = height * rng.uniform(0.04, 0.16) * np.array([np.cos(turn), np.sin(turn)])
        ends = [tuple(round(value) for value in middle + side * reach) for side in (-1, 1)]
        colour = colours[rng.integers(len(colours))] * rng.uniform(0.85, 1.08)
        cv2.line(
            canvas, ends[0], ends[1], colour.tolist(), max(2, round(height * rng.uniform(0.03, 0.09))), cv2.LINE_AA
        )
    return canvas


def grey_ground(rng: np.random.Generator, size: Size) -> FloatArray:
    """Return a wall and a floor in near-neutral grey with a fine weave or planks, float32 (H, W, 3)."""
    height, width = size
    tone = rng.uniform(120, 215)
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    floor = ys > height * rng.uniform(0.55, 0.8)
    plank = width * rng.uniform(0.07, 0.16)
    seams = np.where(floor, 10.0 * (np.mod(ys, plank / 2) < 1.2), 7.0 * (np.mod(xs, plank) < 1.2))
    weave = 5.0 * np.sin(xs * rng.uniform(1.2, 2.4)) * np.sin(ys * rng.uniform(1.2, 2.4))
    grey = tone * np.where(floor, rng.uniform(0.7, 0.9), 1.0) - seams + weave
    tint = (1.0 + rng.uniform(-0.04, 0.04, 3)).astype(np.float32)
    return np.asarray(grey[..., None] * tint, np.float32)


def ground(rng: np.random.Generator, size: Size) -> FloatArray:
    """Return a gradient, a painted or a grey ground, float32 (H, W, 3), RGB about 0 to 255."""
    kinds = (gradient_ground, painted_ground, grey_ground)
    return kinds[rng.integers(len(kinds))](rng, size)


def cast_shadow(rng: np.random.Generator, canvas: FloatArray, covered: BoolArray) -> None:
    """Darken a ground, in place, where what covers ``covered`` (H, W) throws a soft shadow."""
    height, width = covered.shape
    shift = np.array([[1, 0, rng.uniform(-0.06, 0.06) * width], [0, 1, rng.uniform(0.03, 0.08) * height]])
    moved = cv2.warpAffine(covered.astype(np.float32), shift, (width, height))
    soft = cv2.GaussianBlur(moved, (0, 0), 0.02 * height + 0.5)
    canvas *= 1.0 - np.float32(rng.uniform(0.3, 0.6)) * soft[..., None]


def develop(rng: np.random.Generator, picture: FloatArray) -> UInt8Array:
    """Light a picture from one side, and give it the contrast, white balance, edges and grain of a print.

    Args:
        rng: source of randomness.
        picture: float32 (H, W, 3), RGB about 0 to 255.

    Returns:
        uint8 (H, W, 3).
    """
    height, width = picture.shape[:2]
    ys, xs = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    side = rng.uniform(0.12, 0.3) * (np.cos(angle) * xs + np.sin(angle) * ys)
    vignette = rng.uniform(0.0, 0.12) * (xs**2 + ys**2)
    balance = np.array([1.0 + rng.uniform(-0.1, 0.1), 1.0, 1.0 + rng.uniform(-0.1, 0.1)])
    lit = picture * (1.0 + side - vignette)[..., None] * balance
    contrast = rng.uniform(1.15, 1.45)
    printed = ((lit - 128.0) * contrast + 128.0).astype(np.float32)
    sharp = printed + np.float32(rng.uniform(0.4, 0.9)) * (printed - cv2.GaussianBlur(printed, (0, 0), 1.0))
    paper = np.float32(rng.uniform(4, 12)) * (value_noise(rng, (height, width), cells=height // 4, octaves=1) - 0.5)
    return cast(UInt8Array, np.clip(sharp + paper[..., None], 0, 255).astype(np.uint8))
