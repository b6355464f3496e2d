"""The settings of motion segmentation, and named sets of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pseudolabel.camera import CameraModel
from pseudolabel.flow import FlowSettings
from pseudolabel.inside_outside import Partials
from pseudolabel.types import DataError, nearest_name

LookBack = Literal["none", "last", "all"]


@dataclass(frozen=True)
class MotionSettings:
    """Every constant of :mod:`pseudolabel.motion`; the defaults are those of Papazoglou and Ferrari's program.

    Attributes:
        flow_settings: how flow is computed where it is not given.
        round_flow: round flow to whole pixels, as the program stores it.
        max_edge: frames are made so small that the longer edge has at most so many pixels; None = never. Not where flow
            or superpixels are given.
        num_superpixels: wanted per frame.
        compactness: of the superpixels.
        gain: lambda_m, see :func:`pseudolabel.inside_outside.motion_boundaries`.
        threshold: see :func:`pseudolabel.inside_outside.inside_outside_map`; so are ``partials``, ``votes``, ``border``
            and ``least_quality``.
        camera: the background's motion that is taken off the flow, see :func:`pseudolabel.camera.background_flow`.
        tolerance: of the camera's motion, in pixels.
        residual_share: the evidence of a superpixel is the mean of its share inside and of its residual speed, with
            this weight of the latter; 0 = inside-outside maps alone.
        residual_percentile: see :func:`pseudolabel.camera.residual_evidence`; so is ``residual_floor``.
        explain_noise: residual speed counts as far as the camera's motion does not explain the next frame, see
            :func:`pseudolabel.camera.unexplained`; None = fully.
        strength_percentile: |grad f| is scaled by its value at this percentile, see
            :func:`pseudolabel.camera.scaled_strength`; None = not scaled. So are ``strength_target`` and
            ``strength_floor``.
        motion_percentile: an object as small as what this leaves is still seen.
        least_motion: a frame where ``motion_percentile`` of the residual speed is lower, in pixels, shows no motion.
        least_motion_share: the same as a share of the background's median speed: flow errors grow with it.
        most_covered: a cut that covers a larger share of the superpixels is a picture that moves as a whole.
        trust_leaving: whether flow that points out of the picture counts.
        look_back: which frames take evidence from the flow to the frame before, where flow is not given: ``"none"``,
            ``"last"`` = only the last frame, which has no other, or ``"all"`` = the mean of both directions.
        decay: gamma of :func:`pseudolabel.location.propagate`.
        distrust: transfer = exp(-distrust * mean |grad f| of a superpixel).
        seed_foreground: superpixels with a larger share inside start the foreground's colours.
        seed_background: superpixels with a smaller share inside start the background's colours.
        foreground_components: of the colour mixture.
        background_components: of the colour mixture.
        em_iters: steps of EM.
        bin_width: colours are merged into cubes of this side before the fit; None = never (slow, and hardly different).
        fade: a frame dt away counts exp(-fade dt^2) in a frame's colours.
        model_span: so many neighbouring frames share one pair of mixtures; 1 = one pair per frame (slow).
        location_weight: of the location prior in the unary term.
        spatial_weight: of the Potts term between neighbours in a frame.
        temporal_weight: of the Potts term between superpixels linked by flow.
        iterations: of {fit colours, cut}; ends earlier when the cut stays the same.
        window: frames solved at once; bounds memory and time in long clips.
        overlap: frames that neighbouring windows share.
        softness: of the soft foreground probability, in units of energy.
    """

    flow_settings: FlowSettings = field(default_factory=FlowSettings)
    round_flow: bool = True
    max_edge: int | None = 400
    num_superpixels: int = 1500
    compactness: float = 30.0
    gain: float = 0.7
    threshold: float = 0.5
    partials: Partials = "cross"
    votes: int = 5
    border: int = 20
    least_quality: float = 0.2
    camera: CameraModel = "none"
    tolerance: float = 1.0
    residual_share: float = 0.0
    residual_percentile: float = 98.0
    residual_floor: float = 1.0
    explain_noise: float | None = None
    strength_percentile: float | None = None
    strength_target: float = 1.5
    strength_floor: float = 0.05
    motion_percentile: float = 99.5
    least_motion: float = 0.0
    least_motion_share: float = 0.0
    most_covered: float = 1.0
    trust_leaving: bool = True
    look_back: LookBack = "none"
    decay: float = 0.5
    distrust: float = 2.0
    seed_foreground: float = 0.2
    seed_background: float = 0.05
    foreground_components: int = 5
    background_components: int = 8
    em_iters: int = 1
    bin_width: float | None = None
    fade: float = 1e-4
    model_span: int = 1
    location_weight: float = 5.0
    spatial_weight: float = 500.0
    temporal_weight: float = 400.0
    iterations: int = 4
    window: int = 100
    overlap: int = 20
    softness: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.window:
            raise DataError(
                f"Motion: overlap must be >= 0 and smaller than window, got {self.overlap} and {self.window}."
            )
        if self.look_back not in ("none", "last", "all"):
            raise DataError(f"Motion: look_back must be 'none', 'last' or 'all', got '{self.look_back}'.")
        if self.iterations < 1 or self.model_span < 1 or self.num_superpixels < 2:
            raise DataError(
                f"Motion: iterations and model_span must be >= 1 and num_superpixels >= 2, got {self.iterations}, "
                f"{self.model_span} and {self.num_superpixels}."
            )


PRESETS: dict[str, MotionSettings] = {
    "papazoglou": MotionSettings(),
    "robust": MotionSettings(
        round_flow=False,
        max_edge=480,
        partials="all",
        border=0,
        least_quality=0.0,
        camera="homography",
        residual_share=0.5,
        strength_percentile=97.0,
        least_motion=0.25,
        least_motion_share=0.05,
        most_covered=0.9,
        trust_leaving=False,
        look_back="last",
        em_iters=5,
        bin_width=4.0,
        model_span=10,
    ),
}
"""``papazoglou``: the paper's method with its authors' constants, made for their flow at 400 pixels. ``robust``: the
default: without absolute thresholds on the flow, and with the camera's motion taken off it."""


def motion_settings(preset: str = "robust", **changes: Any) -> MotionSettings:
    """Return a named set of settings with some of them changed.

    Args:
        preset: a key of ``PRESETS``.
        changes: fields of :class:`MotionSettings`.

    Raises:
        DataError: the preset or a setting is unknown; names the nearest one.
    """
    if preset not in PRESETS:
        raise DataError(
            f"Motion: unknown preset '{preset}'{nearest_name(preset, PRESETS)} Known: {', '.join(PRESETS)}."
        )
    known = MotionSettings.__dataclass_fields__
    for name in changes:
        if name not in known:
            raise DataError(f"Motion: unknown setting '{name}'{nearest_name(name, known)} Known: {', '.join(known)}.")
    return replace(PRESETS[preset], **changes)
