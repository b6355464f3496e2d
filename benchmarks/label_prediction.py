"""Label prediction against its plain form: ``OMP_NUM_THREADS=1 python -m benchmarks.label_prediction``, some minutes.

Both minimise the same energy over the same iterations on a generated shot. The plain form fits and evaluates mixtures
pixel by pixel and cuts the whole grid. Prints one table, line by line; times are CPU seconds on one thread, of ours the
best of several turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import set_num_threads
from scipy.ndimage import gaussian_filter

from pseudolabel.appearance import Mixture, fit_mixture
from pseudolabel.grid_cut import GridCutter, contrast_grid, switch_off
from pseudolabel.label_prediction import SEGMENT, LabelPredictionSettings, motion_band, predict_labels
from pseudolabel.shot_colours import time_weights

Array = npt.NDArray[Any]
_NOISE = 1.0


class Shot(NamedTuple):
    """A generated shot: frames (T, H, W, 3), truth (T, H, W) in 0..2, soft motion, scores (T, 3, H, W)."""

    frames: Array
    truth: Array
    motion: Array
    scores: Array


class Row(NamedTuple):
    """A line of the table; IoU is of the foreground with the truth."""

    what: str
    ours: float
    plain: float
    same: float
    iou: float
    plain_iou: float


def generate_shot(*, frames: int = 10, side: int = 224, objects: int = 1, seed: int = 0) -> Shot:
    """Return textured objects that move over a textured ground, motion beside them, and blurred scores."""
    rng = np.random.default_rng(seed)
    size, unit = (frames, side, side), side / 224
    y, x = np.mgrid[:side, :side] / unit
    truth = np.zeros(size, np.uint8)
    moved = np.zeros(size, np.float32)
    for t in range(frames):
        for label in range(1, objects + 1):
            top, left = (80 + 3 * t, 60 + 5 * t) if label == 1 else (150 - 3 * t, 165 - 3 * t)
            angle = np.arctan2(y - top, x - left)
            outline = ((y - top) / 38) ** 2 + ((x - left) / 48) ** 2 < 1 + 0.3 * np.sin(5 * angle + label)
            truth[t, outline] = label
            moved[t, ((y - top + 10) / 42) ** 2 + ((x - left - 20) / 45) ** 2 < 1] = 1
    light = [(105, 120, 95), (165, 115, 80), (150, 130, 100)]
    cloth = [texture(rng, side, light[label], coarse=(4 - label) * unit) for label in range(objects + 1)]
    pictures = np.empty((*size, 3))
    for t in range(frames):
        for label in range(objects + 1):
            ground = np.roll(cloth[label], 3 * t if label else t, axis=1)
            pictures[t][truth[t] == label] = ground[truth[t] == label]
    pictures += rng.normal(0, 4, pictures.shape)
    blur = 12 * unit
    likely = np.stack([gaussian_filter((truth == label).astype(np.float32), (0, blur, blur)) for label in range(3)], 1)
    likely = 0.7 * likely + 0.1
    motion = np.clip(gaussian_filter(moved, (0, 3 * unit, 3 * unit)), 0, 1)
    scores = (likely / likely.sum(axis=1, keepdims=True)).astype(np.float32)
    return Shot(np.clip(pictures, 0, 255).astype(np.uint8), truth, motion.astype(np.float32), scores)


def texture(rng: np.random.Generator, side: int, colour: Sequence[float], *, coarse: float) -> Array:
    """Return a picture (H, W, 3) of coarse blotches of light, a little colour, and fine grain."""
    shade, tint, grain = (
        gaussian_filter(rng.normal(size=(side, side, channels)), (sigma, sigma, 0))
        for channels, sigma in ((1, coarse), (3, coarse), (1, 0.8))
    )
    return np.asarray(colour) + 28 * shade / shade.std() + 8 * tint / tint.std() + 10 * grain / grain.std()


def predict_plainly(shot: Shot, classes: Sequence[int], settings: LabelPredictionSettings) -> Array:
    """Return labels (T, H, W) like ``predict_labels``, every pixel a point of its own and every pixel in the cut."""
    frames, motion = shot.frames, shot.motion
    count, height, width = motion.shape
    pixels = frames.reshape(-1, 3)
    away = time_weights(count, kind=settings.time_weight, fade=settings.fade)
    components = (settings.background_components, settings.foreground_components)
    network = -settings.alpha * np.log(np.clip(shot.scores[:, [0, *classes]], settings.least_score, 1))
    network = np.moveaxis(network, 1, -1).astype(np.float64)
    weights = [contrast_grid(frame, np.ones((height, width), bool)) for frame in frames]
    cutter = GridCutter(height, width, len(classes) + 1, reduce=False)
    mixtures: dict[tuple[int, int], Mixture] = {}
    foreground, labels = motion.astype(np.float64), None
    for iteration in range(settings.iterations):
        for side, share in enumerate((1 - foreground, foreground)):
            start = None
            if iteration == 0:
                start = fit_mixture(
                    pixels,
                    weights=share.ravel(),
                    components=components[side],
                    em_iters=settings.em_iters,
                    regularisation=_NOISE,
                    seed=settings.seed,
                )
            for t in range(count):
                mixtures[t, side] = fit_mixture(
                    pixels,
                    weights=(share * away[t, :, None, None]).ravel(),
                    em_iters=settings.refit_iters,
                    regularisation=_NOISE,
                    start=mixtures.get((t, side), start),
                )
        costs = network.copy()
        for t in range(count):
            sides = [mixtures[t, side].log_likelihood(frames[t].reshape(-1, 3)) for side in (0, 1)]
            costs[t, ..., 0] += (sides[1] - sides[0]).reshape(height, width)
        if iteration == 0:
            edges = np.concatenate([each[each > 0] for each in weights])
            scale = np.abs(costs[..., 0] - costs[..., 1:].min(axis=-1)).mean() / edges.mean()
            for t, each in enumerate(weights):
                each *= settings.strength * scale
                switch_off(each, motion_band(motion[t] > SEGMENT, settings.band))
        inits = [None] * count if labels is None else list(labels)
        labels = np.stack([cutter.minimize(costs[t], weights[t], init=inits[t]) for t in range(count)])
        foreground = (labels > 0).astype(np.float64)
    return np.array([0, *classes], np.uint8)[labels]


def iou(labels: Array, truth: Array) -> float:
    """Return the IoU of the foreground."""
    return float(((labels > 0) & (truth > 0)).sum() / ((labels > 0) | (truth > 0)).sum())


def benchmark(
    *, frames: int = 10, side: int = 224, iterations: Sequence[int] = (1, 2, 3, 4, 5), repeats: int = 3
) -> Iterator[Row]:
    """Race both forms, line by line; the first call of ours compiles and is not timed. The plain form runs once."""
    set_num_threads(1)
    for tags in (1, 2):
        shot = generate_shot(frames=frames, side=side, objects=tags)
        classes = list(range(1, tags + 1))
        predict_labels(shot.frames[:2], shot.scores[:2], classes, motion=shot.motion[:2])
        for steps in iterations:
            settings = LabelPredictionSettings(iterations=steps)
            best = float("inf")
            for _ in range(repeats):
                start = time.process_time()
                ours = predict_labels(shot.frames, shot.scores, classes, motion=shot.motion, settings=settings)
                best = min(best, time.process_time() - start)
            start = time.process_time()
            plain = predict_plainly(shot, classes, settings)
            spent = time.process_time() - start
            same = float((ours == plain).mean())
            what = f"{tags} tag{'s' * (tags > 1)}, {steps} iteration{'s' * (steps > 1)}"
            yield Row(what, best, spent, same, iou(ours, shot.truth), iou(plain, shot.truth))


def show(rows: Iterable[Row]) -> None:
    """Print the table as its lines come."""
    print(f"{'what':22} {'ours s':>8} {'plain s':>8} {'ratio':>7} {'same':>7} {'IoU':>6} {'plain':>6}", flush=True)
    for row in rows:
        times = f"{row.what:22} {row.ours:8.2f} {row.plain:8.2f} {row.plain / row.ours:7.1f}"
        print(f"{times} {row.same:7.2%} {row.iou:6.3f} {row.plain_iou:6.3f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Label prediction against its plain form, as ratios.")
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--iterations", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    show(benchmark(**vars(arguments)))
