"""The supervised twin: the same network on true masks, the yardstick of every recipe. Only it sees true masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from datamodules.loaders import EpochDataset
from modules.segmenter import Segmenter
from recipes.fitting import fit_steps


def fit_twin(
    cfg: DictConfig,
    folder: Path,
    segmenter: Segmenter,
    train: EpochDataset,
    *,
    batch_size: int,
    steps: int,
    loggers: Sequence[Logger],
) -> Segmenter:
    """Train a segmenter on true masks for a fixed time and return it; ``best.ckpt`` holds its last weights.

    Args:
        cfg: the whole configuration.
        folder: of the stage; a killed training goes on from its ``last.ckpt``.
        segmenter: the untrained network.
        train: epoch -> crops with true labels.
        batch_size: over all ranks; rounded up to a multiple of their number.
        steps: at least so many, in whole epochs, on any number of ranks.
        loggers: of Lightning.
    """
    fit_steps(cfg, folder, segmenter, train, batch_size=batch_size, steps=steps, loggers=list(loggers))
    return Segmenter.load(folder / "best.ckpt")
