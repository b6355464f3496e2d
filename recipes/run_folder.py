"""The run folder: what is done, so that the same command goes on where it was stopped."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from modules.distributed import barrier, rank
from pseudolabel.types import DataError


def write_json(path: Path, content: Any) -> None:
    """Write JSON beside its final name, then rename."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)


def peak_memory_gib() -> float:
    """Return the largest resident memory of this process and of its ended children, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return max(peaks) * unit / 2**30


_FREE = (
    *("trainer.", "logger.", "workers", "root", "run_dir"),
    *("data.source.workers", "data.cache_dir", "images.source.workers", "labels.workers", "motion_dir"),
)
"""Beginnings of the keys that say where and how a run is computed, not what: they may change between its starts."""


_NO_WORK = ("config.yaml", "skipped.csv", "cache")
"""What is in a run folder before the first stage."""


class RunFolder:
    """``runs/<name>``: the resolved config, one folder per stage, ``state.json`` with the results of what is done.

    Args:
        path: the folder.
        config: the resolved configuration; once a stage has begun, the folder refuses to go on with
            another one.

    Raises:
        DataError: the folder belongs to a run with other settings.
    """

    def __init__(self, path: str | Path, config: DictConfig) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._state_file = self.path / "state.json"
        self._check_config(config)

    def _check_config(self, config: DictConfig) -> None:
        saved = self.path / "config.yaml"
        text = OmegaConf.to_yaml(config, resolve=True)
        if not saved.exists() or not self._begun():
            if rank() == 0:
                partial = saved.with_name(f".config.{os.getpid()}.yaml")
                partial.write_text(text)
                partial.replace(saved)
            return
        before, now = _flatten(OmegaConf.load(saved)), _flatten(OmegaConf.create(text))
        changed = sorted(
            (
                key
                for key in before.keys() | now.keys()
                if before.get(key) != now.get(key) and not key.startswith(_FREE)
            ),
            key=lambda key: ("." in key, key),  # whole choices such as the scale first: they explain the others
        )
        if changed:
            shown = "; ".join(f"{key}: {before.get(key)!r} there, {now.get(key)!r} now" for key in changed[:4])
            if len(changed) > 4:
                shown += f"; and {len(changed) - 4} more"
            raise DataError(
                f"{self.path} holds a run with other settings ({shown}). "
                "Give the same settings to go on with it, or another name=… to start a new run."
            )

    def _begun(self) -> bool:
        """Whether a stage has written anything: else the settings may still be corrected."""
        return any(file.is_file() for item in self.path.iterdir() if item.name not in _NO_WORK for file in _files(item))

    @property
    def state(self) -> dict[str, Any]:
        """Results of the stages that are done, by name."""
        return json.loads(self._state_file.read_text()) if self._state_file.exists() else {}

    def stage(self, name: str, work: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """Do a stage unless it is done, and return its results.

        Args:
            name: of the stage; its folder is ``<run>/<name>``.
            work: does it, given the folder; returns plain results.
        """
        done = self.state
        if name in done:
            if rank() == 0:
                print(f"{name}: done before, {done[name].get('seconds', 0):.0f} s")
            return done[name]
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        began = time.monotonic()
        results = work(folder)
        results["seconds"] = round(time.monotonic() - began, 1)
        results["peak_memory_gib"] = round(peak_memory_gib(), 2)
        barrier()
        if rank() == 0:
            write_json(self._state_file, {**self.state, name: results})
        barrier()
        return results


def _files(item: Path) -> Iterable[Path]:
    return item.rglob("*") if item.is_dir() else [item]


def _flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(config, DictConfig):
        flat: dict[str, Any] = {}
        for key, value in config.items():
            flat.update(_flatten(value, f"{prefix}{key!s}."))
        return flat
    plain = OmegaConf.to_container(config) if OmegaConf.is_config(config) else config
    return {prefix.removesuffix("."): plain}
