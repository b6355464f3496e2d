"""Training tag classifiers on the frames or clips of a workspace: stage 1 of WS2, the start of networks elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from datamodules.datasets import TagClips, TagFrames
from datamodules.loaders import EpochDataModule, EpochDataset
from modules.checkpoints import to_plain
from modules.encoder2d import Encoder2D
from modules.encoder3d import Encoder3D
from modules.segmenter import Segmenter
from modules.tagger import Tagger
from pseudolabel.types import DataError
from recipes.engine import fit_encoder
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
    cache, classes = workspace.cache, list(workspace.space.actors[1:])
    records, multi = pick_videos(workspace, workspace.train, classes, of="actor")
    val = pick_videos(workspace, workspace.val, classes, of="actor", multi=multi)[0] if workspace.val else records
    torch.manual_seed(cfg.seed)
    module = Encoder2D(classes, multi_label=multi, **to_plain(options.model))

    def frames(chosen: list[Any], *, train: bool, epoch: int) -> TagFrames:
        return TagFrames(
            cache,
            chosen,
            workspace.tag_labels(chosen, classes, of="actor"),
            size=options.model.image_size,
            positions=lambda record: workspace.positions(record, validation=not train),
            seed=cfg.seed,
            epoch=epoch,
            train=train,
            area=tuple(options.area),
        )

    fitted = _fit(
        cfg,
        folder,
        module,
        options,
        lambda epoch: frames(records, train=True, epoch=epoch),
        lambda epoch: frames(val, train=False, epoch=epoch),
        loggers,
    )
    return {**fitted, "videos": len(records), "classes": len(classes), "multi_label": multi}


def train_encoder3d(
    cfg: DictConfig, options: DictConfig, workspace: Workspace, folder: Path, loggers: list[Logger]
) -> dict[str, Any]:
    """Action classifier on the clips of single-action videos (SPEC S3); arguments as :func:`train_encoder2d`."""
    cache, classes = workspace.cache, list(workspace.space.actions[1:])
    records, multi = pick_videos(workspace, workspace.train, classes, of="action")
    val = pick_videos(workspace, workspace.val, classes, of="action", multi=multi)[0] if workspace.val else records
    torch.manual_seed(cfg.seed)
    module = Encoder3D(classes, multi_label=multi, **to_plain(options.model))

    def clips(chosen: list[Any], *, train: bool, epoch: int) -> TagClips:
        return TagClips(
            cache,
            chosen,
            workspace.tag_labels(chosen, classes, of="action"),
            size=options.model.clip_size,
            length=options.model.clip_frames,
            stride=options.model.clip_stride,
            repeat=options.repeat if train else 1,
            seed=cfg.seed,
            epoch=epoch,
            train=train,
            area=tuple(options.area),
        )

    fitted = _fit(
        cfg,
        folder,
        module,
        options,
        lambda epoch: clips(records, train=True, epoch=epoch),
        lambda epoch: clips(val, train=False, epoch=epoch),
        loggers,
    )
    return {**fitted, "videos": len(records), "classes": len(classes), "multi_label": multi}


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


def _fit(
    cfg: DictConfig,
    folder: Path,
    module: Tagger,
    options: DictConfig,
    train: EpochDataset,
    val: EpochDataset,
    loggers: list[Logger],
) -> dict[str, Any]:
    data = EpochDataModule(
        train,
        val,
        batch_size=options.batch_size,
        val_batch_size=options.batch_size,
        workers=cfg.workers_per_loader,
        seed=cfg.seed,
    )
    return fit_encoder(cfg, folder.name, folder, module, data, max_epochs=options.epochs, loggers=loggers)
