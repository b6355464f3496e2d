"""The stage of the pseudo-label rounds, as every recipe that works in rounds does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from callbacks.pictures import Pictures, PictureSource
from callbacks.rounds import Rounds, VersionReport
from datamodules.loaders import EpochDataModule
from modules.checkpoints import read_checkpoint, save_weights
from modules.distributed import barrier, rank
from modules.segmenter import Segmenter
from recipes.engine import build_trainer
from recipes.workspace import Workspace


def fit_rounds(
    cfg: DictConfig,
    folder: Path,
    segmenter: Segmenter,
    rounds: Rounds,
    workspace: Workspace,
    *,
    pictured: PictureSource,
    keep: Callable[[Sequence[VersionReport]], VersionReport],
    loggers: list[Logger],
) -> dict[str, Any]:
    """Select, train and predict until the rounds end; ``best.ckpt`` holds the best model of the version to keep.

    Args:
        cfg: the whole configuration; ``segmenter``, ``rounds`` and ``slic``.
        folder: of the stage; a killed training goes on from its ``last.ckpt``.
        segmenter: the untrained network.
        rounds: the callback, with its store.
        workspace: the data.
        pictured: videos of the pictures, which go beside the stage's folder.
        keep: chooses among the reports of all versions.
        loggers: of Lightning.

    Returns:
        ``versions``, ``best_version``, ``steps`` and ``weights`` (of each version, relative to the run folder).
    """
    options, store, run = cfg.segmenter, rounds.store, folder.parent
    data = EpochDataModule(
        lambda epoch: workspace.pseudo_frames(store, rounds.version, options, seed=cfg.seed, epoch=epoch),
        lambda epoch: workspace.pseudo_videos(store, rounds.version, cfg.slic),
        batch_size=options.batch_size,
        workers=cfg.workers_per_loader,
        seed=cfg.seed,
    )
    pictures = Pictures(run / "pictures", pictured, store, loggers=loggers)
    rounds.on_version = pictures.draw
    if rank() == 0:
        pictures.draw(0)
    most = cfg.rounds.max_epochs * cfg.rounds.max_versions
    trainer = build_trainer(cfg, folder.name, folder, max_epochs=most, callbacks=[rounds], loggers=loggers)
    last = folder / "last.ckpt"
    trainer.fit(segmenter, data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    kept = keep(rounds.reports)
    if trainer.is_global_zero:
        segmenter.load_state_dict(read_checkpoint(rounds.weights_of(kept.version))["state_dict"])
        save_weights(segmenter, folder / "best.ckpt")
    barrier()
    return {
        "versions": [vars(report) for report in rounds.reports],
        "best_version": kept.version,
        "steps": sum(report.steps for report in rounds.reports),
        "weights": [str(rounds.weights_of(report.version).relative_to(run)) for report in rounds.reports],
    }
