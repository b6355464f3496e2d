"""Masks as palette PNGs, the VOC/DAVIS convention, and masks in colour for people."""

from __future__ import annotations

import os
import uuid
from functools import cache
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from pseudolabel.types import VOID, DataError, UInt8Array


@cache
def voc_palette() -> bytes:
    """Return the 256 RGB colours of PASCAL VOC as 768 bytes; class 0 is black, void (255) is cream.

    Bit ``3j + c`` of the class id is bit ``7 - j`` of channel ``c`` (VOC development kit, ``VOCcolormap``).
    """
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for channel in range(3):
        for bit in range(8):
            if 3 * bit + channel < 8:
                colours[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours.tobytes()


def _colours() -> UInt8Array:
    return np.frombuffer(voc_palette(), np.uint8).reshape(256, 3)


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` beside ``path`` and rename: a reader sees the old file or the new, never half of one."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_mask(path: str | Path, labels: UInt8Array) -> None:
    """Write a mask as a palette PNG, atomically.

    Args:
        path: the file to write; its folder must exist.
        labels: uint8 (H, W) class ids, 255 = void.

    Raises:
        DataError: ``labels`` is not uint8 (H, W).
    """
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise DataError(f"Mask '{path}': labels must be uint8 (H, W), got {labels.dtype} {tuple(labels.shape)}.")
    image = Image.fromarray(labels)
    image.putpalette(voc_palette())
    buffer = BytesIO()
    image.save(buffer, format="PNG", compress_level=3)
    write_atomically(Path(path), buffer.getvalue())


def read_mask(path: str | Path) -> UInt8Array:
    """Read the class ids of a mask file.

    Args:
        path: an 8-bit PNG (or GIF, BMP, TIFF) whose pixel *values* are class ids: with a palette, or plain grey.

    Returns:
        uint8 (H, W) class ids, 255 = void.

    Raises:
        DataError: the file is missing, cannot be decoded, or holds colours (RGB) in place of indices.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "1"):
                raise DataError(
                    f"Mask '{path}' holds colours or 16-bit values (mode {image.mode}), expected an indexed 8-bit "
                    "image whose values are class ids (255 = void). Save it again with its palette ('indexed colour')."
                )
            return np.array(image, dtype=np.uint8)
    except FileNotFoundError:
        raise DataError(f"Mask '{path}' does not exist. Check the path, or make the mask again.") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"Mask '{path}' cannot be read ({error}), expected an indexed 8-bit PNG. Delete it or make it again."
        ) from error


def colorize(labels: UInt8Array) -> UInt8Array:
    """Return the VOC colours of uint8 labels (..., H, W) as RGB uint8 (..., H, W, 3)."""
    return _colours()[labels]


def overlay(frame: UInt8Array, labels: UInt8Array, *, opacity: float = 0.5) -> UInt8Array:
    """Lay a mask over its frame, with a contour of one pixel in the full colour of the class.

    Args:
        frame: uint8 (H, W, 3), RGB; not modified.
        labels: uint8 (H, W) class ids; background (0) and void (255) stay as in the frame.
        opacity: share of the class colour inside the object, in [0, 1].

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        DataError: frame and mask differ in size.
    """
    if frame.shape != (*labels.shape, 3):
        raise DataError(
            f"Overlay: frame {tuple(frame.shape)} and mask {tuple(labels.shape)} differ in size, expected (H, W, 3) "
            "and (H, W). Resize the mask to the frame first (nearest neighbour)."
        )
    shown = (labels > 0) & (labels != VOID)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    contour = shown & (cv2.dilate(labels, cross) != cv2.erode(labels, cross))
    colour = colorize(labels)
    blended = cv2.addWeighted(frame, 1.0 - opacity, colour, opacity, 0.0)
    result = np.where(shown[..., None], blended, frame)
    result[contour] = colour[contour]
    return np.asarray(result, np.uint8)
