"""Supervoxels of a long video, window after window: memory does not grow, and numbers go on.

Every window is segmented by itself, with the last frames of the window before it. A supervoxel takes over the number
of that one with which it shares most of these frames, at every level. (Xu, Xiong and Corso, ECCV 2012, keep for ever
what was merged once; then errors add up, and accuracy falls from window to window.)
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
from pseudolabel.supervoxel_voxels import merge_voxels
from pseudolabel.types import BoolArray, DataError, FloatArray, Int32Array, UInt8Array


@dataclass(frozen=True)
class Window:
    """The supervoxels of some frames.

    Attributes:
        labels: int32 (T, H, W), the part of level 0 of each pixel, 0..N-1; the new frames only.
        before: int32 (H, W), the same for the frame before them; None in the first window.
        ids: of each level from 0 upwards int32 (N,), the number in the video of the supervoxel that a part lies in: 0,
            1, 2, ... in the order in which they are met. Those that no new frame shows have numbers below 0.
    """

    labels: Int32Array
    before: Int32Array | None
    ids: tuple[Int32Array, ...]

    def project(self, level: int) -> Int32Array:
        """Return the numbers of the supervoxels of one level, int32 (T, H, W)."""
        return self.ids[level][self.labels]

    def frame_before(self, frame: int, level: int) -> Int32Array | None:
        """Return what the frame before one of the new frames shows as this window has cut it, int32 (H, W).

        Where it is a frame of the window before, this differs from what that window says of it; so what changes between
        two frames can be told from what changes between two windows.
        """
        labels = self.labels[frame - 1] if frame else self.before
        return None if labels is None else self.ids[level][labels]


@dataclass(frozen=True)
class _Past:
    """The last frames of the window before, their labels (K, H, W) and its ids, as in :class:`Window`."""

    frames: list[UInt8Array]
    labels: Int32Array
    ids: tuple[Int32Array, ...]


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
    motion = _motion(frames, settings)
    labels, above = _levels(frames, motion, len(made) - 1, settings)
    new = labels[before:]
    shown = np.zeros(len(above[0]), bool)
    shown[new.ravel()] = True
    if past is None:
        pairs, shares = np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
    else:
        pairs, shares = _shared(past.labels, labels[:before])
    ids = tuple(
        _go_on(parts, shown, pairs, shares, past.ids[level] if past else None, made[level : level + 1])
        for level, parts in enumerate(above)
    )
    window = Window(new, labels[before - 1] if before else None, ids)
    return window, _Past(frames[-settings.overlap :], labels[-settings.overlap :], ids)


def _levels(
    frames: list[UInt8Array], motion: Int32Array, levels: int, settings: SupervoxelSettings
) -> tuple[Int32Array, list[Int32Array]]:
    """Segment frames by themselves.

    Returns:
        labels int32 (T, H, W) of level 0, and for each level from 0 on the supervoxel around each label, int32 (N,).
    """
    colours = _smoothed(frames, settings.sigma)
    flat, count = merge_voxels(colours, motion, c=settings.c, min_size=settings.part_size, max_link=settings.max_link)
    labels = flat.reshape(motion.shape[:3])
    lab = np.stack([np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2LAB), np.uint8) for frame in frames])
    graph = region_graph(labels, count, colours, lab, motion, settings=settings)
    around = np.arange(count, dtype=np.int32)
    above = [around]
    for step in range(-settings.hidden_levels if levels else 0, levels):  # below 0: not kept
        upper, count = merge_regions(
            graph,
            c_reg=settings.c_reg * settings.c_reg_growth**step,
            min_size=settings.min_size * settings.min_size_growth ** (step + 1),
            contrast=settings.contrast,
        )
        around = upper[around]
        if step >= 0:
            above.append(around)
        graph = contract(graph, upper, count)
    return labels, above


def _shared(old: Int32Array, new: Int32Array) -> tuple[Int64Array, Int64Array]:
    """Return which labels of two maps of the same frames meet, int64 (P, 2), and in how many pixels (P,)."""
    span = int(new.max()) + 1
    keys, pixels = np.unique(old.ravel().astype(np.int64) * span + new.ravel(), return_counts=True)
    return np.stack(np.divmod(keys, span), axis=1), pixels


def _go_on(
    parts: Int32Array,
    shown: BoolArray,
    pairs: Int64Array,
    shares: Int64Array,
    old: Int32Array | None,
    made: Int64Array,
) -> Int32Array:
    """Number the supervoxels of one level.

    Those that share most with a numbered one choose first; each number is given once, and what is left gets new ones.

    Args:
        parts: int32 (N,), the supervoxel 0..M-1 that each label lies in.
        shown: bool (N,), whether a new frame shows the label.
        pairs: int64 (P, 2), a label of the window before and one of this that share pixels.
        shares: int64 (P,), how many.
        old: the numbers of this level in the window before, by its labels; None = there is none.
        made: (1,), how many numbers are in use; raised.

    Returns:
        int32 (N,), the number by label; below 0 where no new frame shows the supervoxel.
    """
    count = int(parts.max()) + 1
    seen = np.zeros(count, bool)
    seen[parts[shown]] = True
    ids = -1 - np.arange(count, dtype=np.int32)
    if old is not None and len(pairs):
        keys, inverse = np.unique(old[pairs[:, 0]].astype(np.int64) * count + parts[pairs[:, 1]], return_inverse=True)
        numbers, heirs = np.divmod(keys, count)
        given: set[int] = set()
        for place in np.argsort(-np.bincount(inverse, shares), kind="stable"):
            number, heir = int(numbers[place]), int(heirs[place])
            if seen[heir] and ids[heir] < 0 and number not in given:
                ids[heir] = number
                given.add(number)
    fresh = seen & (ids < 0)
    ids[fresh] = made[0] + np.arange(fresh.sum())
    made[0] += fresh.sum()
    return ids[parts]


def _smoothed(frames: list[UInt8Array], sigma: float) -> FloatArray:
    colours = [frame.astype(np.float32) for frame in frames]
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in colours] if sigma > 0 else colours)


def _motion(frames: list[UInt8Array], settings: SupervoxelSettings) -> Int32Array:
    """Return (rows, columns) from each pixel to its place in the frame before, int32 (T, H, W, 2)."""
    motion = np.zeros((len(frames), *frames[0].shape[:2], 2), np.int32)
    if settings.follow_motion:
        for t in range(1, len(frames)):
            flow = flow_with(settings.flow_settings, frames[t], frames[t - 1])
            motion[t] = np.rint(flow[..., ::-1])
    return motion
