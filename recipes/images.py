"""Tagged still images beside the videos, as the configuration names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from datamodules.images import ImageRecord, ImageSource
from datamodules.stills import IMAGE_SOURCES
from datamodules.transforms import fit_longest_side, resize
from modules.distributed import barrier, rank
from pseudolabel.types import DataError, LabelSpace, UInt8Array
from recipes.workspace import Workspace


def open_images(cfg: DictConfig, workspace: Workspace) -> ImageSource | None:
    """Open ``images=…`` in the classes of the videos; None for ``images=none``, and where there are no images.

    What cannot be used is listed in ``skipped.csv`` as ``images/<name>``: a video may have the name of an image.
    """
    source = open_images_of(cfg, workspace.space)
    if source is not None and rank() == 0:
        list_skipped(workspace, source)
    return source


def open_images_of(cfg: DictConfig, space: LabelSpace) -> ImageSource | None:
    """Open ``images=…`` in the classes of ``space`` and list nothing."""
    chosen = cfg.get("images")
    if chosen is None or chosen.name == "none":
        return None
    options: Any = OmegaConf.to_container(chosen.source, resolve=True)
    if rank() != 0:
        barrier()  # rank 0 writes the synthetic ones
    source = IMAGE_SOURCES[chosen.name](label_space=space, **options)
    if rank() == 0:
        barrier()
    return source


def list_skipped(workspace: Workspace, source: ImageSource) -> None:
    """List what a folder of images has that cannot be used."""
    for name, reason in source.skipped:
        skip_image(workspace, name, reason)


def skip_image(workspace: Workspace, name: str, reason: str) -> None:
    """List an image that cannot be used, or a file of its folder, in ``skipped.csv``, once."""
    workspace.list_skipped(f"images/{Path(name).name}", reason)


def read_image(source: ImageSource, record: ImageRecord, *, max_side: int | None) -> UInt8Array:
    """Return an image, uint8 (H, W, 3) RGB, its longer side at most ``max_side`` pixels.

    Raises:
        DataError: it cannot be decoded.
    """
    image = source.image(record)
    return resize(image, fit_longest_side(image.shape[:2], max_side))


def read_with_truth(
    workspace: Workspace, source: ImageSource, record: ImageRecord, *, max_side: int | None
) -> tuple[UInt8Array, UInt8Array] | None:
    """Return an image as :func:`read_image` does and its true mask as it is saved, uint8 (H0, W0); scoring only.

    None without a mask. An image or mask that is broken is listed in ``skipped.csv``, once, and passed over.
    """
    try:
        mask = source.mask(record)
        return None if mask is None else (read_image(source, record, max_side=max_side), mask)
    except (DataError, OSError) as error:
        skip_image(workspace, record.name, str(error))
        return None
