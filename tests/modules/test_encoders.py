from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from datamodules.datasets import TagClips, TagFrames
from datamodules.loaders import EpochDataModule
from modules.checkpoints import save_weights
from modules.encoder2d import Encoder2D
from modules.encoder3d import Encoder3D
from modules.tagger import Tagger
from pseudolabel.types import DataError
from tests.toys import COLOURS, Toy, draw_video, quiet_trainer

LABELS = np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 0, 1]]
TINY_2D: dict[str, Any] = {
    "backbone": "resnet18",
    "backbone_args": {"channels": [4, 8, 8, 8]},
    "output_stride": 8,
    "image_size": 32,
    "optimizer": "adamw",
    "lr": 1e-2,
    "weight_decay": 0.0,
    "head_multiplier": 1.0,
}
TINY_3D: dict[str, Any] = {
    "width": 0.0625,
    "output_stride": 8,
    "temporal_stride": 2,
    "clip_size": 32,
    "clip_frames": 4,
    "dropout": 0.0,
    "bn_momentum": 0.1,
    "optimizer": "adamw",
    "lr": 1e-2,
    "weight_decay": 0.0,
    "head_multiplier": 1.0,
}


def encoder2d(**changes: Any) -> Encoder2D:
    return Encoder2D(list(COLOURS), **{**TINY_2D, **changes})


def encoder3d(**changes: Any) -> Encoder3D:
    return Encoder3D(list(COLOURS), **{**TINY_3D, **changes})


class Record(list[float]):
    """The training loss of each epoch."""

    def follow(self, module: Tagger, data: EpochDataModule, *, epochs: int) -> dict[str, float]:
        record = self

        class Listener(pl.Callback):
            def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
                record.append(float(trainer.callback_metrics["train/loss"]))

        trainer = quiet_trainer(max_epochs=epochs, callbacks=[Listener()])
        trainer.fit(module, data)
        return {name: float(value) for name, value in trainer.callback_metrics.items()}


def frames_data(toy: Toy, labels: np.ndarray = LABELS) -> EpochDataModule:
    def frames(epoch: int, train: bool) -> TagFrames:
        return TagFrames(toy.cache, toy.records, labels, size=32, epoch=epoch, train=train)

    return EpochDataModule(lambda e: frames(e, True), lambda e: frames(e, False), batch_size=12, val_batch_size=8)


def test_the_2d_encoder_learns_the_toy(shared_toy: Toy) -> None:
    losses = Record()
    scores = losses.follow(encoder2d(), frames_data(shared_toy), epochs=16)
    assert losses[-1] < 0.5 * losses[0]
    assert scores["val/acc"] > 0.95


def test_the_2d_encoder_learns_several_tags_at_once(shared_toy: Toy) -> None:
    losses = Record()
    module = encoder2d(multi_label=True)
    assert isinstance(module.loss, nn.BCEWithLogitsLoss)
    scores = losses.follow(module, frames_data(shared_toy), epochs=16)
    assert losses[-1] < 0.5 * losses[0]
    assert scores["val/acc"] > 0.95


def test_the_3d_encoder_learns_the_toy(shared_toy: Toy) -> None:
    def clips(epoch: int, train: bool) -> TagClips:
        return TagClips(
            shared_toy.cache, shared_toy.records, LABELS, size=32, length=4, repeat=2, epoch=epoch, train=train
        )

    data = EpochDataModule(lambda e: clips(e, True), lambda e: clips(e, False), batch_size=6, val_batch_size=6)
    losses = Record()
    scores = losses.follow(encoder3d(), data, epochs=10)
    assert losses[-1] < 0.5 * losses[0]
    assert scores["val/acc"] > 0.8


def test_accuracy_counts_answers_that_are_a_tag() -> None:
    module = encoder2d()
    answers = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]])
    module.forward = lambda images: answers  # type: ignore[method-assign]
    labels = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])  # right (one of two), wrong, right
    module.validation_step({"image": answers, "label": labels}, 0)
    assert float(module.val_acc.compute()) == pytest.approx(2 / 3)


def test_only_the_head_is_trained_if_asked(shared_toy: Toy) -> None:
    module = encoder2d(trainable="head")
    before = {name: value.clone() for name, value in module.named_parameters()}
    quiet_trainer(max_epochs=1).fit(module, frames_data(shared_toy))
    moved = {name for name, value in module.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"classifier.weight", "classifier.bias"}


def test_frozen_batch_norms_stay_so_when_they_are_built_anew(shared_toy: Toy) -> None:
    module = encoder2d(freeze_bn=True)
    module.backbone = nn.SyncBatchNorm.convert_sync_batchnorm(module.backbone)
    module.on_fit_start()
    module.train()
    norms = [layer for layer in module.modules() if isinstance(layer, nn.SyncBatchNorm)]
    assert norms and not any(layer.training for layer in norms)


