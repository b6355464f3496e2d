"""Renders one synthetic video and its true masks: actors, clutter and occluders before a moving camera.

Pure functions of arrays and a random generator. Actors and clutter are drawn at twice the frame's size, so that edges
are smooth; the mask is cut from the same drawing before blur, light and noise come over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from datamodules.studio.difficulty import Difficulty
from datamodules.studio.scenery import background, palette, value_noise
from datamodules.studio.sprites import Array, affine, draw_sprite, sprite_to_part
from datamodules.studio.staging import Scene, Thing, drift, set_scene
from pseudolabel.types import DataError, FloatArray, Tag, UInt8Array

SUPERSAMPLE = 2
"""Things are drawn at this multiple of the frame's size; a pixel is labelled if at least half of it is covered."""

MAX_BLUR = 9.0
"""Longest motion blur in pixels at 96 x 128; grows with the frame."""

MIN_VISIBLE = 0.012
"""Every tagged actor covers at least this share of the frame in at least a third of the frames asked about."""

ATTEMPTS = 40

_CANVAS = (1.8, 4.2)


@dataclass(frozen=True)
class RenderedVideo:
    """A video and its truth.

    Attributes:
        frames: uint8 (T, H, W, 3), RGB.
        masks: uint8 (T, H, W), the label of the visible actor, 0 = background.
    """

    frames: UInt8Array
    masks: UInt8Array


def render_video(
    seed: Sequence[int],
    pairs: Sequence[Tag],
    labels: Sequence[int],
    *,
    frames: int,
    size: tuple[int, int],
    annotated: Sequence[int],
    difficulty: Difficulty | None = None,
    idle: bool = False,
) -> RenderedVideo:
    """Render one shot in which every pair is seen.

    A scene that hides a pair (behind an occluder, outside the frame) is set again. Without pairs, the shot shows
    scenery and at least one moving distractor.

    Args:
        seed: what the video depends on, with the other arguments.
        pairs: the actor-action pairs that play.
        labels: their mask values, 1 to 255.
        frames: T.
        size: (H, W).
        annotated: frames in which the pairs must be seen.
        difficulty: how hard the video is.
        idle: the actors stand still before a camera that stands still; what is no actor may move.

    Raises:
        DataError: no scene shows every pair; the options are too hard.
    """
    difficulty = difficulty or Difficulty()
    if idle:
        difficulty = replace(difficulty, camera=0.0, absent=0.0)
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([*seed, attempt])
        scene = set_scene(rng, pairs, labels, frames=frames, size=size, difficulty=difficulty, idle=idle)
        video = _shoot(rng, scene, size=size, difficulty=difficulty)
        seen = video.masks[list(annotated)]
        least = MIN_VISIBLE * size[0] * size[1]
        if all(np.mean((seen == label).sum(axis=(1, 2)) >= least) >= 1 / 3 for label in labels) and (
            not pairs or not scene.absent or not video.masks.any(axis=(1, 2)).all()
        ):
            return video
    raise DataError(
        f"Synthetic video {list(seed)} with {', '.join(map(str, pairs))}: expected a scene that shows every "
        f"actor, got none in {ATTEMPTS} with {difficulty}. Lower `occlusion` or `absent`, or raise `min_area`."
    )


def line_kernel(velocity: npt.NDArray[np.floating], *, longest: float) -> FloatArray | None:
    """Return the kernel that smears along ``velocity`` (x, y), in pixels per exposure.

    Returns:
        float32 (k, k) that sums to 1, or None where the way is too short to be seen.
    """
    length = float(np.hypot(velocity[0], velocity[1]))
    if length < 1.2:
        return None
    reach = velocity * (min(1.0, longest / length) / 2)
    radius = int(np.ceil(np.abs(reach).max()))
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.float32)
    points = np.round(radius + np.linspace(-1, 1, 4 * radius + 3)[:, None] * reach).astype(int)
    np.add.at(kernel, (points[:, 1], points[:, 0]), 1.0)
    return kernel / kernel.sum()


