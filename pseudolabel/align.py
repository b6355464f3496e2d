"""One action per actor instance: neighbouring frames vote (Chen et al. 2020, WS2, Sec. 5.2, "action-alignment")."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from pseudolabel.types import VOID, DataError, Int32Array, LabelSpace, UInt8Array

MIN_IOU = 0.1
"""Two components of consecutive frames are one instance only above this overlap."""

_IntArray = npt.NDArray[np.int64]


@dataclass
class _Frame:
    """The instances 0..n-1 of one frame; -1 in ``following`` and ``preceding`` = no such instance."""

    labels: UInt8Array
    components: Int32Array  # (H, W), 0 = none, i + 1 = instance i
    areas: _IntArray  # (n,)
    actors: _IntArray  # (n,)
    votes: _IntArray  # (n,), action of most pixels
    preceding: _IntArray  # (n,), instance of the frame before
    following: _IntArray = field(default_factory=lambda: np.zeros(0, np.int64))  # (n,), of the frame after


def _find_instances(labels: UInt8Array, space: LabelSpace) -> _Frame:
    """Find the connected components of each actor and the action that most of their pixels have."""
    components = np.zeros(labels.shape, np.int32)
    actor_map = space.project(labels, "actor")
    actor_map[actor_map == VOID] = 0
    actors: list[int] = []
    for actor in np.flatnonzero(np.bincount(actor_map.ravel())):
        if actor == 0:
            continue
        count, found = cv2.connectedComponents((actor_map == actor).view(np.uint8), connectivity=8)
        components[found > 0] = found[found > 0] + len(actors)
        actors += [int(actor)] * (count - 1)
    inside = components > 0
    num_actions = len(space.actions)
    codes = (components[inside].astype(np.int64) - 1) * num_actions + space.action_of[labels[inside]]
    pixels = np.bincount(codes, minlength=len(actors) * num_actions).reshape(len(actors), num_actions)
    none = np.full(len(actors), -1)
    return _Frame(
        labels, components, pixels.sum(axis=1), np.array(actors, np.int64), pixels.argmax(axis=1), none, none.copy()
    )


def _link(before: _Frame, after: _Frame) -> None:
    """Link the instances of two consecutive frames, each to the one of the same actor that overlaps it most."""
    both = (before.components > 0) & (after.components > 0)
    codes = (before.components[both].astype(np.int64) - 1) * len(after.actors) + after.components[both] - 1
    pairs, shared = np.unique(codes, return_counts=True)
    left, right = np.divmod(pairs, max(1, len(after.actors)))
    overlap = shared / (before.areas[left] + after.areas[right] - shared)
    valid = (before.actors[left] == after.actors[right]) & (overlap > MIN_IOU)
    left, right, overlap = left[valid], right[valid], overlap[valid]
    # Written from small to large overlap, so that the largest stays; of equal ones the first.
    order = np.lexsort((-np.arange(len(overlap)), overlap))
    before.following[left[order]] = right[order]
    after.preceding[right[order]] = left[order]


class ActionAligner:
    """Align actions as the frames come, with the memory of ``2 * radius + 1`` frames.

    Gives exactly what :func:`align_actions` gives. Frames come out ``radius`` frames after they went in::

        aligner = ActionAligner(space, radius=5)
        for labels in predictions:
            for aligned in aligner.push(labels):
                write(aligned)
        for aligned in aligner.flush():
            write(aligned)

    Args:
        space: the label space of the masks; without actions every frame comes out as it is, at once.
        radius: neighbouring frames on each side that vote, >= 0.
    """

    def __init__(self, space: LabelSpace, radius: int = 5) -> None:
        if radius < 0:
            raise ValueError(f"radius must be >= 0 frames, got {radius}")
        self.space = space
        self.radius = radius
        self._frames: deque[_Frame] = deque()
        self._next = 0  # position in _frames of the next frame to come out
        self._class_of = np.zeros((len(space.actors), max(1, len(space.actions))), np.uint8)
        self._class_of[space.actor_of, space.action_of] = np.arange(space.num_classes)

    def push(self, labels: UInt8Array) -> list[UInt8Array]:
        """Take the next frame.

        Args:
            labels: uint8 (H, W), class ids, 255 = void.

        Returns:
            The frames finished by it, in order: none or one, uint8 (H, W).

        Raises:
            DataError: the frame's size differs from the one before.
        """
        if not self.space.has_actions:
            return [labels]
        if self._frames and self._frames[-1].labels.shape != labels.shape:
            raise DataError(
                f"Action alignment: frame of size {tuple(labels.shape)} after {tuple(self._frames[-1].labels.shape)}, "
                "expected one size per video. Call flush() between videos."
            )
        frame = _find_instances(labels, self.space)
        if self._frames:
            _link(self._frames[-1], frame)
        self._frames.append(frame)
        if len(self._frames) - self._next <= self.radius:
            return []
        return [self._finish()]

    def flush(self) -> list[UInt8Array]:
        """Return the frames that are left, in order; the aligner is then ready for another video."""
        rest = []
        while self._next < len(self._frames):
            rest.append(self._finish())
        self._frames.clear()
        self._next = 0
        return rest

    def _finish(self) -> UInt8Array:
        """Let the neighbours vote for the next frame, and drop the frames that no later one needs."""
        frame = self._frames[self._next]
        table = np.zeros(len(frame.actors) + 1, np.uint8)
        for instance, actor in enumerate(frame.actors):
            table[instance + 1] = self._class_of[actor, self._poll(instance)]
        aligned = np.where(frame.components > 0, table[frame.components], frame.labels)
        self._next += 1
        while self._next > self.radius:
            self._frames.popleft()
            self._next -= 1
        return aligned

    def _poll(self, instance: int) -> int:
        """Return the action with the most votes along the chain through one instance; a tie keeps its own."""
        own = int(self._frames[self._next].votes[instance])
        votes = np.zeros(len(self.space.actions), np.int64)
        votes[own] += 1
        for step in (-1, 1):
            position, current = self._next, instance
            for _ in range(self.radius):
                frame = self._frames[position]
                current = int((frame.preceding if step < 0 else frame.following)[current])
                position += step
                if current < 0 or not 0 <= position < len(self._frames):
                    break
                votes[self._frames[position].votes[current]] += 1
        winners = np.flatnonzero(votes == votes.max())
        return int(winners[0]) if len(winners) == 1 else own


def align_actions(labels: UInt8Array, space: LabelSpace, *, radius: int = 5) -> UInt8Array:
    """Give every actor instance of a video one action: the majority among its neighbouring frames.

    Instances are the connected components of one actor in a frame. Each is followed to the component of the same actor
    with the largest IoU (> 0.1) in the next frame, from there on to the one after, and so on for ``radius`` frames, and
    likewise backwards. Every component on the way votes with the action of most of its pixels. Ties keep the instance's
    own action. As only components of one actor vote, only valid actor-action pairs can win.

    Args:
        labels: uint8 (T, H, W), class ids, 255 = void (kept).
        space: the label space; without actions the labels are returned unchanged.
        radius: neighbouring frames on each side that vote, >= 0.

    Returns:
        uint8 (T, H, W).
    """
    if not space.has_actions or not len(labels):
        return labels
    aligner = ActionAligner(space, radius)
    aligned = [done for frame in labels for done in aligner.push(frame)] + aligner.flush()
    return np.stack(aligned)
