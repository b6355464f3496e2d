"""Labelling videos for ``recipe=webly``: relevant intervals, attention, and one cut over space and time for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, tee
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed

from datamodules.progress import follow
from datamodules.records import VideoRecord
from datamodules.shot_store import ShotRecord, ShotStore
from datamodules.transforms import fit_longest_side, resize
from datamodules.video import VideoReader
from modules.encoder2d import Encoder2D
from pseudolabel.attention import normalize
from pseudolabel.relevance import relevant_intervals
from pseudolabel.sampling import sample_uniformly
from pseudolabel.store import PAStore
from pseudolabel.types import Annotation, BoolArray, Clip, DataError, FloatArray, LabelSpace, Tag, UInt8Array
from pseudolabel.video_graph import stream_video_ways
from pseudolabel.video_graph_settings import VideoGraphSettings

Seen = tuple[UInt8Array, FloatArray]
"""A frame uint8 (H, W, 3) and the attention of one class in it, float32 (H, W) in [0, 1]."""

AT_ONCE = 16
"""Frames for which attention is computed together."""


@dataclass(frozen=True)
class LabelOptions:
    """How videos are labelled.

    Attributes:
        encoder: checkpoint of the classifier.
        scales: of the attention; the maximum over them counts (SPEC W7).
        graph: of the segmentation.
        threshold: score from which a frame is relevant, see :func:`relevant_intervals`.
        more_than: frames in a row beyond which they are an interval.
        least_area: share of a frame that its object covers at least to be learned from.
        frames_per_video: frames that are kept for training.
        max_side: longer side of the frames in pixels; None = as decoded.
    """

    encoder: Path
    scales: tuple[float, ...]
    graph: VideoGraphSettings
    threshold: float
    more_than: int
    least_area: float
    frames_per_video: int
    max_side: int | None


def label_videos(
    records: Sequence[VideoRecord],
    space: LabelSpace,
    options: LabelOptions,
    shots: ShotStore,
    versions: PAStore,
    *,
    workers: int,
) -> dict[str, Any]:
    """Label the relevant intervals of videos as PA.v0, each video by itself; a killed job redoes no finished video.

    A video of several tags is looked at once for each, under the name ``<video>-<tag>``.

    Args:
        records: the videos.
        space: the classes.
        options: how.
        shots: gets the sampled frames with their attention, an interval per shot.
        versions: gets their labels.
        workers: processes.

    Returns:
        counts over all videos: ``frames``, ``relevant``, ``intervals``, ``kept`` frames, ``empty`` ones (relevant and
        sampled, but without an object, or with a tiny one), ``failed``: (video, reason) where one is broken, and
        ``unused``: the same where one gave no label.
    """
    jobs = [(record, tag) for record in records for tag in record.tags]
    missing = [job for job in jobs if not shots.is_written(part_name(*job))]
    failed: list[list[str]] = []
    if missing and versions.current() is None:
        versions.begin(0)
        run = Parallel(n_jobs=workers, return_as="generator_unordered")
        done = run(delayed(_label_one)(record, tag, space, options, shots, versions) for record, tag in missing)
        bar = follow(done, "segmenting videos", total=len(missing))
        failed = sorted([name, reason] for name, reason in bar if reason)
    names = [name for name in (part_name(*job) for job in jobs) if shots.is_written(name)]
    counts = [shots.summary(name) for name in names]
    unused = [[name, _why_unused(of, options)] for name, of in zip(names, counts, strict=True) if not of["kept"]]
    totals = {key: sum(of.get(key, 0) for of in counts) for key in ("frames", "relevant", "intervals", "kept", "empty")}
    return {**totals, "videos": len(jobs), "used": len(names) - len(unused), "failed": failed, "unused": unused}


def _why_unused(counts: Mapping[str, float], options: LabelOptions) -> str:
    if not counts["intervals"]:
        return (
            f"no label: no {options.more_than + 1} frames in a row of its {counts['frames']} score "
            f"{options.threshold} (relevance.threshold)"
        )
    return (
        f"no label: attention, or without it motion, shows no object in any sampled one of its {counts['relevant']} "
        "relevant frames"
    )


def part_name(record: VideoRecord, tag: Tag) -> str:
    """Return the name under which a video is labelled with one of its tags."""
    return record.name if len(record.tags) == 1 else f"{record.name}-{tag}"


def attend(frames: Iterable[UInt8Array], encoder: Encoder2D, column: int, *, scales: Sequence[float]) -> Iterator[Seen]:
    """Yield frames (H, W, 3) with the attention of the class ``column`` of the encoder, stretched to [0, 1]."""
    source = iter(frames)
    while part := list(islice(source, AT_ONCE)):
        maps = encoder.attention(np.stack(part), [column], scales=scales, method="cam", reduce="max")[0]
        yield from zip(part, normalize(maps), strict=True)


def segment_by(seen: Iterable[Seen], settings: Mapping[str, VideoGraphSettings]) -> Iterator[dict[str, BoolArray]]:
    """Segment a video in several ways at once, in flat memory: name of the way -> mask (H, W), frame by frame."""
    frames, attention = tee(seen)
    return stream_video_ways((frame for frame, _ in frames), (one for _, one in attention), ways=settings)


@contextmanager
def one_thread() -> Iterator[None]:
    """The workers are the parallelism."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def read_frames(record: VideoRecord, *, max_side: int | None) -> Iterator[UInt8Array]:
    """Yield the frames of a video, its longer side at most ``max_side``; memory is flat in its length."""
    reader = VideoReader(record.path)
    size = fit_longest_side(reader.size, max_side)
    return (resize(frame, size) for frame in reader)


