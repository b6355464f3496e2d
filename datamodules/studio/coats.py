"""What actors may wear: coats of hair or feathers, which nothing else in the synthetic videos is made of.

Every actor may wear any coat, so a coat tells an actor from its surroundings, but no actor from another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import cv2
import numpy as np

from datamodules.studio.scenery import texture, value_noise
from pseudolabel.types import FloatArray, UInt8Array


class Wear(Protocol):
    """Makes the surface of a body part."""

    def __call__(self, rng: np.random.Generator, shape: tuple[int, int]) -> UInt8Array:
        """Return uint8 (h, w, 3)."""
        ...


@dataclass(frozen=True)
class Coat:
    """Hair in two natural colours: plain, patched, banded or spotted; pale below.

    Attributes:
        colours: float32 (2, 3) in [0, 255].
        pattern: 0..3.
    """

    colours: FloatArray
    pattern: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Coat:
        """Draw one between black, brown, ginger, cream and grey."""
        saturation = rng.choice([0.08, 0.35, 0.6], 2) + rng.uniform(-0.05, 0.05, 2)
        value = np.array([rng.uniform(0.3, 0.6), rng.uniform(0.65, 0.95)])[rng.permutation(2)]
        hsv = np.stack([rng.uniform(18.0, 42.0, 2), saturation, value], axis=-1).astype(np.float32)[None]
        colours = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0].astype(np.float32) * np.float32(255.0)
        return cls(colours, int(rng.integers(4)))

    def __call__(self, rng: np.random.Generator, shape: tuple[int, int]) -> UInt8Array:
        """Return a piece, uint8 (h, w, 3); hairs lie along the width, the last row is the belly."""
        height, width = shape
        ys, xs = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        bumps = value_noise(rng, shape, cells=3, octaves=2)
        share = (
            np.zeros(shape, np.float32),
            bumps > rng.uniform(0.4, 0.6),
            np.sin(rng.uniform(5, 9) * xs + 3 * bumps) > 0.3,
            np.sin(rng.uniform(8, 12) * xs + bumps) * np.sin(rng.uniform(5, 8) * ys) > 0.45,
        )[self.pattern].astype(np.float32)
        painted = self.colours[0] + share[..., None] * (self.colours[1] - self.colours[0])
        strands = rng.random((max(2, height // 3), max(2, width // 12)), np.float32)
        hair = 0.72 + 0.56 * cv2.resize(strands, (width, height), interpolation=cv2.INTER_CUBIC)
        belly = 0.85 + 0.15 * (ys + 1)
        return cast(UInt8Array, np.clip(painted * (hair * belly)[..., None], 0, 255).astype(np.uint8))


def wear_of(rng: np.random.Generator, coats: float) -> Wear:
    """Draw what an actor wears: with probability ``coats`` a coat, else any textures; 0 draws nothing."""
    return Coat.draw(rng) if coats and rng.random() < coats else texture
