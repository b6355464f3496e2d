"""What a person sees while a stage runs: one line per epoch, one growing metrics.csv, the optional wandb run."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

METRICS_HEADER = ("stage", "version", "epoch", "step", "metric", "value")


def append_metrics(path: Path, rows: list[tuple[Any, ...]]) -> None:
    """Append rows (stage, version, epoch, step, metric, value) to ``metrics.csv``, writing its header first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(METRICS_HEADER)
        writer.writerows(rows)


class Dashboard(pl.Callback):
    """Writes every logged epoch metric to the console and to ``metrics.csv``, in long form, across stages and restarts.

    Args:
        stage: name of the stage.
        metrics: path of ``metrics.csv``.
        console: where the lines go; None = standard output.
    """

    def __init__(self, stage: str, metrics: Path, *, console: Console | None = None) -> None:
        self.stage, self.metrics = stage, metrics
        self.console = console or Console(highlight=False)
        self._began = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock."""
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's figures."""
        if not trainer.is_global_zero:
            return
        version = next((c.version for c in trainer.callbacks if hasattr(c, "reports")), "")  # type: ignore[attr-defined]
        values = {name: float(value) for name, value in sorted(trainer.callback_metrics.items())}
        place = (self.stage, version, trainer.current_epoch, trainer.global_step)
        append_metrics(self.metrics, [(*place, name, f"{value:.6g}") for name, value in values.items()])
        head = f"{self.stage}{f' v{version}' if version != '' else ''} epoch {trainer.current_epoch + 1}"
        figures = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        self.console.print(f"{head:<24} {figures}  ({time.monotonic() - self._began:.1f} s)", soft_wrap=True)
