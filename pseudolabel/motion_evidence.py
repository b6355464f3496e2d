"""What one frame tells about motion: a stream of small records, so that no flow field is kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pseudolabel.camera import background_flow, residual_evidence, scaled_strength, stays_within, unexplained
from pseudolabel.flow import flow_with
from pseudolabel.inside_outside import check_flow, gradient_norm, inside_outside_map
from pseudolabel.location import Links
from pseudolabel.motion_settings import MotionSettings
from pseudolabel.superpixels import (
    IntArray,
    adjacency,
    centres,
    region_means,
    segment_superpixels,
    temporal_links,
)
from pseudolabel.types import DataError, FloatArray, Int32Array, UInt8Array


@dataclass
class FrameEvidence:
    """One frame as a graph of N superpixels.

    Attributes:
        size: (H, W) of the frame as it came.
        superpixels: uint16 or int32 (h, w), ids 0..N-1, of the frame as it was worked on.
        colours: float32 (N, 3), mean RGB.
        centres: float32 (N, 2), (x, y).
        edges: int64 (E, 2), neighbours.
        inside: float32 (N,), see :func:`moving_share`; None when there is no flow.
        transfer: float32 (N,), trust in the flow.
        links: to the superpixels of the next frame; None at the end.
    """

    size: tuple[int, int]
    superpixels: npt.NDArray[np.integer[Any]]
    colours: FloatArray
    centres: FloatArray
    edges: IntArray
    inside: FloatArray | None
    transfer: FloatArray
    links: Links | None


def observe(
    frames: Iterable[UInt8Array],
    settings: MotionSettings,
    *,
    flow: Iterable[FloatArray] | None = None,
    superpixels: Iterable[Int32Array] | None = None,
) -> Iterator[FrameEvidence]:
    """Turn frames into evidence, one by one; holds three frames at a time.

    Args:
        frames: uint8 (H, W, 3), RGB, all of one size.
        settings: see :class:`MotionSettings`.
        flow: (H, W, 2) each, from a frame to the next, one fewer than frames (one more is not looked at); computed when
            None.
        superpixels: int (H, W) each, one per frame, any numbers >= 0; computed when None.

    Yields:
        one record per frame.

    Raises:
        DataError: a frame, flow or label map is of another kind or size, has NaN, or there are too few of them.
    """
    given = flow is not None or superpixels is not None
    flows = iter(flow) if flow is not None else None
    maps = iter(superpixels) if superpixels is not None else None
    size: tuple[int, int] | None = None
    before: tuple[UInt8Array, Int32Array] | None = None
    earlier: UInt8Array | None = None  # the frame before ``before``
    back = settings.look_back if flow is None else "none"
    for number, frame in enumerate(frames):
        _check_frame(frame, number, size)
        size = (frame.shape[0], frame.shape[1])
        image = frame if given else shrink(frame, settings.max_edge)
        labels = _labels(image, number, maps, settings)
        if before is not None:
            to_next = _flow(before[0], image, number - 1, flows, settings)
            to_past = (
                _flow(before[0], earlier, number, None, settings) if back == "all" and earlier is not None else None
            )
            yield _record(size, *before, settings, (image, to_next), (earlier, to_past), labels)
            earlier = before[0]
        before = (image, labels)
    if before is None or size is None:
        raise DataError("Motion: the clip has no frames. Check that the video could be decoded.")
    to_past = _flow(before[0], earlier, 0, None, settings) if back != "none" and earlier is not None else None
    yield _record(size, *before, settings, (None, None), (earlier, to_past), None)


def shrink(frame: UInt8Array, max_edge: int | None) -> UInt8Array:
    """Make the frame so small that its longer edge has at most ``max_edge`` pixels; None = as it is."""
    height, width = frame.shape[:2]
    if max_edge is None or max(height, width) <= max_edge:
        return frame
    factor = max_edge / max(height, width)
    target = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(frame, target, interpolation=cv2.INTER_AREA), np.uint8)


def _check_frame(frame: UInt8Array, number: int, size: tuple[int, int] | None) -> None:
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8:
        found = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise DataError(f"Motion: frame {number} must be uint8 (H, W, 3), got {found}. Convert it to 8-bit RGB.")
    if not frame.size:
        raise DataError(f"Motion: frame {number} is empty, {frame.shape}. Check that the video could be decoded.")
    if size is not None and frame.shape[:2] != size:
        raise DataError(
            f"Motion: frame {number} is {frame.shape[1]}x{frame.shape[0]}, the frames before it {size[1]}x{size[0]}. "
            "Resize the frames, or cut the video where its size changes."
        )


def _labels(image: UInt8Array, number: int, maps: Iterator[Int32Array] | None, settings: MotionSettings) -> Int32Array:
    if maps is None:
        return segment_superpixels(image, n=settings.num_superpixels, compactness=settings.compactness)
    labels = next(maps, None)
    if labels is None:
        raise DataError(f"Motion: superpixels end before frame {number}, expected one label map per frame.")
    labels = np.asarray(labels)
    if labels.shape != image.shape[:2] or labels.dtype.kind not in "iu":
        raise DataError(
            f"Motion: superpixels of frame {number} are {labels.dtype} {labels.shape}, expected whole numbers "
            f"{image.shape[:2]} like the frame. Compute them on the frames that are passed."
        )
    ids = np.unique(labels, return_inverse=True)[1]  # numbers may have gaps and start anywhere
    return ids.reshape(labels.shape).astype(np.int32)


def _flow(
    first: UInt8Array, second: UInt8Array, number: int, flows: Iterator[FloatArray] | None, settings: MotionSettings
) -> FloatArray:
    if flows is None:
        field = flow_with(settings.flow_settings, first, second)
    else:
        found = next(flows, None)
        if found is None:
            raise DataError(f"Motion: flow ends before frame {number}, expected one field per pair of frames.")
        field = np.asarray(found, np.float32)
        if field.shape != (*first.shape[:2], 2):
            raise DataError(
                f"Motion: flow of frame {number} is {field.shape}, expected {(*first.shape[:2], 2)}. Compute it on the "
                "frames that are passed."
            )
        check_flow(field)
    return np.rint(field) if settings.round_flow else field


def moving_share(
    field: FloatArray, labels: Int32Array, settings: MotionSettings, images: tuple[UInt8Array, UInt8Array] | None = None
) -> FloatArray:
    """Return how far each superpixel seems to be inside a moving object, by one flow field.

    Args:
        field: float32 (H, W, 2), (dx, dy) in pixels.
        labels: int (H, W), ids 0..N-1.
        settings: see :class:`MotionSettings`.
        images: the frame and the one that the flow points to, uint8 (H, W, 3), for ``settings.explain_noise``.

    Returns:
        float32 (N,) in [0, 1]: share inside motion boundaries, mixed with the speed that the camera does not explain.
    """
    count = int(labels.max()) + 1
    background = background_flow(field, model=settings.camera, tolerance=settings.tolerance)
    residual = field - background
    speed = np.asarray(cv2.magnitude(residual[..., 0], residual[..., 1]), np.float32)
    strength = gradient_norm(residual, partials=settings.partials)
    if not settings.trust_leaving:
        seen = stays_within(field)
        speed, strength = speed * seen, strength * seen
    least = settings.least_motion
    if settings.least_motion_share:
        camera = np.median(cv2.magnitude(background[::2, ::2, 0].copy(), background[::2, ::2, 1].copy()))
        least = max(least, settings.least_motion_share * float(camera))
    if least and np.percentile(speed[::2, ::2], settings.motion_percentile) < least:
        return np.zeros(count, np.float32)
    share = settings.residual_share
    evidence = np.zeros(count, np.float32)
    if share < 1:
        if settings.strength_percentile is not None:
            strength = scaled_strength(
                strength,
                percentile=settings.strength_percentile,
                target=settings.strength_target,
                floor=settings.strength_floor,
            )
        area, _ = inside_outside_map(
            residual,
            gain=settings.gain,
            threshold=settings.threshold,
            votes=settings.votes,
            border=settings.border,
            least_quality=settings.least_quality,
            strength=strength,
        )
        evidence += (1 - share) * region_means(labels, area)[:, 0]
    if share > 0:
        top = {"percentile": settings.residual_percentile, "floor": settings.residual_floor}
        moving = residual_evidence(speed, **top)
        if settings.explain_noise is not None and images is not None:
            moving = moving * unexplained(*images, field, background, noise=settings.explain_noise)
        evidence += share * region_means(labels, moving)[:, 0]
    return evidence


def _record(
    size: tuple[int, int],
    image: UInt8Array,
    labels: Int32Array,
    settings: MotionSettings,
    after: tuple[UInt8Array | None, FloatArray | None],
    earlier: tuple[UInt8Array | None, FloatArray | None],
    following: Int32Array | None,
) -> FrameEvidence:
    count = int(labels.max()) + 1
    shares = [
        moving_share(field, labels, settings, (image, other))
        for other, field in (after, earlier)
        if field is not None and other is not None
    ]
    to_next = after[1]
    links, transfer = None, np.zeros(count, np.float32)
    if to_next is not None and following is not None:
        strength = gradient_norm(to_next, partials=settings.partials)
        transfer = np.exp(-settings.distrust * region_means(labels, strength)[:, 0])
        links = temporal_links(labels, following, to_next)
    return FrameEvidence(
        size=size,
        superpixels=labels.astype(np.uint16) if count <= np.iinfo(np.uint16).max + 1 else labels,
        colours=region_means(labels, image),
        centres=centres(labels),
        edges=adjacency(labels)[0],
        inside=np.mean(shares, axis=0, dtype=np.float32) if shares else None,
        transfer=transfer,
        links=links,
    )
