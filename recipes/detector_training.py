"""A detector of the target, trained on still images with boxes (Liang et al. 2017: "an imperfect human detector")."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from datamodules.boxed_images import BoxedImages
from datamodules.images import ImageSource
from modules.box_detector import BoxDetector
from modules.checkpoints import to_plain
from pseudolabel.types import DataError, LabelSpace
from recipes.boxed_pairs import boxed_images, find_boxes
from recipes.fitting import fit_steps
from recipes.images import open_images_of
from recipes.workspace import Workspace


def check_detector(cfg: DictConfig, space: LabelSpace) -> None:
    """Refuse images, boxes and settings that cannot train a detector, before any work begins.

    Raises:
        DataError: there are no images, their ``boxes.csv`` is missing or cannot be meant, no image that trains has a
            box, or ``box_detector.model`` is no detector.
    """
    BoxDetector(**to_plain(cfg.box_detector.model))
    images = open_images_of(cfg, space)
    if images is None:
        raise DataError("detector.name=trained needs images. Give images=folder images.root=…")
    find_boxes(images, split="train", max_side=cfg.data.max_side, from_masks=False)


def train_detector(
    cfg: DictConfig, workspace: Workspace, images: ImageSource, folder: Path, loggers: list[Logger]
) -> dict[str, Any]:
    """Train a :class:`modules.box_detector.BoxDetector`; ``best.ckpt`` holds its last weights.

    Args:
        cfg: the whole configuration; ``box_detector`` has ``epochs``, ``batch_size``, ``scales``, ``jitter`` and
            ``model``.
        workspace: lists what is broken.
        images: those of split ``train`` teach, by ``boxes.csv``; images of other classes are counter-examples.
        folder: of the stage.
        loggers: of Lightning.

    Raises:
        DataError: no image of split ``train`` has a box of the target.
    """
    options = cfg.box_detector
    loaders = boxed_images(workspace, images, split="train", max_side=cfg.data.max_side, from_masks=False)
    torch.manual_seed(cfg.seed)
    detector = BoxDetector(**to_plain(options.model))

    def data(epoch: int) -> BoxedImages:
        return BoxedImages(
            loaders,
            crop=options.model.crop,
            scales=tuple(options.scales),
            jitter=options.jitter,
            seed=cfg.seed,
            epoch=epoch,
        )

    found = fit_steps(
        cfg, folder, detector, data, batch_size=options.batch_size, epochs=options.epochs, loggers=loggers
    )
    return {**found, "images": len(loaders), "boxes": sum(len(item.boxes) for item in loaders)}
