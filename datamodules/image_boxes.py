"""Boxes of objects in still images: ``boxes.csv`` of a tagged image folder, or else those of its masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from datamodules.image_tables import image_name, read_cells
from datamodules.images import ImageRecord, ImageSource
from pseudolabel.types import DataError, FloatArray, UInt8Array, nearest_name

TABLE = "boxes.csv"
COLUMNS = ("image", "class", "x0", "y0", "x1", "y1")
EXAMPLE = "image,class,x0,y0,x1,y1\nrex-in-the-park,dog,12,30.5,80,121\nrex-in-the-park,person,60,4,140,126"

_EIGHT = 8  # neighbours of a pixel in a connected component
_LEAST_PIXELS = 16  # a smaller component is no object that a person would box


def boxes_of_mask(mask: UInt8Array) -> FloatArray:
    """Return the tight boxes float32 (N, 4) of the components of a mask uint8 (H, W), 1 = target, 255 = void."""
    count, _, stats, _ = cv2.connectedComponentsWithStats((mask == 1).astype(np.uint8), connectivity=_EIGHT)
    found = [stats[n] for n in range(1, count) if stats[n, cv2.CC_STAT_AREA] >= _LEAST_PIXELS]
    corners = [(left, top, left + width, top + height) for left, top, width, height, _ in found]
    return np.array(corners, np.float32).reshape(-1, 4)


class ImageBoxes:
    """The boxes of one class in the images of a folder.

    Args:
        source: the folder, read in a label space of one class. With ``boxes.csv`` (``image,class,x0,y0,x1,y1``, the
            folder's words for classes, corners in pixels of the upright image, x1 and y1 beyond the last one) its
            boxes count; without it the tight boxes of the masks' components.

    Raises:
        DataError: the table cannot be read, names a class that the folder does not know, or has a box without size.
    """

    def __init__(self, source: ImageSource) -> None:
        self.source, self.path = source, source.root / TABLE
        self._table = _read(self.path, source.tag_of, source.names) if self.path.is_file() else None

    def of(self, record: ImageRecord) -> FloatArray | None:
        """Return the boxes float32 (N, 4) in an image; none where it lacks the class, None where nobody knows.

        Raises:
            DataError: its mask cannot be used.
        """
        if not record.tags:
            return np.zeros((0, 4), np.float32)
        if self._table is not None:
            rows = self._table.get(record.name)
            return None if rows is None else np.array(rows, np.float32)
        mask = self.source.mask(record)
        return None if mask is None else boxes_of_mask(mask)


def _read(
    path: Path, tag_of: Mapping[str, object], names: tuple[str, ...]
) -> dict[str, list[tuple[float, float, float, float]]]:
    """Return image -> boxes of the classes in ``tag_of``; those of the folder's other ``names`` are passed over."""
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for number, cells in read_cells(path, COLUMNS, EXAMPLE):
        where = f"{path}, line {number} ('{','.join(cells.values())}')"
        image, name = image_name(where, cells["image"]), cells["class"]
        if name not in names:
            raise DataError(
                f"{where}: the folder has no class '{name}'{nearest_name(name, names) or '.'} Known: "
                f"{', '.join(names)}. Correct one."
            )
        try:
            x0, y0, x1, y1 = (float(cells[column]) for column in COLUMNS[2:])
        except ValueError as error:
            raise DataError(f"{where}: {error}. Expected four numbers, x0,y0,x1,y1 in pixels.") from error
        if not (0 <= x0 < x1 < np.inf and 0 <= y0 < y1 < np.inf):
            raise DataError(
                f"{where}: expected 0 <= x0 < x1 and 0 <= y0 < y1, the upper left and the lower right corner in pixels."
            )
        if name in tag_of:
            found.setdefault(image, []).append((x0, y0, x1, y1))
    return found
