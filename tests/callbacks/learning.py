"""Rounds of a real, tiny network; with 2 processes as a program: ``python -m tests.callbacks.learning FOLDER 2``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from callbacks.rounds import Rounds
from datamodules.datasets import PseudoFrames, PseudoVideos
from datamodules.loaders import EpochDataModule
from pseudolabel.annotators import PredictionAnnotator, SlicRefiner
from pseudolabel.types import Annotation, Clip, Scores
from recipes.engine import build_trainer
from tests.callbacks.counting import select_all
from tests.toys import SPACE, make_toy, open_toy, tiny_segmenter

VIDEOS = 8
EPOCHS = 8
VAL = ["red0", "green1", "red2"]
"""An odd number: two processes validate unequal shares."""


class Failing(PredictionAnnotator):
    """Breaks off at the second video of a version."""

    def __init__(self, refiner: SlicRefiner, *, fail: bool) -> None:
        super().__init__(SPACE, refiner)
        self.fail, self.calls = fail, 0

    def __call__(self, clip: Clip, scores: Scores | None) -> Annotation:
        self.calls += 1
        if self.fail and self.calls == 2:
            raise RuntimeError("the power went off")
        return super().__call__(clip, scores)


class FailingEpoch(pl.Callback):
    """Breaks off in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == self.epoch and batch_idx == 1:
            raise RuntimeError("the power went off")


def learn(folder: Path, *, devices: int = 1, fail_at: str = "") -> dict[str, Any]:
    """Do two versions of eight epochs from the toy's PA.v0, going on from the last checkpoint.

    Args:
        folder: the toy is made there.
        devices: processes.
        fail_at: "epoch 3" or "turn 1" to break off there.
    """
    toy = (open_toy if folder.exists() else make_toy)(folder, videos=VIDEOS)
    refine = {"alpha": 0.5, "beta": 0.6, "overlap": "share"}
    torch.manual_seed(3)
    module = tiny_segmenter(refine=refine, freeze_bn=True, lr=2e-2)
    rounds = Rounds(
        store=toy.store,
        clips=toy.clip,
        videos=sorted(toy.by_name),
        annotator=Failing(SlicRefiner(SPACE, {"n": 40, "compactness": 10.0}, refine), fail=fail_at == "turn 1"),
        selector=select_all,
        folder=folder / "segmenter",
        criterion="val/miou_pa",
        compare=["val/ric"],
        patience=EPOCHS,
        max_epochs=EPOCHS,
        max_versions=2,
        min_delta=-10,
    )

    def train(epoch: int) -> PseudoFrames:
        rows = toy.rows(rounds.version, [name for name in toy.by_name if name not in VAL])
        return PseudoFrames(toy.cache, toy.by_name, toy.store, rounds.version, rows, crop=32, epoch=epoch)

    def val(epoch: int) -> PseudoVideos:
        rows = toy.rows(rounds.version, VAL)
        return PseudoVideos(toy.cache, toy.by_name, toy.store, rounds.version, rows, superpixels=40, compactness=10.0)

    cfg = OmegaConf.create(
        {
            "run_dir": str(folder),
            "trainer": {
                "accelerator": "cpu",
                "devices": devices,
                "num_nodes": 1,
                "strategy": "ddp" if devices > 1 else "auto",
                "precision": "32-true",
                "sync_batchnorm": True,
                "gradient_clip_val": None,
                "progress_bar": False,
            },
        }
    )
    callbacks: list[pl.Callback] = [rounds]
    if fail_at.startswith("epoch"):
        callbacks.append(FailingEpoch(int(fail_at.split()[1])))
    trainer = build_trainer(cfg, "segmenter", folder, max_epochs=2 * EPOCHS, callbacks=callbacks, loggers=[])
    last = folder / "segmenter/last.ckpt"
    data = EpochDataModule(train, val, batch_size=4)
    trainer.fit(module, data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    reports = [{**vars(report), "seconds": 0} for report in rounds.reports]
    found = {"versions": reports, "published": toy.store.versions(), "world_size": trainer.world_size}
    if trainer.is_global_zero:
        (folder / "reports.json").write_text(json.dumps(found))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    learn(Path(sys.argv[1]), devices=int(sys.argv[2]))
