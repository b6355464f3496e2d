"""Dense optical flow between frames, its consistency check, and a cache of it."""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from pseudolabel.palette import write_atomically
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
                    f"Flow: unknown {name} '{value}'{nearest_name(str(value), known)} Expected one of {', '.join(known)}."
                )
        if self.method == "raft" and not self.weights:
            raise DataError(
                "Flow: RAFT needs the path of its weights, got none. Pass weights=..., or use method='dis'."
            )

    @property
    def key(self) -> str:
        """A short name of these settings, for folders."""
        return hashlib.sha1(repr(astuple(self)).encode(), usedforsecurity=False).hexdigest()[:12]


def _check_frames(first: npt.NDArray[np.generic], second: npt.NDArray[np.generic]) -> None:
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
    _check_frames(first, second)
    if settings.method == "raft":
        return _raft(first, second, str(settings.weights))
    height, width = first.shape[:2]
    below, right = max(0, _SMALLEST - height), max(0, _SMALLEST - width)
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in (first, second)]
    if below or right:
        grey = [cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REFLECT) for image in grey]
    if settings.method == "dis":
        flow = cv2.DISOpticalFlow_create(_DIS[settings.preset]).calc(grey[0], grey[1], None)
    else:
        start = np.zeros((*grey[0].shape, 2), np.float32)
        flow = cv2.calcOpticalFlowFarneback(
            grey[0], grey[1], start, pyr_scale=0.5, flags=0, **_FARNEBACK[settings.preset]
        )
    return np.ascontiguousarray(flow[:height, :width], np.float32)


_networks: dict[str, Any] = {}


def _raft(first: UInt8Array, second: UInt8Array, weights: str) -> FloatArray:
    import torch
    from torchvision.models.optical_flow import raft_large, raft_small

    if weights not in _networks:
        network = (raft_small if "small" in Path(weights).name else raft_large)(weights=None)
        try:
            network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, ValueError, KeyError, EOFError) as error:
            raise DataError(
                f"RAFT weights '{weights}' cannot be loaded ({error}), expected a state dict of torchvision's "
                "raft_large, or raft_small with 'small' in the file's name. Save it with torch.save(net.state_dict())."
            ) from error
        _networks[weights] = network.eval()
    height, width = first.shape[:2]
    below = max(-height % _RAFT_STRIDE, _RAFT_SMALLEST - height)
    right = max(-width % _RAFT_STRIDE, _RAFT_SMALLEST - width)
    padded = [cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REPLICATE) for frame in (first, second)]
    images = [torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 127.5 - 1.0 for frame in padded]
    with torch.no_grad():
        flow = _networks[weights](*images)[-1][0].permute(1, 2, 0).numpy()
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
    pairs = list(zip(frames[:-1], frames[1:], strict=True))
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
    return cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


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


class FlowCache:
    """Flow that is computed once: the last ones in memory, all of them on disk when a folder is given.

    An entry belongs to a video, two frame numbers, settings, and the checksum of the two frames, so that another video
    of the same name never gets its flow. A file that cannot be read is computed anew. Several processes may share the
    folder.

    Args:
        folder: where to keep flow, as float16 (relative error 0.05 %); None = in memory only.
        settings: how flow is computed; DIS medium when None.
        memory_mib: the memory that the last entries may take.
    """

    def __init__(
        self, folder: str | Path | None = None, *, settings: FlowSettings | None = None, memory_mib: float = 64.0
    ) -> None:
        self.folder = Path(folder) if folder is not None else None
        self.settings = settings or FlowSettings()
        self._room = int(memory_mib * 2**20)
        self._entries: OrderedDict[tuple[str, int, int, int], npt.NDArray[np.float16]] = OrderedDict()
        self._held = 0

    def __iter__(self) -> Iterator[tuple[str, int, int, int]]:
        return iter(self._entries)

    def get(self, video: str, first_index: int, second_index: int, first: UInt8Array, second: UInt8Array) -> FloatArray:
        """Return the flow from ``first`` to ``second``, float32 (H, W, 2), from memory, from disk or computed.

        The same numbers come from wherever: they are rounded to float16 also when just computed.

        Raises:
            DataError: as :func:`compute_flow`.
        """
        _check_frames(first, second)
        checksum = zlib.crc32(np.ascontiguousarray(second), zlib.crc32(np.ascontiguousarray(first)))
        key = (video, first_index, second_index, checksum)
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key].astype(np.float32)
        path = self._path(key)
        flow = _read(path, first.shape) if path is not None else None
        if flow is None:
            flow = flow_with(self.settings, first, second).astype(np.float16)
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                buffer = io.BytesIO()
                np.save(buffer, flow)
                write_atomically(path, buffer.getvalue())
        self._entries[key] = flow
        self._held += flow.nbytes
        while self._held > self._room and self._entries:
            self._held -= self._entries.popitem(last=False)[1].nbytes
        return flow.astype(np.float32)

    def _path(self, key: tuple[str, int, int, int]) -> Path | None:
        if self.folder is None:
            return None
        video, first, second, checksum = key
        name = hashlib.sha1(video.encode(), usedforsecurity=False).hexdigest()[:16]
        return self.folder / self.settings.key / name / f"{first:06d}-{second:06d}-{checksum:08x}.npy"


def _read(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.float16] | None:
    try:
        flow = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = flow.shape == (*shape[:2], 2) and flow.dtype == np.float16 and os.path.getsize(path) > flow.nbytes
    return flow if whole else None
