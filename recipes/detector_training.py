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
from recipes.boxed_images import boxed_images
from recipes.fitting import fit_steps
from recipes.workspace import Workspace


def train_detector(
    cfg: DictConfig, workspace: Workspace, images: ImageSource, folder: Path, loggers: list[Logger]
) -> dict[str, Any]:
    """Train a :class:`modules.box_detector.BoxDetector`; ``best.ckpt`` holds its last weights.

    Args:
        cfg: the whole configuration; ``box_detector`` has ``epochs``, ``batch_size``, ``scales``, ``jitter`` and
            ``model``.
        workspace: lists what is broken.
        images: those of split ``train`` teach, by ``boxes.csv`` or the tight boxes of their masks' components; images
            of other classes are counter-examples.
        folder: of the stage.
        loggers: of Lightning.

    Raises:
        DataError: no image of split ``train`` has a box of the target.
    """
    options = cfg.box_detector
    loaders = boxed_images(workspace, images, split="train", max_side=cfg.data.max_side)
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
