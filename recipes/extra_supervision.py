"""Boxes or masks of still images as extra supervision in the last round (Liang et al. 2017, Sec. 4.2, SPEC H17).

Where the networks of several rounds are averaged (ours), the images teach each of them: else a single network would be
compared with a mean, which is better whatever taught it.

The only place where masks that a person drew may teach: the user asks for it, and the closing table says so. (Boxes of
still images teach a detector as well, :mod:`recipes.detector_training`.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger
from torch.utils.data import ConcatDataset

from datamodules.datasets import PseudoFrames, TrueFrames
from datamodules.images import ImageSource
from pseudolabel.detect_boxes import Boxes
from pseudolabel.matching import match_proposals
from pseudolabel.palette import read_mask, write_mask
from pseudolabel.proposals import ProposalSettings, propose_regions
from pseudolabel.types import DataError, FloatArray, UInt8Array
from recipes.boxed_pairs import BoxedImage, boxed_images
from recipes.finishing import average_networks, fit_networks
from recipes.true_pairs import Load, true_images
from recipes.workspace import Workspace


def mask_from_boxes(
    image: UInt8Array, boxes: FloatArray, proposals: ProposalSettings, *, fill: float = 0.0
) -> UInt8Array:
    """Return the union of the proposals with the largest overlaps, uint8 (H, W), for boxes (N, 4) of an image."""
    if not len(boxes):
        return np.zeros(image.shape[:2], np.uint8)
    pool = propose_regions(image, proposals)
    return match_proposals(Boxes(boxes, np.ones(len(boxes), np.float32)), pool, None, fill=fill).astype(np.uint8)


def fit_with_extra(
    cfg: DictConfig,
    folder: Path,
    weights: Mapping[int, Path],
    frames: Callable[[int, int], PseudoFrames],
    workspace: Workspace,
    images: ImageSource,
    *,
    proposals: ProposalSettings,
    loggers: list[Logger],
) -> dict[str, Any]:
    """Fine-tune networks on their rounds' frames and on images with boxes or masks, of weight 1 each; average them.

    Args:
        cfg: the whole configuration; ``extra.supervision``, ``extra.epochs`` and ``extra.fill``.
        folder: of the stage; gets ``v<n>/best.ckpt`` for every version n and ``best.ckpt``, their mean. A stage that
            was killed goes on with the version at which it was.
        weights: version -> checkpoint of its network: the last round's, or those of all rounds that are averaged.
        frames: version, epoch -> the frames that taught it.
        workspace: lists what is broken.
        images: those of split ``train`` teach: by their masks, or by ``boxes.csv`` or the tight boxes of the masks'
            components, all that is then looked at of them.
        proposals: settings of the region tree.
        loggers: of Lightning.

    Returns:
        ``epochs``, ``steps`` and ``items`` of the last version, ``supervision``, and how many ``images`` teach.

    Raises:
        DataError: no image of split ``train`` has a mask, or a box of the target.
    """
    options = cfg.segmenter
    taught: Sequence[Load]
    if cfg.extra.supervision == "boxes":
        (folder / "masks").mkdir(exist_ok=True)
        boxed = boxed_images(workspace, images, split="train", max_side=cfg.data.max_side, from_masks=True)
        taught = [_from_boxes(item, folder / "masks", proposals, fill=cfg.extra.fill) for item in boxed]
    else:
        records = [*images.select("train"), *(record for record in images.negatives if record.split == "train")]
        taught = true_images(workspace, images, records, max_side=cfg.data.max_side)
        if not taught:
            raise DataError(f"extra.supervision: no image of split 'train' in {images.root} has a mask. Add masks/.")

    def data(version: int, epoch: int) -> ConcatDataset[dict[str, Any]]:
        extra = TrueFrames(
            taught,
            crop=options.crop,
            scales=tuple(options.scales),
            jitter=options.jitter,
            seed=cfg.seed,
            epoch=epoch,
        )
        return ConcatDataset([frames(version, epoch), extra])

    found = fit_networks(cfg, folder, weights, data, epochs=cfg.extra.epochs, loggers=loggers)
    average_networks([folder / f"v{version}/best.ckpt" for version in weights], folder / "best.ckpt")
    return {**found, "supervision": cfg.extra.supervision, "images": len(taught)}


def _from_boxes(item: BoxedImage, folder: Path, proposals: ProposalSettings, *, fill: float) -> Load:
    """Return what loads an image and the mask made of its boxes, which is made when it is first asked for and kept."""
    file = folder / f"{item.key}.png"

    def pair() -> tuple[UInt8Array, UInt8Array]:
        image, boxes = item()
        if not file.exists():
            write_mask(file, mask_from_boxes(image, boxes, proposals, fill=fill))
        return image, read_mask(file)

    return pair
