"""Tiny fake data sets in the real formats, for tests."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

from datamodules.video import VideoWriter
from pseudolabel.types import UInt8Array

SIZE = (32, 32)

PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + 252 * [224, 224, 192]
"""The first colours of the VOC palette, and its void: reading a mask through RGB would turn id 1 into 128.

All 256 entries are there, else Pillow stores fewer bits per pixel and 255 does not survive.
"""


def grey_frames(count: int = 4, size: tuple[int, int] = SIZE) -> UInt8Array:
    """Flat frames uint8 (count, H, W, 3) whose grey value 20 + 20 * number (mod 220) tells the frame's number."""
    values = (20 + 20 * np.arange(count) % 220).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, *size, 3)).copy()


def frame_numbers(frames: UInt8Array) -> list[int]:
    """Inverse of :func:`grey_frames` for fewer than 11 frames, robust to compression."""
    return [round((float(frame.mean()) - 20) / 20) for frame in frames]


def write_clip(path: Path, frames: UInt8Array | None = None, *, fps: float = 25.0) -> Path:
    """Write an mp4."""
    frames = grey_frames() if frames is None else frames
    with VideoWriter(path, fps=fps, size=(frames.shape[1], frames.shape[2])) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def write_frames(folder: Path, frames: UInt8Array | None = None, *, pattern: str = "{:05d}.png") -> Path:
    """Write a folder of frames."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(grey_frames() if frames is None else frames):
        Image.fromarray(frame).save(folder / pattern.format(number))
    return folder


def write_mask_png(path: Path, labels: UInt8Array, *, palette: bool = True) -> Path:
    """Write class ids uint8 (H, W) as palette or grey PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    if palette:
        image.putpalette(PALETTE)
    image.save(path)
    return path


def write_mask_mat(path: Path, raw: np.ndarray, *, key: str = "reS_id") -> Path:
    """Write raw A2D ids (H, W) as MATLAB v7.3 does: HDF5 behind 512 bytes, column by column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as content:
        content.create_dataset(key, data=np.ascontiguousarray(raw.T.astype(np.float64)))
    return path


def write_table(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    """Write a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


def write_tags(
    root: Path, rows: Sequence[Sequence[str]], *, header: Sequence[str] = ("video", "class", "action")
) -> Path:
    """Write ``tags.csv``."""
    return write_table(root / "tags.csv", [header, *rows])


def write_a2d(
    root: Path,
    videos: Mapping[str, tuple[Mapping[int, np.ndarray], int]],
    *,
    size: tuple[int, int] = SIZE,
    frames: int = 4,
) -> Path:
    """Write an A2D folder.

    Args:
        root: the folder that gets ``videoset.csv``.
        videos: per name, the raw masks (H, W) by 1-based frame number, and the usage (0 = train, 1 = test).
        size: (H, W) of the clips.
        frames: per clip.
    """
    rows = []
    for name, (masks, usage) in videos.items():
        write_clip(root / "clips320H" / f"{name}.mp4", grey_frames(frames, size))
        for number, raw in masks.items():
            write_mask_mat(root / "Annotations" / "mat" / name / f"{number:05d}.mat", raw)
        label = next((int(raw.max()) for raw in masks.values()), 0)
        rows.append([name, label, "00:00:00", "00:00:01", *size, frames, len(masks), usage])
    write_table(root / "videoset.csv", rows)
    return root
