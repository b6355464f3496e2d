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
    """Return the images of a split with their boxes; those that lack the class have none.

    Images of the class whose boxes are not known or cannot be used are listed in ``skipped.csv``.

    Args:
        workspace: lists what is left out.
        source: the folder.
        split: ``"train"``, ``"val"`` or ``"test"``.
        max_side: longer side of the images in pixels; None = as they are.
        from_masks: without ``boxes.csv`` the masks tell the boxes.

    Raises:
        DataError: the table of boxes cannot be read, or no image of the class has a box.
    """
    known = ImageBoxes(source, from_masks=from_masks)
    found: list[BoxedImage] = []
    failed: dict[str, str] = {}
    untold: list[str] = []
    for record in [*source.select(split), *(record for record in source.negatives if record.split == split)]:
        try:
            boxes = known.of(record)
        except (DataError, OSError) as error:
            failed[record.name] = str(error)
            continue
        if boxes is None:
            untold.append(record.name)
        else:
            found.append(BoxedImage(source, record, boxes, max_side))
    if rank() == 0:
        for name, reason in failed.items():
            skip_image(workspace, name, reason)
        if untold:
            reason = f"{len(untold)} images show the class, but no box of it is known, the first '{untold[0]}'"
            skip_image(workspace, TABLE, f"{reason}; they teach no boxes")
        if known.unknown:
            hint = nearest_name(known.unknown[0], [record.name for record in source.records]) or ""
            reason = f"names {len(known.unknown)} images that the folder lacks, the first '{known.unknown[0]}'{hint}"
            skip_image(workspace, f"unknown in {TABLE}", reason)
    if not any(len(item.boxes) for item in found):
        first = f" {len(failed)} cannot be used, the first: {next(iter(failed.values()))}" if failed else ""
        raise DataError(
            f"No image of split '{split}' in {source.root} has a box of the class. Add rows to {TABLE} "
            f"(image,class,x0,y0,x1,y1).{first}"
        )
    return found
