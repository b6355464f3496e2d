"""A small actor-action data set that writes itself, in A2D's layout on disk, and is read by the A2D reader.

It poses the real problem in small: see :mod:`datamodules.rendering`. The same options and seed always give the same
videos, whatever the number of workers.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import h5py
import numpy as np
from joblib import Parallel, delayed

from datamodules.a2d import MASK_KEY, A2DSource, a2d_label_space
from datamodules.progress import follow
from datamodules.rendering import render_video
from datamodules.studio.casting import DEFAULT_PAIRS, SPLITS, Options, VideoPlan
from datamodules.studio.folders import write_once
from datamodules.video import VideoWriter
from pseudolabel.types import UInt8Array

FPS = 12.0


def generate(
    root: Path | str,
    *,
    train_videos: int,
    test_videos: int,
    frames: int = 24,
    size: Sequence[int] = (96, 128),
    annotated: int = 8,
    pairs: Sequence[str] | None = None,
    shots: int = 1,
    idle: float = 0.0,
    irrelevant: float = 0.0,
    seed: int = 0,
    workers: int = 2,
    **difficulty: float,
) -> Path:
    """Write the data set in A2D's layout, unless it is there already.

    The folder's name is a hash of all options but ``workers``; see :func:`datamodules.studio.folders.write_once`.
    A video of several shots, joined by hard cuts, shows the same tags before other scenery, cameras and light; the
    first one is that of the video of one shot, unless it is idle or irrelevant.

    Args:
        root: where the folder is made.
        train_videos: videos marked for training (validation is drawn from them by the reader).
        test_videos: videos marked for test.
        frames: frames per shot.
        size: (H, W) in pixels, even.
        annotated: frames per shot with a true mask, evenly spaced.
        pairs: names such as ``"cat-walking"``, None for :data:`~datamodules.studio.casting.DEFAULT_PAIRS`; ``adult``
            may play too.
        shots: shots per video.
        idle: share of the shots whose actors stand still, in a pose of their action, before a still camera.
        irrelevant: share of the shots that show no actor, only scenery and moving distractors; never all of a video.
        seed: other seeds give other videos.
        workers: processes that render.
        **difficulty: see :class:`datamodules.studio.difficulty.Difficulty`.

    Returns:
        The folder of ``videoset.csv``.

    Raises:
        DataError: an option is unknown or out of range, or the folder holds something else.
    """
    options = Options.build(
        train_videos,
        test_videos,
        frames,
        size,
        annotated,
        pairs,
        seed,
        difficulty,
        shots=shots,
        idle=idle,
        irrelevant=irrelevant,
    )
    return write_once(
        root, options.fingerprint, lambda folder: _write(folder, options, workers), what="synthetic data set"
    )


def _write(folder: Path, options: Options, workers: int) -> None:
    """Render all videos and write the tables."""
    videos = options.videos()
    jobs = Parallel(n_jobs=workers, return_as="generator_unordered")(
        delayed(_write_video)(folder, video, options) for video in videos
    )
    for _ in follow(jobs, "writing synthetic videos", total=len(videos)):
        pass
    height, width = options.size
    space = a2d_label_space()
    frames, annotated = (options.shots * per_shot for per_shot in (options.frames, options.annotated))
    seconds = int(np.ceil(frames / FPS))
    until = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    with (folder / "videoset.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        for video in videos:
            lead = space.raw_ids[space.index(video.tags[0])]
            usage = SPLITS.index(video.split)
            rows.writerow([video.name, lead, "00:00:00", until, height, width, frames, annotated, usage])
    with (folder / "tags.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["video", "class", "action"])
        rows.writerows([video.name, tag.actor, tag.action] for video in videos for tag in video.tags)


def _write_video(folder: Path, video: VideoPlan, options: Options) -> None:
    """Render one video shot by shot, and write its clip and its masks."""
    space = a2d_label_space()
    masks = folder / "Annotations" / "mat" / video.name
    masks.mkdir(parents=True)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the workers are the parallelism
    try:
        with VideoWriter(folder / "clips320H" / f"{video.name}.mp4", fps=FPS, size=options.size) as clip:
            for shot, kind in enumerate(video.shots):
                tags = () if kind == "irrelevant" else video.tags
                rendered = render_video(
                    [options.seed, SPLITS.index(video.split), video.number, *((0, shot) if shot else ())],
                    tags,
                    [space.raw_ids[space.index(tag)] for tag in tags],
                    frames=options.frames,
                    size=options.size,
                    annotated=options.annotated_frames,
                    difficulty=options.difficulty,
                    idle=kind == "idle",
                )
                for frame in rendered.frames:
                    clip.write(frame)
                for index in options.annotated_frames:
                    number = shot * options.frames + index + 1
                    write_mask(masks / f"{number:05d}.mat", rendered.masks[index])
    finally:
        cv2.setNumThreads(threads)


def write_mask(path: Path, mask: UInt8Array) -> None:
    """Write raw ids, uint8 (H, W), as MATLAB v7.3 does: HDF5 behind a header of 512 bytes, column by column."""
    with h5py.File(path, "w", userblock_size=512) as content:
        data = content.create_dataset(MASK_KEY, data=np.ascontiguousarray(mask.T))
        data.attrs["MATLAB_class"] = np.bytes_("uint8")
    text = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Thu Jan 01 00:00:00 1970 HDF5 schema 1.00 ."
    with path.open("r+b") as stream:
        stream.write(text.ljust(116) + bytes(8) + (0x0200).to_bytes(2, "little") + b"IM")


class SyntheticSource(A2DSource):
    """The embedded data set: written on first use, then read as A2D.

    Args:
        root: where the folder of these options is, or is made.
        train_videos: videos for training and validation.
        test_videos: videos for test.
        val_videos: how many of the training videos validate.
        frames: frames per shot.
        size: (H, W) in pixels, even.
        annotated: frames per shot with a true mask.
        pairs: names such as ``"cat-walking"``, None for :data:`~datamodules.studio.casting.DEFAULT_PAIRS`.
        actions: whether classes are actor-action pairs; else they are the actors of ``pairs``. The files stay the same.
        shots: shots per video, with the same tags.
        idle: share of the shots whose actors stand still before a still camera.
        irrelevant: share of the shots that show no actor; never all of a video.
        seed: seed of the videos.
        split_seed: seed of the draw for validation.
        workers: processes that render.
        **difficulty: see :class:`datamodules.studio.difficulty.Difficulty`.

    Raises:
        DataError: an option is unknown or out of range, or the folder holds something else.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        train_videos: int = 204,
        test_videos: int = 68,
        val_videos: int = 34,
        frames: int = 24,
        size: Sequence[int] = (96, 128),
        annotated: int = 8,
        pairs: Sequence[str] | None = None,
        actions: bool = True,
        shots: int = 1,
        idle: float = 0.0,
        irrelevant: float = 0.0,
        seed: int = 0,
        split_seed: int = 0,
        workers: int = 2,
        **difficulty: float,
    ) -> None:
        pairs = DEFAULT_PAIRS if pairs is None else tuple(pairs)
        folder = generate(
            root,
            train_videos=train_videos,
            test_videos=test_videos,
            frames=frames,
            size=size,
            annotated=annotated,
            pairs=pairs,
            shots=shots,
            idle=idle,
            irrelevant=irrelevant,
            seed=seed,
            workers=workers,
            **difficulty,
        )
        super().__init__(folder, val_videos=val_videos, split_seed=split_seed, pairs=pairs, actions=actions)
