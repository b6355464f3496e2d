"""Tags in, masks out: ``python train.py recipe=ws2 data=synthetic scale=demo`` (the default).

  recipe=ws2     attention maps to actor-actions, wise selection     Chen et al. 2020
  recipe=mcnn    motion as a soft constraint, then tagged images     Tokmakov et al. 2016
  recipe=webly   attention from images, shape from web video         Hong et al. 2017
  recipe=human   an imperfect detector, supervoxels, ten rounds      Liang et al. 2017

``scale=demo|small|paper`` sets sizes and schedules; ``method=paper`` leaves out what is ours, beyond the papers.
Any key of the configuration can be set on the command line, such as
``python train.py data=videos data.root=my_videos name=mine``. The same command again
goes on where it was stopped. ``--cfg`` prints the configuration, ``--help`` this text.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from recipes.command_line import command_line
from recipes.configuration import load_config


def train(cfg: DictConfig) -> dict[str, Any]:
    """Run a recipe from its tags to its closing tables.

    Args:
        cfg: configuration as composed by :func:`recipes.configuration.load_config`.

    Returns:
        what is written to ``results.json``: recipe, data, seed, seconds, peak_memory_gib, versions, test, twin,
        share_of_twin.

    Raises:
        DataError: input that cannot be used, in one line with its cure.
    """
    import pytorch_lightning as pl

    from recipes.closing import close
    from recipes.engine import wandb_logger
    from recipes.quiet import quieten
    from recipes.registry import RECIPES
    from recipes.run_folder import RunFolder

    quieten()
    began = time.monotonic()
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    run = RunFolder(Path(cfg.run_dir), cfg)
    recipe = RECIPES[cfg.recipe]
    stages = recipe.run(cfg, run, wandb_logger(cfg))
    return close(cfg, run, recipe, stages, seconds=time.monotonic() - began)


def main(arguments: list[str]) -> int:
    """Compose the configuration, train, and report mistakes in one line."""
    return command_line(arguments, doc=__doc__ or "", load=lambda o: load_config("train", o), work=train)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
