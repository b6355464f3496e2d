"""Videos to shots with soft motion segments: what M-CNN is taught by (Tokmakov et al. 2016, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from rich.progress import track

from datamodules.motion_masks import MotionMasks
from datamodules.records import VideoRecord
from datamodules.shot_store import ShotRecord, ShotStore
from datamodules.transforms import fit_longest_side, resize
from datamodules.video import VideoReader
from modules.distributed import barrier, gather_lists, own_share
from pseudolabel.motion import stream_motion
from pseudolabel.motion_settings import motion_settings
from pseudolabel.shots import Shot, detect_shots, foreground_shares, prune_shots, sample_shot
from pseudolabel.types import DataError, FloatArray, UInt8Array

Found = dict[str, Any]
"""Counts of one video: ``frames``, ``shots``, ``kept``."""


def segment_video(
    record: VideoRecord,
    shots: ShotStore,
    masks: MotionMasks,
    *,
    max_side: int | None,
    options: dict[str, Any],
    motion: dict[str, Any],
) -> Found:
    """Cut a video into shots, segment what moves in each, prune, and store the sampled frames of what is left.

    Args:
        record: the video.
        shots: gets ``options["count"]`` frames of every shot that is kept, with their soft motion segments.
        masks: gets the binary motion segments of all frames.
        max_side: longer side of the frames in pixels; None = as decoded.
        options: ``least_frames``, ``least_share``, ``most_share`` (see :func:`~pseudolabel.shots.prune_shots`),
            ``count``, ``longest`` (a longer shot is taken in parts, so that memory stays flat).
        motion: a ``preset`` of :mod:`pseudolabel.motion_settings` and single changes of it.

    Returns:
        how many frames, shots and kept shots the video has.

    Raises:
        DataError: the video cannot be decoded.
    """
    reader = VideoReader(record.path)
    size = fit_longest_side(reader.size, max_side)
    limits = {name: options[name] for name in ("least_frames", "least_share", "most_share")}
    found = [
        part
        for shot in detect_shots(resize(frame, size) for frame in reader)
        for part in _parts(shot, options["longest"])
    ]
    settings = motion_settings(**motion)
    labels: list[UInt8Array] = []
    kept = 0
    frames_of = (resize(frame, size) for frame in reader)
    for number, shot in enumerate(found):
        frames = list(islice(frames_of, shot.stop - shot.start))
        segments = list(stream_motion(frames, settings=settings))
        labels.extend(segment.labels for segment in segments)
        runs = prune_shots(foreground_shares(s.labels for s in segments), [(0, len(frames))], **limits)
        for run in runs:
            chosen = sample_shot(run, count=options["count"])
            soft: FloatArray = np.stack([segments[index].probability for index in chosen])
            shots.write(
                ShotRecord(record.name, number, shot.start + run.start, shot.start + run.stop, record.tags),
                np.stack([frames[index] for index in chosen]),
                chosen.astype(np.int64) + shot.start,
                soft,
            )
            kept += 1
    masks.write(record.name, np.stack(labels) > 0)
    return {"frames": len(labels), "shots": len(found), "kept": kept}


def _parts(shot: Shot, longest: int) -> Iterator[Shot]:
    for start in range(shot.start, shot.stop, longest):
        yield Shot(start, min(start + longest, shot.stop))


def find_motion_shots(
    records: Sequence[VideoRecord],
    folder: Path,
    *,
    max_side: int | None,
    options: dict[str, Any],
    motion: dict[str, Any],
    workers: int,
) -> Found:
    """Do :func:`segment_video` for all videos on ``workers`` processes of every rank; finished videos are passed over.

    Returns:
        sums over the videos, and ``skipped``: (video, reason) of those that could not be used.

    Raises:
        DataError: no shot of any video is left.
    """
    shots, masks = ShotStore(folder / "shots"), MotionMasks(folder / "masks")

    def attempt(record: VideoRecord) -> tuple[str, Found | str]:
        try:
            found = segment_video(record, shots, masks, max_side=max_side, options=options, motion=motion)
        except (DataError, OSError) as error:
            return record.name, str(error)
        shots.mark_done(record.name, **found)
        return record.name, found

    missing = [record for record in own_share(records) if not shots.is_written(record.name)]
    jobs = Parallel(n_jobs=workers, return_as="generator_unordered")(delayed(attempt)(record) for record in missing)
    bar = track(jobs, description="motion", total=len(missing), disable=len(missing) < 4, transient=True)
    failed = gather_lists([(name, found) for name, found in bar if isinstance(found, str)])
    barrier()
    counts = [shots.summary(record.name) for record in records if shots.is_written(record.name)]
    total: Found = {key: sum(count[key] for count in counts) for key in ("frames", "shots", "kept")}
    if not total["kept"]:
        raise DataError(
            f"No shot with usable motion: {total['shots']} shots of {len(counts)} videos were looked at"
            + (f", {len(failed)} videos could not be read (first: {failed[0][0]}: {failed[0][1]})" if failed else "")
            + f". A shot is kept when {options['least_share']:.1%} to {options['most_share']:.0%} of the frame moves "
            f"in at least {options['least_frames']} frames in a row. Use longer videos, or lower shots.least_frames or "
            "shots.least_share."
        )
    return {**total, "skipped": failed}
