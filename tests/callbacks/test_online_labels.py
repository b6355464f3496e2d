from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from callbacks.online_labels import OnlineLabels
from datamodules.loaders import AheadLoader, ShotDataModule
from modules.losses import weighted_cross_entropy
from modules.modes import evaluating
from pseudolabel.types import VOID, DataError, FloatArray, UInt8Array
from tests.callbacks.fake_labellers import (
    STEP_SECONDS,
    best_allowed,
    broken,
    class_seven,
    dying,
    only_void,
    refused,
    slow,
    threads_and_process,
    too_wide,
)
from tests.toys import quiet_trainer, tiny_segmenter


class Shots(Dataset[dict[str, Any]]):
    """Batches of 2 frames of 8 x 8 whose first pixel is their number; the lowest row was padded."""

    def __init__(self, length: int, kinds: Sequence[str] = ("shot",)) -> None:
        self.length, self.kinds = length, kinds

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> dict[str, Any]:
        image = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(item))
        image[..., 0, 0] = item
        valid = torch.ones(2, 8, 8, dtype=torch.bool)
        valid[:, 7] = False
        kind = self.kinds[item % len(self.kinds)]
        batch = {
            "image": image,
            "valid": valid,
            "allowed": torch.tensor([[True, True, False]] * 2),
            "weight": torch.ones(2),
            "kind": kind,
            "name": f"video-{kind}{item:03d}",
        }
        return {**batch, "motion": torch.full((2, 8, 8), item / 255)} if kind == "shot" else batch


class Network(pl.LightningModule):
    """One convolution with dropout; keeps the weights and labels of every step."""

    def __init__(self, *, seconds: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.seconds = seconds
        self.seen: list[dict[str, Any]] = []
        self.weights: list[dict[str, Tensor]] = []
        self.threads: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(self.dropout(images.float() / 255))

    def scores(self, images: Tensor, weights: dict[str, Tensor]) -> FloatArray:
        convolved = nn.functional.conv2d(images.float() / 255, weights["conv.weight"], weights["conv.bias"], padding=1)
        return convolved.softmax(1).detach().numpy()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        assert self.training and self.dropout.training
        self.weights.append({name: value.detach().clone() for name, value in self.state_dict().items()})
        self.seen.append(batch)
        self.threads.append(torch.get_num_threads())
        time.sleep(self.seconds)
        return weighted_cross_entropy(self(batch["image"]), batch["labels"], batch["weight"])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=5.0)


def fit(
    labels: OnlineLabels,
    *,
    length: int = 5,
    epochs: int = 1,
    lag: int | None = None,
    seconds: float = 0.0,
    kinds: Sequence[str] = ("shot",),
    **options: Any,
) -> tuple[Network, pl.Trainer]:
    network = Network(seconds=seconds)
    trainer = quiet_trainer(max_epochs=epochs, callbacks=[labels], **options)
    loader = DataLoader(Shots(length, kinds), batch_size=None)
    trainer.fit(network, AheadLoader(loader, labels.lag if lag is None else lag))
    return network, trainer


def expected(network: Network, batch: dict[str, Any], weights: dict[str, Tensor]) -> UInt8Array:
    allowed, valid = batch["allowed"].numpy(), batch["valid"].numpy()
    labels = best_allowed(
        batch["image"].permute(0, 2, 3, 1).numpy(), allowed, network.scores(batch["image"], weights), None, valid
    )
    return np.where(valid, labels, VOID)


@pytest.mark.parametrize(
    ("mode", "lag", "workers"),
    [("online", 0, 0), ("online", 2, 0), ("online", 2, 2), ("epoch", 0, 0), ("epoch", 2, 0), ("epoch", 2, 2)],
)
def test_labels_come_from_the_weights_they_should(mode: str, lag: int, workers: int) -> None:
    labels = OnlineLabels({"shot": best_allowed}, mode=mode, lag=lag, workers=workers)
    network, _ = fit(labels, length=5, epochs=2)
    assert [int(batch["image"][0, 0, 0, 0]) for batch in network.seen] == [0, 1, 2, 3, 4] * 2
    others = 0
    for step, batch in enumerate(network.seen):
        first = step - step % 5  # of the epoch
        origin = first if mode == "epoch" else max(first, step - lag)
        assert batch["labels"].dtype == torch.int64 and "ahead" not in batch
        assert np.array_equal(batch["labels"].numpy(), expected(network, batch, network.weights[origin])), step
        others += not np.array_equal(batch["labels"].numpy(), expected(network, batch, network.weights[step]))
    assert (others > 0) == (mode == "epoch" or lag > 0)  # else the test could not tell the weights apart


