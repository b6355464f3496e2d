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

Corners = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""

_EIGHT = 8  # neighbours of a pixel in a connected component
_LEAST_PIXELS = 16  # a smaller component is no object that a person would box


def boxes_of_mask(mask: UInt8Array, *, label: int = 1) -> FloatArray:
    """Return the tight boxes float32 (N, 4) of a label's components in a mask uint8 (H, W); specks are passed over."""
    count, _, stats, _ = cv2.connectedComponentsWithStats((mask == label).astype(np.uint8), connectivity=_EIGHT)
    found = [stats[n] for n in range(1, count) if stats[n, cv2.CC_STAT_AREA] >= _LEAST_PIXELS]
    corners = [(left, top, left + width, top + height) for left, top, width, height, _ in found]
    return np.array(corners, np.float32).reshape(-1, 4)


class ImageBoxes:
    """The boxes of one class in the images of a folder.

    ``boxes.csv`` has the columns ``image,class,x0,y0,x1,y1``: the folder's words for classes, corners in pixels of the
    upright image, x1 and y1 beyond the last pixel.

    Args:
        source: the folder, read in a label space of one class.
        from_masks: without a table, the tight boxes of the masks' components count; else a table must be there.

    Attributes:
        unknown: names in the table of which the folder has no image.

    Raises:
        DataError: the table is missing, cannot be read, names a class that the folder does not know, a box without
            size, or no image of the folder.
    """

    def __init__(self, source: ImageSource, *, from_masks: bool = False) -> None:
        if len(source.label_space.tags) != 1:
            raise ValueError(f"ImageBoxes is for one class, got {source.label_space.tags}.")
        self.source, self.path = source, source.root / TABLE
        self.unknown: list[str] = []
        self._table: dict[str, list[Corners]] | None = None
        if self.path.is_file():
            self._table, named = _read(self.path, source.tag_of, source.names)
            present = {record.name for record in (*source.records, *source.negatives)}
            lost = {name for name, _ in source.skipped}
            self.unknown = [name for name in named if name not in present and name not in lost]
            if not present & set(named):
                hint = nearest_name(named[0], present) or "."
                raise DataError(f"{self.path} names no image of its folder, the first '{named[0]}'{hint} Correct it.")
        elif not from_masks:
            raise DataError(f"Boxes not found: {self.path} is missing. Expected a table such as\n{EXAMPLE}\nWrite it.")

    def of(self, record: ImageRecord) -> FloatArray | None:
        """Return the boxes float32 (N, 4) in an image; none where it lacks the class, None where nobody knows.

        Raises:
            DataError: a box reaches out of the image, the image has boxes of the class but not its tag, or its mask
                cannot be used.
        """
        rows = [] if self._table is None else self._table.get(record.name, [])
        if not record.tags:
            if rows:
                raise DataError(
                    f"{self.path} has a box of the class in image '{record.name}', which is not tagged with it. Tag "
                    "the image, or delete the row."
                )
            return np.zeros((0, 4), np.float32)
        if self._table is None:
            mask = self.source.mask(record)
            found = np.zeros((0, 4), np.float32) if mask is None else boxes_of_mask(mask)
        else:
            found = np.array(rows, np.float32).reshape(-1, 4)
            height, width = self.source.size(record)
            if len(found) and (found > np.array([width, height, width, height]) + 1).any():
                raise DataError(
                    f"{self.path} has a box in image '{record.name}' that reaches to {found.max(axis=0)[2:].tolist()}, "
                    f"but the image is {width} x {height} (width x height). Give corners in its own pixels."
                )
            if len(found) and (found <= 1).all():
                raise DataError(
                    f"{self.path} has boxes of at most one pixel in image '{record.name}'. Give corners in pixels, not "
                    "as shares of the image."
                )
        return found if len(found) else None


def _read(
    path: Path, tag_of: Mapping[str, object], names: tuple[str, ...]
) -> tuple[dict[str, list[Corners]], list[str]]:
    """Return image -> boxes of the classes in ``tag_of``, and all images that are named.

    Boxes of the folder's other ``names`` are passed over.
    """
    found: dict[str, list[Corners]] = {}
    named: dict[str, None] = {}
    for number, cells in read_cells(path, COLUMNS, EXAMPLE):
        where = f"{path}, line {number} ('{','.join(cells.values())}')"
        image, name = image_name(where, cells["image"]), cells["class"]
        named[image] = None
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
    return found, list(named)
