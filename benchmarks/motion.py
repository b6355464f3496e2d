"""Motion segmentation: speed against peers, and quality on real videos.

``OMP_NUM_THREADS=1 python -m benchmarks.motion``                       speed, on generated frames, some minutes
``python -m benchmarks.motion data=<root> [workers=2] [preset=...]``    mean J over the sequences of a DAVIS folder
``python -m benchmarks.motion golden=<root>``                           agreement with the original program

Further ``key=value`` change single settings, such as ``camera=none``; ``videos=a,b`` picks sequences. Masks score;
nothing that segments sees them. Seconds are CPU seconds of one thread, which other jobs on the machine hardly change.
"""

from __future__ import annotations

import ast
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from benchmarks.motion_quality import score_davis, score_golden
from pseudolabel.flow import FlowSettings, flow_with
from pseudolabel.inside_outside import ray_votes
from pseudolabel.location import propagate
from pseudolabel.motion import segment_motion, stream_motion
from pseudolabel.superpixels import adjacency, region_means, segment_superpixels, temporal_links
from pseudolabel.types import DataError
from recipes.tables import show

Array = npt.NDArray[Any]
_SIZE = (240, 427)


def scene(frames: int, *, height: int = _SIZE[0], width: int = _SIZE[1], seed: int = 0) -> Iterator[Array]:
    """Yield frames uint8 (H, W, 3): a textured ellipse that wanders over a panned, textured background."""
    rng = np.random.default_rng(seed)
    margin = 64

    def texture(rows: int, columns: int, colour: tuple[int, int, int]) -> Array:
        noise = cv2.GaussianBlur(rng.normal(0, 1, (rows, columns, 3)), (0, 0), 3.0)
        return np.clip(np.array(colour) + 30 * noise / noise.std(), 0, 255).astype(np.uint8)

    ground = texture(height + 2 * margin, width + 2 * margin, (110, 125, 110))
    skin = texture(height, width, (180, 80, 60))
    y, x = np.mgrid[:height, :width]
    for t in range(frames):
        pan = round(margin + 0.8 * margin * np.sin(t / 25)), round(margin + 0.8 * margin * np.cos(t / 31))
        image = ground[pan[0] : pan[0] + height, pan[1] : pan[1] + width].copy()
        centre = height * (0.5 + 0.2 * np.sin(t / 9)), width * (0.5 + 0.3 * np.sin(t / 14))
        mask = ((y - centre[0]) / (0.2 * height)) ** 2 + ((x - centre[1]) / (0.16 * width)) ** 2 < 1
        image[mask] = np.roll(skin, (round(centre[0]), round(centre[1])), (0, 1))[mask]
        yield image


def plain_votes(walls: Array) -> Array:
    """Inside-outside votes by walking along every ray of every pixel, as one would write it down."""
    height, width = walls.shape
    votes = np.zeros(walls.shape, np.uint8)
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    for y, x in zip(*np.nonzero(~walls), strict=True):
        for dy, dx in steps:
            crossings, j, i = 0, int(y), int(x)
            while 0 <= j + dy < height and 0 <= i + dx < width:
                after = walls[j + dy, i + dx]
                corner = dy and dx and walls[j + dy, i] and walls[j, i + dx]
                crossings += bool(not walls[j, i] and (after or corner))
                j, i = j + dy, i + dx
            votes[y, x] += crossings % 2
    return votes


def _seconds(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.2f}"