def _label_one(
    record: VideoRecord, tag: Tag, space: LabelSpace, options: LabelOptions, shots: ShotStore, versions: PAStore
) -> tuple[str, str]:
    """Return the name, and why the video could not be used, if it could not."""
    name = part_name(record, tag)
    with one_thread():
        encoder = Encoder2D.load(options.encoder)
        column = encoder.classes.index(str(tag))
        try:
            scores = _score(record, encoder, column, options)
            intervals = relevant_intervals(scores, threshold=options.threshold, more_than=options.more_than)
            parts = list(_segment(record, encoder, column, intervals, options))
        except DataError as error:
            return name, str(error)
    kept, empty = [], 0
    for number, ((start, stop), (frames, indices, attention, masks)) in enumerate(zip(intervals, parts, strict=True)):
        shown = masks.any(axis=(1, 2)) & (masks.mean(axis=(1, 2)) >= options.least_area)
        empty += int((~shown).sum())
        if shown.any():
            shot = ShotRecord(name, number, start, stop, (tag,))
            shots.write(shot, frames[shown], indices[shown], attention[shown])
            kept.append((frames[shown], indices[shown], masks[shown], scores[indices[shown]]))
    if kept:
        frames, indices, masks, quality = (np.concatenate(part) for part in zip(*kept, strict=True))
        labels = masks.astype(np.uint8) * np.uint8(space.index(tag))
        clip = Clip(frames, indices, name, VideoReader(record.path).fps, (tag,))
        versions.write(0, clip, Annotation(labels, quality.astype(np.float32)))
    relevant = sum(stop - start for start, stop in intervals)
    count = sum(len(part[0]) for part in kept)
    shots.mark_done(name, frames=len(scores), relevant=relevant, intervals=len(intervals), kept=count, empty=empty)
    return name, ""


def _score(record: VideoRecord, encoder: Encoder2D, column: int, options: LabelOptions) -> FloatArray:
    frames, scores = read_frames(record, max_side=options.max_side), [np.zeros(0, np.float32)]
    while part := list(islice(frames, AT_ONCE)):
        scores.append(encoder.predict_probabilities(np.stack(part))[:, column])
    return np.concatenate(scores)


def _segment(
    record: VideoRecord,
    encoder: Encoder2D,
    column: int,
    intervals: Sequence[tuple[int, int]],
    options: LabelOptions,
) -> Iterator[tuple[UInt8Array, Any, FloatArray, BoolArray]]:
    """Yield the sampled frames, their numbers, attention and masks of every interval."""
    frames, position = read_frames(record, max_side=options.max_side), 0
    total = sum(stop - start for start, stop in intervals)
    for start, stop in intervals:
        length = stop - start
        share = max(1, round(options.frames_per_video * length / total))
        chosen = set(sample_uniformly(length, share).tolist())
        inside = islice(frames, start - position, stop - position)
        position = stop
        seen, again = tee(attend(inside, encoder, column, scales=options.scales))
        masks = segment_by(seen, {"": options.graph})
        found = [
            (frame, start + t, attention, mask[""])
            for t, ((frame, attention), mask) in enumerate(zip(again, masks, strict=True))
            if t in chosen
        ]
        pixels, indices, attention, segments = zip(*found, strict=True)
        yield np.stack(pixels), np.array(indices), np.stack(attention), np.stack(segments)
