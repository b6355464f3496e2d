"""Stages of recipe human that look at videos: supervoxels and key frames, then detections and contexts.

Liang et al. 2017, Sec. 3.2. What is found does not change from round to round, so it is made once per video.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from datamodules.key_frame_store import KeyFrames, KeyFrameStore, MapSpool, thin_out
from datamodules.progress import follow
from datamodules.records import VideoRecord
from datamodules.transforms import fit_longest_side, resize
from datamodules.video import VideoReader
from modules.distributed import barrier, gather_lists, own_share, rank
from pseudolabel.bags_of_words import BagOfWordsSettings
from pseudolabel.detect import Detector
from pseudolabel.detect_boxes import Boxes, scale_of
from pseudolabel.palette import write_atomically
from pseudolabel.proposal_files import read_proposals
from pseudolabel.proposals import Proposals, ProposalSettings, propose_regions
from pseudolabel.shots import Shot, detect_shots
from pseudolabel.supervoxel_shots import find_shots_and_key_frames
from pseudolabel.supervoxels import FramePair, SupervoxelSettings, stream_pairs
from pseudolabel.types import DataError, UInt8Array
from pseudolabel.video_context import build_context
from recipes.context_store import ContextStore
from recipes.human_detectors import TableDetector
from recipes.quiet import unsaid
from recipes.workspace import Workspace

SHOWN_NAMES = 20
"""Videos without a detection that are named."""

FRAMES_TABLE = "frames.csv"
"""In the folder of the key frames: ``video,frame`` of each, for whoever writes a table of boxes."""


def find_key_frames(
    records: Sequence[VideoRecord],
    store: KeyFrameStore,
    *,
    max_side: int | None,
    level: int,
    supervoxels: SupervoxelSettings,
    cut_share: float,
    key_changes: int,
    most: int | None,
    split_at_cuts: bool,
    workers: int,
) -> dict[str, Any]:
    """Segment videos into supervoxels, cut them into shots and store the key frames; finished videos are passed over.

    Args:
        records: the videos.
        store: of the key frames.
        max_side: longer side of the frames that are looked at, in pixels; None = as decoded.
        level: of the supervoxels' tree.
        supervoxels: their settings.
        cut_share: see :func:`pseudolabel.supervoxel_shots.find_shots_and_key_frames`.
        key_changes: see there.
        most: key frames per shot at most, evenly spread over the candidates; None = all of them, the paper.
        split_at_cuts: no supervoxel reaches over a hard cut, which is looked for by colours first (ours).
        workers: processes per rank.

    Returns:
        ``frames``, ``shots`` and ``key_frames`` over all videos, and ``skipped``: (video, reason).

    Raises:
        DataError: no video could be used.
    """

    def attempt(record: VideoRecord) -> tuple[str, str | None]:
        try:
            key_frames, counts = _segment(record)
        except (DataError, OSError) as error:
            return record.name, str(error)
        store.write(record.name, key_frames, **counts)
        return record.name, None

    def _segment(record: VideoRecord) -> tuple[KeyFrames, dict[str, int]]:
        reader = VideoReader(record.path)
        size = fit_longest_side(reader.size, max_side)
        cuts = detect_shots(resize(frame, size) for frame in reader) if split_at_cuts else None
        pairs = _supervoxel_pairs((resize(frame, size) for frame in reader), cuts, level=level, settings=supervoxels)
        with MapSpool() as spool:
            kept = (pair for pair in pairs if spool.keep(pair.labels))
            shots = find_shots_and_key_frames(kept, cut_share=cut_share, key_changes=key_changes)
            if not shots:
                raise DataError(f"{record.path} has no frame.")
            chosen = [thin_out(shot.key_frames, most) for shot in shots]
            found = KeyFrames(
                np.array([frame for frames in chosen for frame in frames], np.int64),
                np.repeat(np.arange(len(shots), dtype=np.int32), [len(frames) for frames in chosen]),
                np.stack([spool.read(frame) for frames in chosen for frame in frames]),
            )
        return found, {"frames": shots[-1].stop, "key_frames": len(found.indices), "num_shots": len(shots)}

    missing = [record for record in own_share(records) if not store.is_written(record.name)]
    jobs = Parallel(n_jobs=workers, return_as="generator_unordered")(delayed(attempt)(record) for record in missing)
    bar = follow(jobs, "supervoxels", total=len(missing), least=4)
    failed = gather_lists([(name, reason) for name, reason in bar if reason is not None])
    barrier()
    notes = {record.name: store.note(record.name) for record in records if store.is_written(record.name)}
    if not notes:
        first = f" First: {failed[0][0]}: {failed[0][1]}" if failed else ""
        raise DataError(f"None of {len(records)} videos of the target can be segmented.{first}")
    if rank() == 0:
        text = StringIO()
        rows = ((name, frame) for name, note in notes.items() for frame in note["indices"])
        csv.writer(text, lineterminator="\n").writerows([("video", "frame"), *rows])
        write_atomically(store.folder / FRAMES_TABLE, text.getvalue().encode())
    total = {name: sum(note[name] for note in notes.values()) for name in ("frames", "num_shots", "key_frames")}
    return {"videos": len(notes), **total, "skipped": failed}


def _supervoxel_pairs(
    frames: Iterator[UInt8Array], cuts: Sequence[Shot] | None, *, level: int, settings: SupervoxelSettings
) -> Iterator[FramePair]:
    """Yield the supervoxels of every frame and the one before; each part of a video has numbers of its own."""
    if cuts is None:
        yield from stream_pairs(frames, level=level, settings=settings)
        return
    free, last = 0, None
    for shot in cuts:
        first = np.int32(free)
        for pair in stream_pairs(islice(frames, shot.stop - shot.start), level=level, settings=settings):
            labels = pair.labels + first
            before = last if pair.before is None else np.where(pair.before < 0, pair.before, pair.before + first)
            yield FramePair(labels, before)
            free, last = max(free, int(labels.max()) + 1), labels


def make_contexts(
    workspace: Workspace,
    key_frames: KeyFrameStore,
    contexts: ContextStore,
    detector: Detector,
    *,
    proposals: ProposalSettings,
    proposals_dir: Path | None,
    words: BagOfWordsSettings,
    workers: int,
    needed: bool = True,
) -> dict[str, Any]:
    """Detect the target in the frames of all videos, and build the contexts of those that carry the tag.

    Args:
        workspace: the data; a video's frames are its key frames.
        key_frames: their shots and supervoxels.
        contexts: gets the contexts.
        detector: of the target.
        proposals: settings of the region tree.
        proposals_dir: ``<video>/<frame>.npz`` there, or folders of masks ``<video>/<frame>/``, instead of the tree's.
        words: settings of the bags of words.
        workers: threads of each rank that build contexts.
        needed: that nothing is detected anywhere is an error.

    Returns:
        counts, and ``skipped``: (video, reason).

    Raises:
        DataError: nothing was detected in any video that carries the tag.
    """
    contexts.folder.mkdir(parents=True, exist_ok=True)
    own = [name for name in own_share(workspace.annotated) if not contexts.is_written(name)]

    undetected: list[tuple[str, str]] = []

    def work() -> Iterator[Any]:
        for name in follow(own, "detections", least=4):
            try:
                clip = workspace.clip(name)
                boxes = detector(clip.frames, video=name, indices=clip.indices)
            except (DataError, OSError) as error:
                undetected.append((name, str(error)))
                continue
            yield delayed(build)(name, clip.frames, clip.indices, boxes, bool(clip.tags))

    def build(
        name: str, frames: UInt8Array, indices: np.ndarray, boxes: list[Boxes], shown: bool
    ) -> tuple[str, str] | None:
        try:
            if shown:
                found = key_frames.read(name)
                pools = [
                    propose_regions(frame, proposals)
                    if proposals_dir is None
                    else _read_pool(proposals_dir, name, int(index), (frame.shape[0], frame.shape[1]))
                    for frame, index in zip(frames, indices, strict=True)
                ]
                build_context(frames, found.supervoxels, indices, found.shots, pools, boxes, settings=words).save(
                    contexts.path(name)
                )
            contexts.write_detections(name, indices.tolist(), boxes)
        except DataError as error:
            return name, str(error)
        return None

    pool = Parallel(n_jobs=workers, prefer="threads", return_as="generator_unordered", pre_dispatch="n_jobs + 1")
    told = nullcontext() if isinstance(detector, TableDetector) else unsaid(Boxes.__module__)
    with told:  # a detector is often wrong, and every video without a box would be named
        failures = [failure for failure in pool(work()) if failure is not None]
    failed = gather_lists(failures + undetected)
    barrier()
    written = [name for name in workspace.annotated if contexts.is_written(name)]
    counts = {"videos": len(written), "frames": 0, "frames_with_boxes": 0, "boxes": 0}
    without: list[str] = []
    for name in written:
        boxes = contexts.detections(name).values()
        hits = sum(len(one) > 0 for one in boxes)
        counts["frames"] += len(boxes)
        counts["frames_with_boxes"] += hits
        counts["boxes"] += sum(map(len, boxes))
        if workspace.by_name[name].tags and not hits:
            without.append(name)
    shown_videos = [name for name in written if workspace.by_name[name].tags]
    counts["videos_without_boxes"] = len(without)
    if rank() == 0:
        for name, reason in failed:
            workspace.list_skipped(name, reason)
    if len(without) == len(shown_videos) and needed:
        barrier()
        if rank() == 0:
            for name in written:  # the same run may go on once the table is mended
                contexts.forget(name)
        barrier()
        lost = [pair for pair in failed if workspace.by_name[pair[0]].tags]
        if lost and not shown_videos:
            raise DataError(f"None of the videos of the target can be used; the first, {lost[0][0]}: {lost[0][1]}")
        cure = "Lower detector.threshold, or take another detector.name, under another name=."
        if isinstance(detector, TableDetector):
            frames = key_frames.folder / FRAMES_TABLE
            cure = (
                f"Mend {detector.path} (warnings above; the frames that are looked at are in {frames}) and run again, "
                "or lower detector.threshold under another name=."
            )
        first = f" {len(lost)} others failed, the first, {lost[0][0]}: {lost[0][1]}" if lost else ""
        raise DataError(
            f"The detector found nothing in any of {len(shown_videos)} videos of the target; nothing can be learned. "
            f"{cure}{first}"
        )
    if rank() == 0:
        scales = {}
        for name in written:
            record = workspace.by_name[name]
            shape = workspace.cache.frames(record).shape
            scales[name] = scale_of((shape[1], shape[2]), workspace.source.video_size(record))
        contexts.write_table(scales)
        if without:
            names = ", ".join(without[:SHOWN_NAMES]) + (", …" if len(without) > SHOWN_NAMES else "")
            print(f"no detection in {len(without)} of {len(shown_videos)} videos of the target: {names}")
    barrier()
    return {**counts, "skipped": failed}


def _read_pool(folder: Path, video: str, frame: int, size: tuple[int, int]) -> Proposals:
    """Read the proposals of a frame from ``<folder>/<video>/<frame>.npz`` or a folder of masks of that name."""
    stem = folder / video / f"{frame:05d}"
    pool = read_proposals(stem if stem.is_dir() else stem.with_suffix(".npz"))
    if pool.regions.shape != size:
        raise DataError(f"{stem}: proposals are {pool.regions.shape}, but the frame is {size} (height, width).")
    return pool


def shots_by_frame(store: KeyFrameStore, videos: Sequence[str]) -> Mapping[str, Mapping[int, int]]:
    """Return video -> frame -> number of its shot."""
    found = {}
    for video in videos:
        note = store.note(video)
        found[video] = dict(zip(note["indices"], note["shots"], strict=True))
    return found
