"""Speed and memory of video segmentation: ``OMP_NUM_THREADS=1 python -m benchmarks.video_graph``, about two minutes.

``--frames FOLDER`` takes the pictures of a folder in place of generated ones, their longer edge at most 427 pixels.
Attention is given (a stand-in for class activation maps), so that its network is not timed; everything else is, flow
included. Seconds are CPU seconds of one thread, which other jobs on the machine hardly change. Memory is the peak of a
fresh process that streams generated frames.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.motion import scene
from pseudolabel.flow import flow_with
from pseudolabel.motion_evidence import moving_share, observe, shrink
from pseudolabel.superpixels import segment_superpixels
from pseudolabel.types import DataError
from pseudolabel.video_graph import segment_video, stream_video_segments
from pseudolabel.video_graph_settings import VideoGraphSettings
from pseudolabel.video_graph_terms import attention_share, cut, video_energy
from recipes.tables import show

Array = npt.NDArray[Any]
Result = TypeVar("Result")
_LONGEST = 427


def redness(frames: Iterable[Array]) -> Iterator[Array]:
    """Yield a map (H, W) >= 0 per frame that is high on the generated object, blurred like a class activation map."""
    for frame in frames:
        colours = frame.astype(np.float32)
        yield cv2.GaussianBlur(np.maximum(colours[..., 0] - colours[..., 1], 0), (0, 0), 12.0)


def load_frames(folder: str | Path, *, most: int) -> list[Array]:
    """Return up to ``most`` pictures of a folder in the order of their names, uint8 (H, W, 3), RGB.

    Raises:
        DataError: there are fewer than two pictures, or one cannot be read.
    """
    paths = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:most]
    if len(paths) < 2:
        raise DataError(f"'{folder}' holds {len(paths)} *.jpg or *.png, expected the frames of a video, two or more.")
    frames = []
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"'{path}' cannot be read as an image. Restore it, or take it out of the folder.")
        frames.append(shrink(np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8), _LONGEST))
    return frames


def _timed(work: Callable[[], Result]) -> tuple[float, Result]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def stage_times(
    frames: Sequence[Array], attention: Sequence[Array], settings: VideoGraphSettings
) -> tuple[dict[str, float], float]:
    """Return CPU seconds of every stage for the whole clip, and of :func:`segment_video` as it is called.

    Args:
        frames: uint8 (H, W, 3), at least two.
        attention: float (H, W) each.
        settings: of the segmentation.
    """
    observation = settings.observation()
    segment_video(frames[:2], attention[:2], settings=settings)  # compile
    whole, _ = _timed(lambda: segment_video(frames, attention, settings=settings))
    images = [shrink(frame, settings.max_edge) for frame in frames]
    pairs = [*pairwise(images), (images[-1], images[-2])]  # the last frame looks back
    flow_time, flows = _timed(lambda: [flow_with(settings.flow_settings, *pair) for pair in pairs])
    cells = {"n": settings.num_superpixels, "compactness": settings.compactness}
    cell_time, labels = _timed(lambda: [segment_superpixels(image, **cells) for image in images])  # type: ignore[arg-type]
    motion_time, _ = _timed(
        lambda: [
            moving_share(field, regions, observation, pair)
            for field, regions, pair in zip(flows, labels, pairs, strict=True)
        ]
    )
    observe_time, run = _timed(lambda: list(observe(frames, observation)))
    share_time, shares = _timed(lambda: [attention_share(*pair) for pair in zip(attention, run, strict=True)])
    energy_time, energy = _timed(lambda: video_energy(run, shares, settings))
    cut_time, _ = _timed(lambda: cut(energy, np.zeros(0, bool)))
    stages = {
        "flow": flow_time,
        "superpixels": cell_time,
        "motion (camera, inside-outside)": motion_time,
        "neighbours, links, means": max(0.0, observe_time - flow_time - cell_time - motion_time),
        "attention per superpixel": share_time,
        "graph (Potts weights, colours)": energy_time,
        "cut": cut_time,
    }
    return stages, whole


def peak_memory(frames: int, settings: VideoGraphSettings) -> float:
    """Return the peak of this process in MiB after a stream of so many generated frames."""
    cv2.setNumThreads(1)
    for _ in stream_video_segments(scene(frames), redness(scene(frames)), settings=settings):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def show_speed(frames: Sequence[Array], attention: Sequence[Array], settings: VideoGraphSettings) -> float:
    """Print milliseconds per frame of every stage; return frames per second of the whole."""
    stages, whole = stage_times(frames, attention, settings)
    count = len(frames)
    rows = [(name, f"{1000 * seconds / count:.1f}") for name, seconds in stages.items()]
    rows.append(("all, as segment_video runs it", f"{1000 * whole / count:.1f}"))
    height, width = frames[0].shape[:2]
    rate = count / whole
    show(f"{count} frames of {width}x{height} on one core: {rate:.1f} frames/s", ("stage", "ms per frame"), rows)
    return rate


def show_memory(lengths: Sequence[int], settings: VideoGraphSettings) -> list[float]:
    """Print and return the peak memory of a fresh process per length, MiB."""
    context, peaks = multiprocessing.get_context("spawn"), []
    for frames in lengths:
        with context.Pool(1) as pool:
            peaks.append(pool.apply(peak_memory, (frames, settings)))
    rows = [(str(frames), f"{peak:.0f}") for frames, peak in zip(lengths, peaks, strict=True)]
    show(f"Streaming in windows of {settings.window} frames", ("frames", "peak MiB, whole process"), rows)
    return peaks


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the arguments and run what they ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", help="folder of pictures; generated frames when left out")
    parser.add_argument("--count", type=int, default=100, help="frames that are timed")
    parser.add_argument("--lengths", type=int, nargs="*", default=[150, 600], help="frames of the memory test")
    parser.add_argument("--window", type=int, default=VideoGraphSettings.window)
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    try:
        settings = replace(VideoGraphSettings(), window=options.window)
        if options.frames is None:
            frames = list(scene(options.count))
            attention = list(redness(frames))
        else:
            frames = load_frames(options.frames, most=options.count)
            height, width = frames[0].shape[:2]
            centred = cv2.getGaussianKernel(height, height / 5) @ cv2.getGaussianKernel(width, width / 5).T
            attention = [centred] * len(frames)
        show_speed(frames, attention, settings)
        if options.lengths:
            show_memory(options.lengths, settings)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
