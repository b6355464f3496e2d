"""What to predict on: videos, folders of frames and images, found from what a user wrote on the command line."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from datamodules.video import FRAME_SUFFIXES, VIDEO_SUFFIXES, VideoReader, is_video
from datamodules.video_frames import frame_files, natural_key
from pseudolabel.types import DataError, UInt8Array, nearest_name


class ImageReader:
    """One image with the face of a :class:`VideoReader` of one frame; the orientation noted by a camera is applied.

    Attributes:
        path: the file.
        fps: None, it does not move.
        size: (H, W).
        stems: ``["00000"]``.

    Raises:
        DataError: the file cannot be read as an image.
    """

    fps = None
    stems = ("00000",)

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with Image.open(path) as image:
                self._frame: UInt8Array = np.array(ImageOps.exif_transpose(image).convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DataError(f"{path} cannot be read as an image ({error}). Copy or save it again.") from error
        self.size = (self._frame.shape[0], self._frame.shape[1])

    def __len__(self) -> int:
        return 1

    def chunks(self, size: int) -> Iterator[tuple[int, UInt8Array]]:
        """Yield (0, uint8 (1, H, W, 3)), as :meth:`VideoReader.chunks` does."""
        yield 0, self._frame[None]


@dataclass(frozen=True)
class Source:
    """One input.

    Attributes:
        path: a video file, a folder of frames or an image.
        name: unique among the inputs; names the outputs.
    """

    path: Path
    name: str

    @property
    def is_image(self) -> bool:
        """Whether it is a single image."""
        return self.path.is_file() and self.path.suffix.lower() in FRAME_SUFFIXES

    def open(self) -> VideoReader | ImageReader:
        """Open it and check that it is whole, without decoding a video.

        Raises:
            DataError: missing, unreadable, truncated, or frames of different sizes.
        """
        if self.is_image:
            return ImageReader(self.path)
        try:
            reader = VideoReader(self.path)
            reader.check()
        except OSError as error:
            raise DataError(f"{self.path} cannot be read ({error}). Check its permissions.") from error
        except DataError as error:
            if self.path.is_dir() and "different sizes" in str(error):
                raise DataError(
                    f"{error} If they are no video, give them one by one: input='{self.path}/*'."
                ) from error
            raise
        return reader


def find_inputs(given: str | Sequence[str], *, out: Path) -> tuple[list[Source], list[tuple[str, str]]]:
    """Find what a user asks for.

    A video file or an image is taken as it is. A folder with nothing but frames is one video; of any other folder its
    videos, folders of frames and images are taken. A glob stands for any of these; what is none of them is passed over.
    Several may be given as a list or with commas. Nothing is taken twice, and nothing from inside ``out``.

    Args:
        given: paths or globs.
        out: the folder of the outputs.

    Returns:
        the inputs, each with a name of its own (``dog``, then ``dog-2``, … for further ones of the same name), and
        (what was given, reason) for everything that is not there or of no known kind.
    """
    paths: dict[Path, Path] = {}
    problems: list[tuple[str, str]] = []
    for text in _split(given):
        try:
            for path in _expand(text, out):
                paths.setdefault(path.resolve(), path)
        except DataError as error:
            problems.append((text, str(error)))
    return _name(list(paths.values())), problems


def _split(given: str | Sequence[str]) -> list[str]:
    if not isinstance(given, str):
        return [str(text) for text in given]
    if Path(given).expanduser().exists():
        return [given]
    return [part.strip() for part in given.split(",") if part.strip()]


def _expand(text: str, out: Path) -> list[Path]:
    path = Path(text).expanduser()
    if path.exists():
        return _take(path, out)
    if not glob.has_magic(text):
        siblings = [item.name for item in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(
            f"Input not found: {path} does not exist{nearest_name(path.name, siblings) or '.'} Check input=."
        )
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
    taken: list[Path] = []
    for match in sorted(matches, key=lambda match: [natural_key(Path(part)) for part in match.parts]):
        if not match.resolve().is_relative_to(out.resolve()) and _is_usable(match):
            taken += _take(match, out)
    if not taken:
        raise DataError(f"Input '{text}' matches no {'video or image' if matches else 'file'}. {_expected()}")
    return taken


def _is_usable(path: Path) -> bool:
    return (path.is_dir() and is_video(path)) or (
        path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES + FRAME_SUFFIXES
    )


def _take(path: Path, out: Path) -> list[Path]:
    if not path.is_dir():
        if not _is_usable(path):
            raise DataError(f"{path} is neither a video nor an image. {_expected()} Convert it with `ffmpeg`.")
        return [path]
    images = frame_files(path)
    children = [item for item in path.iterdir() if item.name[0] != "." and item.resolve() != out.resolve()]
    others = sorted((item for item in children if item not in images and _is_usable(item)), key=natural_key)
    if not images and not others:
        raise DataError(f"{path} holds no video, image or folder of frames. {_expected()}")
    return [path] if not others else [*others, *images]


def _expected() -> str:
    return f"Expected {', '.join(VIDEO_SUFFIXES + FRAME_SUFFIXES)}, or a folder of frames."


def _name(paths: list[Path]) -> list[Source]:
    """Name the inputs so that no output of one is an output of another, also where upper and lower case are one."""
    wanted = [path.resolve().name if path.is_dir() else path.stem for path in paths]
    reserved = {stem.casefold() for stem in wanted}
    named: list[Source] = []
    taken: set[str] = set()
    for path, stem in zip(paths, wanted, strict=True):
        name, number = stem, 1
        while taken & outputs_of(name) or (number > 1 and name.casefold() in reserved):
            number += 1
            name = f"{stem}-{number}"
        taken |= outputs_of(name)
        named.append(Source(path, name))
    return named


def outputs_of(name: str) -> set[str]:
    """Return what an input of this name may write, in lower case: the folder of masks and the overlays."""
    return {name.casefold(), f"{name}.mp4".casefold(), f"{name}.jpg".casefold()}
