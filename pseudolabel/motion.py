"""Segment what moves differently from its surroundings, without supervision, in clips of any length.

Papazoglou and Ferrari, "Fast object segmentation in unconstrained video", ICCV 2013: motion boundaries, inside-outside
maps, a location prior gathered over time, colour mixtures, and an exact cut on superpixels in space and time. Each step
is a function of its own: :mod:`~pseudolabel.inside_outside`, :mod:`~pseudolabel.location`,
:mod:`~pseudolabel.motion_cut`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pseudolabel.motion_cut import build_graph, segment_run
from pseudolabel.motion_evidence import FrameEvidence, observe
from pseudolabel.motion_settings import MotionSettings, motion_settings
from pseudolabel.types import Annotation, DataError, FloatArray, Int32Array, UInt8Array

_log = logging.getLogger(__name__)


@dataclass
class FrameSegment:
    """The moving object in one frame.

    Attributes:
        labels: uint8 (H, W), 1 = moving object.
        probability: float32 (H, W) in [0, 1], soft foreground; above 0.5 where labels are 1.
        quality: in [0, 1]: how sure the cut is within the segment; 0 when there is none.
    """

    labels: UInt8Array
    probability: FloatArray
    quality: float


def stream_motion(
    frames: Iterable[UInt8Array],
    *,
    preset: str = "robust",
    settings: MotionSettings | None = None,
    flow: Iterable[FloatArray] | None = None,
    superpixels: Iterable[Int32Array] | None = None,
    **changes: Any,
) -> Iterator[FrameSegment]:
    """Segment a stream of frames; memory is bounded by ``settings.window`` whatever the length.

    Long clips are solved in windows that share ``settings.overlap`` frames; the middle of what they share is where one
    window's result gives way to the next one's.

    Args:
        frames: uint8 (H, W, 3) each, RGB, all of one size; any iterable.
        preset: named settings, see :data:`pseudolabel.motion_settings.PRESETS`.
        settings: replaces ``preset``.
        flow: (H, W, 2) each, (dx, dy) in pixels from a frame to the next, one per pair; computed when None.
        superpixels: int (H, W) each, one per frame; computed when None.
        changes: single fields of the settings.

    Yields:
        one segment per frame, in order.

    Raises:
        DataError: frames differ in size or are not uint8 RGB, flow or superpixels do not fit or hold NaN, there is no
            frame, or a setting is unknown.
    """
    if settings is not None and changes:
        raise DataError("Motion: give settings, or single changes of a preset, not both.")
    settings = settings or motion_settings(preset, **changes)
    held: list[FrameEvidence] = []
    done = 0  # leading frames of ``held`` that were yielded with the window before
    for evidence in observe(frames, settings, flow=flow, superpixels=superpixels):
        if len(held) == settings.window:
            upto = settings.window - settings.overlap // 2
            yield from _solve(held, done, upto, settings)
            held = held[settings.window - settings.overlap :]
            done = settings.overlap - settings.overlap // 2
        held.append(evidence)
    yield from _solve(held, done, len(held), settings)


def _solve(run: Sequence[FrameEvidence], first: int, last: int, settings: MotionSettings) -> Iterator[FrameSegment]:
    graph = build_graph(run, settings)
    cut = segment_run(run, graph, settings)
    if not cut.found:
        _log.warning("no motion: nothing in %d frames moves differently from its surroundings", len(run))
    for t in range(first, last):
        here = slice(graph.starts[t], graph.starts[t + 1])
        regions = run[t].superpixels
        labels = cut.labels[here].astype(np.uint8)[regions]
        probability = cut.probability[here][regions]
        quality = float(probability[labels > 0].mean()) if labels.any() else 0.0
        height, width = run[t].size
        if regions.shape != (height, width):
            labels = labels[_nearest(height, labels.shape[0])][:, _nearest(width, labels.shape[1])]
            probability = probability[_nearest(height, regions.shape[0])][:, _nearest(width, regions.shape[1])]
        yield FrameSegment(labels, probability, min(1.0, quality))


def _nearest(size: int, available: int) -> npt.NDArray[np.int64]:
    return np.minimum(((np.arange(size) + 0.5) * available / size).astype(np.int64), available - 1)


def segment_motion(
    frames: Iterable[UInt8Array] | UInt8Array,
    *,
    preset: str = "robust",
    settings: MotionSettings | None = None,
    flow: Iterable[FloatArray] | None = None,
    superpixels: Iterable[Int32Array] | None = None,
    **changes: Any,
) -> Annotation:
    """Segment the object that moves differently from its surroundings.

    A clip without such motion (a still, one frame, a picture that moves as a whole) gives an empty annotation of
    quality zero, and logs "no motion".

    Args:
        frames: uint8 (T, H, W, 3), RGB, or an iterable of uint8 (H, W, 3).
        preset: named settings; ``"papazoglou"`` is the paper's method with its authors' constants.
        settings: replaces ``preset``.
        flow: (T-1, H, W, 2), (dx, dy) in pixels, from each frame to the next; computed when None.
        superpixels: int (T, H, W); computed when None.
        changes: single fields of :class:`~pseudolabel.motion_settings.MotionSettings`.

    Returns:
        labels uint8 (T, H, W), 1 = moving object, and quality (T,) in [0, 1].

    Raises:
        DataError: as :func:`stream_motion`.
    """
    annotation, _ = segment_motion_soft(
        frames, preset=preset, settings=settings, flow=flow, superpixels=superpixels, keep_soft=False, **changes
    )
    return annotation


def segment_motion_soft(
    frames: Iterable[UInt8Array] | UInt8Array,
    *,
    preset: str = "robust",
    settings: MotionSettings | None = None,
    flow: Iterable[FloatArray] | None = None,
    superpixels: Iterable[Int32Array] | None = None,
    keep_soft: bool = True,
    **changes: Any,
) -> tuple[Annotation, FloatArray | None]:
    """As :func:`segment_motion`, with the soft foreground probability, float32 (T, H, W) in [0, 1], unless not kept."""
    labels, soft, quality = [], [], []
    for segment in stream_motion(
        frames, preset=preset, settings=settings, flow=flow, superpixels=superpixels, **changes
    ):
        labels.append(segment.labels)
        quality.append(segment.quality)
        if keep_soft:
            soft.append(segment.probability)
    return Annotation(np.stack(labels), np.array(quality, np.float32)), np.stack(soft) if keep_soft else None
