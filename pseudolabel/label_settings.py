"""The settings of label prediction (`pseudolabel.label_prediction`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pseudolabel.graphs import Connectivity
from pseudolabel.shot_colours import TimeWeight
from pseudolabel.types import DataError

Seeds = Literal["soft", "segment"]
"""What the mixtures start from: the soft foreground probability, or the segment (probability > 0.5; the paper)."""

ScoreTerm = Literal["posterior", "likelihood"]
"""What psi^fc takes the logarithm of: the scores p(label | pixel) (the paper), or these over their mean over the shot,
p(label | pixel) / p(label). psi^m is a log-likelihood and knows no prior; a network that is not sure of an object yet
says "mostly background" nearly everywhere, and this prior alone would erase the object from its own labels. Without
motion there is no psi^m, and the scores count as they are."""

SCORE_TERMS: tuple[ScoreTerm, ...] = ("posterior", "likelihood")


@dataclass(frozen=True)
class LabelPredictionSettings:
    """Every constant of :func:`pseudolabel.label_prediction.predict_labels`.

    Attributes:
        alpha: weight of the network's scores, >= 0; 1 at first and 2 in fine-tuning (Sec. 4.2).
        strength: of the pairwise term, >= 0, as a factor on the scale at which an average edge costs as much as the
            labels of an average pixel differ (SPEC M-b): ``lambda = strength * mean_i |u_i(background) - min_l u_i(l)|
            / mean_(i,j) w_ij``, means over the valid pixels of the shot and the edges between them, u = the unary term
            of the first iteration (l runs over the tags), w = the pairwise weight without lambda and without Delta.
            One lambda per shot, kept over the iterations.
        contrast: numerator of gamma = contrast / mean ||z_i - z_j||^2, >= 0.
        connectivity: 4 or 8 neighbours.
        band: pixels on each side of the motion segment's boundary in which the pairwise term is off; 0 = nowhere.
        iterations: of {minimise, fit the mixtures}, >= 1; ends earlier when no label changes.
        foreground_components: of the mixture, >= 1.
        background_components: of the mixture, >= 1.
        em_iters: steps of EM of the shot's mixtures, from which every frame's start, >= 0.
        refit_iters: steps of EM of a frame's mixtures in every iteration, >= 0.
        bin_width: colours are merged into cubes of so many levels, 1..128; 1 = every colour for itself (slow).
        time_weight: how frames count in each other's mixtures, see :data:`pseudolabel.shot_colours.TimeWeight`.
        fade: of ``time_weight="exponential"``, >= 0.
        seeds: see :data:`Seeds`.
        location: ours: weight of the place of the motion segment, >= 0, as a third unary term: minus the logarithm of
            the motion probability m, blurred, for the tags, and of 1 - m for the background. 0 (the paper) trusts the
            motion segments for colours alone; where these do not tell object and background apart, the labels then
            leave the object.
        location_blur: standard deviation of the blur, > 0, in pixels.
        scores: see :data:`ScoreTerm`.
        least_score: scores are clipped here before the logarithm, in (0, 1).
        outliers: share of a uniform density in both mixtures, in [0, 1); bounds psi^m. 0 = none (the paper).
        seed: of the mixtures' start.

    Raises:
        DataError: a value is out of its range.
    """

    alpha: float = 1.0
    strength: float = 1.0
    contrast: float = 0.5
    connectivity: Connectivity = 8
    band: int = 5
    iterations: int = 4
    foreground_components: int = 5
    background_components: int = 8
    em_iters: int = 10
    refit_iters: int = 2
    bin_width: int = 8
    time_weight: TimeWeight = "inverse"
    fade: float = 1e-4
    seeds: Seeds = "soft"
    location: float = 0.0
    location_blur: float = 10.0
    scores: ScoreTerm = "posterior"
    least_score: float = 1e-4
    outliers: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("alpha", "strength", "contrast", "fade", "location"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise DataError(f"Label prediction: {name} must be finite and >= 0, got {getattr(self, name)}.")
        least = {"band": 0, "em_iters": 0, "refit_iters": 0, "iterations": 1}
        for name, bound in (least | {"foreground_components": 1, "background_components": 1}).items():
            if getattr(self, name) < bound:
                raise DataError(f"Label prediction: {name} must be >= {bound}, got {getattr(self, name)}.")
        if not 1 <= self.bin_width <= 128:
            raise DataError(f"Label prediction: bin_width must be in 1..128 levels, got {self.bin_width}.")
        if not 0 < self.location_blur < float("inf"):
            raise DataError(f"Label prediction: location_blur must be finite and > 0, got {self.location_blur}.")
        if not (0 < self.least_score < 1 and 0 <= self.outliers < 1):
            raise DataError(
                "Label prediction: least_score must be in (0, 1) and outliers in [0, 1), got "
                f"{self.least_score} and {self.outliers}."
            )
        for name, known in (
            ("connectivity", (4, 8)),
            ("time_weight", ("inverse", "exponential")),
            ("seeds", ("soft", "segment")),
            ("scores", SCORE_TERMS),
        ):
            if getattr(self, name) not in known:
                raise DataError(f"Label prediction: {name} must be one of {known}, got {getattr(self, name)!r}.")
