"""The words of Tagmask as types: clips, tags, annotations and label spaces.

Everything here is plain numpy: the ground floor knows no network and no training engine.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

VOID = 255
"""Label of pixels that are neither trained on nor scored (the VOC convention)."""

BACKGROUND = "background"

UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

Scores = FloatArray
"""Softmax scores of the present network, float32 (T, C, H, W) in [0, 1]; class 0 is background."""


def is_object(labels: UInt8Array) -> BoolArray:
    """Return where labels are neither background nor void, bool of the same shape."""
    return np.asarray((labels > 0) & (labels != VOID))


class DataError(ValueError):
    """A user's input cannot be used. The message says what, which file, got, expected and the cure."""


def nearest_name(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to ``word``, else an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


@dataclass(frozen=True, order=True)
class Tag:
    """A class, or an actor-action pair, of a whole video. ``action`` is empty for plain classes."""

    actor: str
    action: str = ""

    def __str__(self) -> str:
        return f"{self.actor}-{self.action}" if self.action else self.actor


@dataclass
class Clip:
    """A run of frames of one video.

    Attributes:
        frames: uint8 (T, H, W, 3), RGB.
        indices: int (T,), the frames' numbers in the source video.
        name: the video's name.
        fps: frames per second of the source video.
        tags: the video's tags.
        evidence: named arrays that hint at the object, e.g. ``"actor"``: float32 (len(tags), T, H, W) in [0, 1].
    """

    frames: UInt8Array
    indices: npt.NDArray[np.int64]
    name: str
    fps: float
    tags: tuple[Tag, ...]
    evidence: dict[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise DataError(
                f"Clip '{self.name}': frames must be uint8 (T, H, W, 3), "
                f"got {self.frames.dtype} {tuple(self.frames.shape)}."
            )
        if len(self.indices) != len(self.frames):
            raise DataError(f"Clip '{self.name}': {len(self.frames)} frames but {len(self.indices)} indices.")


@dataclass
class Annotation:
    """A pseudo-annotation (PA) of one clip.

    Attributes:
        labels: uint8 (T, H, W), class ids of a :class:`LabelSpace`, 255 = void.
        quality: float32 (T,), omega in [0, 1].
    """

    labels: UInt8Array
    quality: FloatArray

    def __post_init__(self) -> None:
        if self.labels.ndim != 3 or self.labels.dtype != np.uint8:
            raise DataError(
                f"Annotation: labels must be uint8 (T, H, W), got {self.labels.dtype} {tuple(self.labels.shape)}."
            )
        if self.quality.shape != self.labels.shape[:1]:
            raise DataError(f"Annotation: {len(self.labels)} frames but quality of shape {self.quality.shape}.")


Annotator = Callable[[Clip, "Scores | None"], Annotation]
"""From a clip and the present network's scores (None at v0) to its pseudo-annotation."""


@dataclass(frozen=True)
class LabelSpace:
    """Class ids 0..C-1 (0 = background) with their projections on actors and on actions.

    Attributes:
        tags: the foreground classes in the order of their ids 1..C-1.
        raw_ids: (C,) the values that stand for each class in the data set's own mask files.
    """

    tags: tuple[Tag, ...]
    raw_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.tags:
            raise DataError("A label space needs at least one class, got none. Check the tags of the data set.")
        if len(self.tags) > VOID - 1:
            raise DataError(f"A label space holds at most {VOID - 1} classes (uint8 masks), got {len(self.tags)}.")
        if len(set(self.tags)) != len(self.tags):
            raise DataError("A label space must not name a class twice.")
        if not self.raw_ids:
            object.__setattr__(self, "raw_ids", tuple(range(len(self.tags) + 1)))

    @classmethod
    def from_tags(cls, tags: Iterable[Tag]) -> LabelSpace:
        """Build the label space of a set of tags, sorted by name."""
        return cls(tuple(sorted(set(tags))))

    @property
    def num_classes(self) -> int:
        """C, background included."""
        return len(self.tags) + 1

    @property
    def names(self) -> tuple[str, ...]:
        """(C,) names, ``"background"`` first."""
        return (BACKGROUND, *map(str, self.tags))

    @property
    def actors(self) -> tuple[str, ...]:
        """Names of the actors in order of first appearance, ``"background"`` first."""
        return (BACKGROUND, *dict.fromkeys(tag.actor for tag in self.tags))

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the actions in order of first appearance, ``"background"`` first; () for plain classes."""
        if not self.has_actions:
            return ()
        return (BACKGROUND, *dict.fromkeys(tag.action for tag in self.tags))

    @property
    def has_actions(self) -> bool:
        """Whether the classes are actor-action pairs (VAAS) rather than plain classes (VOS)."""
        return any(tag.action for tag in self.tags)

    @property
    def actor_of(self) -> Int32Array:
        """(C,) actor id of each class id."""
        return np.array([0, *(self.actors.index(tag.actor) for tag in self.tags)], np.int32)

    @property
    def action_of(self) -> Int32Array:
        """(C,) action id of each class id (all zero for plain classes)."""
        if not self.has_actions:
            return np.zeros(self.num_classes, np.int32)
        return np.array([0, *(self.actions.index(tag.action) for tag in self.tags)], np.int32)

    def index(self, tag: Tag) -> int:
        """Return the class id of ``tag``.

        Raises:
            DataError: the tag is not a class of this space; names the nearest one.
        """
        try:
            return self.tags.index(tag) + 1
        except ValueError:
            hint = nearest_name(str(tag), map(str, self.tags))
            raise DataError(f"Unknown class '{tag}'{hint} Known: {', '.join(map(str, self.tags))}.") from None

    def allowed(self, tags: Sequence[Tag]) -> BoolArray:
        """Return bool (C,): background and the classes of ``tags``."""
        mask = np.zeros(self.num_classes, bool)
        mask[0] = True
        for tag in tags:
            mask[self.index(tag)] = True
        return mask

    def from_raw(self, mask: npt.NDArray[Any]) -> UInt8Array:
        """Translate a data set's raw mask values to class ids; every unlisted value becomes void (255)."""
        table = np.full(256, VOID, np.uint8)
        table[list(self.raw_ids)] = np.arange(self.num_classes)
        return table[np.clip(mask, 0, VOID).astype(np.uint8)]

    def project(self, labels: UInt8Array, onto: str) -> UInt8Array:
        """Map class ids to ``"joint"``, ``"actor"`` or ``"action"`` ids, keeping void."""
        if onto == "joint":
            return labels
        if onto not in ("actor", "action"):
            raise ValueError(f"onto must be 'joint', 'actor' or 'action', got {onto!r}")
        table = np.full(256, VOID, np.uint8)
        table[: self.num_classes] = self.actor_of if onto == "actor" else self.action_of
        return table[labels]

    def to_dict(self) -> dict[str, Any]:
        """Return plain types, for checkpoints that load with ``weights_only=True``."""
        return {"tags": [[tag.actor, tag.action] for tag in self.tags], "raw_ids": list(self.raw_ids)}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> LabelSpace:
        """Inverse of :meth:`to_dict`."""
        return cls(tuple(Tag(actor, action) for actor, action in state["tags"]), tuple(state["raw_ids"]))
