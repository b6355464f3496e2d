"""Quality of supervoxels on sequences with true masks: how well they fit objects, and how long they keep their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from benchmarks import motion_quality
from pseudolabel.flow import compute_flow
from pseudolabel.superpixels import segment_superpixels, temporal_links
from pseudolabel.supervoxels import SupervoxelSettings, segment_hierarchy
from pseudolabel.types import DataError
from recipes.tables import show

Array = npt.NDArray[Any]
_TRIES = 6
"""SLIC is asked so often for other numbers until it makes as many regions as wanted; the nearest counts."""


@dataclass(frozen=True)
class Quality:
    """One way of cutting a sequence into regions, scored; means over its frames.

    Attributes:
        regions: per frame.
        accuracy: achievable segmentation accuracy: share of the pixels that are right when each region of each frame
            takes its commonest true label, in [0, 1].
        accuracy_video: the same when each region takes one label for the whole video, in [0, 1].
        undersegmentation: pixels by which regions leak over true edges, over all pixels (Neubert and Protzel 2012).
        recall: share of the true edge's pixels that have an edge of a region nearby, in [0, 1].
        consistency: share of the pixels whose pixel in the next frame, along the flow, has the same id, in [0, 1].
        duration: frames in which a region is seen.
    """

    regions: float
    accuracy: float
    accuracy_video: float
    undersegmentation: float
    recall: float
    consistency: float
    duration: float


def leaks(labels: Array, truth: Array) -> tuple[float, float]:
    """Return the achievable accuracy of a partition, and its undersegmentation error.

    Args:
        labels: int, any shape, ids >= 0.
        truth: bool of the same shape.
    """
    whole = np.bincount(labels.ravel())
    object_part = np.bincount(labels.ravel(), truth.ravel(), len(whole))
    smaller = np.minimum(object_part, whole - object_part)  # wrong, and leaking from both sides
    return float(1 - smaller.sum() / truth.size), float(2 * smaller.sum() / truth.size)


def edges(labels: Array) -> Array:
    """Return bool (H, W), the pixels that differ from the one to their right or below."""
    found = np.zeros(labels.shape, bool)
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    found[:-1] |= labels[:-1] != labels[1:]
    return found


def boundary_recall(labels: Array, truth: Array, *, reach: int = 2) -> float:
    """Return the share of the true edge with an edge of a region within ``reach`` pixels along each axis; NaN if none.

    Args:
        labels: int (H, W).
        truth: bool (H, W).
        reach: pixels.
    """
    wanted = edges(truth)
    if not wanted.any():
        return float("nan")
    side = 2 * reach + 1
    near = cv2.dilate(edges(labels).astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    return float(near[wanted].mean())


def consistency(labels: Array, flows: Sequence[Array]) -> float:
    """Return the share of pixels whose pixel in the next frame has the same id; those that leave are not counted.

    Args:
        labels: int (T, H, W).
        flows: float (H, W, 2) from each frame to the next, T - 1 of them.
    """
    same, seen = 0, 0
    height, width = labels.shape[1:]
    rows, columns = np.mgrid[:height, :width]
    for now, after, flow in zip(labels[:-1], labels[1:], flows, strict=True):
        x, y = np.rint(flow[..., 0] + columns).astype(int), np.rint(flow[..., 1] + rows).astype(int)
        stays = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        same += int((now[stays] == after[y[stays], x[stays]]).sum())
        seen += int(stays.sum())
    return same / max(seen, 1)


def score(labels: Array, truth: Array, flows: Sequence[Array]) -> Quality:
    """Score one partition of a sequence, int (T, H, W), against its true masks, bool (T, H, W)."""
    frames = [leaks(now, mask) for now, mask in zip(labels, truth, strict=True)]
    present = [np.unique(now) for now in labels]
    recalls = [boundary_recall(now, mask) for now, mask in zip(labels, truth, strict=True) if edges(mask).any()]
    return Quality(
        float(np.mean([len(ids) for ids in present])),
        float(np.mean([accuracy for accuracy, _ in frames])),
        leaks(labels, truth)[0],
        float(np.mean([error for _, error in frames])),
        float(np.mean(recalls)) if recalls else float("nan"),
        consistency(labels, flows),
        sum(map(len, present)) / len(np.unique(np.concatenate(present))),
    )


def linked_superpixels(frames: Array, counts: Sequence[int], flows: Sequence[Array]) -> Array:
    """Return SLIC superpixels of each frame, int32 (T, H, W), that go on where they can.

    A superpixel takes over the id of that one of the frame before with which it shares most pixels along the flow;
    those that share most choose first, each id is given once, and what is left begins anew.

    Args:
        frames: uint8 (T, H, W, 3).
        counts: superpixels per frame (T,), or as near to that as SLIC comes.
        flows: float (H, W, 2) from each frame to the next, T - 1 of them.
    """
    maps: list[Array] = []
    given = 0
    for t, (frame, count) in enumerate(zip(frames, counts, strict=True)):
        plain = _superpixels(frame, count)
        ids = np.full(plain.max() + 1, -1, np.int32)
        if t:
            pairs, shares = temporal_links(maps[-1], plain, flows[t - 1])
            area = np.bincount(maps[-1].ravel())
            taken: set[int] = set()
            for place in np.argsort(-shares * area[pairs[:, 0]], kind="stable"):
                old, new = pairs[place].tolist()
                if old not in taken and ids[new] < 0:
                    ids[new] = old
                    taken.add(old)
        fresh = ids < 0
        ids[fresh] = np.arange(given, given + fresh.sum())
        given += int(fresh.sum())
        maps.append(ids[plain])
    return np.stack(maps)


def _superpixels(frame: Array, count: int) -> Array:
    wanted, nearest = count, segment_superpixels(frame, n=count)
    made = int(nearest.max()) + 1
    missed = abs(made - count)
    for _ in range(_TRIES):
        if not missed:
            break
        step = round(wanted * count / made) - wanted
        wanted = max(1, wanted + (step or (1 if made < count else -1)))
        labels = segment_superpixels(frame, n=wanted)
        made = int(labels.max()) + 1
        if abs(made - count) < missed:
            nearest, missed = labels, abs(made - count)
    return nearest


def _score_sequence(
    images: Path, masks: Path, levels: Sequence[int], settings: SupervoxelSettings
) -> list[tuple[Quality, Quality]]:
    cv2.setNumThreads(1)
    frames, truth = motion_quality._frames(images), motion_quality._masks(masks)
    if truth.shape != frames.shape[:3]:
        raise DataError(f"'{masks}' holds masks {truth.shape}, its video frames {frames.shape[:3]}. Expected the same.")
    flows = [compute_flow(now, after) for now, after in pairwise(frames)]
    tree = segment_hierarchy(frames, settings)
    rows = []
    for level in levels:
        ours = tree.project(level)
        theirs = linked_superpixels(frames, [len(np.unique(now)) for now in ours], flows)
        rows.append((score(ours, truth, flows), score(theirs, truth, flows)))
    return rows


def score_sequences(
    root: str | Path,
    *,
    levels: Sequence[int],
    settings: SupervoxelSettings,
    workers: int,
    videos: str | None = None,
    folder: Path | None = None,
) -> list[tuple[Quality, Quality]]:
    """Print the table of supervoxels at some levels against SLIC with as many regions per frame; means over sequences.

    Args:
        root: a DAVIS 2016 folder: JPEGImages/<size>/<video>/*.jpg and Annotations/<size>/<video>/*.png.
        levels: of the supervoxels.
        settings: of the supervoxels.
        workers: sequences at a time.
        videos: names, separated by commas; None = all.
        folder: where the table goes as supervoxels.csv, and per sequence as supervoxels-videos.csv; None = nowhere.

    Returns:
        for each level the scores of supervoxels and of SLIC.

    Raises:
        DataError: the folder is of another layout.
    """
    images, masks = motion_quality._folders(Path(root))
    names = videos.split(",") if videos else sorted(path.name for path in images.iterdir() if path.is_dir())
    jobs = (delayed(_score_sequence)(images / name, masks / name, levels, settings) for name in names)
    scores = Parallel(n_jobs=workers, batch_size=1)(jobs)
    header = ("method", "regions", "accuracy", "over video", "underseg.", "recall", "consistency", "frames alive")
    rows, each, means = [], [], []
    for place, level in enumerate(levels):
        for side, name in enumerate((f"supervoxels, level {level}", "SLIC per frame, linked by flow")):
            for video, found in zip(names, scores, strict=True):
                each.append((video, *_cells(name, found[place][side])))
        means.append(tuple(_mean([found[place][side] for found in scores]) for side in range(2)))
        rows += [_cells(f"supervoxels, level {level}", means[-1][0]), _cells("SLIC per frame, linked", means[-1][1])]
    show(f"{root}: mean of {len(names)} sequences", header, rows, folder, name="supervoxels")
    if folder is not None:
        show("Each sequence", ("video", *header), each, folder, name="supervoxels-videos")
    return means  # type: ignore[return-value]


def _mean(scores: Sequence[Quality]) -> Quality:
    return Quality(*np.nanmean([astuple(one) for one in scores], axis=0).tolist())


def _cells(name: str, quality: Quality) -> tuple[str, ...]:
    values = dict(zip((field.name for field in fields(quality)), astuple(quality), strict=True))
    return (name, *(f"{value:.{1 if key in ('regions', 'duration') else 4}f}" for key, value in values.items()))
