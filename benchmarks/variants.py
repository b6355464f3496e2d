"""Runs of one recipe that differ in a few settings, over several seeds, paired: what they share is done once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pseudolabel.types import DataError, nearest_name
from recipes.run_folder import RunFolder, write_json
from recipes.tables import percent, show
from train import train

Changes = Mapping[str, Any]
"""Keys of the configuration and their values in one variant."""

Folders = str | tuple[str, ...]
"""Of one stage, in the run folder."""

Shared = Callable[[Changes], Mapping[str, Folders]]
"""From a variant's changes to the stages that are the same as the lead's: name -> what it has written."""


def check_variants(names: Sequence[str], known: Mapping[str, Changes]) -> None:
    """Raise :class:`DataError` for a variant that is not known."""
    for name in names:
        if name not in known:
            raise DataError(f"Unknown variant '{name}'{nearest_name(name, known)} Known: {', '.join(known)}.")


def run_variants(
    cfg: DictConfig, variants: Mapping[str, Changes], *, lead: str, shared: Shared
) -> Iterator[dict[str, Any]]:
    """Run variants on seeds; of each seed the lead comes first and hands on what the others share with it.

    Where the lead is not asked for, its finished run of the same root and seed is taken if there is one; without any,
    nothing is shared, for a variant's own stages are not the lead's.

    Args:
        cfg: a configuration with ``seeds`` and ``variants`` beside the keys of ``train.yaml``.
        variants: every known one.
        lead: the variant from which the others take over.
        shared: which stages a variant takes over; it sees only the changes that differ from ``cfg``.

    Yields:
        ``variant``, ``seed`` and the run's results.

    Raises:
        DataError: an unknown variant, or the lead's run under the root has other settings.
    """
    check_variants(cfg.variants, variants)
    for seed in cfg.seeds:
        donor = None if lead in cfg.variants else finished_run(settings_of(cfg, seed, lead, variants[lead]))
        for name in sorted(cfg.variants, key=lambda variant: variant != lead):
            run = settings_of(cfg, seed, name, variants[name])
            folder = Path(run.run_dir)
            if donor is not None:
                inherit(donor, folder, shared(real_changes(cfg, variants[name])))
            print(f"\n=== {name}, seed {seed}")
            yield {"variant": name, "seed": seed, **train(run)}
            if name == lead:
                donor = folder


def real_changes(cfg: DictConfig, changes: Changes) -> Changes:
    """Return the changes whose value is not the configuration's already."""
    return {key: value for key, value in changes.items() if OmegaConf.select(cfg, key) != value}


def finished_run(run: DictConfig) -> Path | None:
    """Return the folder of a run if it is finished, else None.

    Raises:
        DataError: the folder holds a finished run with other settings.
    """
    folder = Path(run.run_dir)
    if not (folder / "results.json").exists():
        return None
    try:
        RunFolder(folder, run)  # looks at the settings
    except DataError as error:
        raise DataError(f"{error} Here that is another root=….") from error
    return folder


def inherit(donor: Path, folder: Path, stages: Mapping[str, Folders]) -> None:
    """Copy stages of a finished run, unless the new one has begun, so that the variants are paired."""
    if (folder / "state.json").exists() or not (donor / "state.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    state = json.loads((donor / "state.json").read_text())
    kept = [name for name in stages if name in state]
    for name in kept:
        written = stages[name]
        for part in (written,) if isinstance(written, str) else written:
            if (donor / part).exists():
                shutil.copytree(donor / part, folder / part, dirs_exist_ok=True)
    write_json(folder / "state.json", {name: state[name] for name in kept})


def settings_of(cfg: DictConfig, seed: int, name: str, changes: Changes) -> DictConfig:
    """Return the configuration of one run: ``<root>/<name>-seed<seed>``, decoded frames shared by all."""
    plain: Any = OmegaConf.to_container(cfg)
    for key in ("seeds", "variants"):
        plain.pop(key)
    run = OmegaConf.create(plain)
    run.seed, run.name = seed, f"{name}-seed{seed}"
    for key, value in changes.items():
        OmegaConf.update(run, key, value)
    if run.data.cache_dir is None:
        run.data.cache_dir = str(Path(cfg.root) / "cache")
    OmegaConf.resolve(run)
    return run


def show_cost(rows: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Print what every variant's runs took, ``seconds`` and ``peak_memory_gib``, and write ``<folder>/cost.csv``."""
    lines = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        runs = [row for row in rows if row["variant"] == variant]
        minutes, memory = mean(row["seconds"] for row in runs) / 60, max(row["peak_memory_gib"] for row in runs)
        lines.append((variant, f"{minutes:.1f}", f"{memory:.2f}"))
    show("Cost, what was taken over included", ("variant", "minutes", "peak GiB"), lines, folder, name="cost")


def spread(values: Sequence[float | None]) -> str:
    """``mean ± standard deviation`` in percent of what was measured; a dash for nothing."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    return percent(mean(known)) + (f" ± {percent(stdev(known))}" if len(known) > 1 else "")
