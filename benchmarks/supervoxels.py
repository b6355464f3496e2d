"""Supervoxels: speed, memory, and quality against SLIC: ``OMP_NUM_THREADS=1 python -m benchmarks.supervoxels``.

Without arguments generated frames are timed, about a minute. ``--davis ROOT`` also scores the sequences of a DAVIS 2016
folder against SLIC per frame with as many regions, linked along the flow. Masks score; nothing that segments sees
them. Seconds are CPU seconds of one thread, which other jobs on the machine hardly change. Memory is the peak of a
fresh process that streams generated frames.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.motion import scene
from benchmarks.supervoxel_quality import score_sequences
from benchmarks.video_graph import load_frames
from pseudolabel.supervoxels import SupervoxelSettings, segment_hierarchy, segment_supervoxels, stream_supervoxels
from pseudolabel.types import DataError, UInt8Array
from recipes.tables import show

_PUBLISHED = 3.8
"""Seconds per frame of GBH, 10 levels, 320x240, as its authors report."""

_SIZE = (240, 320)
_LEVELS = 10


def speed(frames: Sequence[UInt8Array], settings: SupervoxelSettings) -> float:
    """Return CPU seconds per frame for the levels 0.._LEVELS of a clip; what compiles is called before."""
    segment_supervoxels([frame[:32, :32] for frame in frames[:3]], level=2, settings=settings)
    start = time.process_time()
    for _ in stream_supervoxels(frames, level=_LEVELS, settings=settings):
        pass
    return (time.process_time() - start) / len(frames)


def show_speed(
    frames: Sequence[UInt8Array], lengths: Sequence[int], settings: SupervoxelSettings, *, folder: Path | None = None
) -> list[float]:
    """Print and return the seconds per frame for the first so many frames of a clip: the same where time is linear."""
    seconds = [speed(frames[:length], settings) for length in lengths]
    rows = [
        (str(length), f"{1000 * each:.0f}", f"{_PUBLISHED / each:.1f}")
        for length, each in zip(lengths, seconds, strict=True)
    ]
    height, width = frames[0].shape[:2]
    title = f"{_LEVELS} levels of {width}x{height} on one core; published at 320x240: {_PUBLISHED} s per frame"
    show(title, ("frames", "ms per frame", "times faster"), rows, folder, name="supervoxels-speed")
    return seconds


def peak_memory(frames: int, settings: SupervoxelSettings) -> float:
    """Return the peak of this process in MiB after a stream of so many generated frames."""
    cv2.setNumThreads(1)
    for _ in stream_supervoxels(scene(frames, height=_SIZE[0], width=_SIZE[1]), level=_LEVELS, settings=settings):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def show_memory(lengths: Sequence[int], settings: SupervoxelSettings, *, folder: Path | None = None) -> list[float]:
    """Print and return the peak memory of a fresh process per length, MiB."""
    context, peaks = multiprocessing.get_context("spawn"), []
    for frames in lengths:
        with context.Pool(1) as pool:
            peaks.append(pool.apply(peak_memory, (frames, settings)))
    rows = [(str(frames), f"{peak:.0f}") for frames, peak in zip(lengths, peaks, strict=True)]
    title = f"Streaming in windows of {settings.window} frames"
    show(title, ("frames", "peak MiB, whole process"), rows, folder, name="supervoxels-memory")
    return peaks


def save_picture(frames: Sequence[UInt8Array], path: Path, settings: SupervoxelSettings, *, level: int) -> None:
    """Write some frames of a clip and their supervoxels, one colour each, as one picture."""
    labels = segment_hierarchy(frames, settings).project(level)
    colours = np.random.default_rng(0).integers(40, 256, (labels.max() + 1, 3), dtype=np.uint8)
    chosen = np.linspace(0, len(frames) - 1, min(4, len(frames))).astype(int)
    rows = [np.concatenate([np.concatenate([frames[t], colours[labels[t]]]) for t in chosen], axis=1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(rows[0], cv2.COLOR_RGB2BGR)):
        raise DataError(f"'{path}' cannot be written. Name a file that ends in .png or .jpg, in a folder of yours.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and run what they ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", help="folder of pictures that are timed, made 320x240; generated when left out")
    parser.add_argument("--lengths", type=int, nargs="*", default=[24, 48, 96], help="frames that are timed")
    parser.add_argument("--memory", type=int, nargs="*", default=[50, 200], help="frames of the memory test")
    parser.add_argument("--davis", help="root of a DAVIS 2016 folder, which is scored")
    parser.add_argument("--videos", help="its sequences, separated by commas; all when left out")
    parser.add_argument("--levels", type=int, nargs="+", default=[4, 10, 14], help="that are scored")
    parser.add_argument("--workers", type=int, default=1, help="sequences that are scored at a time")
    parser.add_argument("--folder", type=Path, help="where the tables go as CSV")
    parser.add_argument("--picture", type=Path, help="where a picture of the timed clip's supervoxels goes")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    settings = SupervoxelSettings()
    try:
        most = max([1, *options.lengths])
        frames = list(scene(most, height=_SIZE[0], width=_SIZE[1]))
        if options.frames is not None:
            frames = [cv2.resize(frame, _SIZE[::-1]) for frame in load_frames(options.frames, most=most)]  # type: ignore[misc]
        lengths = sorted({min(length, len(frames)) for length in options.lengths})
        if lengths:
            show_speed(frames, lengths, settings, folder=options.folder)
        if options.picture is not None:
            save_picture(frames, options.picture, settings, level=_LEVELS)
        if options.memory:
            show_memory(options.memory, settings, folder=options.folder)
        if options.davis is not None:
            score_sequences(
                options.davis,
                levels=options.levels,
                settings=settings,
                workers=options.workers,
                videos=options.videos,
                folder=options.folder,
            )
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
