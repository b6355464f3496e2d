"""The supervised twin: the same network on true masks, the yardstick of every recipe. Only it sees true masks."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from pathlib import Path
from typing import cast

from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from datamodules.loaders import EpochDataModule, EpochDataset
from modules.checkpoints import save_weights
from modules.distributed import barrier
from modules.segmenter import Segmenter
from recipes.engine import build_trainer, keep_last


def fit_twin(
    cfg: DictConfig,
    folder: Path,
    segmenter: Segmenter,
    train: EpochDataset,
    *,
    batch_size: int,
    epochs: int,
    loggers: Sequence[Logger],
) -> Segmenter:
    """Train a segmenter on true masks for a fixed time and return it; ``best.ckpt`` holds its last weights.

    Args:
        cfg: the whole configuration.
        folder: of the stage; a killed training goes on from its ``last.ckpt``.
        segmenter: the untrained network.
        train: epoch -> crops with true labels.
        batch_size: over all ranks.
        epochs: how long.
        loggers: of Lightning.
    """
    data = EpochDataModule(train, batch_size=batch_size, workers=cfg.workers_per_loader, seed=cfg.seed)
    per_epoch = max(1, len(cast(Sized, train(0))) // batch_size)
    segmenter.start_schedule(0, epochs * per_epoch)
    trainer = build_trainer(
        cfg, folder.name, folder, max_epochs=epochs, callbacks=[keep_last(folder)], loggers=list(loggers)
    )
    resume = folder / "last.ckpt"
    trainer.fit(segmenter, data, ckpt_path=str(resume) if resume.exists() else None, weights_only=True)
    if trainer.is_global_zero:
        save_weights(segmenter, folder / "best.ckpt")
    barrier()
    return Segmenter.load(folder / "best.ckpt")
