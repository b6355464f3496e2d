"""From where a network sees an object to its outline: the dense CRF, and what the video's own colours say.

A network that learned from blobs knows where the object is and hardly where it ends. Pixels tell: the dense CRF joins
near pixels of like colour, and mixtures of the colours inside and outside, fitted to the whole video and refitted to
what they give, find the rest of a body of which the network knows the head (after GrabCut: Rother et al. 2004; here
with the network's scores beside the colours, one pair of mixtures per video, and the dense CRF in place of a cut).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from pseudolabel.appearance import fit_mixture
from pseudolabel.decision import EVEN
from pseudolabel.refine import dense_crf
from pseudolabel.shot_colours import LEAST_SHARE, ColourBins, bin_colours
from pseudolabel.types import BoolArray, DataError, FloatArray, UInt8Array, nearest_name

_CERTAIN = 1e-3  # no score is surer, so that colours may still overrule it
_MOST_EVIDENCE = 5.0  # of one pixel's colour, as a logarithm of odds: a colour never seen inside is still possible


class Sharpener:
    """Fits what is decided to be object, all objects as one, to the colours of the frames.

    Args:
        crf: options of :func:`pseudolabel.refine.dense_crf`.
        weight: factor on the log-likelihood ratio of a pixel's colour inside and outside, >= 0; 0 = the dense CRF
            alone, 1 = colours and scores count alike.
        steps: how often the mixtures are fitted and the objects found anew, >= 1; each runs the dense CRF once a frame.
        components: of the mixtures of background and of objects, each >= 1.

    Raises:
        DataError: as :func:`check_colours`.
    """

    def __init__(
        self,
        crf: Mapping[str, Any],
        *,
        weight: float = 0.0,
        steps: int = 2,
        components: Sequence[int] = (8, 5),
    ) -> None:
        check_colours({"weight": weight, "steps": steps, "components": components}, "colours")
        self.crf, self.weight, self.steps = dict(crf), weight, steps
        self.components = (int(components[0]), int(components[1]))

    def __call__(self, frames: UInt8Array, foreground: FloatArray, objects: BoolArray) -> BoolArray:
        """Sharpen the objects of a video.

        Frames without object, and those that are nothing else, stay as they are, and their colours are not counted: one
        missed object would count as background in all frames. No object vanishes or fills its frame; it then keeps the
        shape that it had. Scores are weighed against colours, so that must be even which was decided for: the odds are
        divided by those at which the frame's decision turns, halfway (in logarithms) between its least object and its
        likeliest rest. A colour counts for odds of at most exp(5), times the weight in logarithms; where one side has
        hardly a pixel (1e-4 of all) colours tell nothing.

        Args:
            frames: uint8 (T, H, W, 3).
            foreground: float32 (T, H, W) in [0, 1], the score of an object against that of its rival.
            objects: bool (T, H, W), what was decided by these scores.

        Returns:
            bool (T, H, W).

        Raises:
            DataError: shapes do not fit; scores are NaN; the package pydensecrf2 is not installed.
        """
        if frames.shape != (*objects.shape, 3) or foreground.shape != objects.shape:
            raise DataError(
                f"Sharpening: frames {frames.shape}, scores {foreground.shape} and objects {objects.shape} do not fit, "
                "expected (T, H, W, 3) and twice (T, H, W). Resize the scores to the frames."
            )
        found = objects.copy()
        parted = np.flatnonzero(objects.any(axis=(1, 2)) & ~objects.all(axis=(1, 2)))
        if not parted.size:
            return found
        evidence = np.log(np.clip(foreground, _CERTAIN, None)) - np.log(np.clip(1 - foreground, _CERTAIN, None))
        for t in parted:
            evidence[t] -= (evidence[t][objects[t]].min() + evidence[t][~objects[t]].max()) / 2
        bins = bin_colours(frames, np.ones(objects.shape, bool))
        for _ in range(self.steps if self.weight else 1):
            colours = self._colour_evidence(bins, found, parted)
            for t in parted:
                score = expit(evidence[t] + colours[bins.codes[t]]).astype(np.float32)
                kept = dense_crf(np.stack([1 - score, score]), frames[t], **self.crf)[1] > EVEN
                if kept.any() and not kept.all():
                    found[t] = kept
        return found

    def _colour_evidence(self, bins: ColourBins, objects: BoolArray, counted: npt.NDArray[np.int64]) -> FloatArray:
        """Return what each bin's colour says for an object, weighted logarithms of odds, float32 (B,); 0 = nothing."""
        held = np.zeros((2, len(bins.colours)))  # outside, inside
        for t in counted:
            for side, chosen in enumerate((~objects[t], objects[t])):
                held[side] += np.bincount(bins.codes[t][chosen], minlength=held.shape[1])
        if not self.weight or held.sum(axis=1).min() <= LEAST_SHARE * held.sum():
            return np.zeros(len(bins.colours), np.float32)
        outside, inside = (
            fit_mixture(bins.colours, weights=weights, components=components, regularisation=bins.noise).log_likelihood(
                bins.colours
            )
            for weights, components in zip(held, self.components, strict=True)
        )
        ratio = np.clip(inside - outside, -_MOST_EVIDENCE, _MOST_EVIDENCE)
        return (self.weight * ratio).astype(np.float32)


def check_colours(options: Mapping[str, Any] | None, key: str) -> None:
    """Refuse options of colours that :class:`Sharpener` cannot use, before any training.

    Args:
        options: ``weight``, ``steps``, ``components``.
        key: where they stand in the configuration.

    Raises:
        DataError: no options, an unknown one, or one of another kind or out of its range.
    """
    known = [name for name in signature(Sharpener).parameters if name != "crf"]
    if options is None:
        raise DataError(f"{key} is missing, expected {', '.join(known)}. {key}.weight=0 leaves colours out.")
    for name, value in options.items():
        if name not in known:
            raise DataError(f"{key} has no option '{name}'{nearest_name(name, known)} Known: {', '.join(known)}.")
        if name == "weight":
            good = _is_number(value, int | float) and 0 <= value < float("inf")
            kind = f"a number >= 0 ({key}.weight=0 leaves colours out)"
        elif name == "steps":
            good = _is_number(value, int) and value >= 1
            kind = f"a whole number >= 1 ({key}.weight=0 leaves colours out)"
        else:
            pair = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
            good = pair and all(_is_number(one, int) and one >= 1 for one in value)
            kind = "two whole numbers >= 1, of the background and of objects"
        if not good:
            raise DataError(f"{key}.{name} must be {kind}, got {value!r}.")


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