def _shoot(rng: np.random.Generator, scene: Scene, *, size: tuple[int, int], difficulty: Difficulty) -> RenderedVideo:
    """Film a scene."""
    frames, (height, width) = len(scene.time), size
    masks = np.zeros((frames, height, width), np.uint8)
    video = np.empty((frames, height, width, 3), np.uint8)
    canvas = background(rng, (round(height * _CANVAS[0]), round(width * _CANVAS[1])), clutter=difficulty.clutter)
    from_canvas = scene.view(1.0) @ _canvas_to_world(scene, canvas.shape[:2])
    layers = [Layer(thing, scene) for thing in scene.things]
    longest = max(1.5, MAX_BLUR * scene.side / 110.9)
    backdrop_speed = difficulty.blur * _speed(from_canvas @ np.array([canvas.shape[1] / 2, canvas.shape[0] / 2, 1.0]))
    finish = _Finish(rng, scene.time, size, difficulty)
    for index in range(frames):
        backdrop = cv2.warpAffine(canvas, from_canvas[index, :2], (width, height), borderMode=cv2.BORDER_REFLECT_101)
        if (kernel := line_kernel(backdrop_speed[index], longest=longest)) is not None:
            backdrop = cv2.filter2D(backdrop, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        frame = backdrop.astype(np.float32)
        for layer in layers:
            layer.paint(index, frame, masks[index], blur=difficulty.blur, longest=longest)
        video[index] = finish(index, frame)
    return RenderedVideo(video, masks)


def _canvas_to_world(scene: Scene, shape: tuple[int, int]) -> Array:
    step = 1.0 / scene.side
    return affine(-shape[1] / 2 * step, -shape[0] / 2 * step, scale_x=step, scale_y=step)


def _speed(way: Array) -> Array:
    """Return the derivative of positions (T, >= 2) along time, (T, 2)."""
    return np.gradient(way[:, :2], axis=0) if len(way) > 1 else np.zeros((1, 2))


class Layer:
    """One thing on its way through the video."""

    def __init__(self, thing: Thing, scene: Scene) -> None:
        view = scene.view(thing.parallax)
        sprites = np.stack([sprite_to_part(part.sprite) for part in thing.body.parts])
        onto_frame = view[:, None] @ thing.world @ sprites
        extents = [part.sprite.pixels.shape[1::-1] for part in thing.body.parts]
        corners = np.array([[(0, 0, 1), (w, 0, 1), (0, h, 1), (w, h, 1)] for w, h in extents], np.float64)
        reached = (onto_frame[..., :2, :] @ corners.transpose(0, 2, 1)).transpose(0, 1, 3, 2)  # (T, P, 4, 2)
        margin = 4 + 0.12 * (reached.max(axis=(1, 2)) - reached.min(axis=(1, 2)))
        self.low = np.floor(reached.min(axis=(1, 2)) - margin).astype(int)
        self.high = np.ceil(reached.max(axis=(1, 2)) + margin).astype(int)
        self.speed = _speed((onto_frame[:, 0] @ np.array([extents[0][0] / 2, extents[0][1] / 2, 1.0]))[:, :2])
        self.matrices = onto_frame
        self.thing = thing

    def paint(self, index: int, frame: FloatArray, mask: UInt8Array, *, blur: float, longest: float) -> None:
        """Draw the thing over a frame, float32 (H, W, 3), and its label over the mask, uint8 (H, W), in place."""
        left, top = np.maximum(self.low[index], 0)
        right, bottom = np.minimum(self.high[index], frame.shape[1::-1])
        if right <= left or bottom <= top:
            return
        layer = np.zeros((SUPERSAMPLE * (bottom - top), SUPERSAMPLE * (right - left), 4), np.uint8)
        # Pixel centres: frame pixel p covers the layer's pixels 2 p and 2 p + 1.
        inset = (SUPERSAMPLE - 1) / 2
        onto_layer = affine(
            inset - SUPERSAMPLE * left, inset - SUPERSAMPLE * top, scale_x=SUPERSAMPLE, scale_y=SUPERSAMPLE
        )
        matrices = onto_layer @ self.matrices[index]
        for number in self.thing.body.order:
            sprite = self.thing.body.parts[number].sprite
            draw_sprite(layer, sprite, matrices[number], bend=float(self.thing.bend[index, number]))
        small = cv2.resize(layer, (int(right - left), int(bottom - top)), interpolation=cv2.INTER_AREA)
        mask[top:bottom, left:right][small[..., 3] >= 128] = self.thing.label
        if (kernel := line_kernel(blur * self.speed[index], longest=longest)) is not None:
            small = cv2.filter2D(small, -1, kernel, borderType=cv2.BORDER_REPLICATE)
        window = frame[top:bottom, left:right]
        window *= 1.0 - small[..., 3:] * np.float32(1 / 255)
        window += small[..., :3]


class _Finish:
    """What the light and the sensor do to a frame."""

    def __init__(self, rng: np.random.Generator, time: Array, size: tuple[int, int], difficulty: Difficulty) -> None:
        light = difficulty.light
        self.rng = rng
        gain = 1.0 + 0.18 * light * drift(rng, time)
        if rng.random() < 0.2:
            gain *= np.where(time < rng.uniform(0.2, 0.8) * len(time), 1.0, 1.0 + light * rng.uniform(-0.3, 0.35))
        tint = 1.0 + 0.15 * light * (palette(rng, 1)[0] / 255.0 - 0.5)
        self.gain = (gain[:, None] * tint).astype(np.float32)
        self.shade = 1.0 + np.float32(0.5 * light * rng.random()) * (value_noise(rng, size, cells=2, octaves=1) - 0.5)
        sigma = np.float32(difficulty.noise * rng.uniform(1.5, 7.0))
        self.grain = sigma * rng.standard_normal((size[0] + 16, size[1] + 16, 3), np.float32)
        self.soft = float(rng.uniform(0.4, 0.8)) if rng.random() < 0.3 * min(1.0, difficulty.blur) else 0.0

    def __call__(self, index: int, frame: FloatArray) -> UInt8Array:
        """Return the frame, float32 (H, W, 3), as the camera gives it, uint8."""
        height, width = frame.shape[:2]
        if self.soft:
            cv2.GaussianBlur(frame, (0, 0), self.soft, dst=frame)
        lit = frame * (self.shade[..., None] * self.gain[index])
        top, left = self.rng.integers(0, 17, 2)
        noise = self.grain[top : top + height, left : left + width]
        return cast(UInt8Array, cv2.add(lit, noise, dtype=cv2.CV_8U))
