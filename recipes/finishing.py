"""What a round's network learns once its masks are made: that void is background, so where objects end (ours).

A network that makes masks must not learn it: what its masks miss of an object it would miss as well, and so the next
masks more. Taught after the rounds, from each round's network and masks, it costs no mask.

Networks that went on from each other can be averaged weight by weight (as Izmailov et al., UAI 2018, do; here the
running statistics of batch norms are averaged as well): the mean depends less on the chance of each round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger
from torch.optim.swa_utils import AveragedModel

from datamodules.datasets import PseudoFrames
from modules.checkpoints import save_weights
from modules.distributed import barrier, rank
from modules.segmenter import Segmenter
from recipes.fitting import fit_steps


def finish_rounds(
    cfg: DictConfig,
    folder: Path,
    weights: Sequence[Path],
    frames: Callable[[int, int], PseudoFrames],
    *,
    loggers: list[Logger],
) -> dict[str, Any]:
    """Fine-tune the network of every round on its own masks, and average it with those of the rounds before.

    Args:
        cfg: the whole configuration; ``finish.epochs``, ``finish.average`` and ``segmenter``.
        folder: of the stage; gets ``v<n>/best.ckpt``, fine-tuned, and ``v<n>.ckpt``, averaged over the last
            ``finish.average`` of them, for every version n; ``best.ckpt`` is the last average. A stage that was killed
            goes on with the version at which it was.
        weights: checkpoint of every version's network, one at least.
        frames: version, epoch -> the frames that teach it.
        loggers: of Lightning.

    Returns:
        ``epochs`` and ``steps`` of the last version, and ``weights``, the averages (relative to the run folder).
    """
    starts = dict(enumerate(weights))
    found = fit_networks(cfg, folder, starts, frames, epochs=cfg.finish.epochs, loggers=loggers)
    taught = [folder / f"v{version}/best.ckpt" for version in starts]
    kept = [folder / f"v{version}.ckpt" for version in starts]
    for version, path in enumerate(kept):
        average_networks(taught[max(0, version + 1 - cfg.finish.average) : version + 1], path)
    average_networks(taught[-cfg.finish.average :], folder / "best.ckpt")
    paths = [str(path.relative_to(folder.parent)) for path in kept]
    return {"epochs": found["epochs"], "steps": found["steps"], "weights": paths}


def fit_networks(
    cfg: DictConfig,
    folder: Path,
    weights: Mapping[int, Path],
    data: Callable[[int, int], Any],
    *,
    epochs: int,
    loggers: list[Logger],
) -> dict[str, Any]:
    """Fine-tune the networks of several versions, one after the other.

    Args:
        cfg: the whole configuration; ``segmenter.batch_size``.
        folder: of the stage; gets ``v<n>/best.ckpt`` for every version n. A stage that was killed goes on with the
            version at which it was.
        weights: version -> checkpoint of its network, in rising order.
        data: version, epoch -> the data set that teaches it.
        epochs: of every network.
        loggers: of Lightning.

    Returns:
        ``steps``, ``epochs`` and ``items`` of the last version.
    """
    found: dict[str, Any] = {}
    for version, start in weights.items():
        own = folder / f"v{version}"
        if (own / "best.ckpt").exists() and version != max(weights):
            continue
        own.mkdir(exist_ok=True)
        found = fit_steps(
            cfg,
            own,
            Segmenter.load(start).train(),
            partial(data, version),
            batch_size=cfg.segmenter.batch_size,
            epochs=epochs,
            stage=f"{folder.name} v{version}",
            loggers=loggers,
        )
    return found


def average_networks(weights: Sequence[Path], path: Path) -> None:
    """Write the mean of networks of one kind, weight by weight and running statistic by running statistic.

    Args:
        weights: their checkpoints, one at least.
        path: gets the mean; the first rank writes it, all wait for it.
    """
    if rank() == 0:
        mean = AveragedModel(Segmenter.load(weights[0]), use_buffers=True)
        for each in weights:
            mean.update_parameters(Segmenter.load(each))
        save_weights(cast(Segmenter, mean.module), path)
    barrier()
