"""Videos to shots with soft motion segments: what M-CNN is taught by (Tokmakov et al. 2016, section 4.2)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from datamodules.motion_masks import MotionMasks
from datamodules.progress import follow
from datamodules.records import VideoRecord
from datamodules.shot_store import ShotRecord, ShotStore
from datamodules.transforms import fit_longest_side, resize
from datamodules.video import VideoReader
from modules.distributed import barrier, gather_lists, own_share, rank
from pseudolabel.motion import stream_motion
from pseudolabel.motion_settings import motion_settings
from pseudolabel.shots import Shot, detect_shots, foreground_shares, prune_shots, sample_shot
from pseudolabel.types import BoolArray, DataError, FloatArray
from recipes.quiet import unsaid
from recipes.run_folder import write_json

Found = dict[str, Any]
"""Counts of one video: ``frames``, ``shots``, ``kept``, and ``still``: shots in which nothing moves."""

COUNTS = ("frames", "shots", "kept", "still")

SETTINGS = "settings.json"
"""What the shots of a motion folder depend on, beside the videos; written before the first shot."""


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
        how many frames, shots, kept shots and shots without motion the video has.

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
    counts = {"frames": 0, "shots": len(found), "kept": 0, "still": 0}

    def segment() -> Iterator[BoolArray]:
        frames_of = (resize(frame, size) for frame in reader)
        for number, shot in enumerate(found):
            frames = list(islice(frames_of, shot.stop - shot.start))
            segments = list(stream_motion(frames, settings=settings))
            counts["frames"] += len(frames)
            counts["still"] += not any(segment.labels.any() for segment in segments)
            for run in prune_shots(foreground_shares(s.labels for s in segments), [(0, len(frames))], **limits):
                chosen = sample_shot(run, count=options["count"])
                soft: FloatArray = np.stack([segments[index].probability for index in chosen])
                shots.write(
                    ShotRecord(record.name, number, shot.start + run.start, shot.start + run.stop, record.tags),
                    np.stack([frames[index] for index in chosen]),
                    chosen.astype(np.int64) + shot.start,
                    soft,
                )
                counts["kept"] += 1
            yield from (segment.labels > 0 for segment in segments)

    with unsaid(stream_motion.__module__):  # of every shot without motion
        masks.write(record.name, segment())
    return counts


def _parts(shot: Shot, longest: int) -> Iterator[Shot]:
    for start in range(shot.start, shot.stop, longest):
        yield Shot(start, min(start + longest, shot.stop))


def check_settings(folder: Path, *, max_side: int | None, options: dict[str, Any], motion: dict[str, Any]) -> None:
    """Refuse a motion folder, perhaps shared by several runs, that was made with other settings.

    Args:
        folder: the motion folder.
        max_side: as in :func:`segment_video`.
        options: as in :func:`segment_video`.
        motion: as in :func:`segment_video`.

    Raises:
        DataError: a setting differs; names it, or the file is damaged.
    """
    file = folder / SETTINGS
    if not file.exists():
        return
    try:
        before = dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{file} is damaged ({error}). Delete the folder {folder} and run again.") from error
    now = _settings(max_side, options, motion)
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if changed:
        shown = "; ".join(f"{key}: {before.get(key)!r} there, {now.get(key)!r} now" for key in changed)
        raise DataError(
            f"{folder} holds shots that were made with other settings ({shown}). Give the same settings, or another "
            "motion_dir."
        )


def _settings(max_side: int | None, options: dict[str, Any], motion: dict[str, Any]) -> dict[str, Any]:
    named = {"data.max_side": max_side}
    named |= {f"shots.{key}": value for key, value in options.items()}
    return named | {f"motion.{key}": value for key, value in motion.items()}


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
        DataError: no shot of any video is left, or the folder was made with other settings.
    """
    check_settings(folder, max_side=max_side, options=options, motion=motion)
    if rank() == 0 and not (folder / SETTINGS).exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SETTINGS, _settings(max_side, options, motion))
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
    bar = follow(jobs, "motion", total=len(missing), least=4)
    failed = gather_lists([(name, found) for name, found in bar if isinstance(found, str)])
    barrier()
    counts = [shots.summary(record.name) for record in records if shots.is_written(record.name)]
    total: Found = {key: sum(count.get(key, 0) for count in counts) for key in COUNTS}
    if not total["kept"]:
        raise DataError(
            f"No shot with usable motion: {total['shots']} shots of {len(counts)} videos were looked at"
            + (f", {len(failed)} videos could not be read (first: {failed[0][0]}: {failed[0][1]})" if failed else "")
            + f". A shot is kept when {options['least_share']:.1%} to {options['most_share']:.0%} of the frame moves "
            f"in at least {options['least_frames']} frames in a row. Use longer videos, or lower shots.least_frames or "
            "shots.least_share."
        )
    return {**total, "skipped": failed}