def test_what_was_padded_is_void() -> None:
    network, _ = fit(OnlineLabels({"shot": slow}, lag=0, workers=0), length=1)
    labels = network.seen[0]["labels"]
    assert (labels[:, 7] == VOID).all() and (labels[:, :7] == 1).all()


def test_each_kind_has_its_labeller() -> None:
    labels = OnlineLabels({"shot": best_allowed, "image": only_void}, lag=1, workers=0)
    network, _ = fit(labels, length=4, kinds=("shot", "image"))
    assert [bool((batch["labels"] == VOID).all()) for batch in network.seen] == [False, True, False, True]


def test_training_does_not_wait_for_slow_labels() -> None:
    # Two processes make two labels in the time of one step, which is a little longer than a label.
    labels = OnlineLabels({"shot": slow}, lag=2, workers=2)
    network, trainer = fit(labels, length=8, epochs=2, seconds=1.5 * STEP_SECONDS)
    share = float(trainer.callback_metrics["train/label_wait_share"])
    assert share == pytest.approx(labels.seconds_waited / labels.seconds)
    assert share < 0.25  # the first label of the epoch must be waited for
    assert len(network.seen) == 16


def test_without_lag_training_waits() -> None:
    labels = OnlineLabels({"shot": slow}, lag=0, workers=0)
    _, trainer = fit(labels, length=3, seconds=STEP_SECONDS)
    assert float(trainer.callback_metrics["train/label_wait_share"]) == pytest.approx(0.5, abs=0.15)
    assert labels.seconds_waited >= 3 * STEP_SECONDS


def test_workers_have_one_thread_and_no_torch() -> None:
    network, _ = fit(OnlineLabels({"shot": threads_and_process}, lag=1, workers=1), length=2)
    assert len(network.seen) == 2


def test_the_processes_get_their_cores_and_give_them_back() -> None:
    before = torch.get_num_threads()
    try:
        for workers, given, expected in ((2, 5, 3), (2, 2, 1), (0, 5, 5)):
            torch.set_num_threads(given)
            network, _ = fit(OnlineLabels({"shot": best_allowed}, lag=1, workers=workers), length=1)
            assert network.threads == [expected] and torch.get_num_threads() == given
    finally:
        torch.set_num_threads(before)


def test_an_epoch_cut_short_leaves_nothing_behind() -> None:
    labels = OnlineLabels({"shot": best_allowed}, lag=2, workers=1)
    network, _ = fit(labels, length=6, epochs=2, limit_train_batches=4)
    assert [int(batch["image"][0, 0, 0, 0]) for batch in network.seen] == [0, 1, 2, 3] * 2
    assert np.array_equal(network.seen[4]["labels"].numpy(), expected(network, network.seen[4], network.weights[4]))


def test_more_lag_than_batches() -> None:
    network, _ = fit(OnlineLabels({"shot": best_allowed}, lag=9, workers=0), length=3)
    for batch in network.seen:
        assert np.array_equal(batch["labels"].numpy(), expected(network, batch, network.weights[0]))


@pytest.mark.parametrize(
    ("labeller", "workers", "kind", "message"),
    [
        (broken, 0, RuntimeError, r"No labels for 'video-shot002': ValueError: no colours"),
        (broken, 1, RuntimeError, r"No labels for 'video-shot002': ValueError: no colours"),
        (refused, 1, DataError, r"No labels for 'video-shot000': DataError: allowed names no object"),
        (too_wide, 0, RuntimeError, r"'video-shot000' gave uint8 \(2, 8, 9\), expected uint8 \(2, 8, 8\)"),
        (class_seven, 0, RuntimeError, r"'video-shot000' gave class 7, expected 0 to 2 or 255"),
    ],
)
def test_a_labellers_error_names_the_shot(labeller: Any, workers: int, kind: type[Exception], message: str) -> None:
    labels = OnlineLabels({"shot": labeller}, lag=1, workers=workers)
    with pytest.raises(kind, match=message):
        fit(labels)
    assert labels._pool is None and not labels._pending


