"""Composing the configuration; every mistake on the command line ends in one line that names the nearest known key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pseudolabel.types import DataError, nearest_name

_LAYERS = ("sizes", "method", "pairing")
"""Groups whose files are named after a recipe, then a scale or a data set."""

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def load_config(name: str, overrides: list[str] | None = None) -> DictConfig:
    """Compose ``configs/<name>.yaml`` with overrides such as ``["data=videos", "data.root=…"]``.

    Raises:
        DataError: unknown key or group, with the nearest known one; a word for a number; a value that is missing.
    """
    overrides = list(overrides or [])
    _check_choices(overrides)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            cfg = compose(name, overrides=overrides)
            OmegaConf.to_container(cfg, resolve=True)
            _check_layers(overrides, cfg.get("recipe"))
            _check_kinds(compose(name, overrides=_choices(overrides)), cfg)
            _check_workers(cfg)
            return cfg
        except (HydraException, OmegaConfBaseException) as error:
            raise DataError(_explain(name, overrides, str(error))) from error


def _groups() -> dict[str, list[str]]:
    return {
        folder.name: [file.stem for file in folder.glob("*.yaml")] for folder in CONFIGS.iterdir() if folder.is_dir()
    }


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _check_choices(overrides: list[str]) -> None:
    """Refuse a choice that a group does not have: Hydra is silent about those of optional groups."""
    groups = _groups()
    for override in overrides:
        key, value = _key(override), override.partition("=")[2]
        if key in groups and "=" in override and value not in groups[key] and not override.startswith("~"):
            known = sorted(groups[key])
            raise DataError(f"Unknown {key}={value}{nearest_name(value, known) or '.'} Known: {', '.join(known)}.")


def _check_layers(overrides: list[str], recipe: str | None) -> None:
    """Refuse another recipe's layer: its keys would be added, and the recipe's own left out, without a word."""
    groups = _groups()
    recipes = groups["recipe"]
    for override in overrides:
        key, value = _key(override), override.partition("=")[2]
        if key in _LAYERS and value.partition("-")[0] != recipe and value.partition("-")[0] in recipes:
            known = sorted(name for name in groups[key] if name.partition("-")[0] in (recipe, name))
            raise DataError(f"{key}={value} belongs to another recipe than recipe={recipe}. Known: {', '.join(known)}.")


def _choices(overrides: list[str]) -> list[str]:
    """Return the overrides that choose a group's file."""
    return [override for override in overrides if _key(override) in _groups()]


def _check_kinds(default: DictConfig, cfg: DictConfig) -> None:
    """Refuse words where the configuration has numbers or switches; Lightning's own settings may be either."""
    for key in _leaves(default):
        try:
            before, now = OmegaConf.select(default, key), OmegaConf.select(cfg, key)
        except OmegaConfBaseException:  # refers to a value that has no default
            continue
        if now is None or before is None or isinstance(before, str) or key.startswith("trainer."):
            continue
        fits: tuple[type, ...] = (int, float) if isinstance(before, float) else (type(before),)
        if not isinstance(now, fits) or (isinstance(now, bool) and not isinstance(before, bool)):
            kind = {bool: "true or false", int: "a whole number", float: "a number"}
            expected = kind.get(type(before), f"something like {before}")
            raise DataError(f"{key}={now}: expected {expected}; the default is {before}.")


def _check_workers(cfg: DictConfig) -> None:
    """Refuse a number of workers that would only fail in the midst of the work."""
    workers = OmegaConf.select(cfg, "workers")
    if workers is not None and workers < 1 and workers != -1:
        raise DataError(f"workers={workers}: expected at least 1, or -1 for all cores.")


def _explain(name: str, overrides: list[str], message: str) -> str:
    keys, groups = [_key(override) for override in overrides], _groups()
    for override in overrides:
        if "=" not in override and not override.startswith("~"):
            return f"'{override}' is not of the form key=value. See `--help` for the keys."
        try:
            OverridesParser.create().parse_overrides([override])
        except HydraException as error:
            reason = str(error).splitlines()[0]
            return f"'{override}' cannot be read: {reason}. Quote values of more than plain words: key='\"…\"'."
    try:
        known = _leaves(compose(name, overrides=_choices(overrides)))
    except (HydraException, OmegaConfBaseException):
        return " ".join(message.split())
    for key in keys:
        if key not in groups and key not in known:
            return f"Unknown key '{key}'{nearest_name(key, known) or '.'} `--cfg` shows all keys."
    if found := re.search(r"Missing mandatory value: (\S+)", message):
        return f"{found[1]} has no value and no default. Give {found[1]}=…"
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
