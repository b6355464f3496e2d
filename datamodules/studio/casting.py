"""What a synthetic data set consists of: its options, and which actors play in which video."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from datamodules.a2d import a2d_label_space
from datamodules.studio.actors import BODIES, MOTIONS
from datamodules.studio.difficulty import Difficulty
from pseudolabel.types import DataError, Tag

FORMAT_VERSION = 2
"""Changes when the same options give other videos, so that old folders are not taken for new ones."""

DEFAULT_PAIRS = tuple(
    str(tag)
    for tag in a2d_label_space().tags
    if tag.actor in ("ball", "bird", "cat", "dog") and tag.action in ("flying", "jumping", "none", "rolling", "walking")
)
"""The 17 valid pairs of {ball, bird, cat, dog} with {flying, jumping, none, rolling, walking}."""

SPLITS = ("train", "test")


ShotKind = Literal["moving", "idle", "irrelevant"]
"""Actors act; actors stand still before a still camera; no actor, only scenery and moving distractors."""


@dataclass(frozen=True)
class VideoPlan:
    """What one video shows; ``number`` counts within its split."""

    split: str
    number: int
    tags: tuple[Tag, ...]
    shots: tuple[ShotKind, ...] = ("moving",)

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{self.split}_{self.number:05d}"


@dataclass(frozen=True)
class Options:
    """Everything the videos depend on.

    Options with a default enter the fingerprint only where they differ from it: data sets written before such an
    option existed keep their folders.
    """

    train_videos: int
    test_videos: int
    frames: int
    size: tuple[int, int]
    annotated: int
    pairs: tuple[str, ...]
    seed: int
    difficulty: Difficulty
    shots: int = 1
    idle: float = 0.0
    irrelevant: float = 0.0

    def __post_init__(self) -> None:
        playable = [str(tag) for tag in a2d_label_space().tags if tag.actor in BODIES and tag.action in MOTIONS]
        if unknown := set(map(str, a2d_label_space(self.pairs).tags)) - set(playable):
            raise DataError(
                f"Synthetic videos cannot show {', '.join(sorted(unknown))}; "
                f"expected pairs among {', '.join(playable)}. Leave the others out."
            )
        counts = (self.train_videos, self.test_videos)
        if min(counts) < 0 or sum(counts) < 1:
            raise DataError(f"Synthetic videos: expected at least one video, got train and test videos {counts}.")
        if self.seed < 0:
            raise DataError(f"Synthetic videos: seed must be at least 0, got {self.seed}.")
        if min(self.size) < 16 or self.size[0] % 2 or self.size[1] % 2:
            raise DataError(
                f"Synthetic videos: size (H, W) must be even and at least 16, got {self.size}. Round it up."
            )
        if not 1 <= self.annotated <= self.frames:
            raise DataError(
                f"Synthetic videos: expected 1 <= annotated <= frames, got {self.annotated} annotated of {self.frames} "
                "frames. Lower `annotated`."
            )
        if self.shots < 1:
            raise DataError(f"Synthetic videos: expected at least one shot per video, got shots={self.shots}.")
        if min(self.idle, self.irrelevant) < 0 or not self.idle + self.irrelevant <= 1:
            raise DataError(
                "Synthetic videos: idle and irrelevant are shares of the shots, expected at least 0 and at most 1 "
                f"together, got {self.idle} and {self.irrelevant}."
            )
        if self.irrelevant and self.shots == 1:
            raise DataError(
                f"Synthetic videos: irrelevant={self.irrelevant} needs videos of several shots, since one shot always "
                "shows the tagged actors; got shots=1. Raise `shots`, or set `irrelevant` to 0."
            )

    @classmethod
    def build(
        cls,
        train_videos: int,
        test_videos: int,
        frames: int,
        size: Sequence[int],
        annotated: int,
        pairs: Sequence[str] | None,
        seed: int,
        difficulty: dict[str, float],
        *,
        shots: int = 1,
        idle: float = 0.0,
        irrelevant: float = 0.0,
    ) -> Options:
        """Check the arguments of :func:`datamodules.synthetic.generate`; pairs come in A2D's order.

        Raises:
            DataError: an option is unknown or out of range.
        """
        if len(size) != 2:
            raise DataError(f"Synthetic videos: size must be (H, W), got {tuple(size)}.")
        names = tuple(str(tag) for tag in a2d_label_space(DEFAULT_PAIRS if pairs is None else tuple(pairs)).tags)
        knobs = Difficulty.from_options(difficulty)
        shape = (int(size[0]), int(size[1]))
        return cls(
            train_videos,
            test_videos,
            frames,
            shape,
            annotated,
            names,
            seed,
            knobs,
            shots,
            float(idle),
            float(irrelevant),
        )

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The options as they come back from JSON."""
        given = {"format": FORMAT_VERSION, **asdict(self)}
        given["difficulty"] = self.difficulty.fingerprint
        for option in fields(self):
            if given[option.name] == option.default:
                del given[option.name]
        return json.loads(json.dumps(given))

    @property
    def annotated_frames(self) -> list[int]:
        """0-based numbers of the frames with a mask within a shot, evenly spaced."""
        return [int((index + 0.5) * self.frames / self.annotated) for index in range(self.annotated)]

    def videos(self) -> list[VideoPlan]:
        """Cast every video: each pair leads as often as any other, and some videos have a second pair."""
        tags = a2d_label_space(self.pairs).tags
        videos = []
        for split, count in zip(SPLITS, (self.train_videos, self.test_videos), strict=True):
            for number in range(count):
                turn, place = divmod(number, len(tags))
                order = np.random.default_rng([self.seed, SPLITS.index(split), turn, 0]).permutation(len(tags))
                cast = [tags[order[place]]]
                rng = np.random.default_rng([self.seed, SPLITS.index(split), number, 1])
                if rng.random() < self.difficulty.several and len(tags) > 1:
                    cast.append(tags[order[(place + rng.integers(1, len(tags))) % len(tags)]])
                videos.append(VideoPlan(split, number, tuple(cast), self._kinds(split, number)))
        return videos

    def _kinds(self, split: str, number: int) -> tuple[ShotKind, ...]:
        """Draw what each shot of a video shows; one at least shows the actors."""
        rng = np.random.default_rng([self.seed, SPLITS.index(split), number, 0, 0, 1])
        irrelevant = rng.random(self.shots) < self.irrelevant
        if irrelevant.all():
            irrelevant[rng.integers(self.shots)] = False
        # Of the shots with actors, so many that `idle` is their share of all shots.
        idle = rng.random(self.shots) * (1.0 - self.irrelevant) < self.idle
        kinds = np.where(irrelevant, "irrelevant", np.where(idle, "idle", "moving"))
        return tuple(kinds.tolist())
