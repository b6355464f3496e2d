"""Label prediction: the latent segmentation of a tagged shot (Tokmakov et al. 2016, Sec. 3.3; the E-step of `mcnn`).

    E(x) = sum_i psi^m(z_i) + alpha psi^fc(p_i) + sum_(i,j) lambda (1 - Delta) [x_i != x_j] exp(-gamma d^2) / dist

minimised frame by frame by one exact cut (one tag) or by alpha-expansion (several), in turns with the colour mixtures
behind psi^m. Motion segments start the mixtures and are never trusted beyond that, unless ``location`` (ours) is set.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pseudolabel.graphs import Float64Array
from pseudolabel.grid_cut import GridCutter, contrast_grid, switch_off
from pseudolabel.label_settings import LabelPredictionSettings, ScoreTerm
from pseudolabel.shot_colours import LEAST_SHARE, ColourModels, bin_colours, time_weights
from pseudolabel.types import VOID, BoolArray, DataError, FloatArray, UInt8Array

SEGMENT = 0.5
"""A pixel of a higher motion probability belongs to the motion segment."""

__all__ = ["SEGMENT", "LabelPredictionSettings", "motion_band", "predict_labels"]

LEAST_PLACE = 0.01
"""A blurred motion probability is clipped here, and at 1 - this, before its logarithm: a hint, never certain."""

_SCORE_TOLERANCE = 1e-3  # softmax in half precision


def predict_labels(
    frames: UInt8Array,
    scores: FloatArray | None,
    classes: Sequence[int],
    *,
    motion: FloatArray | None,
    valid: BoolArray | None = None,
    settings: LabelPredictionSettings | None = None,
) -> UInt8Array:
    """Label a shot from its colours, its motion segments and the network's scores.

    The mixtures need both a foreground and a background to start from. Where the motion segment (probability > 0.5)
    covers (almost) nothing or everything of the whole shot, psi^m and Delta are left out and the scores decide, by one
    cut, as they do without ``motion`` ("only the network prediction component", Sec. 4.4); without scores, the motion
    segment itself is returned. A frame without a motion segment in a shot that has some is no exception: its mixtures
    come from its neighbours. If an iteration leaves no foreground or no background, this side keeps its mixtures.

    Args:
        frames: uint8 (T, H, W, 3), RGB; sampled from one shot, in order.
        scores: float (T, C, H, W), softmax scores in [0, 1] of the network, class 0 is background; None = motion alone.
        classes: ids of the shot's tags, ascending, in 1..C-1; none = all is background.
        motion: float (T, H, W) in [0, 1], soft motion segmentation; None = scores alone.
        valid: bool (T, H, W), pixels that exist (not padding) and get a label; None = all.
        settings: None = the paper's.

    Returns:
        uint8 (T, H, W), 0, one of ``classes``, or 255 = void where not valid.

    Raises:
        DataError: shapes do not fit, NaN or a value out of its range, neither scores nor motion, or several classes
            without scores (nothing tells them apart).
    """
    settings = settings or LabelPredictionSettings()
    _check_frames(frames)
    tags = _checked_classes(classes, scores)
    inside = np.ones(frames.shape[:3], bool) if valid is None else np.asarray(valid)
    if inside.shape != frames.shape[:3] or inside.dtype != bool:
        raise DataError(
            f"Label prediction: valid must be bool {frames.shape[:3]}, got {inside.dtype} {inside.shape}. "
            "Give one value per pixel of the frames."
        )
    if motion is not None:
        motion = _checked_motion(motion, frames)
    if not len(tags) or not inside.any():
        return _voided(np.zeros(inside.shape, np.uint8), inside)
    if motion is None and scores is None:
        raise DataError("Label prediction: got neither scores nor motion. Give at least one of them.")
    if motion is not None:
        covered = float((motion[inside] > SEGMENT).mean())
        if min(covered, 1 - covered) <= LEAST_SHARE:
            if scores is None:
                return _voided(np.where(motion > SEGMENT, tags[0], 0).astype(np.uint8), inside)
            motion = None
    network = None
    if scores is not None:
        kind = "posterior" if motion is None else settings.scores
        network = _network_costs(_checked_scores(scores, tags, frames), inside, kind, settings)
    if motion is not None and settings.location:
        network = np.zeros((*inside.shape, len(tags) + 1)) if network is None else network
        network[..., 0] += settings.location * _place_odds(motion, inside, settings.location_blur)
    labels = _minimize(frames, network, motion, inside, len(tags) + 1, settings)
    return _voided(np.array([0, *tags], np.uint8)[labels], inside)


def motion_band(segment: BoolArray, width: int) -> BoolArray:
    """Return the band around the boundary of a motion segment (Delta of Eq. 3, SPEC M-e).

    Args:
        segment: bool (H, W).
        width: pixels on each side of the boundary, >= 0; the frame's own border is no boundary.

    Returns:
        bool (H, W): outside pixels within ``width`` of the segment, and inside pixels within ``width`` of the outside.
    """
    if not width:
        return np.zeros(segment.shape, bool)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    mask = segment.astype(np.uint8)
    return np.asarray(cv2.dilate(mask, disc) > cv2.erode(mask, disc))


def _minimize(
    frames: UInt8Array,
    network: Float64Array | None,
    motion: FloatArray | None,
    valid: BoolArray,
    num_labels: int,
    settings: LabelPredictionSettings,
) -> UInt8Array:
    """Return the positions of the labels in [background, *tags], uint8 (T, H, W)."""
    weights = [
        contrast_grid(frame, inside, contrast=settings.contrast, connectivity=settings.connectivity)
        for frame, inside in zip(frames, valid, strict=True)
    ]
    models = None
    if motion is not None:
        bins = bin_colours(frames, valid, width=settings.bin_width)
        share = time_weights(len(frames), kind=settings.time_weight, fade=settings.fade)
        components = (settings.background_components, settings.foreground_components)
        models = ColourModels(
            bins, share, components, settings.em_iters, settings.refit_iters, settings.outliers, settings.seed
        )
        seeds = motion if settings.seeds == "soft" else (motion > SEGMENT).astype(np.float32)
        models.fit(bins.count(seeds, valid))
    costs = [_costs(network, models, t, valid[t], num_labels) for t in range(len(frames))]
    scale = settings.strength * _balance(costs, weights, valid)
    for t, edges in enumerate(weights):
        edges *= scale
        if motion is not None:
            switch_off(edges, motion_band(motion[t] > SEGMENT, settings.band))
    cutter = GridCutter(frames.shape[1], frames.shape[2], num_labels)
    labels = _cut(cutter, costs, weights, None)
    if models is None:
        return labels
    for _ in range(settings.iterations - 1):
        models.fit(bins.count((labels > 0).astype(np.float32), valid))
        before = labels
        costs = [_costs(network, models, t, valid[t], num_labels) for t in range(len(frames))]
        labels = _cut(cutter, costs, weights, before)
        if np.array_equal(before, labels):
            break
    return labels


def _cut(
    cutter: GridCutter, costs: list[Float64Array], weights: list[Float64Array], before: UInt8Array | None
) -> UInt8Array:
    inits = [None] * len(costs) if before is None else [labels.astype(np.int32) for labels in before]
    cuts = [cutter.minimize(unary, edges, init=init) for unary, edges, init in zip(costs, weights, inits, strict=True)]
    return np.stack(cuts).astype(np.uint8)


def _costs(
    network: Float64Array | None, models: ColourModels | None, t: int, valid: BoolArray, num_labels: int
) -> Float64Array:
    """Return the unary term of frame t, float64 (H, W, L), 0 where not valid."""
    unary = np.zeros((*valid.shape, num_labels)) if network is None else network[t].copy()
    if models is not None:
        background, foreground = models.costs(t)
        unary[..., 0] += background - foreground  # what all labels share turns no label
    unary[~valid] = 0.0
    return unary


def _balance(costs: list[Float64Array], weights: list[Float64Array], valid: BoolArray) -> float:
    """Return lambda at strength 1, see :class:`LabelPredictionSettings`."""
    differences = sum(float(np.abs(unary[..., 0] - unary[..., 1:].min(axis=-1)).sum()) for unary in costs)
    total = sum(float(edges.sum()) for edges in weights)
    count = sum(int(np.count_nonzero(edges)) for edges in weights)
    return differences / int(valid.sum()) * count / total if count else 0.0


def _checked_scores(scores: FloatArray, tags: Sequence[int], frames: UInt8Array) -> Float64Array:
    """Return the scores of background and tags, float64 (T, L, H, W)."""
    given = np.asarray(scores)
    if given.ndim != 4 or given.shape[:1] + given.shape[2:] != frames.shape[:3] or given.dtype.kind != "f":
        raise DataError(
            f"Label prediction: scores must be float (T, C, H, W) of frames {frames.shape[:3]}, got {given.dtype} "
            f"{given.shape}. Resize the scores to the frames."
        )
    within = given[:, [0, *tags]].astype(np.float64)
    low, high = float(within.min()), float(within.max())  # NaN passes on
    if not (low >= -_SCORE_TOLERANCE and high <= 1 + _SCORE_TOLERANCE):
        raise DataError(
            f"Label prediction: scores must be softmax scores in [0, 1], got {low}..{high}. Apply the softmax, and "
            "look for NaN in the network's output."
        )
    return np.clip(within, 0.0, 1.0)


def _network_costs(
    within: Float64Array, valid: BoolArray, kind: ScoreTerm, settings: LabelPredictionSettings
) -> Float64Array:
    """Return alpha psi^fc of background and tags, float64 (T, H, W, L)."""
    scores = np.maximum(np.moveaxis(within, 1, -1), settings.least_score)
    if kind == "likelihood":
        scores = scores / scores[valid].mean(axis=0)
    return np.ascontiguousarray(np.log(scores)) * -settings.alpha


def _place_odds(motion: FloatArray, valid: BoolArray, blur: float) -> Float64Array:
    """Return log m / (1 - m) of the motion probability m, blurred over the valid pixels, float64 (T, H, W)."""

    def blurred(planes: FloatArray) -> Float64Array:
        return np.stack([cv2.GaussianBlur(plane, (0, 0), blur) for plane in planes]).astype(np.float64)

    exists = valid.astype(np.float32)
    place = blurred(motion * exists) / np.maximum(blurred(exists), _SCORE_TOLERANCE)
    place = np.clip(place, LEAST_PLACE, 1 - LEAST_PLACE)
    return np.asarray(np.log(place / (1 - place)))


def _check_frames(frames: UInt8Array) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise DataError(
            f"Label prediction: frames must be uint8 (T, H, W, 3) with T >= 1, got {frames.dtype} {frames.shape}."
        )


def _checked_classes(classes: Sequence[int], scores: FloatArray | None) -> list[int]:
    tags = [int(each) for each in classes]
    last = VOID - 1 if scores is None else min(VOID, np.shape(scores)[1]) - 1
    if tags != sorted(set(tags)) or (tags and not 1 <= tags[0] <= tags[-1] <= last):
        raise DataError(
            f"Label prediction: classes must be distinct ids in 1..{last}, ascending and without 0, got {tags}."
        )
    if scores is None and len(tags) > 1:
        raise DataError(
            f"Label prediction: motion alone cannot tell the classes {tags} apart. Give scores, or one class."
        )
    return tags


def _checked_motion(motion: FloatArray, frames: UInt8Array) -> FloatArray:
    soft = np.asarray(motion, np.float32)
    if soft.shape != frames.shape[:3]:
        raise DataError(f"Label prediction: motion must be {frames.shape[:3]}, got {soft.shape}. Resize it.")
    if not (soft.min() >= 0 and soft.max() <= 1):  # false for NaN
        raise DataError(f"Label prediction: motion must be in [0, 1] and not NaN, got {soft.min()}..{soft.max()}.")
    return soft


def _voided(labels: UInt8Array, valid: BoolArray) -> UInt8Array:
    return np.where(valid, labels, np.uint8(VOID))
