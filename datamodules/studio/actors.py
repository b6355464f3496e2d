"""The actors of the synthetic videos: bodies known by one part, and what the actions do to them.

Torso, limbs and tail wear any texture in any video, or a coat as all actors may; only the head (or a ball's emblem)
tells the actor, so a map of what decides the class covers a part of the true mask. Actions are motions: one frame shows
a pose that several actions share. Lengths are in body units (a torso is about 1 long), angles in radians, positive =
clockwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from datamodules.studio.faces import adult_head, ball_emblem, bird_head, cat_head, dog_head
from datamodules.studio.scenery import shaded, texture
from datamodules.studio.sprites import (
    Array,
    Body,
    Part,
    Point,
    Sprite,
    capsule_sprite,
    cut_sprite,
    oval_sprite,
    unit_grid,
)
from pseudolabel.types import UInt8Array


@dataclass
class Motion:
    """What a body does in T frames; facing right.

    Attributes:
        x: (T,) way travelled, body units.
        y: (T,) way fallen, body units.
        angle: (T,) rotation of the whole body.
        squash: (T,) 0.1 = 10 % flatter and 10 % wider.
        level: preferred height in the frame, -1 upper edge to 1 lower edge.
        joints: part name -> (T,) angle at its joint.
        stretch: part name -> (T,) factor on its length (a flapping wing: foreshortening, negative = folded over).
        bend: part name -> (T,) curvature of the part.
    """

    x: Array
    y: Array
    angle: Array
    squash: Array
    level: float
    joints: dict[str, Array] = field(default_factory=dict)
    stretch: dict[str, Array] = field(default_factory=dict)
    bend: dict[str, Array] = field(default_factory=dict)


def _limb(
    rng: np.random.Generator,
    parts: list[Part],
    name: str,
    joint: Point,
    skin: UInt8Array,
    *,
    length: float,
    width: float,
) -> None:
    """Append a limb of two segments, hinged to the root; limbs on the far side are darker and behind."""
    far = name.endswith(("1", "3"))
    pixels = shaded(skin, 0.65) if far else skin
    depth = -2 if far else 2
    upper = capsule_sprite(pixels, length=length, width=width)
    lower = capsule_sprite(pixels, length=length, width=width * 0.8)
    parts.append(Part(name, 0, joint, upper, depth))
    parts.append(Part(f"{name}low", len(parts) - 1, (0.0, length), lower, depth))


def _quadruped(rng: np.random.Generator, head: Sprite) -> Body:
    thick = rng.uniform(0.2, 0.28)
    skin = texture(rng, (48, 24))
    length, width = rng.uniform(0.2, 0.29), rng.uniform(0.12, 0.19)
    parts = [Part("root", -1, (0.0, 0.0), oval_sprite(rng, texture(rng, (64, 96)), half=(0.56, thick)))]
    for number, (x, _) in enumerate(((0.34, 0), (0.4, 0), (-0.4, 0), (-0.34, 0))):
        _limb(rng, parts, f"limb{number}", (x, thick * 0.45), skin, length=length, width=width)
    tail = capsule_sprite(
        texture(rng, (48, 24)), length=rng.uniform(0.3, 0.5), width=rng.uniform(0.09, 0.16), taper=0.5
    )
    parts.append(Part("tail", 0, (-0.5, -thick * 0.4), tail, -1))
    parts.append(Part("head", 0, (0.46, -thick * 0.75), head, 3))
    phase = 0.0 if rng.random() < 0.5 else np.pi
    return Body(tuple(parts), (("limb0", 0.0), ("limb1", np.pi), ("limb2", phase + np.pi), ("limb3", phase)))


def _bird(rng: np.random.Generator) -> Body:
    thick = rng.uniform(0.22, 0.29)
    skin = texture(rng, (48, 24))
    length, width = rng.uniform(0.15, 0.22), rng.uniform(0.07, 0.11)
    parts = [Part("root", -1, (0.0, 0.0), oval_sprite(rng, texture(rng, (64, 96)), half=(0.5, thick)))]
    for number, x in enumerate((0.02, -0.08)):
        _limb(rng, parts, f"limb{number}", (x, thick * 0.7), skin, length=length, width=width)
    tail = capsule_sprite(texture(rng, (48, 24)), length=rng.uniform(0.25, 0.4), width=0.13, taper=1.9)
    parts.append(Part("tail", 0, (-0.42, -thick * 0.2), tail, -1))
    xs, ys = unit_grid((72, 48))
    feathers = texture(rng, (72, 48))
    inside = (np.abs(xs + 0.15 * (ys + 1)) < 0.85 - 0.25 * (0.2 - ys) ** 2) & (ys - 0.12 * np.sin(9 * xs) > -0.85)
    reach = rng.uniform(0.3, 0.38)
    for number, gain in enumerate((1.0, 0.65)):
        wing = cut_sprite(shaded(feathers, gain), inside, centre=(0.0, -reach * 0.8), half=(0.24, reach))
        parts.append(Part(f"wing{number}", 0, (0.08, -thick * 0.35), wing, 1 if number == 0 else -3))
    parts.append(Part("head", 0, (0.38, -thick * 0.7), bird_head(rng), 3))
    return Body(tuple(parts), (("limb0", 0.0), ("limb1", np.pi)))


def _adult(rng: np.random.Generator) -> Body:
    trousers, sleeves = texture(rng, (48, 24)), texture(rng, (48, 24))
    parts = [Part("root", -1, (0.0, 0.0), oval_sprite(rng, texture(rng, (72, 56)), half=(0.24, 0.42)))]
    for number in (0, 1):
        _limb(rng, parts, f"limb{number}", (0.0, 0.32), trousers, length=0.34, width=0.19)
    for number in (2, 3):
        _limb(rng, parts, f"limb{number}", (0.0, -0.26), sleeves, length=0.27, width=0.14)
    parts.append(Part("head", 0, (0.02, -0.38), adult_head(rng), 3))
    return Body(tuple(parts), (("limb0", 0.0), ("limb1", np.pi), ("limb2", np.pi), ("limb3", 0.0)))


def _ball(rng: np.random.Generator) -> Body:
    xs, ys = unit_grid((80, 80))
    disc = cut_sprite(texture(rng, (80, 80)), np.hypot(xs, ys) < 0.97, centre=(0.0, 0.0), half=(0.45, 0.45))
    turn = rng.uniform(0, 6.28)
    joint = (0.17 * float(np.cos(turn)), 0.17 * float(np.sin(turn)))
    return Body((Part("root", -1, (0.0, 0.0), disc), Part("emblem", 0, joint, ball_emblem(rng), 1)))


BODIES: dict[str, Callable[[np.random.Generator], Body]] = {
    "adult": _adult,
    "ball": _ball,
    "bird": _bird,
    "cat": lambda rng: _quadruped(rng, cat_head(rng)),
    "dog": lambda rng: _quadruped(rng, dog_head(rng)),
}
"""Actor -> maker of a random body."""


def _still(rng: np.random.Generator, body: Body, time: Array, *, level: float) -> Motion:
    """Return a body at rest with small lively movements; every action starts from it."""

    def sway(scale: float) -> Array:
        return scale * np.sin(2 * np.pi * time / rng.uniform(9, 26) + rng.uniform(0, 6.28))

    motion = Motion(sway(0.02), sway(0.015), sway(0.03), sway(0.02), level)
    motion.joints = {part.name: sway(0.05) for part in body.parts}
    motion.joints["root"] = motion.joints["emblem"] = np.zeros_like(time)
    motion.joints["head"] = rng.uniform(-0.3, 0.3) + sway(0.15)
    motion.joints["tail"] = rng.uniform(0.9, 2.6) + sway(0.35)
    motion.bend = {"root": rng.uniform(-0.25, 0.25) + sway(0.12), "tail": rng.uniform(-0.6, 0.6) + sway(0.4)}
    if not body.limbs:
        motion.bend["root"] = np.zeros_like(time)
    for number in (0, 1):
        motion.joints[f"wing{number}"] = -1.75 + sway(0.05)
        motion.stretch[f"wing{number}"] = np.full_like(time, rng.uniform(0.6, 0.9))
        motion.bend[f"wing{number}"] = sway(0.1)
    return motion


def _step(motion: Motion, body: Body, cycle: Array, stride: float) -> None:
    """Swing the limbs as in walking; ``cycle`` (T,) is the angle in the step cycle."""
    for name, phase in body.limbs:
        motion.joints[name] = stride * np.sin(cycle + phase)
        motion.joints[f"{name}low"] = 0.1 + 1.3 * stride * np.maximum(0.0, np.cos(cycle + phase))


def _none(rng: np.random.Generator, body: Body, time: Array) -> Motion:
    """Idle. The pose is random: a frozen step, a crouch, tilted, with spread wings, anywhere in the frame."""
    motion = _still(rng, body, time, level=rng.uniform(-0.35, 0.4))
    motion.angle += rng.uniform(-3.14, 3.14) if rng.random() < 0.15 or not body.limbs else rng.normal(0, 0.15)
    pose = rng.random()
    if pose < 0.55:
        _step(motion, body, rng.uniform(0, 6.28) + 0.08 * np.sin(time / 3), rng.uniform(0.2, 0.65))
    elif pose < 0.8:
        _fold(motion, body, np.full_like(time, rng.uniform(0.3, 1.0)))
    if rng.random() < 0.35:
        _flap(motion, rng.uniform(-0.6, 1.0) + np.zeros_like(time), rng.uniform(-0.6, 0.1))
    return motion


def _walk(rng: np.random.Generator, body: Body, time: Array) -> Motion:
    """Walk: limbs alternate and the body travels about as far as its steps reach."""
    motion = _still(rng, body, time, level=rng.uniform(-0.1, 0.4))
    period, stride = rng.uniform(7, 12), rng.uniform(0.4, 0.7)
    cycle = 2 * np.pi * time / period + rng.uniform(0, 6.28)
    _step(motion, body, cycle, stride)
    motion.x += rng.uniform(0.9, 1.4) * stride * time / period
    motion.y += 0.03 * np.abs(np.sin(cycle))
    motion.joints["head"] += 0.12 * np.sin(2 * cycle)
    return motion


def _fold(motion: Motion, body: Body, amount: Array) -> None:
    """Draw the limbs in; ``amount`` (T,) 0 = as they are, 1 = tucked."""
    for number, (name, _) in enumerate(body.limbs):
        forward = 1.0 if number < len(body.limbs) / 2 else -0.8
        motion.joints[name] = motion.joints[name] - 0.9 * amount * forward
        motion.joints[f"{name}low"] = motion.joints[f"{name}low"] + 1.6 * amount * forward


def _flap(motion: Motion, opening: Array, lean: float) -> None:
    """Open the wings; ``opening`` (T,) 1 = up, -1 = down."""
    for number in (0, 1):
        motion.joints[f"wing{number}"] = np.full_like(opening, lean + 0.25 * number)
        motion.stretch[f"wing{number}"] = np.where(np.abs(opening) < 0.15, 0.15, opening)
        motion.bend[f"wing{number}"] = -0.3 * opening


def _jump(rng: np.random.Generator, body: Body, time: Array) -> Motion:
    """Jump: crouch, stretch, parabola with tucked limbs, landing; on the spot or forwards."""
    motion = _still(rng, body, time, level=rng.uniform(0.1, 0.45))
    part = np.mod(time / rng.uniform(9, 15) + rng.random(), 1.0)
    air = np.clip((part - 0.3) / 0.7, 0.0, 1.0)
    height = 4 * air * (1 - air)
    crouch = np.sin(np.pi * np.clip(part / 0.3, 0.0, 1.0))
    motion.y -= rng.uniform(0.55, 1.0) * height - 0.08 * crouch
    motion.squash += 0.14 * crouch - 0.08 * np.sin(np.pi * air)
    _fold(motion, body, np.maximum(0.55 * crouch, 0.8 * height * (air > 0.35)))
    motion.angle += rng.uniform(0.1, 0.35) * -np.cos(np.pi * air) * (air > 0) if body.limbs else 0.0
    motion.x += rng.choice([0.0, rng.uniform(0.2, 0.6)]) * time / 12
    if rng.random() < 0.4:
        _flap(motion, 0.8 * height - 0.1, -0.3)
    return motion


def _roll(rng: np.random.Generator, body: Body, time: Array) -> Motion:
    """Roll: the whole body turns and travels as a wheel that slips."""
    motion = _still(rng, body, time, level=rng.uniform(-0.05, 0.45))
    turned = 2 * np.pi * rng.uniform(0.8, 1.9) * time / 24
    motion.angle += rng.uniform(-0.6, 0.6) + turned
    motion.x += rng.uniform(0.1, 0.45) * turned
    motion.y += 0.05 * np.cos(2 * turned)
    _fold(motion, body, rng.uniform(0.2, 0.8) + 0.25 * np.sin(time / rng.uniform(1.5, 3.0)))
    return motion


def _fly(rng: np.random.Generator, body: Body, time: Array) -> Motion:
    """Fly: high, fast and far, wings flapping, legs drawn back; what has no limbs follows a flat arc."""
    motion = _still(rng, body, time, level=rng.uniform(-0.6, -0.1))
    motion.x += rng.uniform(1.0, 2.4) * time / 24
    if not body.limbs:
        motion.y -= rng.uniform(0.1, 0.5) * (1 - (2 * time / max(time[-1], 1.0) - 1) ** 2)
        motion.angle += rng.uniform(0, 6.28) + rng.uniform(-0.5, 0.5) * time / 24
        return motion
    cycle = 2 * np.pi * time / rng.uniform(4.5, 8.0) + rng.uniform(0, 6.28)
    _flap(motion, 0.1 + 0.9 * np.sin(cycle), rng.uniform(-0.5, -0.1))
    motion.y -= 0.06 * np.cos(cycle) + 0.12 * np.sin(time / 24 * rng.uniform(1, 5))
    motion.angle += rng.uniform(-0.3, 0.1)
    for name, _ in body.limbs:
        motion.joints[name] = motion.joints[name] + rng.uniform(0.5, 1.1)
        motion.joints[f"{name}low"] = motion.joints[f"{name}low"] + 0.4
    return motion


MOTIONS: dict[str, Callable[[np.random.Generator, Body, Array], Motion]] = {
    "flying": _fly,
    "jumping": _jump,
    "none": _none,
    "rolling": _roll,
    "walking": _walk,
}
"""Action -> what it does to a body at the frame numbers (T,)."""
