"""Video-context guided inference of masks (Liang et al. 2017, Sec. 3.2, Eq. 2 to 7).

    E(Y) = sum_nodes -log P(y) + sum_edges [y != y'] exp(-beta_p D) + sum_supervoxels robust P^n

Shots share no edge and no supervoxel, so each is solved by itself, by one exact cut.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from pseudolabel.energy import minimize_binary
from pseudolabel.graphs import Cliques, Float64Array, robust_cliques
from pseudolabel.matching import Confidence, match_proposals, painted_scores
from pseudolabel.types import VOID, Annotation, BoolArray, DataError, FloatArray, Int32Array, Scores, UInt8Array
from pseudolabel.video_context import VideoContext

Quality = Literal["probability", "prediction", "overlap"]
"""What the quality of a mask is made of."""

_ROUNDING = 1e-3  # a softmax in half precision may leave [0, 1] by so much


@dataclass(frozen=True)
class VideoContextSettings:
    """Every constant of :func:`infer_masks`.

    Attributes:
        lambda_r: weight of the proposals' mask in P, >= 0 (Eq. 4).
        lambda_e: weight of the network's confidence, >= 0; both sum to at most 1. Without a network P is the
            proposals' share alone (SPEC H-a).
        pairwise: factor on the pairwise term, >= 0; 0 = off (Eq. 6; the paper's is 1). Neighbours of different colour
            still weigh about exp(-1) each: where objects are a few nodes among many, 1 removes them. Lower it then.
        higher: factor on the higher-order term, >= 0; 0 = off (Eq. 7; the paper's is 1).
        q: truncation Q as share of a supervoxel's nodes, in (0, 0.5]; above, the cut would not be exact.
        epsilon: P is kept in [epsilon, 1 - epsilon] before the logarithm, in (0, 0.5) (ours).
        fill: weight in Eq. 3 of the share of its tight box that a proposal fills, >= 0 (ours; 0 is the paper).
        confidence: what Eq. 3 adds of the scores, ``"mean"`` (the paper) or ``"overlap"`` (ours); see
            :func:`pseudolabel.matching.best_proposals`.
        quality: what omega is: the mean over the mask of ``"probability"``, P of Eq. 4, or of ``"prediction"`` (ours),
            what was predicted alone: by the network, and before there is one by the detector, whose scores count within
            the proposals of its boxes. The paper has "the predicted probabilities". P is at least lambda_r all over the
            proposal of a box, so it hardly tells a wrong one. ``"overlap"`` (ours) is the soft Jaccard index of mask
            and prediction (:func:`predicted_overlap`): a mean over the mask alone cannot tell that the mask misses most
            of the object. Predictions are less sure along outlines, so small objects weigh less by it.
        margins: the detector's scores are margins, which the logistic function makes probabilities (SPEC H-g); else
            they must be in [0, 1]. Only ``quality="prediction"`` and ``"overlap"`` look at them.
        void_in_boxes: what a box holds beside the object becomes void in frames that have one (ours): the detector says
            that it may well be object, and a network that is told otherwise finds less of it in every round.
        void_score: boxes up to this score do not make void (ours); None: all do.

    Raises:
        DataError: a value is out of its range.
    """

    lambda_r: float = 0.5
    lambda_e: float = 0.5
    pairwise: float = 1.0
    higher: float = 1.0
    q: float = 0.1
    epsilon: float = 0.01
    fill: float = 0.0
    confidence: Confidence = "mean"
    quality: Quality = "probability"
    margins: bool = False
    void_in_boxes: bool = False
    void_score: float | None = None

    def __post_init__(self) -> None:
        for name in ("lambda_r", "lambda_e", "pairwise", "higher", "fill"):
            if not 0 <= getattr(self, name) < np.inf:
                raise DataError(f"Video context: {name} must be finite and >= 0, got {getattr(self, name)}.")
        if not 0 < self.lambda_r + self.lambda_e <= 1 + 1e-9:
            raise DataError(
                "Video context: lambda_r + lambda_e must be in (0, 1], else P is no probability, got "
                f"{self.lambda_r} + {self.lambda_e}."
            )
        if self.confidence not in ("mean", "overlap"):
            raise DataError(f"Video context: confidence must be 'mean' or 'overlap', got '{self.confidence}'.")
        if self.quality not in get_args(Quality):
            raise DataError(
                f"Video context: quality must be one of {', '.join(get_args(Quality))}, got '{self.quality}'."
            )
        if self.void_score is not None and not isinstance(self.void_score, int | float):
            raise DataError(f"Video context: void_score must be a number or none, got '{self.void_score}'.")
        if not 0 < self.q <= 0.5:
            raise DataError(f"Video context: q must be in (0, 0.5], got {self.q}: above it the cut is not exact.")
        if not 0 < self.epsilon < 0.5:
            raise DataError(f"Video context: epsilon must be in (0, 0.5), got {self.epsilon}.")

    def unary_only(self) -> VideoContextSettings:
        """Return these settings without pairwise and higher-order term: the paper's image-based segmentation."""
        return replace(self, pairwise=0.0, higher=0.0)


@dataclass(frozen=True)
class ShotEnergy:
    """The energy of one shot.

    Attributes:
        nodes: its nodes in the context, a range of n.
        unary: float64 (n, 2), cost of "other" and of "object".
        edges: int32 (e, 2), counted from the shot's first node.
        weights: float64 (e,).
        cliques: with members counted from the shot's first node.
    """

    nodes: slice
    unary: Float64Array
    edges: Int32Array
    weights: Float64Array
    cliques: Cliques

    def minimum(self) -> BoolArray:
        """Return the labels of least energy, bool (n,), True = object."""
        return minimize_binary(self.unary, self.edges, self.weights, cliques=self.cliques).labels.astype(bool)


def proposal_masks(
    context: VideoContext, confidence: FloatArray | None, settings: VideoContextSettings | None = None
) -> BoolArray:
    """Return R_k of every key frame, bool (K, H, W): the best proposals of its boxes (Eq. 3).

    Args:
        context: of the video.
        confidence: float32 (K, H, W), the network's confidence in the object; None = there is no network yet.
        settings: ``fill`` and ``confidence``; the paper's when None.
    """
    settings = settings or VideoContextSettings()
    masks = np.zeros(context.nodes.shape, bool)
    for k, (boxes, pool) in enumerate(zip(context.boxes, context.proposals, strict=True)):
        if len(boxes.scores):
            scores = None if confidence is None else confidence[k]
            masks[k] = match_proposals(boxes, pool, scores, fill=settings.fill, confidence=settings.confidence)
    return masks


def node_probability(
    context: VideoContext, masks: BoolArray, confidence: FloatArray | None, settings: VideoContextSettings
) -> FloatArray:
    """Return P(y = object) of every node (Eq. 4).

    ``lambda_r`` times the share of the node within the proposals' mask plus ``lambda_e`` times its mean confidence;
    without confidence the share alone.

    Args:
        context: of the video.
        masks: bool (K, H, W), R_k.
        confidence: float32 (K, H, W) in [0, 1], or None.
        settings: the weights.

    Returns:
        float32 (N,) in [0, 1].

    Raises:
        DataError: masks or confidence do not fit the context, or confidence is not in [0, 1].
    """
    share = _node_means(context, masks, "masks")
    if confidence is None:
        return share.astype(np.float32)
    wrong = ~((confidence >= -_ROUNDING) & (confidence <= 1 + _ROUNDING))  # NaN as well
    if wrong.any():
        raise DataError(
            f"Video context: {int(wrong.sum())} of the network's scores are NaN or outside of [0, 1], the first in "
            f"frame {int(context.indices[np.argwhere(wrong)[0, 0]])}. Pass the softmax of finite logits."
        )
    mean = _mean_confidence(context, confidence)
    return np.asarray(settings.lambda_r * share + settings.lambda_e * mean, np.float32)


def unary_costs(probability: FloatArray, *, epsilon: float) -> Float64Array:
    """Return -log(1 - P) and -log P, float64 (N, 2), with P (N,) kept in [epsilon, 1 - epsilon] (Eq. 5)."""
    kept = np.clip(np.asarray(probability, np.float64), epsilon, 1 - epsilon)
    return -np.log(np.stack([1 - kept, kept], axis=1))


def pairwise_weights(context: VideoContext, *, strength: float) -> Float64Array:
    """Return ``strength * exp(-beta_p * D)`` of all edges, float64 (E,), beta_p = 1 / mean(D) of the video (Eq. 6)."""
    distances = context.distances.astype(np.float64)
    return strength * np.exp(-_inverse_mean(distances) * distances)


def shot_energies(context: VideoContext, probability: FloatArray, settings: VideoContextSettings) -> list[ShotEnergy]:
    """Return the energy of every shot (Eq. 2).

    beta_p and beta_s are of the whole video; its mean variance is that of all supervoxels, also of those that are in
    one key frame only, where no two nodes could disagree. A clique of n nodes has Q = q n: below 1, a single node that
    disagrees costs lambda_max.

    Args:
        context: of the video.
        probability: float32 (N,), P of Eq. 4.
        settings: weights and constants.
    """
    unary = unary_costs(probability, epsilon=settings.epsilon)
    weights = pairwise_weights(context, strength=settings.pairwise)
    starts = context.clique_starts
    clique_of = np.empty(context.num_nodes, np.int64)
    clique_of[context.clique_members] = np.repeat(np.arange(len(context.variance)), np.diff(starts))
    variance = context.variance.astype(np.float64)
    beta = _inverse_mean(variance)
    edge_frames = context.node_frame[context.edges[:, 0]]
    energies = []
    first_frames = np.flatnonzero(np.diff(context.shots, prepend=context.shots[0] - 1))
    for first, last in zip(first_frames, [*first_frames[1:], context.num_frames], strict=True):
        nodes = slice(*np.searchsorted(context.node_frame, (first, last)).tolist())
        edges = slice(*np.searchsorted(edge_frames, (first, last)).tolist()) if settings.pairwise else slice(0)
        groups = clique_of[nodes]
        base, stop = groups.min(), groups.max() + 1
        if settings.higher == 0:
            groups = np.full_like(groups, base - 1)  # in no clique
        energies.append(
            ShotEnergy(
                nodes=nodes,
                unary=unary[nodes],
                edges=context.edges[edges] - np.int32(nodes.start),
                weights=weights[edges],
                cliques=robust_cliques(
                    groups - base,
                    variance=variance[base:stop],
                    strength=settings.higher,
                    truncation_share=settings.q,
                    beta=beta,
                ),
            )
        )
    return energies


def infer_masks(
    context: VideoContext, scores: Scores | None, settings: VideoContextSettings | None = None, *, label: int = 1
) -> Annotation:
    """Label the key frames of a video: phi(I, theta, v) of Sec. 3.1.

    A frame without a box and without scores has P = epsilon everywhere, but its supervoxels may bring the object.

    Args:
        context: of the video.
        scores: float32 (K, C, H, W), softmax scores of the present network, C > ``label``; None = there is none yet.
        settings: the paper's when None.
        label: class id of the object, 1..254.

    Returns:
        labels uint8 (K, H, W), 0 or ``label`` (255 with ``settings.void_in_boxes``); quality omega (K,), the mean P
        over the nodes that are labelled object, or what ``settings.quality`` puts in its place; 0 where there are none.

    Raises:
        DataError: scores do not fit the context or are no probabilities (those of boxes matter only before
            there is a network, unless ``quality="probability"``), or the label is out of its range.
    """
    settings = settings or VideoContextSettings()
    confidence = _confidence(context, scores, label)
    probability = node_probability(context, proposal_masks(context, confidence, settings), confidence, settings)
    chosen = np.zeros(context.num_nodes, bool)
    for energy in shot_energies(context, probability, settings):
        chosen[energy.nodes] = energy.minimum()
    labels = np.where(chosen, np.uint8(label), np.uint8(0))[context.nodes]
    if settings.void_in_boxes:
        _leave_out_boxes(labels, context, settings.void_score)
    if settings.quality == "probability":
        return Annotation(labels, labelling_quality(context, chosen, probability))
    predicted = _detector_confidence(context, settings) if confidence is None else confidence
    if settings.quality == "prediction":
        return Annotation(labels, labelling_quality(context, chosen, _mean_confidence(context, predicted)))
    return Annotation(labels, predicted_overlap(labels == label, predicted))


def _leave_out_boxes(labels: UInt8Array, context: VideoContext, least: float | None) -> None:
    """Make void what lies in a box surer than ``least`` but is not object, in frames (K, H, W) that have an object."""
    for one, boxes in zip(labels, context.boxes, strict=True):
        if one.any():
            sure = boxes.boxes if least is None else boxes.boxes[boxes.scores > least]
            for x0, y0, x1, y1 in np.clip(np.round(sure), 0, None).astype(int):
                part = one[y0:y1, x0:x1]
                part[part == 0] = VOID


def labelling_quality(context: VideoContext, chosen: BoolArray, probability: FloatArray) -> FloatArray:
    """Return omega, float32 (K,): the mean of ``probability`` (N,) over each frame's nodes ``chosen`` (N,), else 0."""
    frames = context.node_frame[chosen]
    counts = np.bincount(frames, minlength=context.num_frames)
    sums = np.bincount(frames, probability[chosen], minlength=context.num_frames)
    return (sums / np.maximum(counts, 1)).astype(np.float32)


def predicted_overlap(masks: BoolArray, predicted: FloatArray) -> FloatArray:
    """Return the soft Jaccard index of masks and predictions, float32 (K,); 0 for an empty mask.

    Outside of the mask only what is likelier object than not counts: the faint rest of a softmax, summed over a whole
    frame, would outweigh a small object.

    Args:
        masks: bool (K, H, W).
        predicted: float32 (K, H, W) in [0, 1].
    """
    common = (predicted * masks).sum(axis=(1, 2), dtype=np.float64)
    missed = (predicted * (~masks & (predicted > 0.5))).sum(axis=(1, 2), dtype=np.float64)
    either = masks.sum(axis=(1, 2)) + missed
    return np.clip(common / np.maximum(either, 1), 0, 1).astype(np.float32)


def _confidence(context: VideoContext, scores: Scores | None, label: int) -> FloatArray | None:
    if not 0 < label < VOID:
        raise DataError(f"Video context: label must be in 1..{VOID - 1}, got {label}. 0 is background, {VOID} is void.")
    if scores is None:
        return None
    size = context.size
    if scores.ndim != 4 or (len(scores), *scores.shape[2:]) != context.nodes.shape or scores.shape[1] <= label:
        raise DataError(
            f"Video context: scores must be (K, C, H, W) = ({context.num_frames}, > {label}, {size[0]}, {size[1]}), "
            f"got {scores.shape}. Resize them to the size at which the context was made."
        )
    return np.asarray(scores[:, label], np.float32)


def _detector_confidence(context: VideoContext, settings: VideoContextSettings) -> FloatArray:
    """Return the score of the surest box whose proposal holds a pixel, float32 (K, H, W) in [0, 1]."""
    scores = np.concatenate([boxes.scores for boxes in context.boxes])
    if not settings.margins and not ((scores >= 0) & (scores <= 1)).all():
        raise DataError(
            f"Video context: quality={settings.quality} needs boxes with probabilities, got scores from "
            f"{scores.min():.4g} to {scores.max():.4g}. If they are margins say so (detector.margins=true), "
            "or take quality=probability."
        )
    found = np.zeros(context.nodes.shape, np.float32)
    for one, boxes, pool in zip(found, context.boxes, context.proposals, strict=True):
        if len(boxes.scores):
            given = replace(boxes, scores=expit(boxes.scores)) if settings.margins else boxes
            one[:] = painted_scores(given, pool, fill=settings.fill)
    return found


def _mean_confidence(context: VideoContext, confidence: FloatArray) -> FloatArray:
    return np.clip(_node_means(context, confidence, "scores"), 0, 1).astype(np.float32)


def _node_means(context: VideoContext, values: npt.NDArray[Any], name: str) -> Float64Array:
    if values.shape != context.nodes.shape:
        raise DataError(f"Video context: {name} must be {context.nodes.shape}, got {values.shape}.")
    sums = np.bincount(context.nodes.ravel(), values.ravel(), minlength=context.num_nodes)
    return np.asarray(sums / np.maximum(context.node_area, 1), np.float64)


def _inverse_mean(values: Float64Array) -> float:
    """Return 1 / mean, 0 where nothing differs."""
    mean = float(values.mean()) if len(values) else 0.0
    return 1 / mean if mean > 0 else 0.0
