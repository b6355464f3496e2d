"""True frames and images that teach a supervised twin. Only the twin sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from datamodules.images import ImageRecord, ImageSource
from datamodules.records import VideoRecord
from datamodules.transforms import resize
from pseudolabel.types import UInt8Array
from recipes.images import read_with_truth
from recipes.workspace import Workspace

Pair = tuple[UInt8Array, UInt8Array]
Load = Callable[[], Pair]
"""Loads a picture uint8 (H, W, 3) and its true mask uint8 (H, W)."""


def true_frames(workspace: Workspace, records: Sequence[VideoRecord]) -> list[Load]:
    """Return what loads the cached frames of videos that have a usable true mask."""
    found = []
    for record in records:
        known = {int(index): position for position, index in enumerate(workspace.cache.indices(record))}
        for frame in record.annotated:
            if frame in known:
                found.append(_frame_loader(workspace, record, frame, known[frame]))
    return [_certain(load) for load in found if load() is not None]


def true_images(
    workspace: Workspace, source: ImageSource, records: Sequence[ImageRecord], *, max_side: int | None
) -> list[Load]:
    """Return what loads the images that have a usable true mask; broken ones are listed in ``skipped.csv``."""
    found = [_image_loader(workspace, source, record, max_side) for record in records]
    return [_certain(load) for load in found if load() is not None]


def _frame_loader(workspace: Workspace, record: VideoRecord, frame: int, position: int) -> Callable[[], Pair | None]:
    def load() -> Pair | None:
        image = np.array(workspace.cache.frames(record)[position])
        mask = workspace.truth(record, frame, (image.shape[0], image.shape[1]))
        return None if mask is None else (image, mask)

    return load


def _image_loader(
    workspace: Workspace, source: ImageSource, record: ImageRecord, max_side: int | None
) -> Callable[[], Pair | None]:
    def load() -> Pair | None:
        pair = read_with_truth(workspace, source, record, max_side=max_side)
        return None if pair is None else (pair[0], resize(pair[1], pair[0].shape[:2], nearest=True))

    return load


def _certain(load: Callable[[], Pair | None]) -> Load:
    def pair() -> Pair:
        loaded = load()
        if loaded is None:
            raise RuntimeError("A true mask that was read before cannot be read any more.")
        return loaded

    return pair
