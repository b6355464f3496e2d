"""A network whose state is the number of steps it has taken, so that masks tell which model drew them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import Dataset

from callbacks.rounds import Rounds
from datamodules.loaders import EpochDataModule
from modules.optim import poly
from pseudolabel.store import Index, PAStore
from pseudolabel.types import Annotation, Clip, FloatArray, Scores, Tag, UInt8Array
from tests.toys import quiet_trainer

VIDEOS = ["a", "b", "c"]
WIDTH = 48
START_AREA = 40
BATCH = 3
STEPS = 2
"""Optimiser steps per epoch: 3 videos of 2 frames in batches of 3."""


def clip(name: str) -> Clip:
    return Clip(np.zeros((2, 1, WIDTH, 3), np.uint8), np.arange(2), name, 25.0, (Tag("cat"),))


def areas(store: PAStore, version: int) -> set[int]:
    """Numbers of foreground pixels in the masks of a version."""
    return {int((store.read(version, row.video, row.frame) == 1).sum()) for row in store.index(version)}


def start(root: Path) -> PAStore:
    """Write PA.v0, in which every object has 40 pixels."""
    store = PAStore(root / "pa")
    if not store.versions():
        store.begin(0)
        labels = np.zeros((2, 1, WIDTH), np.uint8)
        labels[..., :START_AREA] = 1
        for name in VIDEOS:
            store.write(0, clip(name), Annotation(labels, np.ones(2, np.float32)))
        store.publish(0)
    return store


def annotator(given: Clip, scores: Scores | None) -> Annotation:
    assert scores is not None
    return Annotation(scores.argmax(axis=1).astype(np.uint8), np.ones(len(scores), np.float32))


def select_all(index: Index) -> FloatArray:
    return np.array([row.area > 0 for row in index], np.float32)


class Masks(Dataset[dict[str, Any]]):
    """The masks of one version."""

    def __init__(self, store: PAStore, version: int) -> None:
        self.store, self.version = store, version
        self.rows = [row for row in store.index(version) if row.selected]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> dict[str, Any]:
        row = self.rows[item]
        mask = self.store.read(self.version, row.video, row.frame)
        return {"area": int((mask == 1).sum()), "weight": row.weight}


class Counter(pl.LightningModule):
    """Counts its steps, logs criteria as told, and predicts as many foreground pixels as it has taken steps.

    Args:
        criteria: per logged name the value after each epoch.
        fail_at: (epoch, batch) at which training breaks off.
    """

    count: torch.Tensor

    def __init__(self, criteria: dict[str, Sequence[float]], *, fail_at: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.criteria, self.fail_at = criteria, fail_at
        self.idle = nn.Parameter(torch.zeros(1))
        self.register_buffer("count", torch.zeros(()))
        self.span = (0, 1)
        self.spans: list[tuple[int, int]] = []
        self.taught: list[tuple[int, set[int]]] = []
        self.checked: list[tuple[int, set[int]]] = []
        self.rates: list[float] = []
        self.momenta: list[bool] = []

    def start_schedule(self, start: int, steps: int) -> None:
        self.span = (start, steps)
        self.spans.append(self.span)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        if self.fail_at == (self.current_epoch, batch_idx):
            raise RuntimeError("the power went off")
        self.count += 1
        self.taught.append((self.current_epoch, set(batch["area"].tolist())))
        optimizer = self.trainer.optimizers[0]
        self.rates.append(optimizer.param_groups[0]["lr"])
        self.momenta.append(bool(optimizer.state[self.idle]))
        return self.idle.sum()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.checked.append((self.current_epoch, {int(batch["area"])}))

    def on_validation_epoch_end(self) -> None:
        for name, values in self.criteria.items():
            self.log(name, torch.tensor(values[self.current_epoch]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD([self.idle], lr=1.0, momentum=0.9)
        schedule = poly(optimizer, lambda: self.span, power=1.0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["span"] = list(self.span)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.span = (checkpoint["span"][0], checkpoint["span"][1])

    def predict_scores(self, frames: UInt8Array) -> FloatArray:
        scores = np.zeros((len(frames), 2, *frames.shape[1:3]), np.float32)
        scores[:, 0] = 0.5
        scores[:, 1, :, : int(self.count)] = 1.0
        return scores


def run(root: Path, module: Counter, **options: Any) -> Rounds:
    """Train in a folder, going on from its last checkpoint."""
    store = start(root)
    settings: dict[str, Any] = {
        "annotator": annotator,
        "selector": select_all,
        "criterion": "val/ric",
        "patience": 2,
        "max_epochs": 5,
        "max_versions": 4,
        "min_delta": 0.01,
        **options,
    }
    rounds = Rounds(store=store, clips=clip, videos=VIDEOS, folder=root / "segmenter", **settings)
    data = EpochDataModule(
        lambda epoch: Masks(store, rounds.version), lambda epoch: Masks(store, rounds.version), batch_size=BATCH
    )
    trainer = quiet_trainer(max_epochs=settings["max_epochs"] * settings["max_versions"], callbacks=[rounds])
    last = root / "segmenter/last.ckpt"
    trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    return rounds
