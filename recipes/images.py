"""Tagged still images beside the videos, as the configuration names them."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from datamodules.images import ImageSource
from datamodules.stills import SyntheticStills
from modules.distributed import barrier, rank
from recipes.workspace import Workspace

SOURCES: dict[str, type[ImageSource]] = {"folder": ImageSource, "synthetic": SyntheticStills}


def open_images(cfg: DictConfig, workspace: Workspace) -> ImageSource | None:
    """Open ``images=…``; None for ``images=none``. What cannot be used is listed in ``skipped.csv``."""
    if cfg.images.name == "none":
        return None
    options: Any = OmegaConf.to_container(cfg.images.source, resolve=True)
    if rank() != 0:
        barrier()  # rank 0 writes the synthetic ones
    source = SOURCES[cfg.images.name](label_space=workspace.space, **options)
    if rank() == 0:
        barrier()
        for name, reason in source.skipped:
            workspace.list_skipped(name, reason)
    return source
