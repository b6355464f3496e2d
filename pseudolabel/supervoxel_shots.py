"""Shots and key frames of a video from the change of its supervoxels (Liang et al. 2017, section 3.2; SPEC H7, H8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pseudolabel.shots import key_frames, shots_between, supervoxel_changes, supervoxel_cuts
from pseudolabel.supervoxels import FramePair
from pseudolabel.types import DataError, Int32Array


@dataclass(frozen=True)
class ShotFrames:
    """A shot and the frames of it that are labelled.

    Attributes:
        start: its first frame.
        stop: the frame after its last.
        key_frames: rising, in ``start``..``stop - 1``; at least the first frame.
    """

    start: int
    stop: int
    key_frames: tuple[int, ...]


def find_shots_and_key_frames(
    frames: Iterable[FramePair] | Iterable[Int32Array], *, cut_share: float = 0.5, key_changes: int = 10
) -> list[ShotFrames]:
    """Find where a video is cut, and the frames in which much changes; the frames are iterated over once.

    Supervoxels that are in only one of two neighbouring frames have changed (SPEC H-d). A shot begins where they are
    more than ``cut_share`` of those in either frame; a key frame is the first of a shot, or has more than
    ``key_changes`` changed ones.

    Args:
        frames: pairs, see :func:`~pseudolabel.supervoxels.stream_pairs`, or int32 (H, W) each, the supervoxel of every
            pixel; of these, what begins or ends between two windows counts as changed.
        cut_share: in [0, 1].
        key_changes: grows with the number of supervoxels, hence with level and picture size; >= 0.

    Returns:
        the shots in order; together they are the whole video. None if there is no frame.

    Raises:
        DataError: a value is out of its range.
    """
    if not 0 <= cut_share <= 1 or key_changes < 0:
        raise DataError(
            f"Shots: cut_share must be in [0, 1] and key_changes >= 0, got {cut_share} and {key_changes}. Change them."
        )
    count = 0

    def pairs() -> Iterator[tuple[Int32Array, Int32Array]]:
        nonlocal count
        last: Int32Array | None = None
        for frame in frames:
            pair = frame if isinstance(frame, FramePair) else FramePair(frame, last)
            if pair.before is not None:
                yield pair.before, pair.labels
            last = pair.labels
            count += 1

    changes = supervoxel_changes(pairs())
    candidates = key_frames(changes, more_than=key_changes).tolist()
    return [
        ShotFrames(shot.start, shot.stop, _within(candidates, shot.start, shot.stop))
        for shot in shots_between(supervoxel_cuts(changes, share=cut_share), count)
    ]


def _within(candidates: list[int], start: int, stop: int) -> tuple[int, ...]:
    return (start, *(frame for frame in candidates if start < frame < stop))