def test_an_unknown_setting_is_a_clear_error() -> None:
    with pytest.raises(DataError, match="'all' or 'head', got 'none'"):
        encoder2d(trainable="none")
    with pytest.raises(DataError, match=r"attention method 'lime'.*'gradcam' or 'cam'"):
        encoder2d().attention(np.zeros((1, 32, 32, 3), np.uint8), [0], method="lime")


@pytest.mark.parametrize("method", ["gradcam", "cam"])
def test_2d_attention_has_one_map_per_class_and_frame(method: str) -> None:
    module = encoder2d().train()
    frames = draw_video(0, "red")[0]
    maps = module.attention(frames, [1, 0, 1], method=method, batch_size=3)
    assert maps.shape == (3, 4, 32, 48) and maps.dtype == np.float32
    assert (maps >= 0).all() and maps.max() > 0
    assert np.array_equal(maps[0], maps[2]) and not np.array_equal(maps[0], maps[1])
    assert np.allclose(maps[:, 2:3], module.attention(frames[2:3], [1, 0, 1], method=method), atol=1e-5)
    assert module.training
    assert all(parameter.grad is None for parameter in module.parameters())


def test_attention_of_a_trained_encoder_lies_on_the_object(shared_toy: Toy) -> None:
    module = encoder2d()
    quiet_trainer(max_epochs=12).fit(module, frames_data(shared_toy))
    hits = []
    for number, record in enumerate(shared_toy.records):
        maps = module.attention(np.array(shared_toy.cache.frames(record)), [number % 2])[0]
        truth = shared_toy.truth[record.name] > 0
        for one, mask in zip(maps, truth, strict=True):
            hits.append(one[mask].mean() > one[~mask].mean())
    assert np.mean(hits) > 0.8


def test_classify_resizes_patches_and_names_their_class(shared_toy: Toy) -> None:
    module = encoder2d()
    quiet_trainer(max_epochs=12).fit(module, frames_data(shared_toy))
    module.train()
    patches = np.stack([draw_video(n, colour)[0][0][:, :32] for n, colour in enumerate(COLOURS) for _ in range(3)])
    assert module.classify(patches, batch_size=4).tolist() == [0, 0, 0, 1, 1, 1]
    assert module.classify(np.zeros((0, 16, 16, 3), np.uint8)).shape == (0,)
    assert module.training


def test_3d_attention_covers_a_long_video_by_windows() -> None:
    module = encoder3d().eval()
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (11, 32, 48, 3)).astype(np.uint8)
    maps = module.attention(frames, [0, 1], positions=[0, 5, 10])
    assert maps.shape == (2, 3, 4, 4) and maps.dtype == np.float32
    assert (maps >= 0).all()
    # Frame 10 is seen by the last window alone, which covers frames 7..10: the others do not matter.
    changed = frames.copy()
    changed[:6] = 0
    assert np.array_equal(module.attention(changed, [0, 1], positions=[10])[:, 0], maps[:, 2])
    assert not np.array_equal(module.attention(changed, [0, 1], positions=[0])[:, 0], maps[:, 0])


def test_3d_attention_of_a_video_shorter_than_a_clip() -> None:
    frames = draw_video(0, "red", frames=3)[0]
    assert encoder3d().eval().attention(frames, [1], positions=[0, 2]).shape == (1, 2, 4, 4)


def test_3d_attention_lies_where_the_network_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    class OneCell:
        """A Grad-CAM that always finds the cell in row 1, column 0."""

        def __init__(self, *network: Any) -> None:
            pass

        def __enter__(self) -> OneCell:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def __call__(self, clip: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, None]:
            maps = torch.zeros(1, targets.shape[1], 2, 4, 4)
            maps[..., 1, 0] = 1.0
            return maps, None

    monkeypatch.setattr("modules.encoder3d.GradCAM", OneCell)
    module = encoder3d().eval()
    shift = module.network.lag / module.network.stride
    assert 0 < shift < 1
    seen = np.zeros((4, 4), np.float32)
    seen[1:3, :2] = np.outer([1 - shift, shift], [1.0, shift])  # the first column is repeated
    frames = draw_video(0, "red", frames=4)[0]
    np.testing.assert_allclose(module.attention(frames, [0], positions=[1])[0, 0], seen, rtol=1e-5)
    mirrored = module.attention(frames, [0], positions=[1], flip=True)[0, 0]
    np.testing.assert_allclose(mirrored, (seen + seen[:, ::-1]) / 2, rtol=1e-5)


@pytest.mark.parametrize("build", [encoder2d, encoder3d])
def test_a_saved_encoder_answers_as_before(build: Any, tmp_path: Path) -> None:
    module = build().eval()
    save_weights(module, tmp_path / "best.ckpt")
    loaded = type(module).load(tmp_path / "best.ckpt")
    shape = (2, 3, 32, 32) if build is encoder2d else (2, 3, 4, 32, 32)
    inputs = torch.randint(0, 256, shape, dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(loaded(inputs), module(inputs))
    assert loaded.classes == list(COLOURS) and not loaded.training
