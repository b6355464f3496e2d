"""Supervoxels: space-time regions of a video that keep to edges and last over many frames, as a tree of levels.

Hierarchical graph-based video segmentation (GBH): Grundmann, Kwatra, Han and Essa, CVPR 2010, with the constants and
the histogram distance of LIBSVX (Xu and Corso, CVPR 2012), streamed as Xu, Xiong and Corso, ECCV 2012.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pseudolabel.supervoxel_settings import SupervoxelSettings
from pseudolabel.supervoxel_windows import segment_windows
from pseudolabel.types import DataError, Int32Array, UInt8Array

__all__ = [
    "SupervoxelSettings",
    "SupervoxelTree",
    "segment_hierarchy",
    "segment_supervoxels",
    "stream_supervoxels",
]

_DEFAULT = SupervoxelSettings()


@dataclass(frozen=True)
class SupervoxelTree:
    """The supervoxels of a clip at all levels.

    Attributes:
        labels: int32 (T, H, W), level 0, numbers 0..N-1 without gaps.
        parents: for each level but the highest int32 (N,), the number in the next level of the supervoxel around.
    """

    labels: Int32Array
    parents: tuple[Int32Array, ...]

    @property
    def levels(self) -> int:
        """The highest level; there are ``levels + 1``, from 0."""
        return len(self.parents)

    def ancestors(self, level: int) -> Int32Array:
        """Return the number at ``level`` of each supervoxel of level 0, int32 (N,).

        Raises:
            DataError: there is no such level.
        """
        if not 0 <= level <= self.levels:
            raise DataError(f"Supervoxels: level must be in 0..{self.levels}, got {level}. Ask for one of these.")
        table = np.arange(int(self.labels.max()) + 1, dtype=np.int32)
        for parents in self.parents[:level]:
            table = parents[table]
        return table

    def project(self, level: int) -> Int32Array:
        """Return the supervoxel of ``level`` of each pixel, int32 (T, H, W), numbers 0..N-1 without gaps."""
        return self.ancestors(level)[self.labels]


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
    parents: list[list[Int32Array]] = [[] for _ in range(settings.levels)]
    for window in segment_windows(frames, levels=settings.levels, settings=settings):
        maps.append(window.levels[0].ids[window.labels])
        for lower, upper, found in zip(window.levels[:-1], window.levels[1:], parents, strict=True):
            found.append(upper.ids[lower.parents[lower.known :]])
    return SupervoxelTree(_joined(maps), tuple(np.concatenate(found) for found in parents))


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
    for window in segment_windows(frames, levels=level, settings=settings):
        yield from window.project(level)


def _joined(maps: list[Int32Array]) -> Int32Array:
    if not maps:
        raise DataError("Supervoxels: there is no frame, expected at least one. Pass frames (T, H, W, 3) with T >= 1.")
    return np.concatenate(maps)
