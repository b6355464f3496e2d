"""Supervoxels: space-time regions of a video that keep to edges and last over many frames, as a tree of levels.

Hierarchical graph-based video segmentation (GBH): Grundmann, Kwatra, Han and Essa, CVPR 2010, with the constants and
the histogram distance of LIBSVX (Xu and Corso, CVPR 2012), streamed in windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pseudolabel.supervoxel_settings import SupervoxelSettings
from pseudolabel.supervoxel_windows import segment_windows
from pseudolabel.types import DataError, Int32Array, UInt8Array

__all__ = [
    "FramePair",
    "SupervoxelSettings",
    "SupervoxelTree",
    "segment_hierarchy",
    "segment_supervoxels",
    "stream_pairs",
    "stream_supervoxels",
]

_DEFAULT = SupervoxelSettings()


@dataclass(frozen=True)
class SupervoxelTree:
    """The supervoxels of a clip at all levels.

    Within a window of ``settings.window`` frames they are a tree: each lies in one of the next level. A window as long
    as the clip makes one tree of it (and takes memory for all its frames at once); otherwise supervoxels go on from
    window to window, level by level, and a part may come to lie in another one.

    Attributes:
        labels: int32 (T, H, W), the part of each pixel, numbers 0..P-1 without gaps. A part is what a supervoxel of
            level 0 covers within a window.
        ids: for each level from 0 upwards int32 (P,), the number of the supervoxel that a part lies in.
    """

    labels: Int32Array
    ids: tuple[Int32Array, ...]

    @property
    def levels(self) -> int:
        """The highest level; there are ``levels + 1``, from 0."""
        return len(self.ids) - 1

    def project(self, level: int) -> Int32Array:
        """Return the supervoxel of ``level`` of each pixel, int32 (T, H, W), numbers 0..N-1 without gaps.

        Raises:
            DataError: there is no such level.
        """
        if not 0 <= level <= self.levels:
            raise DataError(f"Supervoxels: level must be in 0..{self.levels}, got {level}. Ask for one of these.")
        return self.ids[level][self.labels]


def segment_hierarchy(
    frames: Sequence[UInt8Array] | UInt8Array, settings: SupervoxelSettings = _DEFAULT
) -> SupervoxelTree:
    """Segment a clip into supervoxels at the levels 0..``settings.levels``. Time is linear in the frames.

    Args:
        frames: uint8 (T, H, W, 3), RGB, T >= 1.
        settings: see there.

    Raises:
        DataError: there is no frame, or a frame is not uint8 (H, W, 3) or not of the first one's size.
    """
    maps: list[Int32Array] = []
    ids: list[list[Int32Array]] = [[] for _ in range(settings.levels + 1)]
    parts = 0
    for window in segment_windows(frames, levels=settings.levels, settings=settings):
        shown, labels = np.unique(window.labels, return_inverse=True)
        maps.append((labels.reshape(window.labels.shape) + parts).astype(np.int32))
        parts += len(shown)
        for found, own in zip(ids, window.ids, strict=True):
            found.append(own[shown])
    return SupervoxelTree(_joined(maps), tuple(np.concatenate(found) for found in ids))


def segment_supervoxels(
    frames: Sequence[UInt8Array] | UInt8Array, *, level: int = 10, settings: SupervoxelSettings = _DEFAULT
) -> Int32Array:
    """Segment a clip into the supervoxels of one level; higher ones are not made.

    Args:
        frames: uint8 (T, H, W, 3), RGB, T >= 1.
        level: 0 (finest) .. ``settings.levels``; 10 in Liang et al., section 3.2.
        settings: see there.

    Returns:
        int32 (T, H, W), numbers 0..N-1 without gaps, in the order in which they are met window by window.

    Raises:
        DataError: there is no frame, a frame is not uint8 (H, W, 3) or not of the first one's size, or there is no such
            level.
    """
    return _joined([window.project(level) for window in segment_windows(frames, levels=level, settings=settings)])


def stream_supervoxels(
    frames: Iterable[UInt8Array], *, level: int = 10, settings: SupervoxelSettings = _DEFAULT
) -> Iterator[Int32Array]:
    """Segment a video of any length in memory that does not grow with it; equal to :func:`segment_supervoxels`.

    About 130 bytes per pixel of ``settings.window + settings.overlap`` frames are in use at a time.

    Args:
        frames: uint8 (H, W, 3) each, RGB, all of one size; any iterable.
        level: as :func:`segment_supervoxels`.
        settings: see there.

    Yields:
        int32 (H, W), one per frame, in order; a supervoxel keeps its number for as long as it lasts.

    Raises:
        DataError: as :func:`segment_supervoxels`, but no frame gives no map.
    """
    for frame in stream_pairs(frames, level=level, settings=settings):
        yield frame.labels


class FramePair(NamedTuple):
    """The supervoxels of a frame, and of the one before it.

    Attributes:
        labels: int32 (H, W), numbers >= 0 that go on through the video.
        before: int32 (H, W), what the frame before shows; None for the first one. Both frames were cut together, so
            that what differs has changed in the video; numbers below 0 are those that do not go on.
    """

    labels: Int32Array
    before: Int32Array | None


def stream_pairs(
    frames: Iterable[UInt8Array], *, level: int = 10, settings: SupervoxelSettings = _DEFAULT
) -> Iterator[FramePair]:
    """Do as :func:`stream_supervoxels`, and yield each frame together with the one before it."""
    for window in segment_windows(frames, levels=level, settings=settings):
        for frame, labels in enumerate(window.project(level)):
            yield FramePair(labels, window.frame_before(frame, level))


def _joined(maps: list[Int32Array]) -> Int32Array:
    if not maps:
        raise DataError("Supervoxels: there is no frame, expected at least one. Pass frames (T, H, W, 3) with T >= 1.")
    return np.concatenate(maps)
