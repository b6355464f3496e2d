"""What a synthetic web consists of: its options, what each video shows, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from datamodules.studio.actors import BODIES
from datamodules.studio.difficulty import Difficulty
from datamodules.studio.still_life import poses_of
from datamodules.studio.web_words import make_id, make_keywords, make_title
from pseudolabel.types import BoolArray, DataError, Tag, nearest_name

WEB_VERSION = 1
"""Changes when the same options give another web."""

_CASTING, _FILMING = 8, 9
"""Second entries of the seeds; those of the synthetic data set are 0 and 1."""


@dataclass(frozen=True)
class WebShot:
    """A run of frames between two cuts.

    Attributes:
        frames: its length.
        tag: who acts and how; None = nobody, only scenery and moving distractors.
        idle: the actor stands still before a still camera.
    """

    frames: int
    tag: Tag | None
    idle: bool = False

    @property
    def actor(self) -> str:
        """Who is seen, ``""`` for nobody."""
        return self.tag.actor if self.tag else ""


@dataclass(frozen=True)
class WebVideo:
    """One entry of the catalogue.

    Attributes:
        id: its name on the web and of its files.
        title: what its uploader calls it.
        keywords: the words by which a search finds it.
        found_by: the class by whose name it is found; further classes may be among the keywords.
        subject: the actor it is about, ``""`` for a video of scenery. Irrelevant videos are about anything but
            ``found_by``.
        shots: one after another.
        poster: what the thumbnail shows if it is no frame of the video.
        seed: what its pictures depend on, with the shots.
        thumbnail_missing: the catalogue names a thumbnail that is not there.
        cut_short: the file ends in the middle.
        listed_twice: the catalogue has two rows with its id.
    """

    id: str
    title: str
    keywords: tuple[str, ...]
    found_by: str
    subject: str
    shots: tuple[WebShot, ...]
    poster: WebShot | None
    seed: tuple[int, ...]
    thumbnail_missing: bool = False
    cut_short: bool = False
    listed_twice: bool = False

    @property
    def relevant(self) -> bool:
        """Whether it shows the class by whose name it is found."""
        return self.subject == self.found_by

    @property
    def pictured(self) -> str:
        """The actor on the thumbnail, ``""`` for nobody."""
        return self.poster.actor if self.poster else self.subject

    @property
    def frames(self) -> int:
        """Its length in frames."""
        return sum(shot.frames for shot in self.shots)


@dataclass(frozen=True, kw_only=True)
class WebOptions:
    """Everything the web depends on; see :func:`datamodules.synthetic_web.generate_web`."""

    classes: tuple[str, ...]
    videos_per_class: int
    size: tuple[int, int]
    fps: float
    seconds: tuple[float, float]
    shot_seconds: tuple[float, float]
    key_frame_seconds: float
    mask_every: int
    irrelevant_videos: float
    irrelevant_intervals: float
    wrong_keywords: float
    wrong_thumbnails: float
    idle: float
    missing_thumbnails: int
    cut_short: int
    duplicate_ids: int
    seed: int
    difficulty: Difficulty

    def __post_init__(self) -> None:
        self._check_classes()
        self._check_shares()
        if len(self.size) != 2 or min(self.size) < 16 or self.size[0] % 2 or self.size[1] % 2:
            raise DataError(f"Synthetic web: size (H, W) must be even and at least 16, got {self.size}. Round it up.")
        if min(self.videos_per_class, self.mask_every) < 1 or self.seed < 0:
            raise DataError(
                "Synthetic web: videos_per_class and mask_every must be at least 1 and seed at least 0, got "
                f"{self.videos_per_class}, {self.mask_every} and {self.seed}."
            )
        if not (self.fps > 0 and self.key_frame_seconds > 0):
            raise DataError(
                f"Synthetic web: fps and key_frame_seconds must be positive, got {self.fps} and "
                f"{self.key_frame_seconds}."
            )
        for name in ("seconds", "shot_seconds"):
            span = getattr(self, name)
            if len(span) != 2 or not 2 / self.fps <= span[0] <= span[1] < float("inf"):
                raise DataError(
                    f"Synthetic web: {name} must be (shortest, longest) of two frames at least ({2 / self.fps:g} s), "
                    f"got {span}."
                )
        faults = (self.missing_thumbnails, self.cut_short, self.duplicate_ids)
        total = self.videos_per_class * len(self.classes)
        if min(faults) < 0 or sum(faults) > total:
            raise DataError(
                "Synthetic web: missing_thumbnails, cut_short and duplicate_ids count videos, each with one fault at "
                f"most: expected at least 0 and at most {total} in all, got {faults}."
            )

    def _check_shares(self) -> None:
        for name in ("irrelevant_videos", "irrelevant_intervals", "wrong_keywords", "wrong_thumbnails", "idle"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise DataError(f"Synthetic web: {name} is a share, expected 0 to 1, got {share}.")

    def _check_classes(self) -> None:
        for name in self.classes:
            if name not in BODIES:
                raise DataError(
                    f"The synthetic web cannot show '{name}'{nearest_name(name, BODIES) or '.'} Expected classes "
                    f"among {', '.join(BODIES)}. Leave the others out."
                )
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise DataError(f"Synthetic web: expected one class or more, each once, got {self.classes}.")
        if self.wrong_keywords and len(self.classes) == 1:
            raise DataError(
                "Synthetic web: wrong_keywords are names of other classes, but there is one class only. Add a class, "
                "or set wrong_keywords to 0."
            )

    @property
    def fingerprint(self) -> dict[str, Any]:
        """The options as they come back from JSON."""
        return json.loads(json.dumps({"web": WEB_VERSION, **asdict(self)}))

    def videos(self) -> list[WebVideo]:
        """Cast all videos, in the order of the catalogue: that of a search engine, not of the classes."""
        cast = [video for index in range(len(self.classes)) for video in self._results(index)]
        rng = np.random.default_rng([self.seed, _CASTING, len(self.classes)])
        videos = [cast[place] for place in rng.permutation(len(cast))]
        faults = ["thumbnail_missing"] * self.missing_thumbnails
        faults += ["cut_short"] * self.cut_short + ["listed_twice"] * self.duplicate_ids
        for place, fault in zip(rng.permutation(len(cast)), faults, strict=False):
            videos[place] = replace(videos[place], **{fault: True})  # type: ignore[arg-type]
        return videos

    def _results(self, index: int) -> list[WebVideo]:
        """Cast what a search for one class finds; one video at least is relevant."""
        rng = np.random.default_rng([self.seed, _CASTING, index, 0])
        irrelevant = _choose(rng, np.ones(self.videos_per_class, bool), self.irrelevant_videos)
        if irrelevant.all():
            irrelevant[rng.integers(len(irrelevant))] = False
        mistagged = _choose(rng, ~irrelevant, self.wrong_keywords)
        misleading = _choose(rng, ~irrelevant, self.wrong_thumbnails) | _choose(rng, irrelevant, self.wrong_thumbnails)
        return [
            self._video(index, number, irrelevant[number], mistagged[number], misleading[number])
            for number in range(self.videos_per_class)
        ]

    def _video(
        self, index: int, number: int, irrelevant: np.bool_, mistagged: np.bool_, misleading: np.bool_
    ) -> WebVideo:
        """Cast one video that is found by the name of class ``index``."""
        rng = np.random.default_rng([self.seed, _CASTING, index, 1 + number])
        name = self.classes[index]
        others = [actor for actor in BODIES if actor != name]
        subject = name if not irrelevant else str(rng.choice(["", rng.choice(others)]))
        poster = None
        if misleading:
            poster = _shot(rng, 1, name if irrelevant else str(rng.choice(["", rng.choice(others)])))
        tags = [name]
        if mistagged:
            tags.append(str(rng.choice([other for other in self.classes if other != name])))
        return WebVideo(
            id=make_id(rng),
            title=make_title(rng, name),
            keywords=make_keywords(rng, tags),
            found_by=name,
            subject=subject,
            shots=self._shots(rng, subject, [actor for actor in others if actor != subject]),
            poster=poster,
            seed=(self.seed, _FILMING, index, number),
        )

    def _shots(self, rng: np.random.Generator, subject: str, others: Sequence[str]) -> tuple[WebShot, ...]:
        """Cut a video of one subject into shots; one at least shows it."""
        total = round(float(rng.uniform(*self.seconds)) * self.fps)
        count = max(2, round(total / self.fps / float(np.mean(self.shot_seconds))))
        weights = rng.uniform(*self.shot_seconds, count)
        cuts = np.round(total * np.cumsum([0.0, *weights]) / weights.sum()).astype(int)
        beside = rng.random(count) < self.irrelevant_intervals
        if beside.all():
            beside[rng.integers(count)] = False
        shots = []
        for frames, off in zip(np.diff(cuts).tolist(), beside, strict=True):
            actor = subject if not off or not subject else str(rng.choice(["", rng.choice(others)]))
            shots.append(_shot(rng, frames, actor, idle=self.idle))
        return tuple(shots)


def _choose(rng: np.random.Generator, among: BoolArray, share: float) -> BoolArray:
    """Mark ``share`` of the items, rounded up or down at random, so that it holds on average for few items too."""
    places = rng.permutation(np.flatnonzero(among))
    chosen = np.zeros(len(among), bool)
    chosen[places[: int(share * len(places) + rng.random())]] = True
    return chosen


def _shot(rng: np.random.Generator, frames: int, actor: str, *, idle: float = 0.0) -> WebShot:
    """Return a shot of an actor in one of its actions, or of scenery (``""``)."""
    tag = Tag(actor, str(rng.choice(poses_of(actor)))) if actor else None
    return WebShot(frames, tag, bool(rng.random() < idle) and tag is not None)
