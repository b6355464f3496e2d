"""What the synthetic videos show beside actors: textures, backgrounds, clutter in motion and occluders.

Colours, textures and shapes come from the same distributions for actors' bodies and for everything else, so that
neither colour nor texture alone tells an actor from its surroundings, unless it wears a coat
(:mod:`datamodules.studio.coats`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.studio.sprites import Body, Part, Point, capsule_sprite, cut_sprite, unit_grid
from pseudolabel.types import FloatArray, UInt8Array


def value_noise(rng: np.random.Generator, shape: tuple[int, int], *, cells: int = 3, octaves: int = 4) -> FloatArray:
    """Return multi-scale noise, float32 (h, w), stretched to [0, 1]; ``cells`` bumps across at the coarsest scale."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        count = cells * 2**octave
        grid = rng.random((count, count), np.float32)
        total += np.float32(0.6**octave) * cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC)
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def palette(rng: np.random.Generator, count: int) -> FloatArray:
    """Return ``count`` colours that may stand side by side, float32 (count, 3), RGB in [0, 255]."""
    hue = (rng.random() + rng.normal(0, 0.09, count)) % 1.0
    saturation = np.clip(rng.beta(1.4, 2.6) + rng.normal(0, 0.12, count), 0.0, 0.95)
    value = np.clip(rng.uniform(0.35, 0.85) + rng.normal(0, 0.22, count), 0.08, 1.0)
    hsv = np.stack([hue * 360.0, saturation, value], axis=-1).astype(np.float32)[None]
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0].astype(np.float32) * np.float32(255.0)


def texture(rng: np.random.Generator, shape: tuple[int, int], *, detail: int = 1) -> UInt8Array:
    """Return a random texture, uint8 (h, w, 3): fur, stripes, spots, checks, patches or smooth noise.

    Args:
        rng: source of randomness.
        shape: height and width in pixels.
        detail: how many times finer than what suits a body part.
    """
    ys, xs = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along = np.cos(angle) * xs + np.sin(angle) * ys
    across = np.cos(angle) * ys - np.sin(angle) * xs
    frequency = rng.uniform(4.0, 11.0) * detail
    kind = rng.integers(6)
    coarse = value_noise(rng, shape, cells=3 * detail, octaves=2)
    if kind == 0:
        field = 0.3 + 0.4 * value_noise(rng, shape, cells=12 * detail, octaves=2)
    elif kind == 1:
        field = 0.5 + 0.5 * np.sin(frequency * along + 3.0 * coarse)
    elif kind == 2:
        field = (np.sin(frequency * along) * np.sin(frequency * across + 2.0 * coarse) > 0.3).astype(np.float32)
    elif kind == 3:
        field = (np.sin(frequency * along) * np.sin(frequency * across) > 0).astype(np.float32)
    elif kind == 4:
        field = np.floor(value_noise(rng, shape, cells=4 * detail, octaves=2) * 3.0) / 2.0
    else:
        field = coarse
    shade = 0.8 + 0.4 * value_noise(rng, shape, cells=5 * detail, octaves=3)
    ramp = np.array([0.0, 0.5, 1.0])
    colours = palette(rng, 3)
    table = np.stack([np.interp(np.linspace(0, 1, 256), ramp, column) for column in colours.T], axis=-1)
    painted = table.astype(np.float32)[(field * 255).astype(np.uint8)]
    return cast(UInt8Array, cv2.multiply(painted, cv2.merge([shade] * 3), dtype=cv2.CV_8U))


def shaded(pixels: UInt8Array, gain: float) -> UInt8Array:
    """Return the texture, darker (gain < 1) or brighter."""
    return cast(UInt8Array, cv2.convertScaleAbs(pixels, alpha=gain))


def background(rng: np.random.Generator, shape: tuple[int, int], *, clutter: float = 1.0) -> UInt8Array:
    """Return a background canvas, uint8 (h, w, 3): sky and ground, then textured shapes; no two are alike.

    Args:
        rng: source of randomness.
        shape: canvas height and width in pixels.
        clutter: 1 pastes 20 to 60 shapes; 0 none.
    """
    height, width = shape
    canvas = texture(rng, shape, detail=3)
    horizon = int(height * rng.uniform(0.35, 0.7))
    edge = horizon + (rng.uniform(0, 0.12) * height * (value_noise(rng, (1, width))[0] - 0.5)).astype(int)
    below = np.arange(height)[:, None] >= edge[None]
    canvas[below] = texture(rng, shape, detail=3)[below]
    bank = [texture(rng, (height, height), detail=3) for _ in range(4)]
    for _ in range(round(clutter * rng.integers(20, 61))):
        outline = _shape_outline(rng, reach=height * float(rng.uniform(0.03, 0.16)))
        extent = np.minimum(outline.max(axis=0) + 1, height)
        place = np.array([rng.uniform(-0.05, 1.0) * width, rng.uniform(-0.1, 1.0) * height]).astype(int)
        low, high = np.maximum(place, 0), np.minimum(place + extent, (width, height))
        if (high <= low).any():
            continue
        columns, rows = slice(low[0], high[0]), slice(low[1], high[1])
        inside = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillPoly(inside, [outline + place - low], 1)
        surface = bank[rng.integers(4)][: inside.shape[0], : inside.shape[1]]
        cv2.copyTo(shaded(surface, rng.uniform(0.6, 1.25)), inside, canvas[rows, columns])
    haze = cv2.resize(palette(rng, 4).reshape(2, 2, 3), (width, height), interpolation=cv2.INTER_LINEAR)
    share = rng.uniform(0.05, 0.3)
    return cv2.addWeighted(canvas, 1.0 - share, haze.astype(np.uint8), share, 0.0).astype(np.uint8)


