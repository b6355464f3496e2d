"""Pseudo-label rounds inside one fit: train until the criterion converges, annotate anew, select, go on.

The callback knows three things of a recipe - its annotator, its selector and the name of its criterion - and the store.
It holds on one and on many ranks: every rank annotates its own share of the videos, rank 0 publishes. It resumes from
any instant: what is decided is written into the checkpoint before what it leads to begins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytorch_lightning as pl
import torch

from datamodules.progress import follow
from modules.checkpoints import read_checkpoint, save_weights
from modules.distributed import barrier, gather_lists, own_share, rank
from pseudolabel.annotate import annotate
from pseudolabel.store import Index, PAStore
from pseudolabel.types import Annotator, Clip, DataError, FloatArray, UInt8Array

Selector = Callable[[Index], FloatArray]
"""From a version's index to the weight (N,) of every frame; 0 = not selected."""


class ScoringModule(Protocol):
    """What the rounds need of a network."""

    def predict_scores(self, frames: UInt8Array) -> FloatArray:
        """Softmax scores (T, C, H, W) of frames (T, H, W, 3)."""
        ...

    def start_schedule(self, start: int, steps: int) -> None:
        """Begin the learning-rate schedule of a version."""
        ...


@dataclass
class VersionReport:
    """What happened while one version was the teacher."""

    version: int
    selected: int = 0
    frames: int = 0
    epochs: int = 0
    steps: int = 0
    best: dict[str, float] = field(default_factory=dict)
    best_epoch: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


