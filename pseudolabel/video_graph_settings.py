"""The settings of video segmentation from attention, motion and colour (`pseudolabel.video_graph`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pseudolabel.flow import FlowSettings
from pseudolabel.motion_settings import PRESETS, MotionSettings, motion_settings
from pseudolabel.types import DataError, nearest_name

MotionTerm = Literal["ratio", "accumulate"]
"""M of a superpixel: the share of its pixels that lie inside a moving object (the paper, SPEC W-e), or the location
prior that gathers these shares over time along the flow (Papazoglou and Ferrari 2013)."""

MOTION_TERMS: tuple[MotionTerm, ...] = ("ratio", "accumulate")

Seeds = Literal["attention", "both", "motion"]
"""What the colours start from: attention (the paper), or (ours) attention times motion. Attention is broad, and the
background that it covers would become the foreground's colours; where it moves as well, it is the object. Where the
classifier often looks beside the object, motion alone is the better start (ours)."""

SEEDS: tuple[Seeds, ...] = ("attention", "both", "motion")


@dataclass(frozen=True)
class VideoGraphSettings:
    """Every constant of :func:`pseudolabel.video_graph.segment_video`; a weight of 0 switches its term off.

    Attributes:
        lambda_a: weight of attention in the unary term, >= 0 (Hong et al., Eq. 4).
        lambda_m: weight of motion, >= 0.
        lambda_c: weight of colour, >= 0.
        spatial_weight: of the Potts term between neighbours in a frame, >= 0 (SPEC W-f; the paper gives none).
        temporal_weight: of the Potts term between superpixels that flow links, >= 0.
        epsilon: attention and motion are kept in [epsilon, 1 - epsilon] before the logarithm, in (0, 0.5).
        attention_floor: ours: attention counts as at least so much, the rest is squeezed above it, in [0, 1). From
            about 0.3 on it speaks for the object but hardly against: for classifiers that look at a part, or beside it.
        seeds: see :data:`Seeds`; a frame where one of the two is silent goes by the other.
        seed_foreground: superpixels with at least this share of the frame's highest attention start the foreground's
            colours, in (0, 1].
        seed_background: superpixels with less than this share start the background's colours, in
            [0, ``seed_foreground``].
        skip_silent: ours: a frame without attention, or where nothing moves, says nothing of where the object is: the
            term is left out there. False = it says "background" everywhere.
        motion: see :data:`MotionTerm`.
        motion_full_at: ours: this share of the frame's highest ratio, and all above, count as certain, in (0, 1], as in
            the location prior of ``"accumulate"``. Pixels of motion boundaries are never inside, so that within a
            clearly moving object ratios of 0.3 to 0.5 are common, which by themselves speak for the background. None =
            the ratio itself.
        motion_preset: how inside-outside maps are made, a key of :data:`pseudolabel.motion_settings.PRESETS`.
            ``"papazoglou"`` has the constants of the authors' program, made for other flow than ours; ``"robust"`` is
            ours, here without its residual speed.
        flow_settings: how flow is computed where it is not given.
        max_edge: frames are made so small that the longer edge has at most so many pixels, >= 16; None = never. Not
            where flow is given.
        num_superpixels: wanted per frame, >= 2.
        compactness: of the superpixels, > 0.
        foreground_components: of the colour mixture, >= 1.
        background_components: of the colour mixture, >= 1.
        em_iters: steps of EM, >= 0.
        bin_width: colours are merged into cubes of this side before the fit, > 0; None = never (slow).
        window: frames that :func:`~pseudolabel.video_graph.stream_video_segments` solves at once.
        overlap: frames that neighbouring windows share, in [0, ``window``).

    Raises:
        DataError: a value is out of its range.
    """

    lambda_a: float = 2.0
    lambda_m: float = 1.0
    lambda_c: float = 2.0
    spatial_weight: float = 500.0
    temporal_weight: float = 400.0
    epsilon: float = 1e-3
    attention_floor: float = 0.0
    seeds: Seeds = "attention"
    seed_foreground: float = 0.5
    seed_background: float = 0.2
    skip_silent: bool = True
    motion: MotionTerm = "ratio"
    motion_full_at: float | None = 0.75
    motion_preset: str = "robust"
    flow_settings: FlowSettings = field(default_factory=FlowSettings)
    max_edge: int | None = 480
    num_superpixels: int = 1500
    compactness: float = 30.0
    foreground_components: int = 5
    background_components: int = 8
    em_iters: int = 5
    bin_width: float | None = 4.0
    window: int = 100
    overlap: int = 20

    def __post_init__(self) -> None:
        for name in ("lambda_a", "lambda_m", "lambda_c", "spatial_weight", "temporal_weight"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise DataError(f"Video graph: {name} must be finite and >= 0, got {getattr(self, name)}.")
        if self.lambda_a == 0 and self.lambda_m == 0:
            raise DataError(
                "Video graph: lambda_a and lambda_m are both 0, and colours need one of them to start from. Give "
                "attention or motion a weight."
            )
        if not 0 < self.epsilon < 0.5:
            raise DataError(f"Video graph: epsilon must be in (0, 0.5), got {self.epsilon}.")
        if not 0 <= self.attention_floor < 1:
            raise DataError(f"Video graph: attention_floor must be in [0, 1), got {self.attention_floor}.")
        if not 0 <= self.seed_background <= self.seed_foreground <= 1 or self.seed_foreground == 0:
            raise DataError(
                "Video graph: expected 0 <= seed_background <= seed_foreground <= 1 and seed_foreground > 0, got "
                f"{self.seed_background} and {self.seed_foreground}."
            )
        if self.motion_full_at is not None and not 0 < self.motion_full_at <= 1:
            raise DataError(f"Video graph: motion_full_at must be in (0, 1] or None, got {self.motion_full_at}.")
        for name, known in (("motion", MOTION_TERMS), ("seeds", SEEDS), ("motion_preset", tuple(PRESETS))):
            value = getattr(self, name)
            if value not in known:
                raise DataError(
                    f"Video graph: unknown {name} '{value}'{nearest_name(str(value), known)} Known: {', '.join(known)}."
                )
        least = {"num_superpixels": 2, "foreground_components": 1, "background_components": 1, "em_iters": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise DataError(f"Video graph: {name} must be >= {bound}, got {getattr(self, name)}.")
        if self.max_edge is not None and self.max_edge < 16:
            raise DataError(f"Video graph: max_edge must be >= 16 pixels or None, got {self.max_edge}.")
        if not (0 < self.compactness < np.inf and (self.bin_width is None or 0 < self.bin_width < np.inf)):
            raise DataError(
                "Video graph: compactness must be > 0, and bin_width > 0 or None, got "
                f"{self.compactness} and {self.bin_width}."
            )
        if not 0 <= self.overlap < self.window:
            raise DataError(
                f"Video graph: overlap must be >= 0 and smaller than window, got {self.overlap} and {self.window}."
            )

    def observation(self) -> MotionSettings:
        """Return the settings of the parts that are shared with motion segmentation."""
        return motion_settings(
            self.motion_preset,
            residual_share=0.0,  # inside-outside maps alone
            flow_settings=self.flow_settings,
            max_edge=self.max_edge,
            num_superpixels=self.num_superpixels,
            compactness=self.compactness,
            foreground_components=self.foreground_components,
            background_components=self.background_components,
            em_iters=self.em_iters,
            bin_width=self.bin_width,
            spatial_weight=self.spatial_weight,
            temporal_weight=self.temporal_weight,
        )
