"""Shots and key frames of a video from the change of its supervoxels (Liang et al. 2017, section 3.2; SPEC H7, H8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pseudolabel.shots import key_frames, shots_between, supervoxel_changes, supervoxel_cuts
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
    labels: Iterable[Int32Array], *, cut_share: float = 0.5, key_changes: int = 10
) -> list[ShotFrames]:
    """Find where a video is cut, and the frames in which much changes; the maps are iterated over once.

    Supervoxels that are in only one of two neighbouring frames have changed (SPEC H-d). A shot begins where they are
    more than ``cut_share`` of those in either frame; a key frame is the first of a shot, or has more than
    ``key_changes`` changed ones.

    Args:
        labels: int32 (H, W) each, the supervoxel of every pixel, see
            :func:`~pseudolabel.supervoxels.stream_supervoxels`.
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
    frames = 0

    def counted() -> Iterator[Int32Array]:
        nonlocal frames
        for frame in labels:
            frames += 1
            yield frame

    changes = supervoxel_changes(counted())
    candidates = key_frames(changes, more_than=key_changes).tolist()
    return [
        ShotFrames(shot.start, shot.stop, _within(candidates, shot.start, shot.stop))
        for shot in shots_between(supervoxel_cuts(changes, share=cut_share), frames)
    ]


def _within(candidates: list[int], start: int, stop: int) -> tuple[int, ...]:
    return (start, *(frame for frame in candidates if start < frame < stop))
