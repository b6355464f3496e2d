"""Sets up one scene of a synthetic video: who plays, what stands around, and how the camera moves.

World coordinates have the frame's area as their unit (a frame of H x W pixels is W/s wide and H/s high, s = sqrt(H W)),
x right, y down, (0, 0) in the middle of where the camera looks on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.studio.actors import BODIES, MOTIONS, Motion
from datamodules.studio.coats import put_on_coat
from datamodules.studio.difficulty import Difficulty
from datamodules.studio.scenery import distractor, occluder
from datamodules.studio.sprites import Array, Body, Point, affine, draw_sprite, sprite_to_part
from pseudolabel.types import Tag

_LEADING = (0.4, 0.6)
"""Sizes of the distractor that leads in a scene without actors: about those of an actor, world units."""

_ANY_HEIGHT = (-0.35, 0.4)
"""Between these levels (-1 = upper, 1 = lower edge) an actor acts whose height does not tell its action."""


@dataclass
class Thing:
    """A body placed in the world for T frames.

    Attributes:
        body: its parts.
        world: (T, P, 3, 3) each part's coordinates -> world.
        bend: (T, P) curvature of each part.
        label: mask value of its visible pixels, 0 = background.
        parallax: how fast it moves with the camera; above 1 for foreground things.
    """

    body: Body
    world: Array
    bend: Array
    label: int = 0
    parallax: float = 1.0


def pose(body: Body, motion: Motion, *, x: Array, y: Array, scale: float, facing: int) -> tuple[Array, Array]:
    """Chain the joints of a body.

    Args:
        body: P parts.
        motion: what it does in T frames.
        x: (T,) world position of its root.
        y: (T,) world position of its root.
        scale: world units per body unit.
        facing: 1 = right, -1 = left.

    Returns:
        (T, P, 3, 3) part -> world, and (T, P) bends.
    """
    frames = len(motion.angle)
    placed: list[Array] = []
    bends = np.zeros((frames, len(body.parts)))
    root = affine(x, y, scale_x=facing) @ affine(
        angle=motion.angle, scale_x=scale * (1 + motion.squash), scale_y=scale * (1 - motion.squash)
    )
    for index, part in enumerate(body.parts):
        parent = root if part.parent < 0 else placed[part.parent]
        angle = motion.joints.get(part.name, np.zeros(frames))
        stretch = motion.stretch.get(part.name, np.ones(frames))
        placed.append(parent @ affine(*part.joint, angle=angle, scale_y=stretch))
        bends[:, index] = motion.bend.get(part.name, 0.0)
    return np.stack(placed, axis=1), bends


def drift(rng: np.random.Generator, time: Array) -> Array:
    """Return a smooth random curve (T,), about -1 to 1."""
    total = np.zeros_like(time)
    for period, weight in ((60, 0.6), (26, 0.3), (11, 0.1)):
        total += weight * np.sin(2 * np.pi * time / (period * rng.uniform(0.7, 1.4)) + rng.uniform(0, 6.28))
    return total


def body_area(body: Body, motion: Motion) -> float:
    """Return the area of a body in the first frame of a motion, in square body units."""
    still = np.zeros(len(motion.angle))
    world, bends = pose(body, motion, x=still, y=still, scale=1.0, facing=1)
    view = affine(64.0, 64.0, scale_x=40.0, scale_y=40.0)
    layer = np.zeros((128, 128, 4), np.uint8)
    for index in body.order:
        sprite = body.parts[index].sprite
        draw_sprite(layer, sprite, view @ world[0, index] @ sprite_to_part(sprite), bend=bends[0, index])
    return float(np.count_nonzero(layer[..., 3])) / 40.0**2


@dataclass(frozen=True)
class Scene:
    """Things before a camera.

    Attributes:
        time: (T,) frame numbers.
        things: from the farthest to the nearest.
        pan: (T, 2) where the camera looks, world units.
        zoom: (T,) magnification.
        side: pixels per world unit at zoom 1.
        half: half width and half height of the frame, world units.
        absent: whether the camera looks away from the actors for a while.
    """

    time: Array
    things: list[Thing]
    pan: Array
    zoom: Array
    side: float
    half: Point
    absent: bool

    def view(self, parallax: float) -> Array:
        """Return (T, 3, 3): world -> pixels of the frame, for what moves ``parallax`` times with the camera."""
        scale = self.side * self.zoom
        x = self.side * self.half[0] - scale * parallax * self.pan[:, 0] - 0.5
        y = self.side * self.half[1] - scale * parallax * self.pan[:, 1] - 0.5
        return affine(x, y, scale_x=scale, scale_y=scale)


class Stage:
    """Builds a :class:`Scene`."""

    def __init__(self, rng: np.random.Generator, *, frames: int, size: tuple[int, int], difficulty: Difficulty) -> None:
        self.rng = rng
        self.time = np.arange(frames, dtype=np.float64)
        self.side = float(np.sqrt(size[0] * size[1]))
        self.half = (size[1] / self.side / 2, size[0] / self.side / 2)
        self.difficulty = difficulty
        strength = difficulty.camera
        self.zoom = np.exp(0.13 * strength * drift(rng, self.time))
        self.pan = strength * np.stack([0.16 * drift(rng, self.time), 0.07 * drift(rng, self.time)])  # (2, T)
        self.pan -= self.pan.mean(axis=1, keepdims=True)
        self.pan += strength * rng.exponential(0.004) * rng.standard_normal(self.pan.shape)

    def actor(self, tag: Tag, label: int, *, place: float, share: float, idle: bool = False) -> tuple[Thing, Array]:
        """Return an actor, and its way (2, T) in the world.

        Args:
            tag: actor and action.
            label: its mask value.
            place: where it is on average, -1 = left edge of the frame to 1 = right edge.
            share: its area as a share of the frame.
            idle: it stands still in one pose of its action.
        """
        rng = self.rng
        body = BODIES[tag.actor](rng)
        if self.difficulty.coats and rng.random() < self.difficulty.coats:
            body = put_on_coat(rng, body)
        motion = MOTIONS[tag.action](rng, body, self.time)
        scale = float(np.sqrt(share / max(body_area(body, motion), 0.05)))
        facing = int(rng.choice([-1, 1]))
        x = facing * scale * (motion.x - motion.x.mean()) + place * self.half[0]
        level = motion.level
        if self.difficulty.heights and rng.random() < self.difficulty.heights:
            level = float(rng.uniform(*_ANY_HEIGHT))
        y = scale * motion.y + level * self.half[1] * max(0.2, 1 - scale)
        if tag.action == "jumping":
            y -= 0.4 * scale * motion.y.min()
        world, bends = pose(body, motion, x=x, y=y, scale=scale, facing=facing)
        way = np.stack([x, y])
        if idle:
            instant = int(rng.integers(len(self.time)))
            centre = np.array([[place * self.half[0] - x[instant]], [0.0]])
            world, bends = (np.repeat(array[[instant]], len(self.time), axis=0) for array in (world, bends))
            world[..., 0, 2] += centre[0]
            way = np.repeat(way[:, [instant]] + centre, len(self.time), axis=1)
        return Thing(body, world, bends, label), way

    def follow(self, way: Array) -> None:
        """Let the camera follow an actor's way (2, T), loosely, but so that the actor stays in view."""
        share = np.array([self.rng.uniform(0.1, 1.0), self.rng.uniform(0.0, 0.5)])[:, None]
        offset = way - way.mean(axis=1, keepdims=True)
        self.pan += min(1.0, self.difficulty.camera) * share * offset
        limit = 0.6 * np.array(self.half)[:, None]
        seen = way - self.pan
        self.pan += seen - np.clip(seen, -limit, limit)

    def look_away(self) -> None:
        """Swing the camera off the actors at the start or the end of the video."""
        frames = len(self.time)
        gone, ramp = self.rng.uniform(0.2, 0.35) * frames, self.rng.uniform(2.0, 4.0)
        left = 1.0 / (1.0 + np.exp((self.time - gone) / ramp * 4))
        if self.rng.random() < 0.5:
            left = left[::-1]
        self.pan[0] += self.rng.choice([-1, 1]) * (2 * self.half[0] + 0.7) * left

    def distractor(self, *, scales: Point = (0.15, 0.4), reach: float = 1.2) -> Thing:
        """Return a moving thing that is no actor: it drifts, hops, spins or sways like one.

        Args:
            scales: its smallest and largest size, world units.
            reach: how far off the middle it is placed, in half widths of the frame.
        """
        rng, body = self.rng, distractor(self.rng)
        scale = float(rng.uniform(*scales))
        still = np.zeros_like(self.time)
        motion = Motion(still, still, still, 0.05 * drift(rng, self.time), 0.0)
        kind = rng.integers(4)
        x, y = still + rng.uniform(-reach, reach) * self.half[0], still + rng.uniform(-0.7, 0.8) * self.half[1]
        x = x + rng.uniform(-0.25, 0.25) * drift(rng, self.time)
        if kind == 0:
            x = x + rng.choice([-1, 1]) * rng.uniform(0.3, 1.0) * self.time / 24
        elif kind == 1:
            y = y - 0.3 * np.abs(np.sin(np.pi * self.time / rng.uniform(8, 16) + rng.uniform(0, 3)))
        elif kind == 2:
            motion.angle = rng.choice([-1, 1]) * 2 * np.pi * rng.uniform(0.4, 1.5) * self.time / 24
        for name, phase in body.limbs:
            motion.joints[name] = phase + 0.4 * np.sin(2 * np.pi * self.time / 9 + phase)
        world, bends = pose(body, motion, x=x, y=y, scale=scale, facing=int(rng.choice([-1, 1])))
        return Thing(body, world, bends)

    def occluder(self) -> Thing:
        """Return a foreground thing that stands still in the world and passes faster than it as the camera moves."""
        body = occluder(self.rng, frame_half=self.half)
        still = np.zeros_like(self.time)
        bush = len(body.parts) == 1 and body.parts[0].sprite.half[1] < 0.5
        x = still + self.rng.uniform(-0.7, 0.7) * self.half[0]
        y = still + (self.half[1] * self.rng.uniform(0.75, 1.0) if bush else 0.0)
        world, bends = pose(body, Motion(still, still, still, still, 0.0), x=x, y=y, scale=1.0, facing=1)
        return Thing(body, world, bends, parallax=float(self.rng.uniform(1.1, 1.5)))

    def finish(self, things: list[Thing], *, absent: bool) -> Scene:
        """Return the scene of these things before this camera."""
        return Scene(self.time, things, self.pan.T, self.zoom, self.side, self.half, absent)


