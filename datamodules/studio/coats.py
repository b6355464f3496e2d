"""Coats: what the bodies of the synthetic actors wear.

In nature a class has usual colours and patterns, though not every animal has them. Without any, nothing but its one
telling part could ever teach a network what belongs to an object.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from datamodules.studio.scenery import CHECKS, FUR, PATCHES, SMOOTH, SPOTS, STRIPES, texture
from pseudolabel.types import UInt8Array

Coat = Callable[[np.random.Generator, tuple[int, int]], UInt8Array]
"""(source of randomness, (height, width)) -> texture uint8 (h, w, 3)."""

Colour = tuple[int, int, int]

USUAL: dict[str, tuple[tuple[int, ...], tuple[Colour, Colour, Colour]]] = {
    "adult": ((SMOOTH, CHECKS), ((40, 60, 120), (70, 90, 150), (120, 140, 190))),
    "ball": ((SMOOTH, PATCHES), ((170, 30, 30), (215, 60, 45), (240, 120, 90))),
    "bird": ((FUR, SPOTS), ((20, 70, 110), (40, 130, 160), (130, 200, 200))),
    "cat": ((STRIPES,), ((90, 55, 25), (205, 130, 60), (240, 200, 140))),
    "dog": ((PATCHES, FUR), ((45, 30, 22), (120, 85, 60), (225, 215, 200))),
}
"""Actor -> kinds of texture, and its colours."""


def usual_coat(actor: str) -> Coat:
    """Return an actor's usual coat: its patterns, in its colours, no two quite alike."""
    kinds, colours = USUAL[actor]

    def coat(rng: np.random.Generator, shape: tuple[int, int]) -> UInt8Array:
        varied = np.array(colours, np.float32) * rng.uniform(0.85, 1.12, (1, 3)) + rng.normal(0, 10, (3, 3))
        kind = kinds[rng.integers(len(kinds))]
        return texture(rng, shape, kind=kind, colours=np.clip(varied, 0, 255).astype(np.float32))

    return coat


def choose_coat(rng: np.random.Generator, actor: str, *, usual: float) -> Coat:
    """Return the usual coat in the share ``usual`` of the cases, else one of any textures.

    With ``usual=0`` nothing is drawn: videos from before there were coats stay as they were.
    """
    return usual_coat(actor) if usual and rng.random() < usual else texture
