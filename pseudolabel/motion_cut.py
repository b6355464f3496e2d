"""The energy of motion segmentation on the superpixels of a run of frames, and its minimum.

Papazoglou and Ferrari, ICCV 2013, section 3.2: E = colour + location + spatial Potts + temporal Potts, minimised
exactly by a cut, in turns with the colour mixtures, as in GrabCut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pseudolabel.appearance import fit_mixture
from pseudolabel.energy import contrast_weights, minimize_binary
from pseudolabel.location import location_prior, propagate
from pseudolabel.motion_evidence import FrameEvidence
from pseudolabel.motion_settings import MotionSettings
from pseudolabel.superpixels import IntArray
from pseudolabel.types import BoolArray, FloatArray

Float64Array = npt.NDArray[np.float64]

_LEAST_SEEDS = 5
"""Fewer superpixels than this say nothing about colours: the run of frames is taken to hold no motion."""

_NOISE = 1.0  # variance that is added to the colours' mixtures, of 8-bit rounding and compression


@dataclass
class Graph:
    """All superpixels of a run of frames, numbered one frame after the other.

    Attributes:
        starts: int64 (T+1,), frame t has the nodes ``starts[t]:starts[t+1]``.
        frame_of: int64 (N,).
        colours: float32 (N, 3).
        edges: int64 (E, 2), spatial ones first.
        weights: float64 (E,), Potts weights.
    """

    starts: IntArray
    frame_of: IntArray
    colours: FloatArray
    edges: IntArray
    weights: Float64Array


def build_graph(run: Sequence[FrameEvidence], settings: MotionSettings) -> Graph:
    """Join the frames' superpixels by their neighbours in space and in time (terms V and W of equation 7).

    spatial: spatial_weight exp(-beta_s d^2) / distance of centres, beta_s = 0.5 / mean(d^2 / distance); temporal:
    temporal_weight overlap exp(-beta_t d^2), beta_t = 0.5 / mean(d^2 overlap); d^2 is between mean colours.
    """
    starts = np.concatenate([[0], np.cumsum([len(frame.colours) for frame in run])])
    colours = np.concatenate([frame.colours for frame in run])
    places = np.concatenate([frame.centres for frame in run])
    spatial = np.concatenate([frame.edges + starts[t] for t, frame in enumerate(run)])
    distance = np.linalg.norm(places[spatial[:, 0]] - places[spatial[:, 1]], axis=1)
    edges = [spatial]
    weights = [_potts(colours, spatial, settings.spatial_weight, np.maximum(distance, 1.0))]
    linked = [(t, frame.links) for t, frame in enumerate(run[:-1]) if frame.links is not None]
    if linked:
        temporal = np.concatenate([pairs + starts[[t, t + 1]] for t, (pairs, _) in linked])
        overlap = np.concatenate([share for _, (_, share) in linked]).astype(np.float64)
        edges.append(temporal)
        weights.append(_potts(colours, temporal, settings.temporal_weight, 1.0 / overlap))
    frame_of = np.repeat(np.arange(len(run)), np.diff(starts))
    return Graph(starts, frame_of, colours, np.concatenate(edges), np.concatenate(weights))


def _potts(colours: FloatArray, edges: IntArray, strength: float, distance: npt.ArrayLike) -> Float64Array:
    if not len(edges):
        return np.zeros(0)
    return np.asarray(contrast_weights(colours, edges, strength=strength, distance=distance), np.float64)


def gather_location(run: Sequence[FrameEvidence], settings: MotionSettings) -> FloatArray:
    """Return the location prior of all nodes, float32 (N,), see :mod:`pseudolabel.location`."""
    inside = [np.zeros(len(frame.colours), np.float32) if frame.inside is None else frame.inside for frame in run]
    links = [frame.links for frame in run[:-1] if frame.links is not None]
    gathered = propagate(inside, links, [frame.transfer for frame in run], decay=settings.decay)
    return np.concatenate([location_prior(frame) for frame in gathered])


def colour_unary(
    graph: Graph, foreground: FloatArray, background: FloatArray, settings: MotionSettings
) -> Float64Array:
    """Return -log p of every node's colour, float64 (N, 2): background, foreground.

    Args:
        graph: the nodes.
        foreground: (N,), how much each node counts in the foreground's mixture, >= 0.
        background: (N,), the same for the background.
        settings: components, EM steps, fading, span.
    """
    unary = np.zeros((len(graph.colours), 2))
    count = len(graph.starts) - 1
    for first in range(0, count, settings.model_span):
        last = min(first + settings.model_span, count)
        here = slice(graph.starts[first], graph.starts[last])
        away = graph.frame_of - 0.5 * (first + last - 1)
        fading = np.exp(-settings.fade * away * away)
        for label, (share, components) in enumerate(
            ((background, settings.background_components), (foreground, settings.foreground_components))
        ):
            mixture = fit_mixture(
                graph.colours,
                weights=share * fading,
                components=components,
                em_iters=settings.em_iters,
                regularisation=_NOISE,
                bin_width=settings.bin_width,
            )
            unary[here, label] = -mixture.log_likelihood(graph.colours[here])
    return unary


@dataclass
class Cut:
    """The segmentation of a run of frames.

    Attributes:
        labels: bool (N,).
        probability: float32 (N,), soft foreground, > 0.5 exactly where labels are set.
        found: whether there was motion to start from.
    """

    labels: BoolArray
    probability: FloatArray
    found: bool


def segment_run(run: Sequence[FrameEvidence], graph: Graph, settings: MotionSettings) -> Cut:
    """Minimise the energy of a run of frames."""
    nothing = Cut(np.zeros(len(graph.colours), bool), np.zeros(len(graph.colours), np.float32), False)
    unknown = np.concatenate([np.full(len(frame.colours), frame.inside is None) for frame in run])
    inside = np.concatenate([np.zeros(len(f.colours), np.float32) if f.inside is None else f.inside for f in run])
    foreground = (inside > settings.seed_foreground) & ~unknown
    background = (inside < settings.seed_background) & ~unknown
    if min(foreground.sum(), background.sum()) < _LEAST_SEEDS:
        return nothing
    prior = gather_location(run, settings).astype(np.float64)
    place = -settings.location_weight * np.log(np.stack([1.0 - prior, prior], axis=1))
    labels = foreground
    for iteration in range(settings.iterations):
        shares = (foreground, background) if iteration == 0 else (labels, ~labels)
        if min(share.sum() for share in shares) < _LEAST_SEEDS:
            return nothing
        unary = place + colour_unary(graph, shares[0].astype(np.float32), shares[1].astype(np.float32), settings)
        unary -= unary.min(axis=1, keepdims=True)
        before, labels = labels, minimize_binary(unary, graph.edges, graph.weights).labels.astype(bool)
        if iteration and np.array_equal(before, labels):
            break
    if labels.mean() > settings.most_covered:
        return nothing
    return Cut(labels, _soften(unary, labels, graph, settings.softness), bool(labels.any()))


def _soften(unary: Float64Array, labels: BoolArray, graph: Graph, softness: float) -> FloatArray:
    """What flipping one node would cost, squashed to [0, 1]; at a minimum it never lies on the other side of 0.5."""
    signs = 2.0 * labels - 1.0
    first, second = graph.edges.T
    count = len(labels)
    pull = np.bincount(first, graph.weights * signs[second], count)
    pull += np.bincount(second, graph.weights * signs[first], count)
    gain = unary[:, 0] - unary[:, 1] + pull
    return (1.0 / (1.0 + np.exp(-np.clip(gain / softness, -50.0, 50.0)))).astype(np.float32)
