"""The parts that tell the synthetic actors apart: painted heads, and a ball's emblem."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from datamodules.studio.scenery import value_noise
from datamodules.studio.sprites import Point, Sprite, cut_sprite
from pseudolabel.types import UInt8Array

Colour = tuple[int, int, int]

_FACE = 80


class _Face:
    """Paints a head on a square canvas whose coordinates run from -1 to 1 (x right = forward, y down)."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.pixels: UInt8Array = np.zeros((_FACE, _FACE, 4), np.uint8)
        self.rng = rng

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour, *, angle: float = 0.0) -> None:
        scale = _FACE / 2
        centre = (round((x + 1) * scale), round((y + 1) * scale))
        axes = (max(1, round(rx * scale)), max(1, round(ry * scale)))
        cv2.ellipse(self.pixels, centre, axes, angle, 0, 360, (*colour, 255), -1)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        corners = np.round((np.array(points) + 1) * (_FACE / 2)).astype(np.int32)
        cv2.fillPoly(self.pixels, [corners], (*colour, 255))

    def sprite(self, *, centre: Point, half: float) -> Sprite:
        """Finish the head: its colours vary a little from video to video, and it has a fine grain."""
        gain = self.rng.uniform(0.85, 1.12, 3) * self.rng.uniform(0.85, 1.1)
        grain = 0.85 + 0.3 * value_noise(self.rng, (_FACE, _FACE), cells=10, octaves=2)
        rgb = np.clip(self.pixels[..., :3] * gain * grain[..., None], 0, 255).astype(np.uint8)
        return cut_sprite(rgb, self.pixels[..., 3] > 0, centre=centre, half=(half, half))


def cat_head(rng: np.random.Generator) -> Sprite:
    """Pointed ears, a round face with two green eyes and a striped forehead."""
    face = _Face(rng)
    for side in (-1, 1):
        face.polygon([(side * 0.8, -0.98), (side * 0.72, 0.0), (side * 0.08, -0.45)], (240, 220, 180))
        face.polygon([(side * 0.7, -0.75), (side * 0.62, -0.2), (side * 0.26, -0.45)], (225, 110, 130))
    face.oval(0, 0.2, 0.8, 0.7, (240, 220, 180))
    for x in (-0.22, 0.0, 0.22):
        face.polygon([(x - 0.07, -0.48), (x + 0.07, -0.48), (x * 0.8, -0.08)], (110, 75, 40))
    for side in (-1, 1):
        face.oval(side * 0.38, 0.12, 0.23, 0.2, (90, 190, 60))
        face.oval(side * 0.38, 0.12, 0.07, 0.2, (10, 15, 10))
    face.oval(0, 0.58, 0.34, 0.22, (255, 250, 245))
    face.polygon([(-0.13, 0.4), (0.13, 0.4), (0.0, 0.58)], (215, 70, 100))
    return face.sprite(centre=(0.16, -0.08), half=0.36)


def dog_head(rng: np.random.Generator) -> Sprite:
    """A profile with a long snout, a black nose, a hanging ear and a white blaze."""
    face = _Face(rng)
    face.oval(0.42, 0.28, 0.52, 0.27, (225, 200, 165))
    face.oval(-0.15, -0.02, 0.6, 0.62, (165, 115, 65))
    face.polygon([(-0.05, -0.62), (0.22, -0.55), (0.6, 0.15), (0.2, 0.3)], (250, 245, 235))
    face.oval(0.88, 0.12, 0.14, 0.14, (15, 12, 15))
    face.polygon([(0.35, 0.5), (0.62, 0.48), (0.58, 0.92), (0.4, 0.9)], (230, 75, 95))
    face.oval(0.02, -0.15, 0.12, 0.13, (20, 15, 10))
    face.oval(-0.52, 0.2, 0.25, 0.62, (70, 40, 25), angle=12)
    return face.sprite(centre=(0.24, -0.06), half=0.4)


def bird_head(rng: np.random.Generator) -> Sprite:
    """A dark profile with a red crest, a ringed eye and an orange beak."""
    face = _Face(rng)
    for x, height in ((-0.55, -0.72), (-0.3, -0.95), (0.0, -0.9)):
        face.polygon([(x, height), (x + 0.28, -0.3), (x - 0.02, -0.25)], (215, 40, 35))
    face.oval(-0.18, 0.08, 0.55, 0.55, (45, 50, 60))
    face.polygon([(0.15, -0.25), (0.98, 0.2), (0.2, 0.22)], (250, 170, 20))
    face.polygon([(0.18, 0.26), (0.85, 0.3), (0.15, 0.52)], (225, 120, 15))
    face.oval(-0.05, -0.06, 0.24, 0.24, (250, 250, 245))
    face.oval(0.0, -0.06, 0.11, 0.11, (10, 10, 10))
    return face.sprite(centre=(0.2, -0.1), half=0.34)


def adult_head(rng: np.random.Generator) -> Sprite:
    """Dark hair around a face."""
    face = _Face(rng)
    skin = (225, 175, 140) if rng.random() < 0.5 else (150, 100, 70)
    face.oval(-0.08, -0.08, 0.75, 0.85, (55, 35, 25))
    face.oval(0.1, 0.12, 0.6, 0.72, skin)
    for x in (0.0, 0.42):
        face.oval(x, 0.0, 0.1, 0.08, (250, 250, 250))
        face.oval(x + 0.03, 0.0, 0.06, 0.08, (20, 20, 20))
    face.polygon([(0.25, 0.05), (0.4, 0.28), (0.2, 0.28)], (190, 120, 100))
    face.oval(0.22, 0.5, 0.22, 0.08, (190, 60, 65))
    return face.sprite(centre=(0.0, -0.24), half=0.27)


def ball_emblem(rng: np.random.Generator) -> Sprite:
    """The part that tells a ball from any other textured disc."""
    face = _Face(rng)
    face.oval(0, 0, 0.97, 0.97, (25, 35, 90))
    face.oval(0, 0, 0.8, 0.8, (250, 245, 225))
    tips = [0.78 if number % 2 == 0 else 0.3 for number in range(10)]
    turns = [np.pi * number / 5 - np.pi / 2 for number in range(10)]
    face.polygon([(r * np.cos(a), r * np.sin(a)) for r, a in zip(tips, turns, strict=True)], (225, 30, 45))
    return face.sprite(centre=(0.0, 0.0), half=0.24)
