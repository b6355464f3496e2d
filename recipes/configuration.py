"""Composing the configuration; every mistake on the command line ends in one line that names the nearest known key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pseudolabel.types import DataError, nearest_name

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def load_config(name: str, overrides: list[str] | None = None) -> DictConfig:
    """Compose ``configs/<name>.yaml`` with overrides such as ``["data=videos", "data.root=…"]``.

    Raises:
        DataError: unknown key, group or value; the message names the nearest known one.
    """
    overrides = list(overrides or [])
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            cfg = compose(name, overrides=overrides)
            OmegaConf.to_container(cfg, resolve=True)
            return cfg
        except (HydraException, OmegaConfBaseException) as error:
            raise DataError(_explain(name, overrides, str(error))) from error


def _explain(name: str, overrides: list[str], message: str) -> str:
    keys = [re.split(r"=", override.lstrip("+~"), maxsplit=1)[0] for override in overrides]
    groups = {folder.name: [file.stem for file in folder.glob("*.yaml")] for folder in CONFIGS.iterdir() if folder.is_dir()}
    for override, key in zip(overrides, keys, strict=True):
        value = override.partition("=")[2]
        if key in groups and value and value not in groups[key] and not override.startswith("~"):
            return f"Unknown {key}={value}{nearest_name(value, groups[key])} Known: {', '.join(sorted(groups[key]))}."
        if "=" not in override and not override.startswith("~"):
            return f"'{override}' is not of the form key=value. See `--help` for the keys."
    chosen = [override for override, key in zip(overrides, keys, strict=True) if key in groups]
    try:
        known = list(_leaves(compose(name, overrides=chosen)))
    except (HydraException, OmegaConfBaseException):
        return " ".join(message.split())
    for key in keys:
        if key not in groups and key not in known:
            return f"Unknown key '{key}'{nearest_name(key, known)} `--cfg` shows all keys."
    return " ".join(message.split())


def _leaves(config: Any, prefix: str = "") -> list[str]:
    found = []
    for key in config:
        path = f"{prefix}{key}"
        found.append(path)
        node = config._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none():
            found.extend(_leaves(node, f"{path}."))
    return found


