"""Lightning trainers as the configuration asks for them, and the fit of a stage-1 encoder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.plugins.layer_sync import LayerSync
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from callbacks.dashboard import Dashboard
from datamodules.loaders import EpochDataModule
from modules.checkpoints import read_checkpoint, save_weights
from modules.distributed import barrier
from pseudolabel.types import DataError


def has_fast_bf16() -> bool:
    """Whether bf16 pays here: a GPU that supports it, or a CPU with AVX-512 BF16 or AMX."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def wandb_logger(cfg: DictConfig) -> list[Logger]:
    """One wandb run per run folder; offline unless someone has logged in. Off: ``logger.wandb=false``."""
    if not cfg.logger.wandb:
        return []
    logged_in = bool(os.environ.get("WANDB_API_KEY")) or (Path.home() / ".netrc").exists()
    mode = cfg.logger.mode or ("online" if logged_in else "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    return [
        WandbLogger(
            project=cfg.logger.project,
            name=cfg.name,
            id=str(cfg.name).replace("/", "-"),
            save_dir=str(cfg.run_dir),
            offline=mode == "offline",
            resume="allow",
        )
    ]


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its final name and renames it: a job killed in between leaves the old one whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write ``path``."""
        final = Path(path)
        partial = final.with_name(f".{final.name}.{os.getpid()}")
        super().save_checkpoint(checkpoint, partial, storage_options)
        partial.replace(final)


class SyncedNorms(LayerSync):
    """Batch norms that share their statistics over ranks; torch's own conversion would drop timm's activations."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Return ``model`` with synchronised batch norms."""
        return convert_sync_batchnorm(model)

    def revert(self, model: nn.Module) -> nn.Module:
        """Return ``model``; what is used after a fit is loaded anew."""
        return model


def keep_last(folder: Path) -> ModelCheckpoint:
    """Return the callback that writes ``last.ckpt`` after *every* epoch, which ``save_last`` does not."""
    return ModelCheckpoint(folder, filename="last", save_top_k=1, enable_version_counter=False)


def build_trainer(
    cfg: DictConfig, stage: str, folder: Path, *, max_epochs: int, callbacks: list[pl.Callback], loggers: list[Logger]
) -> pl.Trainer:
    """Build the trainer of one stage; loaders are rebuilt every epoch and samplers are our own.

    Raises:
        DataError: Lightning does not know the accelerator, strategy, precision or devices, or they are not there.
    """
    precision = cfg.trainer.precision
    if precision == "auto":
        precision = "bf16-mixed" if has_fast_bf16() else "32-true"
    synced = bool(cfg.trainer.sync_batchnorm) and torch.cuda.is_available()
    try:
        return pl.Trainer(
            default_root_dir=folder,
            accelerator=cfg.trainer.accelerator,
            devices=cfg.trainer.devices,
            num_nodes=cfg.trainer.num_nodes,
            strategy=cfg.trainer.strategy,
            precision=precision,
            max_epochs=max_epochs,
            gradient_clip_val=cfg.trainer.gradient_clip_val,
            callbacks=[Dashboard(stage, Path(cfg.run_dir) / "metrics.csv"), *callbacks],
            plugins=[WholeFiles(), *([SyncedNorms()] if synced else [])],
            logger=loggers or False,
            enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
            enable_progress_bar=bool(cfg.trainer.progress_bar),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
            use_distributed_sampler=False,
            log_every_n_steps=50,
            deterministic=False,
        )
    except (ValueError, MisconfigurationException) as error:
        raise DataError(f"The trainer cannot be built: {error} Check the trainer.* settings.") from error


class LatestCheckpoint(ModelCheckpoint):
    """Keeps the best model so far; of equal scores, the later: it has been trained longer."""

    def check_monitor_top_k(self, trainer: pl.Trainer, current: Tensor | None = None) -> bool:
        """Whether this epoch's model is to be kept, by its score."""
        best = self.best_model_score
        equal = current is not None and best is not None and bool(current == best)
        return super().check_monitor_top_k(trainer, current) or trainer.strategy.reduce_boolean_decision(equal)


def fit_encoder(
    cfg: DictConfig,
    stage: str,
    folder: Path,
    module: pl.LightningModule,
    data: EpochDataModule,
    *,
    max_epochs: int,
    loggers: list[Logger],
    latest: bool = False,
) -> dict[str, Any]:
    """Train a tag classifier, resuming from its last checkpoint; ``best.ckpt`` has the highest tag accuracy.

    The tags are the supervision that is given; no mask is looked at. Of equal accuracies the first epoch counts, or the
    ``latest``.
    """
    checkpoints = (LatestCheckpoint if latest else ModelCheckpoint)(
        folder, filename="highest", monitor="val/acc", mode="max", enable_version_counter=False
    )
    callbacks: list[pl.Callback] = [checkpoints, keep_last(folder)]
    trainer = build_trainer(cfg, stage, folder, max_epochs=max_epochs, callbacks=callbacks, loggers=loggers)
    last = folder / "last.ckpt"
    trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    accuracy = float(checkpoints.best_model_score if checkpoints.best_model_score is not None else float("nan"))
    if trainer.is_global_zero:
        module.load_state_dict(read_checkpoint(checkpoints.best_model_path)["state_dict"])
        save_weights(module, folder / "best.ckpt")
    barrier()
    return {"val_acc": accuracy, "epochs": max_epochs}
