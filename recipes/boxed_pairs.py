"""Still images with boxes of the target, which teach a detector or join the last round."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from datamodules.boxed_images import BoxedPair
from datamodules.image_boxes import TABLE, ImageBoxes
from datamodules.images import ImageRecord, ImageSource
from modules.distributed import rank
from pseudolabel.types import DataError, FloatArray, nearest_name
from recipes.images import read_image, skip_image
from recipes.workspace import Workspace


@dataclass(frozen=True)
class BoxedImage:
    """Loads an image with its boxes when called.

    Attributes:
        source: the folder.
        record: the image.
        boxes: float32 (N, 4), in pixels of the image as it is saved.
        max_side: its longer side when loaded; None = as it is.
    """

    source: ImageSource
    record: ImageRecord
    boxes: FloatArray
    max_side: int | None

    @property
    def key(self) -> str:
        """Return a name of the image and these boxes, for files that depend on both."""
        return f"{self.record.name}-{zlib.crc32(self.boxes.tobytes()):08x}"

    def __call__(self) -> BoxedPair:
        """Return the image uint8 (H, W, 3) and its boxes in its pixels, float32 (N, 4)."""
        height, width = self.source.size(self.record)
        image = read_image(self.source, self.record, max_side=self.max_side)
        scale = np.array([image.shape[1] / width, image.shape[0] / height] * 2, np.float32)
        return image, self.boxes * scale


def boxed_images(
    workspace: Workspace, source: ImageSource, *, split: str, max_side: int | None, from_masks: bool
) -> list[BoxedImage]:
    """Return what :func:`find_boxes` does, and list what teaches nothing in ``skipped.csv``.

    Args:
        workspace: lists what is left out.
        source: the folder.
        split: ``"train"``, ``"val"`` or ``"test"``.
        max_side: longer side of the images in pixels; None = as they are.
        from_masks: without ``boxes.csv`` the masks tell the boxes.

    Raises:
        DataError: the table of boxes cannot be read, or no image of the class has a box.
    """
    found, left_out = find_boxes(source, split=split, max_side=max_side, from_masks=from_masks)
    if rank() == 0:
        for name, reason in left_out.items():
            skip_image(workspace, name, reason)
    return found


def find_boxes(
    source: ImageSource, *, split: str, max_side: int | None, from_masks: bool
) -> tuple[list[BoxedImage], dict[str, str]]:
    """Return the images of a split with their boxes, and (name, reason) of what teaches nothing.

    Images that lack the class have no box; those of the class whose boxes are not known or cannot be used are left out.
    Arguments and errors are those of :func:`boxed_images`.
    """
    known = ImageBoxes(source, from_masks=from_masks)
    found: list[BoxedImage] = []
    left_out: dict[str, str] = {}
    untold: list[str] = []
    for record in [*source.select(split), *(record for record in source.negatives if record.split == split)]:
        try:
            boxes = known.of(record)
        except (DataError, OSError) as error:
            left_out[record.name] = str(error)
            continue
        if boxes is None:
            untold.append(record.name)
        else:
            found.append(BoxedImage(source, record, boxes, max_side))
    if not any(len(item.boxes) for item in found):
        first = f" {len(left_out)} cannot be used, the first: {next(iter(left_out.values()))}" if left_out else ""
        raise DataError(
            f"No image of split '{split}' in {source.root} has a box of the class. Add rows to {TABLE} "
            f"(image,class,x0,y0,x1,y1).{first}"
        )
    if untold:
        reason = f"{len(untold)} images show the class, but no box of it is known, the first '{untold[0]}'"
        left_out[TABLE] = f"{reason}; they teach no boxes"
    if known.unknown:
        hint = nearest_name(known.unknown[0], [record.name for record in source.records]) or ""
        reason = f"names {len(known.unknown)} images that the folder lacks or leaves out"
        left_out[f"unknown in {TABLE}"] = f"{reason}, the first '{known.unknown[0]}'{hint}"
    return found, left_out
