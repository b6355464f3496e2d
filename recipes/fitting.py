"""Training for a fixed time, without validation: what the last weights are is what counts."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from datamodules.loaders import EpochDataModule, EpochDataset
from modules.checkpoints import save_weights
from modules.distributed import barrier
from recipes.engine import build_trainer, keep_last


def fit_steps(
    cfg: DictConfig,
    folder: Path,
    module: pl.LightningModule,
    train: EpochDataset,
    *,
    batch_size: int,
    epochs: int | None = None,
    steps: int | None = None,
    stage: str | None = None,
    loggers: Sequence[Logger],
) -> dict[str, Any]:
    """Train a module for a fixed time; ``best.ckpt`` holds its last weights.

    Args:
        cfg: the whole configuration.
        folder: of the stage; a killed training goes on from its ``last.ckpt``.
        module: what is trained.
        train: epoch -> data set.
        batch_size: over all ranks; rounded up to a multiple of their number.
        epochs: how long.
        steps: in place of ``epochs``: at least so many steps, in whole epochs, on any number of ranks.
        stage: what the training is called; None = as its folder.
        loggers: of Lightning.

    Returns:
        ``steps`` and ``epochs`` that were taken, and ``items`` of the data set.

    Raises:
        ValueError: not exactly one of ``epochs`` and ``steps``.
    """
    if (epochs is None) == (steps is None):
        raise ValueError(f"fit_steps needs epochs or steps, got epochs={epochs} and steps={steps}.")
    trainer = build_trainer(
        cfg, stage or folder.name, folder, max_epochs=1, callbacks=[keep_last(folder)], loggers=list(loggers)
    )
    batch_size = -(-batch_size // trainer.world_size) * trainer.world_size
    data = EpochDataModule(train, batch_size=batch_size, workers=cfg.workers_per_loader, seed=cfg.seed)
    items = len(cast(Sized, train(0)))
    per_epoch = max(1, items // batch_size)
    epochs = max(1, -(-(steps or 0) // per_epoch)) if epochs is None else epochs
    trainer.fit_loop.max_epochs = epochs
    if hasattr(module, "start_schedule"):
        module.start_schedule(0, epochs * per_epoch)  # type: ignore[operator]
    resume = folder / "last.ckpt"
    trainer.fit(module, data, ckpt_path=str(resume) if resume.exists() else None, weights_only=True)
    if trainer.is_global_zero:
        save_weights(module, folder / "best.ckpt")
    barrier()
    return {"steps": epochs * per_epoch, "epochs": epochs, "items": items}
