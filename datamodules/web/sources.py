"""What a source of web videos offers: search by a keyword, thumbnails, downloads."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pseudolabel.types import DataError, UInt8Array

_LONGEST_SLUG = 64
_DIGEST = 8


class SourceUnavailable(DataError):
    """The source as a whole does not answer: nothing is wrong with the one video that was asked for."""


@dataclass(frozen=True)
class VideoHit:
    """A video that a search has found.

    Attributes:
        id: the video's name in its source, unique there; any text.
        title: its caption; any text.
        keyword: the search word that found it.
        thumbnail: where its source finds the thumbnail, a path or an address.
        duration: in seconds; None = unknown.
    """

    id: str
    title: str
    keyword: str
    thumbnail: str
    duration: float | None = None


class WebVideoSource(ABC):
    """A place to search for videos.

    Attributes:
        name: what it is, in a word; retrieval refuses to go on with the folder of another.
        skipped: what cannot be used, as (id or file, reason).
    """

    name: str

    def __init__(self) -> None:
        self.skipped: list[tuple[str, str]] = []

    @abstractmethod
    def search(self, keyword: str, limit: int) -> list[VideoHit]:
        """Return at most ``limit`` hits, the best first; [] when there is none.

        Raises:
            SourceUnavailable: the source does not answer.
        """

    @abstractmethod
    def thumbnail(self, hit: VideoHit) -> UInt8Array:
        """Return a hit's thumbnail, uint8 (H, W, 3) RGB, without touching the video.

        Raises:
            DataError: this one cannot be had or is no image.
            SourceUnavailable: the source does not answer.
        """

    @abstractmethod
    def download(self, hit: VideoHit, folder: Path) -> Path:
        """Return the file of a hit's video, in ``folder`` unless it is on this machine already.

        What was downloaded there before is not downloaded again.

        Raises:
            DataError: this one cannot be had.
            SourceUnavailable: the source does not answer.
        """


def safe_name(text: str) -> str:
    """Return a file name for any id or class: letters, digits, ``_`` and ``-`` of ASCII only.

    A text of these alone stays as it is. Else the others become ``-`` and a digest is added, so that two texts have
    two names.
    """
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:_LONGEST_SLUG].strip("-")
    if slug and slug == text:
        return slug
    return f"{slug}-{hashlib.sha1(text.encode()).hexdigest()[:_DIGEST]}".lstrip("-")


def decode_image(content: bytes, where: str) -> UInt8Array:
    """Return an image file's content as uint8 (H, W, 3) RGB, upright.

    Args:
        content: of the file.
        where: its path or address, for the error.

    Raises:
        DataError: it is no image, or a damaged one.
    """
    try:
        with Image.open(BytesIO(content)) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{where} cannot be read as an image ({error}). Expected a whole jpg, png or webp.") from error
