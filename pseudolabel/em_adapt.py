"""EM-Adapt's E-step: labels with a promised area per tag (Papandreou et al. 2015, Sec. 3.2; SPEC M-g).

The baseline of Tokmakov et al. 2016 (Table 1), and its labels for still images (Sec. 4.4). Every present class gets a
bias such that it wins at least its portion of the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pseudolabel.graphs import Float64Array
from pseudolabel.types import VOID, BoolArray, DataError, FloatArray, UInt8Array

_SCORE_TOLERANCE = 1e-3  # softmax in half precision


def adapt_scores(
    logits: Float64Array,
    classes: Sequence[int],
    *,
    background: float = 0.4,
    foreground: float = 0.2,
    iterations: int = 5,
    margin: float = 1e-5,
    rng: np.random.Generator,
) -> Float64Array:
    """Return the scores of one image with the biases of EM-Adapt.

    (1) Absent classes are shifted, each as a whole, so that none comes within ``margin`` of the least score of a
    present class. (2) ``iterations`` times, for background first and then the present classes in random order: the
    class is raised by what its pixel of rank ``portion * N`` lacks to the best present score there, and by ``margin``,
    so that it wins this pixel too; a class that wins it already stays. (3) All are shifted so that the mean over the
    pixels of the best present score is what it was.

    Args:
        logits: float64 (C, N), finite: logits or logarithms of softmax scores; class 0 is background.
        classes: ids of the present classes, in 1..C-1, ascending.
        background: portion of the pixels promised to background, in [0, 1].
        foreground: portion promised to each present class, in [0, 1].
        iterations: >= 0.
        margin: > 0.
        rng: shuffles the classes.

    Returns:
        float64 (C, N).
    """
    present = [0, *classes]
    adapted = logits.copy()
    absent = np.setdiff1d(np.arange(len(logits)), present)
    if len(absent):
        excess = adapted[absent].max(axis=1) - (adapted[present].min() - margin)
        adapted[absent] -= np.maximum(excess, 0.0)[:, None]
    best = adapted[present].max(axis=0)
    mean, count = best.mean(), len(best)
    for _ in range(iterations):
        for label in (0, *rng.permutation(np.asarray(classes, np.int64))):
            portion = foreground if label else background
            if portion == 0:
                continue
            rank = min(int(portion * count), count - 1)
            lack = np.partition(best - adapted[label], rank)[rank]
            if lack > 0:
                adapted[label] += lack + margin
                best = np.maximum(best, adapted[label])
    return adapted + (mean - best.mean())


def em_adapt_labels(
    scores: FloatArray,
    classes: Sequence[int],
    *,
    background: float = 0.4,
    foreground: float = 0.2,
    iterations: int = 5,
    margin: float = 1e-5,
    least_score: float = 1e-10,
    seed: int = 0,
    valid: BoolArray | None = None,
) -> UInt8Array:
    """Label images by EM-Adapt's E-step; portions count per image.

    The class that is raised last has its portion for certain; raising it may take from the others, which the
    iterations even out as far as the portions leave room (with the defaults: three tags).

    Args:
        scores: float (C, H, W) or (T, C, H, W), softmax scores in [0, 1], class 0 is background.
        classes: ids of the tags, ascending, in 1..C-1; none = all is background.
        background: portion promised to background, in [0, 1]; 0.4 in the authors' program.
        foreground: portion promised to each tag, in [0, 1]; 0.2 in the authors' program.
        iterations: rounds over the classes, >= 0.
        margin: see :func:`adapt_scores`, > 0.
        least_score: scores are clipped here before the logarithm, in (0, 1).
        seed: of the classes' order; an image's labels depend on its place t, not on the other images.
        valid: bool (H, W) or (T, H, W), pixels that count and get a label; None = all.

    Returns:
        uint8 (H, W) or (T, H, W), 0, one of ``classes``, or 255 = void where not valid.

    Raises:
        DataError: shapes do not fit, NaN or a value out of its range.
    """
    given = np.asarray(scores)
    if given.ndim not in (3, 4) or given.dtype.kind != "f" or not given.size:
        raise DataError(
            f"EM-Adapt: scores must be float (C, H, W) or (T, C, H, W), got {given.dtype} {given.shape}. Give softmax "
            "scores."
        )
    if not (given.min() >= -_SCORE_TOLERANCE and given.max() <= 1 + _SCORE_TOLERANCE):  # false for NaN
        raise DataError(f"EM-Adapt: scores must be softmax scores in [0, 1], got {given.min()}..{given.max()}.")
    for name, portion in (("background", background), ("foreground", foreground)):
        if not 0 <= portion <= 1:
            raise DataError(f"EM-Adapt: {name} must be a portion in [0, 1], got {portion}.")
    if iterations < 0 or not margin > 0 or not 0 < least_score < 1:
        raise DataError(
            "EM-Adapt: iterations must be >= 0, margin > 0 and least_score in (0, 1), got "
            f"{iterations}, {margin} and {least_score}."
        )
    tags, many = [int(each) for each in classes], given.ndim == 4
    images = given if many else given[None]
    size = images.shape[2:]
    if tags != sorted(set(tags)) or (tags and not 1 <= tags[0] <= tags[-1] < images.shape[1]):
        raise DataError(
            f"EM-Adapt: classes must be distinct ids in 1..{images.shape[1] - 1}, ascending and without 0, got {tags}."
        )
    inside = np.ones((len(images), *size), bool) if valid is None else np.asarray(valid)
    if valid is not None and not many:
        inside = inside[None]
    if inside.shape != (len(images), *size) or inside.dtype != bool:
        raise DataError(f"EM-Adapt: valid must be bool {(len(images), *size)}, got {inside.dtype} {inside.shape}.")
    labels = np.full((len(images), *size), VOID, np.uint8)
    present = np.array([0, *tags], np.uint8)
    for t, image in enumerate(images):
        logits = np.log(np.clip(image[:, inside[t]], least_score, 1.0)).astype(np.float64)  # (C, H, W) -> (C, N)
        if not logits.size:
            continue
        adapted = adapt_scores(
            logits,
            tags,
            background=background,
            foreground=foreground,
            iterations=iterations,
            margin=margin,
            rng=np.random.default_rng([seed, t]),
        )
        labels[t, inside[t]] = present[adapted[present].argmax(axis=0)]
    return labels if many else labels[0]
