"""Still images with boxes of the target, which teach a detector or join the last round."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from datamodules.boxed_images import BoxedPair
from datamodules.image_boxes import TABLE, ImageBoxes
from datamodules.images import ImageRecord, ImageSource
from datamodules.transforms import fit_longest_side, resize
from pseudolabel.types import DataError, FloatArray
from recipes.images import skip_image
from recipes.workspace import Workspace


def boxed_images(
    workspace: Workspace, source: ImageSource, *, split: str, max_side: int | None
) -> list[Callable[[], BoxedPair]]:
    """Return what loads the images of a split with their boxes; those without the class have none.

    Images of the class whose boxes are not known, or whose mask is broken, are listed in ``skipped.csv``.

    Args:
        workspace: lists what is left out.
        source: the folder; see :class:`datamodules.image_boxes.ImageBoxes`.
        split: ``"train"``, ``"val"`` or ``"test"``.
        max_side: longer side of the images in pixels; None = as they are.

    Raises:
        DataError: the table of boxes cannot be read, or no image of the class has a box.
    """
    boxes_of = ImageBoxes(source)
    found: list[Callable[[], BoxedPair]] = []
    shown = 0
    for record in [*source.select(split), *(record for record in source.negatives if record.split == split)]:
        try:
            boxes = boxes_of.of(record)
        except (DataError, OSError) as error:
            skip_image(workspace, record.name, str(error))
            continue
        if boxes is None:
            skip_image(workspace, record.name, f"shows the class, but has no row in {TABLE} and no mask")
            continue
        shown += len(boxes) > 0
        found.append(partial(_load, source, record, boxes, max_side))
    if not shown:
        raise DataError(
            f"No image of split '{split}' in {source.root} has a box of the class. Add {TABLE} "
            "(image,class,x0,y0,x1,y1) or masks/."
        )
    return found


def _load(source: ImageSource, record: ImageRecord, boxes: FloatArray, max_side: int | None) -> BoxedPair:
    whole = source.image(record)
    image = resize(whole, fit_longest_side((whole.shape[0], whole.shape[1]), max_side))
    scale = np.array([image.shape[1] / whole.shape[1], image.shape[0] / whole.shape[0]] * 2, np.float32)
    return image, boxes * scale
