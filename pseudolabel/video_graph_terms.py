"""The energy of a run of frames from attention, motion and colour (Hong et al. 2017, Sec. 3.2, Eq. 3 to 5).

    E(l) = sum_i -lambda_a log A_i(l_i) - lambda_m log M_i(l_i) - lambda_c log C_i(l_i)
         + sum_spatial [l_i != l_j] phi_s phi_c + sum_temporal [l_i != l_j] phi_t phi_c

on superpixels. The pairwise weights are those of motion segmentation, see :func:`pseudolabel.motion_cut.build_graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pseudolabel.attention import normalize, resize_maps
from pseudolabel.energy import minimize_binary
from pseudolabel.motion_cut import Graph, build_graph, colour_unary, gather_location
from pseudolabel.motion_evidence import FrameEvidence
from pseudolabel.superpixels import IntArray, region_means
from pseudolabel.types import BoolArray, DataError, FloatArray
from pseudolabel.video_graph_settings import VideoGraphSettings

Float64Array = npt.NDArray[np.float64]

_LEAST_SEEDS = 5
"""Fewer superpixels than this say nothing about colours: the colour term is left out."""

_SEEDS_PER_COMPONENT = 10
"""A Gaussian of three channels has nine parameters: of fewer seeds than this for each, fewer components are made, else
a component is a single superpixel, and the rest of the object is unlikely. Ours; only short clips have so few."""


@dataclass(frozen=True)
class Cue:
    """What one source of evidence says about the nodes of a run.

    Attributes:
        share: float64 (N,) in [0, 1], how far each node seems to be object.
        known: bool (N,), False where the source is silent.
    """

    share: Float64Array
    known: BoolArray


@dataclass(frozen=True)
class VideoEnergy:
    """An energy that :func:`pseudolabel.energy.minimize_binary` minimises exactly.

    Attributes:
        unary: float64 (N, 2), cost of background and of object.
        graph: nodes, edges and Potts weights.
        found: whether there was anything to start from; else the unary term is 0.
    """

    unary: Float64Array
    graph: Graph
    found: bool


def attention_share(attention: npt.NDArray[np.floating], frame: FrameEvidence) -> FloatArray:
    """Return the mean attention of every superpixel, the map stretched to [0, 1] by its own extremes (SPEC W-c).

    Args:
        attention: float (H, W) of the frame's size, finite, >= 0; the maximum over scales.
        frame: the superpixels.

    Returns:
        float32 (N,) in [0, 1]; 0 for a constant map.

    Raises:
        DataError: the map is of another size, not of floating point, not finite, or negative.
    """
    values = np.asarray(attention)
    if values.shape != frame.size or values.dtype.kind != "f":
        raise DataError(
            f"Video graph: attention of a frame is {values.dtype} {values.shape}, expected float {frame.size} like the "
            "frame. Resize the maps to the frames."
        )
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        raise DataError(
            f"Video graph: attention holds {int(wrong.sum())} values that are negative or not finite, expected >= 0. "
            "Pass the maps behind a ReLU."
        )
    regions = frame.superpixels.astype(np.int32)
    return region_means(regions, resize_maps(normalize(values), (regions.shape[0], regions.shape[1])))[:, 0]


def attention_cue(shares: Sequence[FloatArray], settings: VideoGraphSettings) -> Cue:
    """Return A of Eq. 4: attention_share of all frames; a frame without attention is silent."""
    return _cue(shares, settings)


def motion_cue(run: Sequence[FrameEvidence], settings: VideoGraphSettings) -> Cue:
    """Return M of Eq. 4: how far each node is inside a moving object; a frame where nothing moves is silent.

    A frame without flow (the only one of a clip) is silent whatever ``settings.skip_silent``.
    """
    inside = [np.zeros(len(frame.colours), np.float32) if frame.inside is None else frame.inside for frame in run]
    cue = _cue(inside, settings)
    if settings.motion == "accumulate":
        if not any(share.any() for share in inside):
            return cue
        gathered = gather_location(run, settings.observation()).astype(np.float64)
        return Cue(gathered, np.ones(len(gathered), bool))  # other frames speak for a silent one
    without_flow = np.concatenate([np.full(len(frame.colours), frame.inside is None) for frame in run])
    share = cue.share
    if settings.motion_full_at is not None:
        top = settings.motion_full_at * _highest(share, np.array([len(each) for each in inside]))
        share = np.minimum(np.divide(share, top, out=np.zeros_like(share), where=top > 0), 1.0)
    return Cue(share, cue.known & ~without_flow)


def _highest(share: Float64Array, counts: IntArray) -> Float64Array:
    """Return for every node (N,) the highest share in its frame, of frames with ``counts`` nodes (T,)."""
    starts = np.cumsum(counts) - counts
    return np.repeat(np.maximum.reduceat(share, starts), counts)


def _cue(shares: Sequence[FloatArray], settings: VideoGraphSettings) -> Cue:
    known = [np.full(len(share), not settings.skip_silent or bool(share.any())) for share in shares]
    return Cue(np.concatenate(shares).astype(np.float64), np.concatenate(known))


def joint_cue(cues: Sequence[Cue]) -> Cue:
    """Return the product of the shares, over the cues that are not silent; silent where all are."""
    share = np.prod([np.where(cue.known, cue.share, 1.0) for cue in cues], axis=0)
    known = np.any([cue.known for cue in cues], axis=0)
    return Cue(np.where(known, share, 0.0), known)


def log_costs(cue: Cue, epsilon: float) -> Float64Array:
    """Return -log(1 - share) and -log(share), float64 (N, 2), the share kept in [epsilon, 1 - epsilon]; 0 if unknown.

    Args:
        cue: what the source says.
        epsilon: in (0, 0.5).
    """
    share = np.clip(cue.share, epsilon, 1 - epsilon)
    return -np.log(np.stack([1 - share, share], axis=1)) * cue.known[:, None]


def colour_seeds(cue: Cue, starts: IntArray, settings: VideoGraphSettings) -> tuple[Float64Array, Float64Array]:
    """Return how much every node counts in the foreground's and in the background's colours, float64 (N,) each.

    Foreground: nodes with at least ``seed_foreground`` of the frame's highest share, weighed by their share.
    Background: nodes with less than ``seed_background`` of it, weighed by 1 - share. Silent frames do not count.

    Args:
        cue: attention, or motion where there is no attention.
        starts: int64 (T+1,), frame t has the nodes ``starts[t]:starts[t+1]``.
        settings: the thresholds.
    """
    top = _highest(cue.share, np.diff(starts))
    seen = cue.known & (top > 0)
    foreground = np.where(seen & (cue.share >= settings.seed_foreground * top), cue.share, 0.0)
    background = np.where(seen & (cue.share < settings.seed_background * top), 1 - cue.share, 0.0)
    return foreground, background


def colour_costs(cue: Cue, graph: Graph, settings: VideoGraphSettings) -> Float64Array:
    """Return -log C of Eq. 4, float64 (N, 2), of two mixtures of RGB per run; 0 where there are too few seeds."""
    foreground, background = colour_seeds(cue, graph.starts, settings)
    seeds = [int((weights > 0).sum()) for weights in (foreground, background)]
    if min(seeds) < _LEAST_SEEDS:
        return np.zeros((len(graph.colours), 2))
    whole = replace(
        settings.observation(),
        fade=0.0,
        model_span=len(graph.starts),
        foreground_components=max(1, min(settings.foreground_components, seeds[0] // _SEEDS_PER_COMPONENT)),
        background_components=max(1, min(settings.background_components, seeds[1] // _SEEDS_PER_COMPONENT)),
    )
    return colour_unary(graph, foreground.astype(np.float32), background.astype(np.float32), whole)


def video_energy(
    run: Sequence[FrameEvidence], shares: Sequence[FloatArray] | None, settings: VideoGraphSettings
) -> VideoEnergy:
    """Build the energy of a run of frames.

    Args:
        run: T frames.
        shares: attention_share of each frame; None = no attention: colours start from motion.
        settings: weights of the terms.

    Returns:
        the energy; nothing is found when attention, or without it motion, is silent in all frames.
    """
    graph = build_graph(run, settings.observation())
    terms: list[tuple[float, Cue, float]] = []  # weight, what the source says, and its floor
    if shares is not None and settings.lambda_a > 0:
        terms.append((settings.lambda_a, attention_cue(shares, settings), settings.attention_floor))
    if settings.lambda_m > 0:
        terms.append((settings.lambda_m, motion_cue(run, settings), 0.0))
    unary = np.zeros((len(graph.colours), 2))
    first = terms[0][1]
    found = bool(first.share[first.known].any())
    if found:
        for weight, cue, floor in terms:
            unary += weight * log_costs(Cue(floor + (1 - floor) * cue.share, cue.known), settings.epsilon)
        if settings.lambda_c > 0:
            cues = [cue for _, cue, _ in terms]
            start = joint_cue(cues) if settings.seeds == "both" else cues[-1 if settings.seeds == "motion" else 0]
            unary += settings.lambda_c * colour_costs(start, graph, settings)
    return VideoEnergy(unary, graph, found)


def cut(energy: VideoEnergy, fixed: BoolArray) -> BoolArray:
    """Return the exact minimum, bool (N,), among the labellings whose first nodes have the labels ``fixed`` (M,).

    A fixed node costs more with its other label than all its edges could save.
    """
    if not energy.found:
        return np.concatenate([fixed, np.zeros(len(energy.unary) - len(fixed), bool)])
    graph, unary = energy.graph, energy.unary.copy()
    if len(fixed):
        ends, weights = graph.edges.T.ravel(), np.tile(graph.weights, 2)
        more = 1 + np.bincount(ends, weights, len(unary))[: len(fixed)]
        unary[: len(fixed)] = np.stack([np.where(fixed, more, 0.0), np.where(fixed, 0.0, more)], axis=1)
    return minimize_binary(unary, graph.edges, graph.weights).labels.astype(bool)
