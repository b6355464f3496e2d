"""Training tag classifiers on the frames or clips of a workspace: stage 1 of WS2, the start of networks elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger
from torch.utils.data import Dataset

from datamodules.datasets import TagClips, TagFrames
from datamodules.images import ImageRecord, ImageSource
from datamodules.loaders import EpochDataModule, EpochDataset
from datamodules.tagged_images import TaggedImages
from modules.checkpoints import to_plain
from modules.encoder2d import Encoder2D
from modules.encoder3d import Encoder3D
from modules.segmenter import Segmenter
from modules.tagger import Tagger
from pseudolabel.types import DataError, FloatArray, LabelSpace
from recipes.engine import fit_encoder
from recipes.images import read_image
from recipes.workspace import Workspace


def train_encoder2d(
    cfg: DictConfig, options: DictConfig, workspace: Workspace, folder: Path, loggers: list[Logger]
) -> dict[str, Any]:
    """Actor classifier on the frames of single-actor videos (SPEC S3); on all videos if a class never stands alone.

    Args:
        cfg: the whole configuration.
        options: ``epochs``, ``batch_size``, ``area`` and ``model``.
        workspace: the data.
        folder: gets ``best.ckpt``.
        loggers: of Lightning.
    """

    def frames(chosen: list[Any], labels: FloatArray, *, train: bool, epoch: int) -> TagFrames:
        return TagFrames(
            workspace.cache,
            chosen,
            labels,
            size=options.model.image_size,
            positions=lambda record: workspace.positions(record, validation=not train),
            seed=cfg.seed,
            epoch=epoch,
            train=train,
            area=tuple(options.area),
        )

    return _train(cfg, options, workspace, folder, loggers, of="actor", encoder=Encoder2D, samples=frames)


def train_encoder3d(
    cfg: DictConfig, options: DictConfig, workspace: Workspace, folder: Path, loggers: list[Logger]
) -> dict[str, Any]:
    """Action classifier on the clips of single-action videos (SPEC S3); arguments as :func:`train_encoder2d`."""

    def clips(chosen: list[Any], labels: FloatArray, *, train: bool, epoch: int) -> TagClips:
        return TagClips(
            workspace.cache,
            chosen,
            labels,
            size=options.model.clip_size,
            length=options.model.clip_frames,
            stride=options.model.clip_stride,
            repeat=options.repeat if train else 1,
            seed=cfg.seed,
            epoch=epoch,
            train=train,
            area=tuple(options.area),
        )

    return _train(cfg, options, workspace, folder, loggers, of="action", encoder=Encoder3D, samples=clips)


def train_image_encoder(
    cfg: DictConfig, images: ImageSource, space: LabelSpace, folder: Path, loggers: list[Logger]
) -> dict[str, Any]:
    """Classifier of the tags of still images (Hong et al. 2017, Eq. 1), by sigmoids: an image may show several.

    Args:
        cfg: the whole configuration; ``encoder2d`` has ``epochs``, ``batch_size``, ``area``, ``negatives``, ``model``.
        images: the images; those of split ``val``, or without any all of them, choose the best epoch by their tags.
        space: the classes.
        folder: gets ``best.ckpt``.
        loggers: of Lightning.
    """
    options, classes = cfg.encoder2d, list(space.names[1:])
    shown = images.select("train")
    taught = shown + [record for record in images.negatives if options.negatives and record.split == "train"]
    torch.manual_seed(cfg.seed)
    module = Encoder2D(classes, multi_label=True, **to_plain(options.model))

    def data(records: Sequence[ImageRecord], *, train: bool) -> EpochDataset:
        loaders = [partial(read_image, images, record, max_side=cfg.data.max_side) for record in records]
        labels = np.stack([space.allowed(record.tags)[1:] for record in records]).astype(np.float32)
        area = tuple(options.area)
        shared = {"size": options.model.image_size, "seed": cfg.seed, "area": area, "train": train}
        return lambda epoch: TaggedImages(loaders, labels, epoch=epoch, **shared)

    loaders = EpochDataModule(
        data(taught, train=True),
        data(images.select("val") or shown, train=False),
        batch_size=options.batch_size,
        val_batch_size=options.batch_size,
        workers=cfg.workers_per_loader,
        seed=cfg.seed,
    )
    # Few images choose: many epochs have all tags right, and thresholds on scores want the surest of them.
    fitted = fit_encoder(
        cfg, folder.name, folder, module, loaders, max_epochs=options.epochs, loggers=loggers, latest=True
    )
    return {**fitted, "images": len(taught), "negatives": len(taught) - len(shown), "classes": len(classes)}


def start_from_encoder(segmenter: Segmenter, encoder: Encoder2D) -> None:
    """Give a segmenter the backbone of a tag classifier.

    Raises:
        DataError: their backbones differ.
    """
    try:
        segmenter.network.backbone.load_state_dict(encoder.backbone.state_dict())
    except RuntimeError as error:
        raise DataError(
            "segmenter.init=encoder2d needs the same backbone in both stages, got "
            f"{encoder.hparams['backbone']} and {segmenter.hparams['backbone']}. Use segmenter.init=null or equal ones."
        ) from error


def pick_videos(
    workspace: Workspace, records: Sequence[Any], classes: Sequence[str], *, of: str, multi: bool | None = None
) -> tuple[list[Any], bool]:
    """Videos with one actor (or action); all videos, as a multi-label task, when a class never stands alone."""
    single = workspace.single_tag_records(records, of=of)
    seen = Counter(getattr(tag, of) for record in single for tag in record.tags)
    if multi is None:
        multi = any(not seen[name] for name in classes)
    return (list(records), True) if multi or not single else (single, False)


def _train(
    cfg: DictConfig,
    options: DictConfig,
    workspace: Workspace,
    folder: Path,
    loggers: list[Logger],
    *,
    of: str,
    encoder: Callable[..., Tagger],
    samples: Callable[..., Dataset[Any]],
) -> dict[str, Any]:
    """Train a classifier of the actors or actions; ``samples`` makes a data set of videos and their labels."""
    names = workspace.space.actors if of == "actor" else workspace.space.actions
    classes = list(names[1:])
    records, multi = pick_videos(workspace, workspace.train, classes, of=of)
    val = pick_videos(workspace, workspace.val, classes, of=of, multi=multi)[0] if workspace.val else records
    torch.manual_seed(cfg.seed)
    module = encoder(classes, multi_label=multi, **to_plain(options.model))

    def data(chosen: list[Any], *, train: bool) -> EpochDataset:
        labels = workspace.tag_labels(chosen, classes, of=of)
        return lambda epoch: samples(chosen, labels, train=train, epoch=epoch)

    loaders = EpochDataModule(
        data(records, train=True),
        data(val, train=False),
        batch_size=options.batch_size,
        val_batch_size=options.batch_size,
        workers=cfg.workers_per_loader,
        seed=cfg.seed,
    )
    fitted = fit_encoder(cfg, folder.name, folder, module, loaders, max_epochs=options.epochs, loggers=loggers)
    return {**fitted, "videos": len(records), "classes": len(classes), "multi_label": multi}