def test_a_process_that_dies_is_reported() -> None:
    with pytest.raises(RuntimeError, match=r"No labels for 'video-shot000': TerminatedWorkerError"):
        fit(OnlineLabels({"shot": dying}, workers=1))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(DataError, match="Unknown mode 'offline'"):
        OnlineLabels({}, mode="offline")
    with pytest.raises(DataError, match="lag=-1"):
        OnlineLabels({}, lag=-1)
    with pytest.raises(DataError, match=r"'video-image000' is of kind 'image'\. Labellers are given for shot"):
        fit(OnlineLabels({"shot": slow}, workers=0), kinds=("image",))
    with pytest.raises(DataError, match=r"shows 2 batches at first, lag=3 needs 4"):
        fit(OnlineLabels({"shot": slow}, lag=3, workers=0), lag=1)
    with pytest.raises(DataError, match=r"shows 3 batches at first, lag=0 needs 1"):
        fit(OnlineLabels({"shot": slow}, lag=0, workers=0), lag=2)
    with pytest.raises(DataError, match="Wrap the training loader"):
        trainer = quiet_trainer(max_epochs=1, callbacks=[OnlineLabels({"shot": slow}, workers=0)])
        trainer.fit(Network(), DataLoader(Shots(2), batch_size=None))


def test_every_part_keeps_its_mode() -> None:
    module = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm2d(3), nn.Dropout()))
    module[1][0].eval()
    with pytest.raises(KeyError), evaluating(module):
        assert not any(part.training for part in module.modules())
        raise KeyError
    assert [part.training for part in module.modules()] == [True, True, True, False, True]


def test_the_segmenter_trains_on_them_under_autocast() -> None:
    labels = OnlineLabels({"shot": best_allowed, "image": best_allowed}, lag=1, workers=0)
    module = tiny_segmenter(class_weights=[1.0, 0.5, 1.0], freeze_bn=True)
    trainer = quiet_trainer(max_epochs=2, callbacks=[labels], precision="bf16-mixed")
    trainer.fit(module, ShotDataModule(lambda epoch: Shots(3, ("shot", "image")), lag=1))
    assert trainer.global_step == 6
    assert float(trainer.callback_metrics["train/loss"]) > 0


def test_two_ranks_label_their_own_batches(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "tests.callbacks.test_online_labels", str(tmp_path)], check=True)
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [rank["steps"] for rank in ranks] == [6, 6]
    for epoch in (slice(3), slice(3, 6)):
        assert len({*ranks[0]["shots"][epoch], *ranks[1]["shots"][epoch]}) == 6  # of seven
    assert ranks[0]["share"] == pytest.approx(ranks[1]["share"]) and 0 <= ranks[0]["share"] <= 1
    assert all(rank["first_labels_are_right"] for rank in ranks)


def train_on_two_ranks(folder: Path) -> None:
    """Fit on two ranks; each writes what it has seen."""
    torch.manual_seed(0)
    network = Network()
    callbacks: list[pl.Callback] = [OnlineLabels({"shot": best_allowed}, lag=2, workers=1)]
    trainer = quiet_trainer(max_epochs=2, callbacks=callbacks, devices=2, strategy="ddp")
    trainer.fit(network, ShotDataModule(lambda epoch: Shots(7), lag=2))
    found = {
        "steps": trainer.global_step,
        "shots": [int(batch["image"][0, 0, 0, 0]) for batch in network.seen],
        "share": float(trainer.callback_metrics["train/label_wait_share"]),
        "first_labels_are_right": all(
            np.array_equal(batch["labels"].numpy(), expected(network, batch, network.weights[0]))
            for batch in network.seen[:3]
        ),
    }
    (folder / f"{trainer.global_rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    train_on_two_ranks(Path(sys.argv[1]))
