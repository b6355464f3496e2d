"""Where in each frame the object is likely to be: inside-outside maps gathered over time.

Papazoglou and Ferrari, ICCV 2013, section 3.2 ("location model"). A map is wrong here and there, but rarely in the same
place of the object: what the flow carries along from other frames fills the holes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pseudolabel.superpixels import IntArray
from pseudolabel.types import DataError, FloatArray

Float64Array = npt.NDArray[np.float64]

Links = tuple[IntArray, FloatArray]
"""Edges int64 (E, 2) from superpixels of frame t to those of t + 1, and their overlap (E,); see temporal_links."""


def propagate(
    inside: Sequence[FloatArray], links: Sequence[Links], transfer: Sequence[FloatArray], *, decay: float = 0.5
) -> list[FloatArray]:
    """Carry the inside shares forth and back in time along the flow, and add both up.

    r_i(t+1) += decay sum_j phi_ji psi_j r_j(t) / sum_j phi_ji, in the order of time, and the same against it.

    Args:
        inside: T arrays (N_t,), share of each superpixel that is inside, in [0, 1].
        links: T - 1 links of neighbouring frames.
        transfer: T - 1 or more arrays (N_t,), psi: how well the flow of each superpixel is to be trusted, in [0, 1].
        decay: gamma, in [0, 1).

    Returns:
        T float32 arrays (N_t,), >= 0.

    Raises:
        DataError: the numbers of frames do not fit.
    """
    count = len(inside)
    if len(links) != max(count - 1, 0) or len(transfer) < len(links):
        raise DataError(
            f"Location: {count} frames need {count - 1} links and transfers, got {len(links)} and {len(transfer)}."
        )
    forward = [np.asarray(r, np.float64).copy() for r in inside]
    backward = [r.copy() for r in forward]
    for t in range(count - 1):
        edges, overlap = links[t]
        carried = overlap * transfer[t][edges[:, 0]] * forward[t][edges[:, 0]]
        forward[t + 1] += decay * _share(edges[:, 1], carried, overlap, len(forward[t + 1]))
    for t in reversed(range(count - 1)):
        edges, overlap = links[t]
        carried = overlap * transfer[t][edges[:, 0]] * backward[t + 1][edges[:, 1]]
        backward[t] += decay * _share(edges[:, 0], carried, overlap, len(backward[t]))
    return [(f + b).astype(np.float32) for f, b in zip(forward, backward, strict=True)]


def _share(to: IntArray, carried: Float64Array, overlap: FloatArray, count: int) -> Float64Array:
    total = np.bincount(to, overlap, minlength=count)
    return np.asarray(np.bincount(to, carried, minlength=count) / np.maximum(total, 1e-12))


def location_prior(
    gathered: FloatArray,
    *,
    full_at: float = 0.75,
    sure: float = 0.95,
    highest: float = 0.999,
    lowest: float = 0.001,
    rare: float = 0.05,
    likely: float = 0.6,
    rare_lowest: float = 0.005,
) -> FloatArray:
    """Turn the gathered evidence of one frame into the probability that a superpixel belongs to the object.

    Args:
        gathered: (N,), of :func:`propagate`.
        full_at: share of the frame's highest value that counts as certain.
        sure: what is above counts as ``highest``.
        highest: highest probability, < 1.
        lowest: lowest probability, > 0.
        rare: when a smaller share of superpixels is ``likely``, the evidence is thin ...
        likely: ...
        rare_lowest: ... and nothing is less probable than this.

    Returns:
        float32 (N,) in [lowest, highest]; ``rare_lowest`` everywhere when nothing was gathered.
    """
    top = float(gathered.max(initial=0.0))
    prior = gathered / (full_at * top) if top > 0 else np.zeros_like(gathered)
    prior = np.where(prior > sure, highest, np.maximum(prior, lowest))
    if np.mean(prior > likely) < rare:
        prior = np.maximum(prior, rare_lowest)
    return prior.astype(np.float32)