def set_scene(
    rng: np.random.Generator,
    pairs: Sequence[Tag],
    labels: Sequence[int],
    *,
    frames: int,
    size: tuple[int, int],
    difficulty: Difficulty,
    idle: bool = False,
) -> Scene:
    """Cast the pairs, with their mask values, and set the camera on them.

    Args:
        rng: source of randomness.
        pairs: who plays what; nobody in a scene of scenery and moving distractors only.
        labels: their mask values.
        frames: length of the video.
        size: (H, W) in pixels.
        difficulty: how hard the scene is.
        idle: the actors stand still.
    """
    stage = Stage(rng, frames=frames, size=size, difficulty=difficulty)
    largest = difficulty.max_area if len(pairs) == 1 else min(difficulty.max_area, 1.6 * difficulty.min_area)
    first = float(rng.uniform(-0.4, 0.4))
    actors: list[Thing] = []
    for number, (tag, label) in enumerate(zip(pairs, labels, strict=True)):
        place = first if number == 0 else -np.copysign(rng.uniform(0.3, 0.6), first)
        thing, way = stage.actor(
            tag, label, place=place, share=float(rng.uniform(difficulty.min_area, largest)), idle=idle
        )
        actors.append(thing)
        if number == 0:
            stage.follow(way)
    if absent := bool(rng.random() < difficulty.absent):
        stage.look_away()
    things = [actors[index] for index in rng.permutation(len(actors))]
    for _ in range(int(rng.integers(0, difficulty.distractors + 1))):
        things.insert(0 if rng.random() < 0.7 else len(things), stage.distractor())
    if not pairs:
        things.append(stage.distractor(scales=_LEADING, reach=0.4))
    if rng.random() < difficulty.occlusion:
        things.append(stage.occluder())
    return stage.finish(things, absent=absent)
