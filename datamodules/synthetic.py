"""A small actor-action data set that writes itself, in A2D's layout on disk, and is read by the A2D reader.

It poses the real problem in small: see :mod:`datamodules.rendering`. The same options and seed always give the same
videos, whatever the number of workers.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import h5py
import numpy as np
from joblib import Parallel, delayed
from rich.console import Console
from rich.progress import track

from datamodules.a2d import MASK_KEY, A2DSource, a2d_label_space
from datamodules.rendering import render_video
from datamodules.studio.casting import DEFAULT_PAIRS, SPLITS, Options, VideoPlan
from datamodules.video import VideoWriter
from pseudolabel.types import DataError, UInt8Array

FPS = 12.0

_FINGERPRINT = "generator.json"


def generate(
    root: Path | str,
    *,
    train_videos: int,
    test_videos: int,
    frames: int = 24,
    size: Sequence[int] = (96, 128),
    annotated: int = 8,
    pairs: Sequence[str] | None = None,
    seed: int = 0,
    workers: int = 2,
    **difficulty: float,
) -> Path:
    """Write the data set in A2D's layout, unless it is there already.

    The folder's name is a hash of all options but ``workers``. It is written beside its final name and renamed when
    whole, so a half-written one is never read, and several processes may ask for the same one at once.

    Args:
        root: where the folder is made.
        train_videos: videos marked for training (validation is drawn from them by the reader).
        test_videos: videos marked for test.
        frames: frames per video.
        size: (H, W) in pixels, even.
        annotated: frames per video with a true mask, evenly spaced.
        pairs: names such as ``"cat-walking"``, None for :data:`~datamodules.studio.casting.DEFAULT_PAIRS`; ``adult``
            may play too.
        seed: other seeds give other videos.
        workers: processes that render.
        **difficulty: see :class:`datamodules.studio.staging.Difficulty`.

    Returns:
        The folder of ``videoset.csv``.

    Raises:
        DataError: an option is unknown or out of range, or the folder holds something else.
    """
    options = Options.build(train_videos, test_videos, frames, size, annotated, pairs, seed, difficulty)
    final = Path(root) / options.folder
    if not final.exists():
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{options.folder}-", dir=final.parent))
        try:
            _write(partial, options, workers)
            partial.chmod(0o755)
            if not final.exists():
                partial.rename(final)
        except OSError:
            if not final.exists():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    _check(final, options)
    return final


def _check(folder: Path, options: Options) -> None:
    """Raise unless the folder was written whole with these options."""
    try:
        found = json.loads((folder / _FINGERPRINT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if found != options.fingerprint:
        raise DataError(
            f"{folder} holds no synthetic data set of these options: expected {_FINGERPRINT} with "
            f"{options.fingerprint}, got {found}. Delete the folder, and it is written anew."
        )


def _write(folder: Path, options: Options, workers: int) -> None:
    """Render all videos and write the tables."""
    videos = options.videos()
    jobs = Parallel(n_jobs=workers, return_as="generator_unordered")(
        delayed(_write_video)(folder, video, options) for video in videos
    )
    for _ in track(jobs, "Writing synthetic videos", total=len(videos), console=Console(stderr=True)):
        pass
    height, width = options.size
    space = a2d_label_space()
    seconds = int(np.ceil(options.frames / FPS))
    until = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    with (folder / "videoset.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        for video in videos:
            lead = space.raw_ids[space.index(video.tags[0])]
            usage = SPLITS.index(video.split)
            rows.writerow(
                [video.name, lead, "00:00:00", until, height, width, options.frames, options.annotated, usage]
            )
    with (folder / "tags.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["video", "class", "action"])
        rows.writerows([video.name, tag.actor, tag.action] for video in videos for tag in video.tags)
    (folder / _FINGERPRINT).write_text(json.dumps(options.fingerprint, indent=2) + "\n", encoding="utf-8")


def _write_video(folder: Path, video: VideoPlan, options: Options) -> None:
    """Render one video, and write its clip and its masks."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the workers are the parallelism
    try:
        space = a2d_label_space()
        rendered = render_video(
            [options.seed, SPLITS.index(video.split), video.number],
            video.tags,
            [space.raw_ids[space.index(tag)] for tag in video.tags],
            frames=options.frames,
            size=options.size,
            annotated=options.annotated_frames,
            difficulty=options.difficulty,
        )
    finally:
        cv2.setNumThreads(threads)
    with VideoWriter(folder / "clips320H" / f"{video.name}.mp4", fps=FPS, size=options.size) as clip:
        for frame in rendered.frames:
            clip.write(frame)
    masks = folder / "Annotations" / "mat" / video.name
    masks.mkdir(parents=True)
    for index in options.annotated_frames:
        write_mask(masks / f"{index + 1:05d}.mat", rendered.masks[index])


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
        frames: frames per video.
        size: (H, W) in pixels, even.
        annotated: frames per video with a true mask.
        pairs: names such as ``"cat-walking"``, None for :data:`~datamodules.studio.casting.DEFAULT_PAIRS`.
        seed: seed of the videos.
        split_seed: seed of the draw for validation.
        workers: processes that render.
        **difficulty: see :class:`datamodules.studio.staging.Difficulty`.

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
            seed=seed,
            workers=workers,
            **difficulty,
        )
        super().__init__(folder, val_videos=val_videos, split_seed=split_seed, pairs=pairs)
