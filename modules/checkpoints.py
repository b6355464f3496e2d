"""Checkpoints hold tensors and plain types only: loading one never runs code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf

from pseudolabel.types import DataError

Module = TypeVar("Module", bound=pl.LightningModule)
FORMAT = 1


def to_plain(value: Any) -> Any:
    """Turn OmegaConf nodes, tuples and mappings into plain dicts and lists."""
    if isinstance(value, DictConfig | ListConfig):
        return OmegaConf.to_container(value, resolve=True)
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def save_weights(module: pl.LightningModule, path: str | Path) -> None:
    """Write the module's parameters and hyper-parameters, beside the final name first, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    state = {
        "format": FORMAT,
        "kind": type(module).__name__,
        "hyper_parameters": to_plain(dict(module.hparams)),
        "state_dict": {name: tensor.detach().cpu() for name, tensor in module.state_dict().items()},
    }
    torch.save(state, partial)
    partial.replace(path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint with ``weights_only=True``.

    Raises:
        DataError: no such file, or not a checkpoint of this project.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"Checkpoint not found: {path}. Give the path of a file such as runs/<name>/segmenter/best.ckpt."
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path} is not a readable checkpoint ({reason}). "
            "Expected a file that this project wrote; train again or copy the file anew."
        ) from error
    missing = [key for key in ("hyper_parameters", "state_dict") if not isinstance(state, dict) or key not in state]
    if missing:
        raise DataError(f"{path} holds no {' and '.join(missing)}: it is not a checkpoint of this project.")
    return state


def load_hyper_checkpoint(cls: type[Module], path: str | Path, **changes: Any) -> Module:
    """Build ``cls`` from the checkpoint's own hyper-parameters (``changes`` win) and load its weights strictly.

    Raises:
        DataError: unreadable, another kind of module, or missing and unexpected parameters.
    """
    state = read_checkpoint(path)
    kind = state.get("kind", cls.__name__)
    if kind != cls.__name__:
        raise DataError(f"{path} holds a {kind}, expected a {cls.__name__}. Give the checkpoint of that stage.")
    hyper_parameters = {**to_plain(state["hyper_parameters"]), **changes}
    try:
        module = cls(**hyper_parameters)
        module.load_state_dict(state["state_dict"])
    except (TypeError, RuntimeError) as error:
        first = "; ".join(line.strip() for line in str(error).splitlines()[:3])
        raise DataError(f"{path} does not fit {cls.__name__}: {first}. It was written by another version?") from error
    return module.eval()
