"""Supervoxels of a long video, window after window: what is known goes on, memory does not grow.

Xu, Xiong and Corso (ECCV 2012): a window is segmented given the supervoxels of the frames before it, at every level.
These keep their numbers, take in what follows them, and are neither split nor merged with each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from pseudolabel.flow import flow_with
from pseudolabel.graphs import Int64Array
from pseudolabel.supervoxel_regions import contract, merge_regions, region_graph
from pseudolabel.supervoxel_settings import SupervoxelSettings
from pseudolabel.supervoxel_voxels import UNKNOWN, Merged, merge_voxels
from pseudolabel.types import DataError, FloatArray, Int32Array, UInt8Array


@dataclass(frozen=True)
class Level:
    """The supervoxels of one level that a window meets: those it knows first, then its new ones.

    Attributes:
        ids: int32 (N,), their numbers in the video, 0, 1, 2, ... in the order in which they are met.
        parents: int32 (N,), the position of each one's parent in the next level; empty at the highest.
        internal: float32 (N,), Int(C).
        known: how many the window knew.
    """

    ids: Int32Array
    parents: Int32Array
    internal: FloatArray
    known: int


@dataclass(frozen=True)
class Window:
    """The supervoxels of some frames.

    Attributes:
        labels: int32 (T, H, W), positions in ``levels[0]``; the new frames only.
        levels: from level 0 upwards.
    """

    labels: Int32Array
    levels: tuple[Level, ...]

    def project(self, level: int) -> Int32Array:
        """Return the numbers of the supervoxels of one level, int32 (T, H, W)."""
        table = np.arange(len(self.levels[0].ids), dtype=np.int32)
        for lower in self.levels[:level]:
            table = lower.parents[table]
        return self.levels[level].ids[table][self.labels]


@dataclass(frozen=True)
class _Past:
    """The last frames of the window before, and what is known of them: positions as in :class:`Window`."""

    frames: list[UInt8Array]
    labels: Int32Array
    levels: tuple[Level, ...]


def segment_windows(frames: Iterable[UInt8Array], *, levels: int, settings: SupervoxelSettings) -> Iterator[Window]:
    """Segment a video in windows of ``settings.window`` frames; the last one may be shorter.

    Args:
        frames: uint8 (H, W, 3) each, RGB, all of one size; any iterable.
        levels: the highest level that is made.
        settings: see there.

    Yields:
        one after the other, together all frames.

    Raises:
        DataError: a frame is not uint8 (H, W, 3) or not of the first one's size, or ``levels`` is not one of the
            settings'.
    """
    if not 0 <= levels <= settings.levels:
        raise DataError(
            f"Supervoxels: level must be in 0..{settings.levels}, got {levels}. Ask for one of these, or set levels."
        )
    past: _Past | None = None
    made = np.zeros(levels + 1, np.int64)
    run: list[UInt8Array] = []
    for frame in _checked(frames):
        run.append(frame)
        if len(run) == settings.window:
            window, past = _segment(run, past, made, settings)
            run = []
            yield window
    if run:
        yield _segment(run, past, made, settings)[0]


def _checked(frames: Iterable[UInt8Array]) -> Iterator[UInt8Array]:
    size: tuple[int, ...] | None = None
    for number, frame in enumerate(frames):
        if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8 or not frame.size:
            raise DataError(
                f"Supervoxels: frame {number} must be uint8 (H, W, 3), got {frame.dtype} {tuple(frame.shape)}. Convert "
                "it to 8-bit RGB."
            )
        size = size or frame.shape
        if frame.shape != size:
            raise DataError(
                f"Supervoxels: frame {number} is {frame.shape[1]}x{frame.shape[0]}, the first one {size[1]}x{size[0]}, "
                "expected one size per video. Resize the frames, or cut the video where its size changes."
            )
        yield np.ascontiguousarray(frame)


def _segment(
    run: list[UInt8Array], past: _Past | None, made: Int64Array, settings: SupervoxelSettings
) -> tuple[Window, _Past]:
    """Segment the frames ``run`` after ``past``; ``made`` counts the supervoxels of each level and is raised."""
    frames = [*past.frames, *run] if past else run
    before = len(frames) - len(run)
    motion = _motion(frames, before, settings)
    if past is None:
        none = Level(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32), 0)
        known, levels = np.zeros((0, *run[0].shape[:2]), np.int32), (none,) * len(made)
    else:
        known, levels = past.labels, past.levels
    colours = _smoothed(frames, settings.sigma)
    sizes = {"c": settings.c, "min_size": settings.min_size, "max_link": settings.max_link}
    merged = merge_voxels(colours, motion, known, levels[0].internal, **sizes)  # type: ignore[arg-type]
    labels = merged.labels.reshape(motion.shape[:3])
    lab = np.stack([np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2LAB), np.uint8) for frame in frames])
    graph = region_graph(labels, len(merged.internal), colours, lab, motion, settings=settings)
    del colours, lab
    done: list[Level] = []
    for level, old in enumerate(levels[:-1]):
        group = np.full(len(merged.internal), UNKNOWN, np.int32)
        group[: len(old.parents)] = old.parents
        upper = merge_regions(
            graph,
            group,
            levels[level + 1].internal,
            c_reg=settings.c_reg * settings.c_reg_growth**level,
            min_size=settings.min_size * settings.min_size_growth ** (level + 1),
        )
        done.append(_level(merged, upper.labels, old, made, level))
        graph, merged = contract(graph, upper.labels, len(upper.internal)), upper
    done.append(_level(merged, np.zeros(0, np.int32), levels[-1], made, len(done)))
    window = Window(labels[before:], tuple(done))
    return window, _remember(window, frames, labels, settings.overlap)


def _level(merged: Merged, parents: Int32Array, old: Level, made: Int64Array, level: int) -> Level:
    new = len(merged.internal) - len(old.ids)
    ids = np.concatenate([old.ids, np.arange(made[level], made[level] + new)]).astype(np.int32)
    made[level] += new
    return Level(ids, parents, merged.internal, len(old.ids))


def _remember(window: Window, frames: list[UInt8Array], labels: Int32Array, overlap: int) -> _Past:
    """Keep what the last frames hold: of each level the supervoxels that are alive there, renumbered."""
    used, inverse = np.unique(labels[-overlap:], return_inverse=True)
    kept, last = [], inverse.reshape(labels[-overlap:].shape).astype(np.int32)
    for level in window.levels:
        upper, parents = np.unique(level.parents[used], return_inverse=True) if len(level.parents) else (used, used[:0])
        kept.append(Level(level.ids[used], parents.astype(np.int32), level.internal[used], 0))
        used = upper
    return _Past(frames[-overlap:], last, tuple(kept))


def _smoothed(frames: list[UInt8Array], sigma: float) -> FloatArray:
    colours = [frame.astype(np.float32) for frame in frames]
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in colours] if sigma > 0 else colours)


def _motion(frames: list[UInt8Array], before: int, settings: SupervoxelSettings) -> Int32Array:
    """Return (rows, columns) from each pixel to its place in the frame before, int32 (T, H, W, 2)."""
    motion = np.zeros((len(frames), *frames[0].shape[:2], 2), np.int32)
    if settings.follow_motion:
        for t in range(max(before, 1), len(frames)):
            flow = flow_with(settings.flow_settings, frames[t], frames[t - 1])
            motion[t] = np.rint(flow[..., ::-1])
    return motion