class Rounds(pl.Callback):
    """Select - train - predict, again and again (Chen et al., Algorithm 1).

    Args:
        store: versions on disk; version 0 must be there before the fit begins.
        clips: name -> clip with frames and tags, for every video that is annotated.
        videos: the names of these videos, in one fixed order.
        annotator: makes a version from scores.
        selector: weighs the frames of a version.
        folder: where each version's best weights go (``v0.ckpt``, …).
        criterion: logged metric that picks the model within a version.
        compare: further logged metrics; the models that *they* would pick annotate as well, into stores of their own,
            so that criteria can be compared (Table 2). They influence nothing.
        patience: epochs without a better criterion after which a version has converged.
        max_epochs: epochs of one version at most.
        max_versions: versions at most (the paper: v0 … v3 = 4).
        min_delta: rounds end when a version's best criterion exceeds the highest before it by less.
        reinit: start every version from the first weights instead of the version's best.
        workers: annotation workers per rank.
        on_version: called on rank 0 with each newly published version's number.
    """

    def __init__(
        self,
        *,
        store: PAStore,
        clips: Callable[[str], Clip],
        videos: Sequence[str],
        annotator: Annotator,
        selector: Selector,
        folder: str | Path,
        criterion: str = "val/ric",
        compare: Sequence[str] = (),
        patience: int = 3,
        max_epochs: int = 30,
        max_versions: int = 4,
        min_delta: float = 0.005,
        reinit: bool = False,
        workers: int = 1,
        on_version: Callable[[int], object] | None = None,
    ) -> None:
        self.store, self.clips, self.videos = store, clips, list(videos)
        self.annotator, self.selector = annotator, selector
        self.folder = Path(folder)
        self.criterion, self.compare = criterion, [name for name in compare if name != criterion]
        self.patience, self.max_epochs, self.max_versions = patience, max_epochs, max_versions
        self.min_delta, self.reinit, self.workers = min_delta, reinit, workers
        self.on_version = on_version
        self.version = 0
        self.done = False
        self.turning = False  # converged, and the next version not yet taken up
        self.reports: list[VersionReport] = [VersionReport(0)]
        self._began = time.monotonic()

    # --- what survives a crash

    def state_dict(self) -> dict[str, Any]:
        """Return plain types only."""
        return {
            "version": self.version,
            "done": self.done,
            "turning": self.turning,
            "reports": [asdict(report) for report in self.reports],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of a checkpoint."""
        self.version, self.done, self.turning = state_dict["version"], state_dict["done"], state_dict["turning"]
        self.reports = [VersionReport(**report) for report in state_dict["reports"]]

    # --- hooks

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Select from version 0, or finish the turn that was interrupted."""
        if self.version not in self.store.versions():
            raise DataError(
                f"Version {self.version} of the pseudo-annotations is not in {self.store.root}. "
                "Run the stage that writes it, or remove the run folder to start anew."
            )
        self._began = time.monotonic()
        if self.reinit and not (self.folder / "first.ckpt").exists() and trainer.is_global_zero:
            save_weights(pl_module, self.folder / "first.ckpt")
        barrier()
        self._select()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on where the last run was stopped; a fresh fit begins the schedule of version 0."""
        if self.turning:
            self._turn(trainer, pl_module)
            self._reload_loaders(trainer)
        elif trainer.global_step == 0:
            self._start_schedule(trainer, pl_module, steps_per_epoch=int(trainer.num_training_batches))
        if self.done:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the criterion with the version's best; turn to the next version when it has converged."""
        report = self.reports[-1]
        report.epochs += 1
        report.steps += int(trainer.num_training_batches)
        report.seconds += time.monotonic() - self._began
        self._began = time.monotonic()
        for name in [self.criterion, *self.compare]:
            value = self._value(trainer, name)
            if name not in report.best or value > report.best[name]:
                report.best[name], report.best_epoch[name] = value, report.epochs
                if trainer.is_global_zero:
                    save_weights(pl_module, self._weights(self.version, name))
        waited = report.epochs - report.best_epoch[self.criterion]
        if waited >= self.patience or report.epochs >= self.max_epochs:
            self.turning = True
            self._save_last(trainer)
            self._turn(trainer, pl_module)
        else:
            self._save_last(trainer)

    # --- one turn

    def _turn(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop if the version's best criterion did not rise; else let its best model write the next and go on."""
        barrier()
        best = [report.best[self.criterion] for report in self.reports]
        risen = len(best) < 2 or best[-1] - max(best[:-1]) >= self.min_delta
        self.done = not risen or self.version + 1 >= self.max_versions
        if not self.done:
            self._write_next(trainer, pl_module)
            self.reports.append(VersionReport(self.version))
            self._select()
            if self.reinit:
                self._restore(pl_module, self.folder / "first.ckpt")
            for optimizer in trainer.optimizers:
                optimizer.state.clear()
                for group in optimizer.param_groups:  # the scheduler's next step comes after the first batch
                    group["lr"] = group.get("initial_lr", group["lr"])
            batch_size = trainer.datamodule.batch_size  # type: ignore[attr-defined]
            self._start_schedule(trainer, pl_module, steps_per_epoch=max(1, self.reports[-1].selected // batch_size))
        self.turning = False
        self._began = time.monotonic()
        self._save_last(trainer)
        if self.done:
            trainer.should_stop = True

    def _write_next(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Annotate all videos with the version's best model, and with those that other criteria would have picked."""
        report, following = self.reports[-1], self.version + 1
        for name in self.compare:
            if report.best_epoch[name] != report.best_epoch[self.criterion]:
                self._restore(pl_module, self._weights(self.version, name))
                self._annotate(pl_module, self.rival_store(name), following)
        self._restore(pl_module, self._weights(self.version, self.criterion))
        self._annotate(pl_module, self.store, following)
        if trainer.is_global_zero and self.on_version is not None:
            self.on_version(following)
        self.version = following

    def _annotate(self, pl_module: Any, store: PAStore, version: int) -> None:
        if version in store.versions():
            return
        store.begin(version)
        barrier()
        own = [name for name in own_share(self.videos) if not store.is_written(version, name)]
        waiting = follow(own, f"annotating v{version}", least=8)

        def scored() -> Any:
            for name in waiting:
                clip = self.clips(name)
                yield clip, pl_module.predict_scores(clip.frames)

        failed = annotate(scored(), self.annotator, store, version, workers=self.workers)
        failed = gather_lists(failed)
        if len(failed) >= len(self.videos):
            raise DataError(f"No video could be annotated for version {version}; first: {failed[0][0]}: {failed[0][1]}")
        barrier()
        if pl_module.global_rank == 0:
            for video, reason in failed:
                print(f"skipped in v{version}: {video}: {reason}")
            store.publish(version)
        barrier()

    def _select(self) -> None:
        """Weigh the frames of the present version on rank 0, once: the marker says that it has been done."""
        marker = self.folder / f"v{self.version}.selected"
        if rank() == 0 and not marker.exists():
            index = self.store.index(self.version)
            if not any(row.area > 0 for row in index):
                cure = (
                    "the evidence (attention maps, boxes) is too weak, or is in too few of the frames, to give an "
                    "object. Look at what the stages before have found, and give more of it under another name=."
                )
                if self.version:
                    before = self.folder / f"v{self.version - 1}.ckpt"
                    cure = (
                        f"the network of the version before, {before}, predicts background alone. Train it longer "
                        "(segmenter.*, rounds.max_epochs) or start it from pretrained weights, under another name=."
                    )
                raise DataError(
                    f"Version {self.version} holds no object in any frame: nothing is left to train on. "
                    f"Look at the pseudo-annotations in {self.store.root}; {cure}"
                )
            weights = self.selector(index)
            if not (weights > 0).any():
                print(f"v{self.version}: no frame passed the selection; training on all that hold an object")
                weights = np.array([row.area > 0 for row in index], np.float32)
            for row, weight in zip(index, weights, strict=True):
                row.weight, row.selected = float(weight), bool(weight > 0)
            self.store.update_index(self.version, index)
            self.folder.mkdir(parents=True, exist_ok=True)
            marker.touch()
        barrier()
        index = self.store.index(self.version)
        self.reports[-1].frames, self.reports[-1].selected = len(index), sum(row.selected for row in index)

    # --- small parts

    def rival_store(self, criterion: str) -> PAStore:
        """Return the store of the versions that the models picked by another criterion would have written."""
        return PAStore(self.store.root.with_name(f"{self.store.root.name}-by-{criterion.split('/')[-1]}"))

    def weights_of(self, version: int) -> Path:
        """Return the file of the best model of a version."""
        return self._weights(version, self.criterion)

    def _weights(self, version: int, criterion: str) -> Path:
        suffix = "" if criterion == self.criterion else f"-by-{criterion.split('/')[-1]}"
        return self.folder / f"v{version}{suffix}.ckpt"

    def _start_schedule(self, trainer: pl.Trainer, pl_module: Any, *, steps_per_epoch: int) -> None:
        pl_module.start_schedule(trainer.global_step, steps_per_epoch * self.max_epochs)

    def _reload_loaders(self, trainer: pl.Trainer) -> None:
        """Have the loaders built again: this epoch's were built for the version before the turn."""
        trainer.fit_loop._last_train_dl_reload_epoch = float("-inf")
        trainer.fit_loop.epoch_loop.val_loop._last_val_dl_reload_epoch = float("-inf")

    def _restore(self, pl_module: pl.LightningModule, path: Path) -> None:
        pl_module.load_state_dict(read_checkpoint(path)["state_dict"])

    def _save_last(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.folder / "last.ckpt", weights_only=False)  # with the optimiser, to go on

    def _value(self, trainer: pl.Trainer, name: str) -> float:
        if name not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics))
            raise DataError(f"The criterion '{name}' was not logged. Known metrics: {known}.")
        if trainer.callback_metrics.get("val/foreground", 1) == 0:
            return 0.0  # all background: refinement changes nothing, so RII would be perfect
        return float(torch.as_tensor(trainer.callback_metrics[name]))