def compare_steps(*, repeats: int = 5) -> None:
    """Print the steps of one frame of 427x240 against what people use for them."""
    from skimage.graph import RAG
    from skimage.segmentation import slic

    first, second = list(scene(2))
    labels, following = segment_superpixels(first, n=1500, compactness=30.0), segment_superpixels(second, n=1500)
    flow = flow_with(FlowSettings(), first, second)
    walls = np.zeros((60, 107), bool)  # a sixteenth of the frame: the plain way takes long
    cv2.ellipse(walls.view(np.uint8), (53, 30), (25, 18), 20.0, 10.0, 360.0, 1, 1)
    adjacency(labels), ray_votes(walls), temporal_links(labels, following, flow)
    rows = []

    def compare(name: str, ours: Callable[[], Any], peer: str, theirs: Callable[[], Any], same: str) -> None:
        mine, found = _seconds(ours, repeats)
        other, expected = _seconds(theirs, max(1, repeats // 3))
        agree = {"edges": lambda: {tuple(e) for e in found[0].tolist()} == {tuple(sorted(e)) for e in expected.edges()}}
        agree["array"] = lambda: np.array_equal(found, expected)
        verdict = "-" if not same else "equal" if agree[same]() else "DIFFER"
        rows.append((name, _milliseconds(mine), peer, _milliseconds(other), f"{other / mine:.1f}", verdict))

    compare(
        "superpixels, 1500",
        lambda: segment_superpixels(first, n=1500, compactness=30.0),
        "skimage.slic",
        lambda: slic(first, 1500, compactness=30.0),
        "",
    )
    ximgproc: Any = getattr(cv2, "ximgproc", None)
    if ximgproc is not None:
        compare(
            "superpixels, 1500",
            lambda: segment_superpixels(first, n=1500, compactness=30.0),
            "cv2.ximgproc SLIC",
            lambda: ximgproc.createSuperpixelSLIC(first, region_size=8).iterate(10),
            "",
        )
    else:
        rows.append(("superpixels, 1500", "-", "cv2.ximgproc: not in this build of OpenCV", "-", "-", "-"))
    # A RAG of connectivity 1 has the same 4-neighbours.
    compare("adjacency", lambda: adjacency(labels), "skimage RAG", lambda: RAG(labels, connectivity=1), "edges")
    compare("inside-outside votes, 107x60", lambda: ray_votes(walls), "per pixel", lambda: plain_votes(walls), "array")
    show(
        "One frame of 427x240, milliseconds",
        ("step", "ours", "peer", "theirs", "ratio", "result"),
        rows,
    )
    inside = np.zeros(labels.shape, bool)
    shares = [region_means(labels, inside)[:, 0], region_means(following, inside)[:, 0]]
    links = temporal_links(labels, following, flow)
    alone: list[tuple[str, Callable[[], Any]]] = [
        *((f"DIS flow, {preset}", _flow_of(preset, first, second)) for preset in ("ultrafast", "fast", "medium")),
        ("temporal links", lambda: temporal_links(labels, following, flow)),
        ("mean colours", lambda: region_means(labels, first)),
        ("location, per pair of frames", lambda: propagate(shares, [links], shares)),
    ]
    timed = [(name, _milliseconds(_seconds(work, repeats)[0])) for name, work in alone]
    show("Other steps, milliseconds", ("step", "ours"), timed)


def _flow_of(preset: Any, first: Array, second: Array) -> Callable[[], Any]:
    settings = FlowSettings(preset=preset)
    return lambda: flow_with(settings, first, second)


def _segment(frames: int, height: int, width: int, seed: int, changes: dict[str, Any]) -> float:
    cv2.setNumThreads(1)
    images = list(scene(frames, height=height, width=width, seed=seed))
    start = time.process_time()
    segment_motion(images, **{"max_edge": None, **changes})
    return time.process_time() - start


def whole_pipeline(*, frames: int = 100, changes: dict[str, Any]) -> None:
    """Print frames per second from frames to masks, all steps included, on one worker and on two."""
    rows = []
    for workers in (1, 2):
        with Parallel(n_jobs=workers) as pool:
            pool(delayed(_segment)(4, *_SIZE, seed, changes) for seed in range(workers))  # compile, import
            start = time.perf_counter()
            cpu = pool(delayed(_segment)(frames, *_SIZE, seed, changes) for seed in range(workers))
            wall = time.perf_counter() - start
        total = workers * frames
        rows.append((str(workers), f"{workers * total / sum(cpu):.1f}", f"{total / wall:.1f}"))
    title = f"Frames in, masks out: clips of {frames} frames of 427x240, frames per second"
    show(title, ("workers", "by CPU seconds", "by the clock, other jobs and scene making included"), rows)


def linearity(*, changes: dict[str, Any]) -> None:
    """Print seconds over frames and over pixels, and how well a line through the origin fits."""
    rows = []
    for name, sizes in (
        ("frames", [(25, *_SIZE), (50, *_SIZE), (100, *_SIZE), (200, *_SIZE), (400, *_SIZE)]),
        ("pixels", [(40, 120, 214), (40, 170, 302), (40, 240, 427), (40, 340, 604), (40, 480, 854)]),
    ):
        seconds = []
        for frames, height, width in sizes:
            wanted = round(1500 * height * width / (_SIZE[0] * _SIZE[1]))
            seconds.append(_segment(frames, height, width, 0, {"num_superpixels": wanted, **changes}))
        load = np.array([np.prod(size) / 1e6 for size in sizes])
        slope, power = float(load @ seconds / (load @ load)), np.polyfit(np.log(load), np.log(seconds), 1)[0]
        for size, value, mega in zip(sizes, seconds, load, strict=True):
            label = f"{size[0]} frames of {size[2]}x{size[1]}"
            rows.append((name, label, f"{value:.2f}", f"{slope * mega:.2f}", f"{value / size[0] * 1000:.1f}"))
        rows.append((name, f"exponent {power:.2f} (1 = linear)", "", "", ""))
    show("Time is linear", ("in", "clip", "CPU s", "line", "ms per frame"), rows)


def _peak(frames: int, changes: dict[str, Any]) -> float:
    for _ in stream_motion(scene(frames), **changes):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(*, changes: dict[str, Any]) -> None:
    """Print the peak memory of a fresh process that streams clips of several lengths."""
    context, rows = multiprocessing.get_context("spawn"), []
    for frames in (100, 200, 400, 800):
        with context.Pool(1) as pool:
            rows.append((str(frames), f"{pool.apply(_peak, (frames, changes)):.0f}"))
    show("Peak memory does not grow with the clip", ("frames", "MiB, whole process"), rows)


def _parse(arguments: Sequence[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise DataError(f"'{argument}' is no key=value. Expected for example data=<root> or preset=papazoglou.")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return options


def main(arguments: Sequence[str]) -> int:
    """Read ``key=value`` and run what is asked for."""
    try:
        options = _parse(arguments)
        data, golden = options.pop("data", None), options.pop("golden", None)
        workers, videos = int(options.pop("workers", 1)), options.pop("videos", None)
        if isinstance(options.get("flow_preset"), str):
            options["flow_settings"] = FlowSettings(preset=options.pop("flow_preset"))
        if data is not None:
            score_davis(data, workers=workers, videos=videos, changes=options)
        if golden is not None:
            score_golden(golden, changes=options)
        if data is None and golden is None:
            cv2.setNumThreads(1)
            compare_steps()
            whole_pipeline(changes=options)
            linearity(changes=options)
            memory(changes=options)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
