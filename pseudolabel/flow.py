"""Dense optical flow between frames, and its consistency check; :mod:`~pseudolabel.flow_cache` keeps it."""

from __future__ import annotations

import hashlib
import itertools
import pickle
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from pseudolabel.types import BoolArray, DataError, FloatArray, UInt8Array, nearest_name

Method = Literal["dis", "farneback", "raft"]
Preset = Literal["ultrafast", "fast", "medium"]

_DIS: dict[str, int] = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
_FARNEBACK: dict[str, dict[str, Any]] = {
    "ultrafast": {"levels": 3, "winsize": 9, "iterations": 1, "poly_n": 5, "poly_sigma": 1.1},
    "fast": {"levels": 4, "winsize": 13, "iterations": 2, "poly_n": 5, "poly_sigma": 1.1},
    "medium": {"levels": 5, "winsize": 15, "iterations": 3, "poly_n": 7, "poly_sigma": 1.5},
}
_SMALLEST = 16
"""DIS and RAFT need so many pixels along each side; smaller frames are mirrored outwards."""

_RAFT_STRIDE, _RAFT_SMALLEST = 8, 128


@dataclass(frozen=True)
class FlowSettings:
    """How flow is computed.

    Attributes:
        method: ``"dis"`` (Kroeger et al. 2016), ``"farneback"`` (2003) or ``"raft"`` (Teed and Deng 2020).
        preset: quality against time, of DIS and Farneback.
        weights: file of torchvision's RAFT weights; its name must hold ``small`` for the small network.
    """

    method: Method = "dis"
    preset: Preset = "medium"
    weights: str | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("method", self.method, ("dis", "farneback", "raft")),
            ("preset", self.preset, _DIS),
        ):
            if value not in known:
                raise DataError(
                    f"Flow: unknown {name} '{value}'{nearest_name(str(value), known)} Known: {', '.join(known)}."
                )
        if self.method == "raft" and not self.weights:
            raise DataError(
                "Flow: RAFT needs the path of its weights, got none. Pass weights=..., or use method='dis'."
            )

    @property
    def key(self) -> str:
        """A short name of these settings, for folders."""
        return hashlib.sha1(repr(astuple(self)).encode(), usedforsecurity=False).hexdigest()[:12]


def check_frames(first: npt.NDArray[np.generic], second: npt.NDArray[np.generic]) -> None:
    """Refuse what is no pair of frames.

    Raises:
        DataError: frames are not uint8 (H, W, 3) of one size.
    """
    for frame in (first, second):
        if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8 or not frame.size:
            raise DataError(
                f"Flow: frames must be uint8 (H, W, 3), got {frame.dtype} {tuple(frame.shape)}. Convert to 8-bit RGB."
            )
    if first.shape != second.shape:
        raise DataError(
            f"Flow: frames {first.shape[1]}x{first.shape[0]} and {second.shape[1]}x{second.shape[0]} differ in size, "
            "expected one size per video. Resize the frames, or cut the video where its size changes."
        )


def compute_flow(
    first: UInt8Array,
    second: UInt8Array,
    *,
    method: Method = "dis",
    preset: Preset = "medium",
    weights: str | None = None,
) -> FloatArray:
    """Return where the pixels of ``first`` are in ``second``.

    Args:
        first: uint8 (H, W, 3), RGB.
        second: uint8 (H, W, 3), RGB.
        method: see :class:`FlowSettings`.
        preset: see :class:`FlowSettings`.
        weights: see :class:`FlowSettings`.

    Returns:
        float32 (H, W, 2), (dx, dy) in pixels: pixel (x, y) of ``first`` is at (x + dx, y + dy) in ``second``.

    Raises:
        DataError: frames are not uint8 (H, W, 3) of one size, settings are unknown, or weights cannot be read.
    """
    return flow_with(FlowSettings(method, preset, weights), first, second)


def flow_with(settings: FlowSettings, first: UInt8Array, second: UInt8Array) -> FloatArray:
    """As :func:`compute_flow`, with its settings in one object."""
    check_frames(first, second)
    if settings.method == "raft":
        return _raft(first, second, str(settings.weights))
    height, width = first.shape[:2]
    below, right = max(0, _SMALLEST - height), max(0, _SMALLEST - width)
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in (first, second)]
    if below or right:
        grey = [cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REFLECT) for image in grey]
    if settings.method == "dis":
        flow = _dis(settings.preset).calc(grey[0], grey[1], None)
    else:
        start = np.zeros((*grey[0].shape, 2), np.float32)
        flow = cv2.calcOpticalFlowFarneback(
            grey[0], grey[1], start, pyr_scale=0.5, flags=0, **_FARNEBACK[settings.preset]
        )
    return np.ascontiguousarray(flow[:height, :width], np.float32)


