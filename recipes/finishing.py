"""What a round's network learns once its masks are made: that void is background, so where objects end (ours).

A network that makes masks must not learn it: what its masks miss of an object it would miss as well, and so the next
masks more. Taught after the rounds, from each round's network and masks, it costs no mask.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from datamodules.datasets import PseudoFrames
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
    """Fine-tune the network of every round on its own masks; ``best.ckpt`` is the last round's.

    Args:
        cfg: the whole configuration; ``finish.epochs`` and ``segmenter``.
        folder: of the stage; gets ``v<n>/best.ckpt`` for every version n, and those that are there are not made again.
        weights: checkpoint of every version's network, one at least.
        frames: version, epoch -> the frames that teach it.
        loggers: of Lightning.

    Returns:
        ``epochs`` and ``steps`` of the last round, and ``weights`` (of each version, relative to the run folder).
    """
    found: dict[str, Any] = {}
    made = []
    for version, start in enumerate(weights):
        own = folder / f"v{version}"
        own.mkdir(exist_ok=True)
        made.append(own / "best.ckpt")
        last = version == len(weights) - 1
        if made[-1].exists() and not last:
            continue
        segmenter = Segmenter.load(start).train()
        found = fit_steps(
            cfg,
            own,
            segmenter,
            lambda epoch, version=version: frames(version, epoch),  # type: ignore[misc]
            batch_size=cfg.segmenter.batch_size,
            epochs=cfg.finish.epochs,
            stage=f"{folder.name} v{version}",
            loggers=loggers,
        )
    if rank() == 0:
        shutil.copy2(made[-1], folder / "best.ckpt")
    barrier()
    return {
        "epochs": found["epochs"],
        "steps": found["steps"],
        "weights": [str(path.relative_to(folder.parent)) for path in made],
    }
