"""From a video to its clips: the gate on key frames, windows around those that pass, each written as its own mp4."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import numpy as np

from datamodules.video import VideoReader, VideoWriter
from datamodules.web.intervals import merge
from datamodules.web.key_frames import key_frames, read_timed_window
from datamodules.web.manifest import Decision
from datamodules.web.settings import RetrieveSettings
from datamodules.web.sources import VideoHit, safe_name
from pseudolabel.shots import find_cuts, frame_changes, shots_between
from pseudolabel.types import DataError, FloatArray, UInt8Array

ClassScorer = Callable[[Sequence[UInt8Array]], FloatArray]
"""Images -> scores (N,) of the one class that was searched."""


Window = tuple[float, float, list[float]]
"""Start and stop in seconds, and the key frames inside."""


def cut_clips(
    name: str, hit: VideoHit, path: Path, score: ClassScorer, folder: Path, settings: RetrieveSettings
) -> list[Decision]:
    """Write the clips of a video and return every decision on the way, in the order of time.

    Memory is flat in the length of the video: of its key frames, ``settings.batch`` are held at a time.

    Args:
        name: the class.
        hit: the video.
        path: its file.
        score: of the class.
        folder: where the clips go: ``<class>.<id>.<start in ms>.mp4``, written safe.
        settings: thresholds and caps.
    """
    stem = f"{safe_name(name)}.{safe_name(hit.id)}"
    for left_over in folder.glob(f"{stem}.*.mp4"):  # of a start that was stopped inside this video
        left_over.unlink()
    times, scores, trouble = _scan(path, score, settings.batch)
    kept, reasons = choose(scores, times, settings)
    only = "; the video has no other key frame" if len(times) == 1 else ""
    decisions = [
        Decision(name, hit.id, hit.title, "key_frame", place in kept, reason + only, seconds, value)
        for place, (seconds, value, reason) in enumerate(zip(times, scores, reasons, strict=True))
    ]
    if trouble:
        decisions.append(Decision(name, hit.id, hit.title, "key_frame", False, trouble, broken=True))
    best = {times[place]: scores[place] for place in kept}
    for start, stop, inside in _windows_of(path, sorted(best), settings):
        centre = max(inside, key=lambda seconds: (best[seconds], -seconds))
        file = f"{stem}.{round(start * 1000):08d}.mp4"
        first, end, note = _write(path, folder / file, start, stop)
        written = end > first
        around = f"around {len(inside)} key frame{'s' if len(inside) > 1 else ''}"
        decisions.append(
            Decision(
                *(name, hit.id, hit.title, "window", written),
                "; ".join(filter(None, (around, note))),
                *(centre, best[centre], file if written else "", first, end),
            )
        )
    return decisions


def choose(scores: Sequence[float], times: Sequence[float], settings: RetrieveSettings) -> tuple[set[int], list[str]]:
    """Choose key frames: those that pass, and of them those of the highest score; of equals, the earliest.

    Returns:
        The places of the chosen, and the reason for each key frame.
    """
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], times[place]))
    passing = [place for place in order if scores[place] > settings.key_frame]
    kept = set(passing[: settings.key_frames_per_video])
    reasons = [f"score not above {settings.key_frame}"] * len(scores)
    for rank, place in enumerate(passing, 1):
        among = f"among the {settings.key_frames_per_video} best of {len(passing)} above {settings.key_frame}"
        reasons[place] = among if rank <= settings.key_frames_per_video else f"not {among}"
    return kept, reasons


def windows(times: Sequence[float], margin: float) -> list[tuple[float, float]]:
    """Return the merged windows of ``margin`` seconds before and after each time, from 0 s on."""
    return merge((max(0.0, seconds - margin), seconds + margin) for seconds in times)


def trim_at_cuts(path: Path, window: Window) -> list[Window]:
    """Split a window at its cuts, and return the parts that hold one of its key frames.

    Where the video is torn, the part before counts.
    """
    start, stop, times = window
    seen: list[float] = []

    def frames() -> Iterator[UInt8Array]:
        with suppress(DataError):  # it is met again, and told, when the clip is written
            for seconds, frame in read_timed_window(path, start, stop):
                seen.append(seconds)
                yield frame

    shots = shots_between(find_cuts(frame_changes(frames())), len(seen))
    if not shots:
        return [window]
    nearest = {seconds: int(np.abs(np.array(seen) - seconds).argmin()) for seconds in times}
    parts = []
    for begin, end in shots:
        inside = [seconds for seconds in times if begin <= nearest[seconds] < end]
        if inside:
            parts.append((seen[begin] if begin else start, seen[end] if end < len(seen) else stop, inside))
    return parts


def _windows_of(path: Path, times: Sequence[float], settings: RetrieveSettings) -> list[Window]:
    """Return the windows around the chosen key frames, as far as the cuts beside these if so set."""
    found = [
        (start, stop, [seconds for seconds in times if start <= seconds <= stop])
        for start, stop in windows(times, settings.margin)
    ]
    return [part for window in found for part in trim_at_cuts(path, window)] if settings.trim_at_cuts else found


def _scan(path: Path, score: ClassScorer, batch: int) -> tuple[list[float], list[float], str]:
    """Score the key frames; return their times, their scores, and what is wrong with the video, ""."""
    times: list[float] = []
    scores: list[float] = []
    images: list[UInt8Array] = []
    trouble = ""
    frames = key_frames(path)
    while True:
        try:
            item = next(frames, None)
        except DataError as error:
            item, trouble = None, str(error)
        if item is not None:
            times.append(item[0])
            images.append(item[1])
        if images and (item is None or len(images) == batch):
            scores += score(images).tolist()
            images = []
        if item is None:
            return times, scores, trouble


def _write(path: Path, target: Path, start: float, stop: float) -> tuple[float, float, str]:
    """Write a window; return where its frames begin and end in the video (0, 0 = nothing was written), and a note."""
    first, last, notes = np.inf, -np.inf, list[str]()
    try:
        reader = VideoReader(path)
        frames = read_timed_window(path, start, stop)
        head = next(frames, None)
        if head is None:
            return 0.0, 0.0, f"no frame between {start:.1f} and {stop:.1f} s"
        with VideoWriter(target, fps=reader.fps, size=reader.size) as writer:
            try:
                for seconds, frame in chain([head], frames):
                    writer.write(frame)
                    first, last = min(first, seconds), max(last, seconds)
            except DataError as error:  # what came before is whole
                notes.append(str(error))
    except DataError as error:
        return 0.0, 0.0, "; ".join([*notes, str(error)])
    return float(first), float(last + 1 / reader.fps), "; ".join(notes)