def _shape_outline(rng: np.random.Generator, *, reach: float) -> npt.NDArray[np.int32]:
    """Return a polygon (N, 2) whose least x and y are 0: a box or stripe, an oval, or a jagged blob."""
    kind = rng.integers(3)
    turn = rng.uniform(0, np.pi)
    if kind == 0:
        aspect = np.exp(rng.uniform(-1.2, 1.2))
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * reach * [aspect**0.5, aspect**-0.5]
        upright = rng.choice([0.0, turn])
        spin = np.array([[np.cos(upright), np.sin(upright)], [-np.sin(upright), np.cos(upright)]])
        outline = corners @ spin
    else:
        count = 20 if kind == 1 else int(rng.integers(5, 10))
        angles = np.linspace(0, 2 * np.pi, count, endpoint=False) + turn
        radius = reach * (np.ones(count) if kind == 1 else rng.uniform(0.5, 1.4, count))
        outline = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * radius[:, None]
    return np.round(outline - outline.min(axis=0)).astype(np.int32)


def _blob(rng: np.random.Generator) -> Body:
    xs, ys = unit_grid((64, 64))
    ripple = 0.16 * np.sin(rng.integers(2, 7) * np.arctan2(ys, xs) + rng.uniform(0, 6.28))
    flat = rng.uniform(0.55, 1.0)
    sprite = cut_sprite(texture(rng, (64, 64)), np.hypot(xs, ys) < 0.8 + ripple, centre=(0, 0), half=(0.5, 0.5 * flat))
    return Body((Part("root", -1, (0.0, 0.0), sprite),))


def _disc(rng: np.random.Generator) -> Body:
    xs, ys = unit_grid((64, 64))
    sprite = cut_sprite(texture(rng, (64, 64)), np.hypot(xs, ys) < 0.97, centre=(0, 0), half=(0.45, 0.45))
    return Body((Part("root", -1, (0.0, 0.0), sprite),))


def _box(rng: np.random.Generator) -> Body:
    xs, ys = unit_grid((64, 64))
    inside = (np.abs(xs) < 0.97) & (np.abs(ys) < 0.97)
    half = (0.45 * rng.uniform(0.6, 1.2), 0.4)
    return Body((Part("root", -1, (0.0, 0.0), cut_sprite(texture(rng, (64, 64)), inside, centre=(0, 0), half=half)),))


def _plant(rng: np.random.Generator) -> Body:
    """A stem with leaves: moving limbs on a body, but no actor."""
    leaves = texture(rng, (48, 24))
    stem = Part("root", -1, (0.0, 0.0), capsule_sprite(texture(rng, (48, 24)), length=0.5, width=0.12))
    parts = [stem]
    for number in range(int(rng.integers(4, 8))):
        leaf = capsule_sprite(
            shaded(leaves, rng.uniform(0.7, 1.2)), length=rng.uniform(0.35, 0.6), width=0.18, taper=0.3
        )
        parts.append(
            Part(f"limb{number}", 0, (0.0, float(rng.uniform(0.0, 0.35))), leaf, depth=int(rng.integers(-1, 2)))
        )
    return Body(tuple(parts), tuple((part.name, float(rng.uniform(0, 6.28))) for part in parts[1:]))


DISTRACTORS: dict[str, Callable[[np.random.Generator], Body]] = {
    "stone": _blob,
    "plate": _disc,
    "box": _box,
    "plant": _plant,
}
"""Name -> maker of a thing that is no actor, about 1 across."""


def distractor(rng: np.random.Generator) -> Body:
    """Return a thing that may move like an actor but is none: one of :data:`DISTRACTORS`."""
    kinds = tuple(DISTRACTORS.values())
    return kinds[rng.integers(len(kinds))](rng)


def occluder(rng: np.random.Generator, *, frame_half: Point) -> Body:
    """Return a foreground thing: one to three upright bars, or a bush at the frame's lower edge.

    Args:
        rng: source of randomness.
        frame_half: half width and half height of the frame in world units.
    """
    xs, ys = unit_grid((96, 96))
    if rng.random() < 0.5:
        pixels = texture(rng, (96, 96))
        width = rng.uniform(0.035, 0.075)
        bar = cut_sprite(pixels, np.ones((96, 96), bool), centre=(0, 0), half=(width, 3.0 * frame_half[1]))
        parts = [Part("root", -1, (0.0, 0.0), bar)]
        for number in range(1, int(rng.integers(1, 4))):
            shifted = replace(bar, centre=(number * rng.uniform(0.35, 0.6), 0.0))
            parts.append(Part(f"bar{number}", 0, (0.0, 0.0), shifted))
        return Body(tuple(parts))
    inside = np.zeros((96, 96), bool)
    for _ in range(int(rng.integers(8, 16))):
        x, radius = rng.uniform(-0.8, 0.8), rng.uniform(0.12, 0.3)
        inside |= np.hypot(xs - x, ys - rng.uniform(-0.35, 0.6)) < radius
    inside |= (ys > 0.5) & (np.abs(xs) < 0.85)
    bush = cut_sprite(texture(rng, (96, 96)), inside, centre=(0, 0), half=(rng.uniform(0.3, 0.55), 0.3))
    return Body((Part("root", -1, (0.0, 0.0), bush),))
