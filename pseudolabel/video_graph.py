"""Segment the object of a video's tag: one exact cut over attention, motion and colour of a whole clip.

Hong et al., "Weakly Supervised Semantic Segmentation using Web-Crawled Videos", CVPR 2017, section 3.2. The energy is
in :mod:`pseudolabel.video_graph_terms`; superpixels, flow, inside-outside maps and pairwise weights are those of
:mod:`pseudolabel.motion`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import tee

import cv2
import numpy as np
import numpy.typing as npt

from pseudolabel.motion_evidence import FrameEvidence, observe
from pseudolabel.superpixels import IntArray
from pseudolabel.types import BoolArray, DataError, FloatArray, UInt8Array
from pseudolabel.video_graph_settings import VideoGraphSettings
from pseudolabel.video_graph_terms import attention_share, cut, video_energy

_log = logging.getLogger(__name__)

Maps = Iterable[npt.NDArray[np.floating]]
"""Attention of the frames, float (H, W) each, >= 0."""


def segment_video(
    frames: Sequence[UInt8Array] | UInt8Array,
    attention: Sequence[npt.NDArray[np.floating]] | npt.NDArray[np.floating] | None,
    *,
    flow: Iterable[FloatArray] | None = None,
    settings: VideoGraphSettings | None = None,
) -> BoolArray:
    """Segment a clip by one exact cut over all its frames.

    Memory and time grow with the clip; for long ones see :func:`stream_video_segments`. A clip whose attention is
    silent everywhere (without attention: in which nothing moves) gives empty masks and a warning.

    Args:
        frames: uint8 (T, H, W, 3), RGB, T >= 1.
        attention: float (T, H, W), finite, >= 0, on any scale; None = motion and colour only.
        flow: (T-1, H, W, 2), (dx, dy) in pixels from each frame to the next; computed when None.
        settings: weights and constants; the paper's when None.

    Returns:
        bool (T, H, W), True = object.

    Raises:
        DataError: there is no frame, frames are not uint8 RGB of one size, attention does not fit, is negative or not
            finite, flow does not fit, or both attention and the motion term are off.
    """
    if attention is not None and len(attention) != len(frames):
        raise DataError(
            f"Video graph: {len(frames)} frames but {len(attention)} attention maps, expected one map per frame."
        )
    run, shares = [], []
    settings = settings or VideoGraphSettings()
    _check_terms(attention, settings)
    for evidence, share in _observe(frames, attention, flow, settings):
        run.append(evidence)
        shares.append(share)
    return np.stack(list(_masks(run, _solve(run, shares, np.zeros(0, bool), settings), 0, len(run))))


def stream_video_segments(
    frames: Iterable[UInt8Array],
    attention: Maps | None,
    *,
    flow: Iterable[FloatArray] | None = None,
    settings: VideoGraphSettings | None = None,
) -> Iterator[BoolArray]:
    """Segment a video of any length in memory that does not grow with it.

    The video is solved in windows of ``settings.window`` frames, each with its own colours, that share
    ``settings.overlap`` frames. Of what two windows share, the first half is given out with the earlier window, and the
    later one takes these labels as fixed: its cut is the exact minimum that goes on from them. The second half only
    serves the earlier window to look ahead, and is solved anew. A video of one window is solved as
    :func:`segment_video` does.

    Args:
        frames: uint8 (H, W, 3) each, RGB, all of one size; any iterable.
        attention: float (H, W) each, one per frame, finite, >= 0; None = motion and colour only.
        flow: as :func:`segment_video`.
        settings: as :func:`segment_video`.

    Yields:
        bool (H, W), one per frame, in order.

    Raises:
        DataError: as :func:`segment_video`.
    """
    settings = settings or VideoGraphSettings()
    _check_terms(attention, settings)
    yield from _stream(_observe(frames, attention, flow, settings), settings)


def stream_video_ways(
    frames: Iterable[UInt8Array],
    attention: Maps | None,
    *,
    ways: Mapping[str, VideoGraphSettings],
    flow: Iterable[FloatArray] | None = None,
) -> Iterator[dict[str, BoolArray]]:
    """Segment a video in several ways at once, each as :func:`stream_video_segments` does; each frame is observed once.

    A way with ``lambda_a`` 0 is not shown the attention: its colours start from motion.

    Args:
        frames: as :func:`stream_video_segments`.
        attention: as :func:`stream_video_segments`.
        ways: name -> settings, one at least, that differ only in how the energy weighs what is observed.
        flow: as :func:`stream_video_segments`.

    Yields:
        name -> bool (H, W), for every frame in order.

    Raises:
        DataError: as :func:`stream_video_segments`.
        ValueError: there is no way, or two of them observe frames differently.
    """
    first = next(iter(ways.values()), None)
    if first is None or any(of.observation() != first.observation() for of in ways.values()):
        raise ValueError(f"ways must be one or more that observe frames alike, got {dict(ways)}")
    for of in ways.values():
        _check_terms(attention, of)
    copies = tee(_observe(frames, attention, flow, first), len(ways))
    streams = [
        _stream(observed if of.lambda_a else ((evidence, None) for evidence, _ in observed), of)
        for observed, of in zip(copies, ways.values(), strict=True)
    ]
    for masks in zip(*streams, strict=True):
        yield dict(zip(ways, masks, strict=True))


def _stream(
    observed: Iterable[tuple[FrameEvidence, FloatArray | None]], settings: VideoGraphSettings
) -> Iterator[BoolArray]:
    run: list[FrameEvidence] = []
    shares: list[FloatArray | None] = []
    fixed = np.zeros(0, bool)
    done = 0  # leading frames of ``run`` that were given out with the window before
    for evidence, share in observed:
        if len(run) == settings.window:
            labels = _solve(run, shares, fixed, settings)
            upto, kept = settings.window - (settings.overlap + 1) // 2, settings.window - settings.overlap
            yield from _masks(run, labels, done, upto)
            starts = _starts(run)
            fixed = labels[starts[kept] : starts[upto]]
            run, shares, done = run[kept:], shares[kept:], upto - kept
        run.append(evidence)
        shares.append(share)
    yield from _masks(run, _solve(run, shares, fixed, settings), done, len(run))


def _check_terms(attention: object, settings: VideoGraphSettings) -> None:
    if (attention is None or settings.lambda_a == 0) and settings.lambda_m == 0:
        raise DataError("Video graph: no attention is given and lambda_m is 0. Give one of them.")


def _observe(
    frames: Iterable[UInt8Array],
    attention: Maps | None,
    flow: Iterable[FloatArray] | None,
    settings: VideoGraphSettings,
) -> Iterator[tuple[FrameEvidence, FloatArray | None]]:
    maps = None if attention is None else iter(attention)
    for number, evidence in enumerate(observe(frames, settings.observation(), flow=flow)):
        if maps is None:
            yield evidence, None
            continue
        one = next(maps, None)
        if one is None:
            raise DataError(f"Video graph: attention ends before frame {number}, expected one map per frame.")
        yield evidence, attention_share(one, evidence)
    if maps is not None and next(maps, None) is not None:
        raise DataError("Video graph: there are more attention maps than frames, expected one map per frame.")


def _solve(
    run: Sequence[FrameEvidence], shares: Sequence[FloatArray | None], fixed: BoolArray, settings: VideoGraphSettings
) -> BoolArray:
    known = [share for share in shares if share is not None]
    energy = video_energy(run, known or None, settings)
    if not energy.found:
        _log.info("no object: attention, or without it motion, is silent in all of %d frames", len(run))
    return cut(energy, fixed)


def _starts(run: Sequence[FrameEvidence]) -> IntArray:
    return np.concatenate([[0], np.cumsum([len(frame.colours) for frame in run])])


def _masks(run: Sequence[FrameEvidence], labels: BoolArray, first: int, last: int) -> Iterator[BoolArray]:
    """Yield the masks of the frames ``first`` to ``last - 1`` at their own size."""
    starts = _starts(run)
    for t in range(first, last):
        mask = labels[starts[t] : starts[t + 1]][run[t].superpixels]
        height, width = run[t].size
        if mask.shape != (height, width):
            mask = cv2.resize(mask.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT) > 0
        yield mask
