"""Pictures of the evolving masks: one row per video, the frame, the truth if there is one, then the versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from pytorch_lightning.loggers import Logger, WandbLogger

from pseudolabel.palette import overlay
from pseudolabel.store import PAStore
from pseudolabel.types import Clip, UInt8Array


class PictureSource(Protocol):
    """What the pictures need of the data."""

    by_name: dict[str, Any]

    def clip(self, name: str) -> Clip:
        """Return a video's sampled frames."""
        ...

    def truth(self, record: Any, frame: int, size: tuple[int, int]) -> Any:
        """Return a true mask or None."""
        ...


class Pictures:
    """Draws ``pictures/v<k>.png`` whenever a version is published; wandb gets the same picture.

    Args:
        folder: where the pictures go.
        source: clips and, where they exist, true masks (shown, never used).
        store: the versions.
        loggers: Lightning loggers; wandb among them gets the picture.
        videos: rows of a picture.
        width: pixels of one tile.
    """

    def __init__(
        self,
        folder: Path,
        source: PictureSource,
        store: PAStore,
        *,
        loggers: Sequence[Logger] = (),
        videos: int = 12,
        width: int = 192,
    ) -> None:
        self.folder, self.source, self.store, self.loggers = folder, source, store, loggers
        self.videos, self.width = videos, width

    def draw(self, version: int) -> Path:
        """Draw all versions up to ``version`` side by side and return the file."""
        names = sorted(self.source.by_name)
        chosen = [names[i] for i in np.linspace(0, len(names) - 1, min(self.videos, len(names))).astype(int)]
        versions = [v for v in self.store.versions() if v <= version]
        rows = [self._row(name, versions) for name in dict.fromkeys(chosen)]
        height = max(row.shape[0] for row in rows)
        picture = np.concatenate([_pad(row, height) for row in rows])
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"v{version}.png"
        cv2.imwrite(str(file), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        for logger in self.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("masks", [str(file)], caption=[f"frame, truth, v0 … v{version}"])
        return file

    def _row(self, name: str, versions: Sequence[int]) -> UInt8Array:
        clip = self.source.clip(name)
        position = len(clip.frames) // 2
        frame, number = clip.frames[position], int(clip.indices[position])
        masks = [self.source.truth(self.source.by_name[name], number, frame.shape[:2])]
        masks += [self._read(version, name, number) for version in versions]
        tiles = [frame, *(np.zeros_like(frame) if mask is None else overlay(frame, mask) for mask in masks)]
        size = (self.width, round(self.width * frame.shape[0] / frame.shape[1]))
        return np.concatenate([cv2.resize(tile, size, interpolation=cv2.INTER_AREA) for tile in tiles], axis=1)

    def _read(self, version: int, name: str, number: int) -> UInt8Array | None:
        """Return a mask, None for a video that was skipped in this version."""
        return self.store.read(version, name, number) if self.store.is_written(version, name) else None


def _pad(row: UInt8Array, height: int) -> UInt8Array:
    return np.pad(row, ((0, height - row.shape[0]), (0, 0), (0, 0)))
