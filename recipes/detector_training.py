"""A detector of the target, trained on still images with boxes (Liang et al. 2017: "an imperfect human detector")."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from datamodules.boxed_images import BoxedImages, BoxedPair, boxes_of_mask
from datamodules.images import ImageSource
from modules.box_detector import BoxDetector
from modules.checkpoints import to_plain
from pseudolabel.types import DataError
from recipes.fitting import fit_steps
from recipes.true_pairs import Load, true_images
from recipes.workspace import Workspace


def train_detector(
    cfg: DictConfig, workspace: Workspace, images: ImageSource, folder: Path, loggers: list[Logger]
) -> dict[str, Any]:
    """Train a :class:`modules.box_detector.BoxDetector`; ``best.ckpt`` holds its last weights.

    Args:
        cfg: the whole configuration; ``box_detector`` has ``epochs``, ``batch_size``, ``scales``, ``jitter`` and
            ``model``.
        workspace: lists what is broken.
        images: those of split ``train`` that have masks teach, and of the masks only the tight boxes of the target's
            components; images of other classes are counter-examples.
        folder: of the stage.
        loggers: of Lightning.

    Raises:
        DataError: no image of split ``train`` has a mask.
    """
    options = cfg.box_detector
    records = [*images.select("train"), *(record for record in images.negatives if record.split == "train")]
    true = true_images(workspace, images, records, max_side=cfg.data.max_side)
    if not true:
        raise DataError(
            f"detector.name=trained: no image of split 'train' in {images.root} has a mask, of which the boxes are "
            "taken. Add masks/, or take another detector.name."
        )
    loaders = [_boxed(load) for load in true]
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
    return {**found, "images": len(loaders)}


def _boxed(load: Load) -> Callable[[], BoxedPair]:
    """Return what loads an image and the boxes of its mask."""

    def pair() -> BoxedPair:
        image, mask = load()
        return image, boxes_of_mask(mask)

    return pair
