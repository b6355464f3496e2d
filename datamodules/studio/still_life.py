"""What a set of synthetic still images consists of: its options, who is in which image, and how they stand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from datamodules.a2d import a2d_label_space
from datamodules.studio.actors import BODIES, MOTIONS, Motion
from datamodules.studio.difficulty import Difficulty
from datamodules.studio.scenery import DISTRACTORS
from datamodules.studio.staging import Scene, Stage, Thing, body_area, pose
from pseudolabel.types import BACKGROUND, DataError, Tag, nearest_name

STILLS_VERSION = 2
"""Changes when the same options give other images."""

SPLITS = ("train", "val", "test")

DEFAULT_CLASSES = ("ball", "bird", "cat", "dog")

_SHARES = {1: (0.12, 0.3), 2: (0.08, 0.16)}
"""Area of an actor, as a share of the image, by the number of actors."""

_OBJECT_SHARES = (0.02, 0.09)


@dataclass(frozen=True)
class StillPlan:
    """What one image shows: actors, and things of other classes; ``number`` counts within its split."""

    split: str
    number: int
    actors: tuple[str, ...]
    objects: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{self.split}_{self.number:05d}"


@dataclass(frozen=True, kw_only=True)
class StillOptions:
    """Everything the images depend on; see :func:`datamodules.stills.generate_stills`."""

    train: int
    val: int
    test: int
    size: tuple[int, int]
    classes: tuple[str, ...]
    seed: int
    several: float
    objects: int
    foreign: float
    border: int

    def __post_init__(self) -> None:
        for name in self.classes:
            if name not in BODIES:
                raise DataError(
                    f"Synthetic still images cannot show '{name}'{nearest_name(name, BODIES) or '.'} Expected classes "
                    f"among {', '.join(BODIES)}. Leave the others out."
                )
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise DataError(f"Synthetic still images: expected one class or more, each once, got {self.classes}.")
        if min(self.counts) < 0 or sum(self.counts) < 1:
            raise DataError(
                f"Synthetic still images: expected at least one image, got {self.counts} (train, val, test)."
            )
        if len(self.size) != 2 or min(self.size) < 16:
            raise DataError(f"Synthetic still images: size must be (H, W), at least 16 each, got {self.size}.")
        if min(self.seed, self.objects, self.border) < 0:
            raise DataError(
                "Synthetic still images: seed, objects and border must be at least 0, got "
                f"{self.seed}, {self.objects} and {self.border}."
            )
        if not (0 <= self.several <= 1 and 0 <= self.foreign < 1):
            raise DataError(
                "Synthetic still images: several must be in [0, 1] and foreign in [0, 1), got "
                f"{self.several} and {self.foreign}."
            )

    @property
    def counts(self) -> tuple[int, int, int]:
        """Images for training, validation and test."""
        return self.train, self.val, self.test

    @property
    def names(self) -> tuple[str, ...]:
        """The lines of ``classes.txt``: background, the classes, and what else is to be seen."""
        return (BACKGROUND, *self.classes, *DISTRACTORS)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The options as they come back from JSON."""
        return json.loads(json.dumps({"stills": STILLS_VERSION, **asdict(self)}))

    def images(self) -> list[StillPlan]:
        """Cast every image: each class leads as often as any other; foreign ones show no class at all."""
        plans = []
        for part, (split, count) in enumerate(zip(SPLITS, self.counts, strict=True)):
            for number in range(count):
                turn, place = divmod(number, len(self.classes))
                order = np.random.default_rng([self.seed, part, turn, 0, 1]).permutation(len(self.classes))
                rng = np.random.default_rng([self.seed, part, number, 0, 2])
                actors = [self.classes[order[place]]]
                if rng.random() < self.several:
                    actors.append(self.classes[rng.integers(len(self.classes))])
                foreign = rng.random() < self.foreign
                objects = rng.choice(list(DISTRACTORS), int(rng.integers(int(foreign), max(self.objects, foreign) + 1)))
                plans.append(StillPlan(split, number, () if foreign else tuple(actors), tuple(objects.tolist())))
        return plans


def poses_of(actor: str) -> list[str]:
    """Return the actions in whose poses an actor can be shown."""
    return [tag.action for tag in a2d_label_space().tags if tag.actor == actor and tag.action in MOTIONS]


def set_still(
    rng: np.random.Generator,
    actors: Sequence[str],
    objects: Sequence[str],
    names: Sequence[str],
    *,
    size: tuple[int, int],
) -> Scene:
    """Place actors, each in a pose of one of its actions, and objects, most of them behind.

    Args:
        rng: source of randomness.
        actors: classes with a body.
        objects: names among :data:`~datamodules.studio.scenery.DISTRACTORS`.
        names: all classes; an object's mask value is its class's place in this list.
        size: (H, W) in pixels.
    """
    stage = Stage(rng, frames=1, size=size, difficulty=Difficulty(camera=0.0))
    first = float(rng.uniform(-0.35, 0.35)) if len(actors) == 1 else float(rng.choice([-1, 1]) * rng.uniform(0.35, 0.5))
    things = []
    for number, actor in enumerate(actors):
        share = float(rng.uniform(*_SHARES[len(actors)]))
        tag = Tag(actor, str(rng.choice(poses_of(actor))))
        thing, _ = stage.actor(tag, names.index(actor), place=first if number == 0 else -first, share=share)
        things.append(thing)
    for name in objects:
        things.insert(0 if rng.random() < 0.8 else len(things), _object(rng, stage, name, names.index(name)))
    return stage.finish(things, absent=False)


def _object(rng: np.random.Generator, stage: Stage, name: str, label: int) -> Thing:
    """Return a thing that stands anywhere in the image."""
    body = DISTRACTORS[name](rng)
    still = np.zeros(1)
    motion = Motion(still, still, still + rng.normal(0, 0.3), still, 0.0)
    motion.joints = {limb: still + phase for limb, phase in body.limbs}
    scale = float(np.sqrt(rng.uniform(*_OBJECT_SHARES) / max(body_area(body, motion), 0.05)))
    x, y = (still + rng.uniform(-0.9, 0.9) * half for half in stage.half)
    world, bends = pose(body, motion, x=x, y=y, scale=scale, facing=1)
    return Thing(body, world, bends, label)
