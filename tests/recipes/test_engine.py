from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import timm
import torch
from torch import nn

from datamodules.loaders import EpochDataModule
from modules.checkpoints import read_checkpoint
from modules.nets.backbones import freeze_batch_norm
from pseudolabel.types import DataError
from recipes.engine import SyncedNorms, WholeFiles, build_trainer, fit_encoder
from tests.recipes.tiny import synthetic_arguments, tiny_config


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_050"])
def test_synchronised_norms_compute_the_same(name: str) -> None:
    network = timm.create_model(name).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = network(images)
        synced = SyncedNorms().apply(network).eval()
        assert any(isinstance(layer, nn.SyncBatchNorm) for layer in synced.modules())
        assert torch.allclose(synced(images), before, atol=1e-4)
    frozen = freeze_batch_norm(synced).train()
    assert not any(layer.training for layer in frozen.modules() if isinstance(layer, nn.SyncBatchNorm))


def test_they_are_used_on_gpus_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plugins(wanted: str) -> list[object]:
        seen: list[object] = []
        monkeypatch.setattr(pl, "Trainer", lambda **options: seen.extend(options["plugins"]))
        cfg = tiny_config(synthetic_arguments(tmp_path, f"trainer.sync_batchnorm={wanted}"))
        build_trainer(cfg, "toy", tmp_path, max_epochs=1, callbacks=[], loggers=[])
        return [type(plugin) for plugin in seen]

    assert plugins("true") == [WholeFiles] or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert plugins("true") == [WholeFiles, SyncedNorms]
    assert plugins("false") == [WholeFiles]


def test_checkpoints_are_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "last.ckpt"
    WholeFiles().save_checkpoint({"step": 1}, path)

    def killed(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        WholeFiles().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}


def test_what_the_trainer_does_not_know_is_a_clear_error(tmp_path: Path) -> None:
    cfg = tiny_config(synthetic_arguments(tmp_path, "trainer.strategy=carrier-pigeon"))
    with pytest.raises(DataError, match=r"The trainer cannot be built: .*carrier-pigeon.*trainer\.\* settings"):
        build_trainer(cfg, "toy", tmp_path, max_epochs=1, callbacks=[], loggers=[])


class _Ties(pl.LightningModule):
    """Its one weight counts the epochs; its accuracy is the same from the second on."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.weight = nn.Parameter(torch.full((1,), start))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.weight.data += 1
        return 0.0 * self.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/acc", 0.5 if self.current_epoch == 0 or self.current_epoch == 3 else 1.0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.parametrize(("latest", "epochs"), [(False, 2.0), (True, 3.0)])
def test_of_equal_accuracies_the_first_or_the_latest_counts(tmp_path: Path, latest: bool, epochs: float) -> None:
    data = EpochDataModule(
        lambda epoch: [{"x": torch.zeros(1)}], lambda epoch: [{"x": torch.zeros(1)}], batch_size=1, workers=0, seed=0
    )
    cfg = tiny_config(synthetic_arguments(tmp_path))
    found = fit_encoder(cfg, "ties", tmp_path, _Ties(), data, max_epochs=4, loggers=[], latest=latest)
    assert found == {"val_acc": 1.0, "epochs": 4}
    assert read_checkpoint(tmp_path / "best.ckpt")["state_dict"]["weight"].item() == epochs
