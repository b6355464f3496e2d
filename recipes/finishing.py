"""What a round's network learns once its masks are made: that void is background, so where objects end (ours).

A network that makes masks must not learn it: what its masks miss of an object it would miss as well, and so the next
masks more. Taught after the rounds, from each round's network and masks, it costs no mask.

Networks that went on from each other can be averaged weight by weight (as Izmailov et al., UAI 2018, do; here the
running statistics of batch norms are averaged as well): the mean depends less on the chance of each round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    found: dict[str, Any] = {}
    own = [folder / f"v{version}" for version in range(len(weights))]
    for version, start in enumerate(weights):
        if (own[version] / "best.ckpt").exists() and version < len(weights) - 1:
            continue
        own[version].mkdir(exist_ok=True)
        found = fit_steps(
            cfg,
            own[version],
            Segmenter.load(start).train(),
            partial(frames, version),
            batch_size=cfg.segmenter.batch_size,
            epochs=cfg.finish.epochs,
            stage=f"{folder.name} v{version}",
            loggers=loggers,
        )
    taught = [path / "best.ckpt" for path in own]
    kept = [folder / f"v{version}.ckpt" for version in range(len(weights))]
    for version, path in enumerate(kept):
        average_networks(taught[max(0, version + 1 - cfg.finish.average) : version + 1], path)
    average_networks(taught[-cfg.finish.average :], folder / "best.ckpt")
    paths = [str(path.relative_to(folder.parent)) for path in kept]
    return {"epochs": found["epochs"], "steps": found["steps"], "weights": paths}


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
