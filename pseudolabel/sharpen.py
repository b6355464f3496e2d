"""From where a network sees an object to its outline: the dense CRF, and what the video's own colours say.

A network that learned from blobs knows where the object is and hardly where it ends. Pixels tell: the dense CRF joins
near pixels of like colour, and mixtures of the colours inside and outside, fitted to the whole video and refitted to
what they give, find the rest of a body of which the network knows the head (GrabCut: Rother et al. 2004).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pseudolabel.appearance import fit_mixture
from pseudolabel.decision import EVEN
from pseudolabel.refine import dense_crf
from pseudolabel.shot_colours import BACKGROUND, FOREGROUND, LEAST_SHARE, ColourBins, bin_colours
from pseudolabel.types import BoolArray, DataError, FloatArray, UInt8Array

_CERTAIN = 1e-3  # no score is surer, so that colours may still overrule it
_MOST_EVIDENCE = 5.0  # of one pixel's colour, as a logarithm of odds: a colour never seen inside is still possible


class Sharpener:
    """Fits what is decided to be object, all objects as one, to the colours of the frames.

    Args:
        crf: options of :func:`pseudolabel.refine.dense_crf`.
        weight: factor on the log-likelihood ratio of a pixel's colour inside and outside, >= 0; 0 = the dense CRF
            alone, 1 = colours and scores count alike.
        steps: how often the mixtures are fitted and the objects found anew, >= 1.
        components: of the mixtures of background and of objects, each >= 1.

    Raises:
        DataError: a weight, a number of steps or of components out of its range.
    """

    def __init__(
        self,
        crf: Mapping[str, Any],
        *,
        weight: float = 0.0,
        steps: int = 2,
        components: tuple[int, int] = (8, 5),
    ) -> None:
        if not (np.isfinite(weight) and weight >= 0):
            raise DataError(f"Colours: weight must be a number >= 0, got {weight}. 0 leaves colour mixtures out.")
        if steps < 1:
            raise DataError(f"Colours: steps must be >= 1, got {steps}. weight=0 leaves colour mixtures out.")
        if len(components) != 2 or min(components) < 1:
            raise DataError(f"Colours: components must be two numbers >= 1 (background, objects), got {components}.")
        self.crf, self.weight, self.steps, self.components = dict(crf), weight, steps, tuple(components)

    def __call__(self, frames: UInt8Array, foreground: FloatArray, objects: BoolArray) -> BoolArray:
        """Sharpen the objects of a video; a frame without object gets none, and none vanishes.

        Scores are weighed against colours, so that must be even which was decided for: the odds are divided by those at
        which the frame's decision turns, halfway (in logarithms) between its least object and its likeliest rest.

        Args:
            frames: uint8 (T, H, W, 3).
            foreground: float32 (T, H, W) in [0, 1], the score of an object against that of its rival.
            objects: bool (T, H, W), what was decided by these scores.

        Returns:
            bool (T, H, W).

        Raises:
            DataError: the package pydensecrf2 is not installed.
        """
        some = np.flatnonzero(objects.any(axis=(1, 2)) & ~objects.all(axis=(1, 2)))
        evidence = np.log(np.clip(foreground, _CERTAIN, None)) - np.log(np.clip(1 - foreground, _CERTAIN, None))
        for t in some:
            evidence[t] -= (evidence[t][objects[t]].min() + evidence[t][~objects[t]].max()) / 2
        if not self.weight:
            return self._join(frames, evidence, objects, some)
        bins = bin_colours(frames, np.ones(objects.shape, bool))
        found = objects
        for _ in range(self.steps):
            colours = self._colour_evidence(bins, found)
            found = self._join(frames, evidence + np.float32(self.weight) * colours, objects, some)
        return found

    def _join(
        self, frames: UInt8Array, evidence: FloatArray, objects: BoolArray, some: npt.NDArray[np.int64]
    ) -> BoolArray:
        """Part the frames ``some`` by the dense CRF; evidence is the logarithm of the odds of an object."""
        joined = objects.copy()
        for t in some:
            score = 1 / (1 + np.exp(-evidence[t]))
            kept = dense_crf(np.stack([1 - score, score]), frames[t], **self.crf)[1] > EVEN
            if kept.any():
                joined[t] = kept
        return joined

    def _colour_evidence(self, bins: ColourBins, objects: BoolArray) -> FloatArray:
        """Return how much likelier each pixel's colour is inside than outside, as a logarithm, float32 (T, H, W)."""
        held = bins.count(objects.astype(np.float32), np.ones(objects.shape, bool)).sum(axis=0)  # (2, bins)
        if held.sum(axis=1).min() <= LEAST_SHARE * held.sum():
            return np.zeros(objects.shape, np.float32)
        density = [
            fit_mixture(
                bins.colours, weights=held[side], components=self.components[side], regularisation=bins.noise
            ).log_likelihood(bins.colours)
            for side in (BACKGROUND, FOREGROUND)
        ]
        ratio = np.clip(density[FOREGROUND] - density[BACKGROUND], -_MOST_EVIDENCE, _MOST_EVIDENCE)
        return ratio.astype(np.float32)[bins.codes]
