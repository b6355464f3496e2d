"""Coats: what tells an actor's body from its surroundings, as fur, feathers and leather do outdoors.

A coat covers a whole body but the part that tells the actor (head or emblem), and all actors draw theirs from one
distribution: it says that something is an actor, not which.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import cv2
import numpy as np

from datamodules.studio.scenery import shaded, value_noise
from datamodules.studio.sprites import Body
from pseudolabel.types import FloatArray, UInt8Array

_TELLING = ("head", "emblem")
_FAR_SHADE = 0.7


def put_on_coat(rng: np.random.Generator, body: Body) -> Body:
    """Return the body in a coat of its own; outlines and the part that tells the actor stay."""
    hue = rng.uniform(12.0, 42.0)
    colours = _colour(hue, rng.uniform(0.25, 0.6), rng.uniform(0.35, 0.85)), _colour(hue, 0.3, rng.uniform(0.25, 0.9))
    parts = []
    for part in body.parts:
        if part.name in _TELLING:
            parts.append(part)
            continue
        pixels = shaded(hair(rng, part.sprite.pixels.shape[:2], colours), _FAR_SHADE if part.depth < -1 else 1.0)
        alpha = part.sprite.pixels[..., 3:]
        parts.append(replace(part, sprite=replace(part.sprite, pixels=np.concatenate([pixels, alpha], axis=-1))))
    return replace(body, parts=tuple(parts))


def hair(rng: np.random.Generator, shape: tuple[int, int], colours: tuple[FloatArray, FloatArray]) -> UInt8Array:
    """Return short hair, uint8 (h, w, 3): fine strokes down the part, in soft patches of two colours.

    Args:
        rng: source of randomness.
        shape: height and width in pixels.
        colours: two RGB colours, each float32 (3,) in [0, 255].
    """
    height, width = shape
    starts = rng.random((max(2, height // 6), width), np.float32)
    strokes = cv2.resize(starts, (width, height), interpolation=cv2.INTER_LINEAR)
    patches = np.clip(3.0 * value_noise(rng, shape, cells=2, octaves=2) - 1.0, 0.0, 1.0)[..., None]
    painted = colours[0] * patches + colours[1] * (1.0 - patches)
    return cast(UInt8Array, cv2.convertScaleAbs(painted * (0.65 + 0.6 * strokes[..., None])))


def _colour(hue: float, saturation: float, value: float) -> FloatArray:
    hsv = np.array([[[hue, saturation, value]]], np.float32)
    return cast(FloatArray, cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0] * np.float32(255.0))
