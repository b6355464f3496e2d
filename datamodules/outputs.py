"""What a prediction leaves behind: palette masks, an overlay, and what was found; each appears only when whole."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from datamodules.video import VideoWriter
from pseudolabel.palette import overlay, voc_palette, write_atomically, write_mask
from pseudolabel.types import DataError, LabelSpace, UInt8Array

JPEG_QUALITY = 95


class PredictionWriter:
    """The masks and the overlay of one video or image, to be used in a ``with``.

    Everything is written beside its final name and put in place when the ``with`` ends without an error; else the
    outputs of an earlier run stay as they are.

    Args:
        out: folder of the outputs.
        name: of the input.
        source: the input's path, which must not be overwritten.
        fps: frames per second of the overlay video; None = one image.
        size: (H, W).
        masks: write ``<out>/<name>/<stem>.png``.
        overlay: write ``<out>/<name>.mp4``, or ``.jpg`` for one image.
        opacity: of the overlay, in [0, 1].
        renew: the masks there are of an earlier run; those of frames that are gone are removed.

    Raises:
        DataError: an output would replace the input or images that are not masks.
    """

    def __init__(
        self,
        out: Path,
        name: str,
        *,
        source: Path,
        fps: float | None,
        size: tuple[int, int],
        masks: bool = True,
        overlay: bool = True,
        opacity: float = 0.5,
        renew: bool = False,
    ) -> None:
        self.out, self.name, self.opacity, self.renew = out, name, opacity, renew
        self.folder = out / name if masks else None
        self.overlay = out / f"{name}.{'jpg' if fps is None else 'mp4'}" if overlay else None
        self._partial = out / f".{name}.partial"
        self._fps, self._size, self._frames = fps, size, 0
        self._video: VideoWriter | None = None
        self._stack = ExitStack()
        self._refuse(source.resolve())

    def _refuse(self, source: Path) -> None:
        targets = [path.resolve() for path in (self.folder, self.overlay) if path is not None]
        if source in targets or (self.folder is not None and source.parent == self.folder.resolve()):
            raise DataError(f"The outputs in {self.out} would overwrite the input {source}. Choose another out=.")
        if self.folder is None or not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is a file, expected a folder for masks. Move it or choose another out=.")
        if foreign := next((file for file in self.folder.glob("*.png") if not _is_palette(file)), None):
            raise DataError(f"{foreign} is there and is no mask; it is not overwritten. Choose another out=.")

    def __enter__(self) -> PredictionWriter:
        self.out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._partial, ignore_errors=True)
        if self.folder is not None:
            self._partial.mkdir()
        if self.overlay is not None and self._fps is not None:
            self._video = self._stack.enter_context(VideoWriter(self.overlay, fps=self._fps, size=self._size))
        return self

    def write(self, stem: str, frame: UInt8Array, labels: UInt8Array) -> None:
        """Append a frame.

        Args:
            stem: name of its mask without suffix.
            frame: uint8 (H, W, 3), RGB.
            labels: uint8 (H, W), class ids.
        """
        self._frames += 1
        if self.folder is not None:
            write_mask(self._partial / f"{stem}.png", labels)
        if self.overlay is None:
            return
        painted = overlay(frame, labels, opacity=self.opacity)
        if self._video is not None:
            self._video.write(painted)
            return
        buffer = BytesIO()
        Image.fromarray(painted).save(buffer, format="JPEG", quality=JPEG_QUALITY)
        write_atomically(self.overlay, buffer.getvalue())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stack.__exit__(kind, error, trace)
            if kind is None and self.folder is not None:
                self._publish(self.folder)
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _publish(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        written = {file.name: file for file in self._partial.iterdir()}
        for name, file in written.items():
            file.replace(folder / name)
        if self.renew:
            for file in folder.glob("*.png"):
                if file.name not in written:
                    file.unlink()

    def files(self) -> dict[str, Any]:
        """Return what was written, relative to ``out``: the folder and the number of the masks, and the overlay."""
        found: dict[str, Any] = {}
        if self.folder is not None:
            found |= {"masks": f"{self.name}/", "num_masks": self._frames}
        if self.overlay is not None:
            found["overlay"] = self.overlay.name
        return found


def _is_palette(file: Path) -> bool:
    try:
        with Image.open(file) as image:
            return image.mode == "P"
    except OSError:
        return False


class Coverage:
    """How much of a video each class covers.

    Args:
        space: its label space.
    """

    def __init__(self, space: LabelSpace) -> None:
        self.space = space
        self.frames = 0
        self._pixels = np.zeros(space.num_classes, np.int64)
        self._frames_with = np.zeros(space.num_classes, np.int64)

    def update(self, labels: UInt8Array) -> None:
        """Count a frame of class ids, uint8 (H, W)."""
        pixels = np.bincount(labels.ravel(), minlength=self.space.num_classes)[: self.space.num_classes]
        self._pixels += pixels
        self._frames_with += pixels > 0
        self.frames += 1

    def found(self) -> dict[str, dict[str, Any]]:
        """Return, per foreground class found and the largest first, its share of all pixels (0..1) and its frames."""
        total = max(1, int(self._pixels.sum()))
        order = sorted(np.flatnonzero(self._pixels[1:]) + 1, key=lambda index: -self._pixels[index])
        return {
            self.space.names[index]: {
                "pixel_share": round(int(self._pixels[index]) / total, 6),
                "frames": int(self._frames_with[index]),
            }
            for index in order
        }


def legend(space: LabelSpace) -> dict[str, dict[str, Any]]:
    """Return, per class, its value in the masks and its colour as ``#rrggbb``."""
    colours = voc_palette()
    return {
        name: {"value": value, "colour": f"#{colours[3 * value : 3 * value + 3].hex()}"}
        for value, name in enumerate(space.names)
    }
