"""Where a video is cut, which frames of a shot are worth looking at, and which shots are worth keeping.

Frames are iterated over: of a video, two small frames and a few numbers per frame are in memory at a time. Dissolves
and fades are not found.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from pseudolabel.flow import compute_flow, warp
from pseudolabel.graphs import Float64Array, Int64Array
from pseudolabel.sampling import sample_uniformly
from pseudolabel.types import VOID, BoolArray, DataError, UInt8Array

Ids = npt.ArrayLike | set[int]
"""The numbers of what a frame shows: a set, or an int array of any shape, such as its label map."""


class Shot(NamedTuple):
    """The frames ``start`` to ``stop - 1`` of a video."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        """Number of frames."""
        return self.stop - self.start


class FrameChanges(NamedTuple):
    """How much each frame differs from the one before it.

    Attributes:
        histogram: float64 (T-1,), share of the pixels whose colour bin differs: half the L1 distance, in [0, 1].
        residual: float64 (T-1,), mean absolute difference to the frame before once motion is undone, in [0, 1].
    """

    histogram: Float64Array
    residual: Float64Array


class SupervoxelChanges(NamedTuple):
    """How the set of supervoxels changes from each frame to the next.

    Attributes:
        new: int64 (T-1,), supervoxels that begin.
        lost: int64 (T-1,), supervoxels that end.
        union: int64 (T-1,), supervoxels in at least one of the two frames.
    """

    new: Int64Array
    lost: Int64Array
    union: Int64Array


def frame_changes(frames: Iterable[UInt8Array], *, bins: int = 8, max_edge: int = 160) -> FrameChanges:
    """Compare neighbouring frames by colour and by what motion does not explain.

    Args:
        frames: uint8 (H, W, 3) each, RGB, all of one size.
        bins: per channel of the colour histogram, 2..256.
        max_edge: frames are shrunk to this many pixels along the longer edge first.

    Raises:
        DataError: a frame is not uint8 (H, W, 3), or not of the first one's size.
    """
    if not 2 <= bins <= 256 or max_edge < 1:
        raise ValueError(f"bins must be in 2..256 and max_edge >= 1, got {bins} and {max_edge}")
    histograms: list[float] = []
    residuals: list[float] = []
    size: tuple[int, ...] | None = None
    last: UInt8Array | None = None
    last_colours = np.zeros(0)
    for index, frame in enumerate(frames):
        if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8 or not frame.size:
            raise DataError(f"Shots: frame {index} must be uint8 (H, W, 3), got {frame.dtype} {frame.shape}.")
        size = size or frame.shape
        if frame.shape != size:
            raise DataError(
                f"Shots: frame {index} is {frame.shape}, the first one {size}. Resize the frames to one size."
            )
        small = _shrink(frame, max_edge)
        colours = _colour_histogram(small, bins)
        if last is not None:
            histograms.append(0.5 * float(np.abs(colours - last_colours).sum()))
            residuals.append(_residual(last, small))
        last, last_colours = small, colours
    return FrameChanges(np.array(histograms), np.array(residuals))


def find_cuts(
    changes: FrameChanges,
    *,
    histogram: float | None = 0.3,
    residual_ratio: float | None = 3.0,
    residual_always: float = 0.1,
) -> Int64Array:
    """Return the numbers of the frames with which a new shot begins.

    A cut changes the colours and cannot be explained by motion: the residual is several times the median of this very
    clip, or large by itself (where most of a clip's frames are cuts, its median says nothing).

    Args:
        changes: of the T frames, see :func:`frame_changes`.
        histogram: least histogram change of a cut, in [0, 1]; None = colours are not looked at.
        residual_ratio: least residual of a cut, in medians of the clip; None = the residual is not looked at.
        residual_always: a residual that is large enough whatever the median is, in [0, 1].

    Returns:
        int64, rising, each in 1..T-1.
    """
    cuts = np.ones(len(changes.histogram), bool)
    if histogram is None and residual_ratio is None:
        raise ValueError("histogram and residual_ratio must not both be None: nothing would tell a cut")
    if histogram is not None:
        cuts &= changes.histogram > histogram
    if residual_ratio is not None and len(cuts):
        cuts &= changes.residual > min(residual_ratio * float(np.median(changes.residual)), residual_always)
    return np.flatnonzero(cuts) + 1


def shots_between(cuts: Iterable[int], num_frames: int) -> list[Shot]:
    """Return the shots of a video of ``num_frames`` frames that is cut before each of ``cuts``; none if it is empty."""
    inside = sorted({int(cut) for cut in cuts if 0 < cut < num_frames})
    bounds = [0, *inside, num_frames]
    return [Shot(start, stop) for start, stop in itertools.pairwise(bounds) if stop > start]


def detect_shots(frames: Iterable[UInt8Array], *, bins: int = 8, max_edge: int = 160, **thresholds: Any) -> list[Shot]:
    """Split a plain video into shots: :func:`frame_changes`, then :func:`find_cuts` with ``thresholds``.

    Args:
        frames: uint8 (H, W, 3) each, RGB, all of one size; iterated over once.
        bins: per channel of the colour histogram.
        max_edge: frames are shrunk to this many pixels along the longer edge first.
        **thresholds: of :func:`find_cuts`.

    Returns:
        the shots in order; together they are the whole video. None if there are no frames.

    Raises:
        DataError: a frame is not uint8 (H, W, 3), or not of the first one's size.
    """
    seen = 0

    def counted() -> Iterable[UInt8Array]:
        nonlocal seen
        for frame in frames:
            seen += 1
            yield frame

    changes = frame_changes(counted(), bins=bins, max_edge=max_edge)
    return shots_between(find_cuts(changes, **thresholds), seen)


def supervoxel_changes(pairs: Iterable[tuple[Ids, Ids]]) -> SupervoxelChanges:
    """Count the supervoxels that begin and end from the first to the second frame of each pair (SPEC H-d).

    Args:
        pairs: neighbouring frames, each by the ids of its supervoxels.
    """
    counts: list[tuple[int, int, int]] = []
    for before, after in pairs:
        last, ids = _distinct(before), _distinct(after)
        shared = len(np.intersect1d(last, ids, assume_unique=True))
        counts.append((len(ids) - shared, len(last) - shared, len(ids) + len(last) - shared))
    table = np.array(counts, np.int64).reshape(-1, 3)
    return SupervoxelChanges(table[:, 0], table[:, 1], table[:, 2])


def _distinct(frame: Ids) -> Int64Array:
    return np.unique(np.asarray(sorted(frame) if isinstance(frame, set) else frame, np.int64))


def supervoxel_cuts(changes: SupervoxelChanges, *, share: float = 0.5) -> Int64Array:
    """Return the frames before which ``|new or lost| / |union| > share``: a new shot begins (Liang et al.).

    Args:
        changes: of the T frames, see :func:`supervoxel_changes`.
        share: in [0, 1].

    Returns:
        int64, rising, each in 1..T-1.
    """
    return np.flatnonzero(changes.new + changes.lost > share * changes.union) + 1


def key_frames(changes: SupervoxelChanges, *, more_than: int = 10) -> Int64Array:
    """Return the frames in which more than so many supervoxels change (Liang et al., section 3.2); frame 0 always.

    Args:
        changes: of the T frames, see :func:`supervoxel_changes`.
        more_than: changed (new or lost) supervoxels; it grows with their number, hence with level and picture size.

    Returns:
        int64, rising, each in 0..T-1.
    """
    return np.concatenate([[0], np.flatnonzero(changes.new + changes.lost > more_than) + 1])


def foreground_shares(masks: Iterable[npt.NDArray[np.integer[Any] | np.bool_]]) -> Float64Array:
    """Return the share of each mask (H, W) that is neither background (0) nor void (255), float64 (T,) in [0, 1]."""
    return np.array([np.count_nonzero((mask != 0) & (mask != VOID)) / mask.size for mask in masks], np.float64)


def prune_shots(
    shares: npt.ArrayLike,
    shots: Sequence[tuple[int, int]],
    *,
    least_share: float = 0.025,
    most_share: float = 0.5,
    least_frames: int = 20,
) -> list[Shot]:
    """Keep of every shot the longest run of frames with a sensible foreground (Tokmakov et al. 2016, section 4.2).

    Args:
        shares: (T,), the foreground share of every frame of the video, in [0, 1].
        shots: (start, stop) of the shots.
        least_share: a frame with less foreground is dropped.
        most_share: a frame with more foreground is dropped.
        least_frames: a shot, and a run within it, has at least so many frames. Of runs of one length the first is kept.

    Returns:
        one run for every shot that has one, in the order of the shots.

    Raises:
        DataError: shares are not (T,), hold NaN, or a shot lies outside the video.
    """
    values = np.asarray(shares, np.float64)
    if values.ndim != 1 or np.isnan(values).any():
        raise DataError(f"Pruning: foreground shares must be (T,) without NaN, got {values.shape}.")
    kept = []
    for start, stop in shots:
        if not 0 <= start <= stop <= len(values):
            raise DataError(f"Pruning: shot {start}..{stop} lies outside the video of {len(values)} frames.")
        begin, end = _longest_run((values[start:stop] >= least_share) & (values[start:stop] <= most_share))
        if end - begin >= max(least_frames, 1):
            kept.append(Shot(start + begin, start + end))
    return kept


def sample_shot(shot: tuple[int, int], *, count: int = 10) -> Int64Array:
    """Return ``count`` frames spread uniformly over a shot, or all if it has no more (Tokmakov et al., section 4.2)."""
    return shot[0] + sample_uniformly(shot[1] - shot[0], count)


def _longest_run(good: BoolArray) -> tuple[int, int]:
    """Return the bounds of the first longest run of True; (0, 0) if there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(np.int8), [0]])))
    if not len(edges):
        return 0, 0
    longest = int(np.argmax(edges[1::2] - edges[::2]))
    return int(edges[2 * longest]), int(edges[2 * longest + 1])


def _shrink(frame: UInt8Array, max_edge: int) -> UInt8Array:
    height, width = frame.shape[:2]
    scale = max_edge / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(frame)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def _colour_histogram(frame: UInt8Array, bins: int) -> Float64Array:
    counts = cv2.calcHist([frame], [0, 1, 2], None, [bins] * 3, [0, 256] * 3).ravel()
    return counts.astype(np.float64) / counts.sum()


def _residual(last: UInt8Array, frame: UInt8Array) -> float:
    undone = warp(frame.astype(np.float32), compute_flow(last, frame, preset="ultrafast"))
    return float(np.abs(undone - last).mean()) / np.iinfo(np.uint8).max