def _dis(preset: str) -> Any:
    return cv2.DISOpticalFlow.create(_DIS[preset])


@lru_cache(maxsize=1)
def _raft_network(weights: str) -> Any:
    import torch
    from torchvision.models.optical_flow import raft_large, raft_small

    network = (raft_small if "small" in Path(weights).name else raft_large)(weights=None)
    try:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise DataError(
            f"RAFT weights '{weights}' cannot be loaded ({type(error).__name__}: {reason}), expected a state dict of "
            "torchvision's raft_large, or raft_small with 'small' in the file's name. Save it with "
            "torch.save(network.state_dict(), path)."
        ) from error
    return network.eval()


def _raft(first: UInt8Array, second: UInt8Array, weights: str) -> FloatArray:
    import torch

    height, width = first.shape[:2]
    below = max(-height % _RAFT_STRIDE, _RAFT_SMALLEST - height)
    right = max(-width % _RAFT_STRIDE, _RAFT_SMALLEST - width)
    padded = [cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REPLICATE) for frame in (first, second)]
    images = [torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 127.5 - 1.0 for frame in padded]
    with torch.no_grad():
        flow = _raft_network(weights)(*images)[-1][0].permute(1, 2, 0).numpy()
    return np.ascontiguousarray(flow[:height, :width], np.float32)


def flow_of_clip(
    frames: Sequence[UInt8Array] | UInt8Array, *, settings: FlowSettings | None = None, backward: bool = True
) -> tuple[FloatArray, FloatArray | None]:
    """Return the flow between all neighbouring frames.

    Args:
        frames: uint8 (T, H, W, 3), RGB, T >= 2.
        settings: how; DIS medium when None.
        backward: whether to compute the flow from t + 1 to t as well.

    Returns:
        forward float32 (T-1, H, W, 2), and backward of the same shape, from frame t + 1 to t, or None.

    Raises:
        DataError: fewer than two frames, or as :func:`compute_flow`.
    """
    if len(frames) < 2:
        raise DataError(f"Flow needs at least two frames, got {len(frames)}. Pass a longer clip.")
    settings = settings or FlowSettings()
    pairs = list(itertools.pairwise(frames))
    forward = np.stack([flow_with(settings, a, b) for a, b in pairs])
    return forward, np.stack([flow_with(settings, b, a) for a, b in pairs]) if backward else None


def warp(values: FloatArray, flow: FloatArray) -> FloatArray:
    """Look ``values`` of the second frame up where the flow of the first one points (bilinear).

    Args:
        values: float32 (H, W) or (H, W, D), given in the second frame.
        flow: float32 (H, W, 2), from the first frame to the second.

    Returns:
        float32 of the values' shape; beyond the edge the nearest pixel counts.
    """
    height, width = flow.shape[:2]
    x = flow[..., 0] + np.arange(width, dtype=np.float32)
    y = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def consistency(
    forward: FloatArray, backward: FloatArray, *, relative: float = 0.01, absolute: float = 0.5
) -> BoolArray:
    """Return where going forth and back ends near the start.

    |f + b'|^2 < relative (|f|^2 + |b'|^2) + absolute, with b' the backward flow where f points; Sundaram, Brox and
    Keutzer, ECCV 2010, equation 5. False where f points out of the picture.

    Args:
        forward: float32 (H, W, 2), from frame t to t + 1.
        backward: float32 (H, W, 2), from frame t + 1 to t.
        relative: tolerance in shares of the squared motion.
        absolute: tolerance in squared pixels.

    Returns:
        bool (H, W).

    Raises:
        DataError: the two differ in size.
    """
    if forward.shape != backward.shape or forward.ndim != 3 or forward.shape[-1] != 2:
        raise DataError(
            f"Flow: forward {tuple(forward.shape)} and backward {tuple(backward.shape)} must both be (H, W, 2) of one "
            "size. Compute both on the same two frames."
        )
    back = warp(backward, forward)
    error = np.square(forward + back).sum(axis=-1)
    motion = np.square(forward).sum(axis=-1) + np.square(back).sum(axis=-1)
    height, width = forward.shape[:2]
    x = forward[..., 0] + np.arange(width, dtype=np.float32)
    y = forward[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    within = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return within & (error < relative * motion + absolute)
