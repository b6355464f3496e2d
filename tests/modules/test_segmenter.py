from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from datamodules.datasets import PseudoFrames, PseudoVideos
from datamodules.loaders import EpochDataModule
from modules.checkpoints import read_checkpoint, save_weights
from modules.segmenter import Segmenter
from pseudolabel.refine import refine_labels
from pseudolabel.superpixels import segment_superpixels
from pseudolabel.types import VOID, DataError
from tests.toys import SPACE, Toy, draw_video, quiet_trainer, tiny_segmenter

VAL = ["red0", "green1", "red2"]


def toy_data(toy: Toy, *, superpixels: int = 40) -> EpochDataModule:
    def train(epoch: int) -> PseudoFrames:
        return PseudoFrames(toy.cache, toy.by_name, toy.store, 0, toy.store.index(0), crop=32, epoch=epoch)

    def val(epoch: int) -> PseudoVideos:
        rows = toy.rows(0, VAL)
        return PseudoVideos(toy.cache, toy.by_name, toy.store, 0, rows, superpixels=superpixels, compactness=10.0)

    return EpochDataModule(train, val, batch_size=6)


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.values.append(float(trainer.callback_metrics["train/loss"]))


def test_it_learns_the_toy(shared_toy: Toy) -> None:
    losses, module = Losses(), tiny_segmenter()
    module.start_schedule(0, 80)
    trainer = quiet_trainer(max_epochs=20, callbacks=[losses])
    trainer.fit(module, toy_data(shared_toy))
    assert losses.values[-1] < 0.4 * losses.values[0]
    assert float(trainer.callback_metrics["val/miou_pa"]) > 0.4
    assert float(trainer.callback_metrics["val/ric"]) == pytest.approx(
        float(trainer.callback_metrics["val/miou_pa"]) + 0.5 * float(trainer.callback_metrics["val/rii"]), abs=1e-6
    )


def miou(one: np.ndarray, other: np.ndarray) -> float:
    """The mean over the classes of |both| / |any|, ignoring void in ``other``, by hand."""
    one, other = one[other != VOID], other[other != VOID]
    found = []
    for number in range(SPACE.num_classes):
        union = ((one == number) | (other == number)).sum()
        if union:
            found.append(((one == number) & (other == number)).sum() / union)
    return float(np.mean(found))


@pytest.mark.parametrize("void", [False, True])
def test_the_logged_ric_is_that_of_the_validation_set(toy: Toy, void: bool) -> None:
    if void:  # somebody has marked a part of one mask as unknown
        from pseudolabel.palette import write_mask

        labels = toy.store.read(0, "red0", 1)
        labels[:, 20:] = VOID
        write_mask(toy.store.root / "v0/red0/00001.png", labels)
    refine = {"alpha": 0.5, "beta": 0.6, "overlap": "share"}
    module = tiny_segmenter(refine=refine, ric_alpha=0.3)
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(module, toy_data(toy))

    predicted, refined, given = [], [], []
    for name in VAL:
        frames = np.array(toy.cache.frames(toy.by_name[name]))
        for t, frame in enumerate(frames):
            labels = module.predict_scores(frames[t : t + 1]).argmax(1)[0].astype(np.uint8)
            superpixels = segment_superpixels(frame, n=40, compactness=10.0)
            predicted.append(labels)
            refined.append(refine_labels(labels, superpixels, num_classes=3, **refine))  # type: ignore[arg-type]
            given.append(toy.store.read(0, name, t))
    miou_pa, rii = miou(np.stack(refined), np.stack(given)), miou(np.stack(predicted), np.stack(refined))
    assert 0 < miou_pa < 1 and 0 < rii <= 1
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["val/miou_pa"] == pytest.approx(miou_pa, abs=1e-5)
    assert logged["val/rii"] == pytest.approx(rii, abs=1e-5)
    assert logged["val/ric"] == pytest.approx(miou_pa + 0.3 * rii, abs=1e-5)


def test_images_of_low_weight_teach_little() -> None:
    module = tiny_segmenter().eval()
    batch: dict[str, Any] = {
        "image": torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8),
        "labels": torch.randint(0, 3, (2, 32, 32)),
    }
    full, half, one = (
        float(module.training_step({**batch, "weight": torch.tensor(weight)}, 0).detach())
        for weight in ([1.0, 1.0], [0.5, 0.5], [1.0, 0.0])
    )
    assert half == pytest.approx(full / 2, rel=1e-4)
    assert 0 < one < full


def test_predictions_leave_the_modes_as_found(shared_toy: Toy) -> None:
    module = tiny_segmenter(freeze_bn=True).train()
    modes = {name: layer.training for name, layer in module.named_modules()}
    frames = draw_video(3, "green", frames=5)[0]
    scores = module.predict_scores(frames, batch_size=2)
    assert scores.shape == (5, 3, 32, 48) and scores.dtype == np.float32
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(scores[3:4], module.predict_scores(frames[3:4]), atol=1e-5)
    assert {name: layer.training for name, layer in module.named_modules()} == modes
    assert any(modes.values()) and not all(modes.values())


def test_scores_of_several_sizes_and_of_the_mirrored_frame_are_averaged() -> None:
    frames = draw_video(0, "red")[0][:2]
    plain = tiny_segmenter()
    both = tiny_segmenter(test_scales=[1.0, 2.0], test_flip=True)
    both.load_state_dict(plain.state_dict())
    larger = np.stack([cv2.resize(frame, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR) for frame in frames])
    shrunk = []
    for image in (frames, larger):
        mirrored = plain.predict_scores(np.ascontiguousarray(image[:, :, ::-1]))[..., ::-1]
        shrunk += [
            torch.nn.functional.interpolate(torch.from_numpy(scores.copy()), size=frames.shape[1:3], mode="bilinear")
            for scores in (plain.predict_scores(image), mirrored)
        ]
    expected = torch.stack(shrunk).mean(0).numpy()
    found = both.predict_scores(frames)
    assert np.allclose(found.sum(1), 1, atol=1e-5)
    assert np.abs(found - expected).max() < 0.02  # cv2 rounds the larger frames to whole levels
    assert np.abs(found - plain.predict_scores(frames)).max() > 0.02
    assert np.abs(both.predict_scores(frames, batch_size=1) - found).max() < 1e-5


def test_the_checkpoint_knows_how_it_predicts(tmp_path: Path) -> None:
    module = tiny_segmenter(test_scales=[1.0, 1.5], test_flip=True, decision="object_first").eval()
    save_weights(module, tmp_path / "best.ckpt")
    loaded = Segmenter.load(tmp_path / "best.ckpt")
    assert (loaded.test_scales, loaded.test_flip, loaded.decision) == ((1.0, 1.5), True, "object_first")
    frames = draw_video(0, "red")[0]
    assert np.array_equal(loaded.predict_scores(frames), module.predict_scores(frames))


def test_frozen_batch_norms_stay_so_when_they_are_built_anew() -> None:
    module = tiny_segmenter(freeze_bn=True)
    module.network.backbone = nn.SyncBatchNorm.convert_sync_batchnorm(module.network.backbone)
    module.on_fit_start()
    module.train()
    norms = [layer for layer in module.modules() if isinstance(layer, nn.SyncBatchNorm)]
    assert norms and not any(layer.training for layer in norms)


def test_the_head_learns_faster() -> None:
    module = tiny_segmenter(lr=0.01, head_multiplier=10.0)
    groups = module.configure_optimizers()["optimizer"].param_groups
    assert [group["initial_lr"] for group in groups] == pytest.approx([0.01, 0.1])
    assert sum(parameter.numel() for group in groups for parameter in group["params"]) == sum(
        parameter.numel() for parameter in module.parameters()
    )


def test_every_version_has_a_poly_schedule_of_its_own() -> None:
    module = tiny_segmenter(lr=0.01)
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    module.start_schedule(0, 4)
    seen = []
    for step in range(6):
        if step == 3:
            module.start_schedule(3, 10)
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    decay = [1, 0.75**0.9, 0.5**0.9, 0.25**0.9, 0.9**0.9, 0.8**0.9]
    assert seen == pytest.approx([0.01 * factor for factor in decay])


def test_a_saved_segmenter_predicts_as_before_and_knows_its_classes(tmp_path: Path) -> None:
    module = tiny_segmenter(max_side=40, mean=[0.4, 0.4, 0.4], std=[0.2, 0.2, 0.2]).eval()
    save_weights(module, tmp_path / "best.ckpt")
    loaded = Segmenter.load(tmp_path / "best.ckpt")
    frames = draw_video(0, "red")[0]
    assert np.array_equal(loaded.predict_scores(frames), module.predict_scores(frames))
    assert loaded.space == SPACE and loaded.max_side == 40


def test_the_step_schedule_starts_where_it_is_told_to() -> None:
    module = tiny_segmenter(lr=0.01, schedule="step", step_size=2, step_gamma=0.1)
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    seen = []
    for step in range(7):
        if step == 5:
            module.start_schedule(5, 10)
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx([0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4, 0.01])


def test_class_weights_weigh_the_loss() -> None:
    module = tiny_segmenter(class_weights=[1, 0.25, 1]).eval()
    plain = tiny_segmenter().eval()
    plain.load_state_dict(module.state_dict())
    batch: dict[str, Any] = {
        "image": torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8),
        "labels": torch.ones(2, 32, 32, dtype=torch.long),
        "weight": torch.tensor([1.0, 0.5]),
    }
    weighted, full = (float(network.training_step(batch, 0).detach()) for network in (module, plain))
    assert weighted == pytest.approx(0.25 * full, rel=1e-4)


@pytest.mark.parametrize("head", ["large_fov", "small_fov"])
def test_a_segmenter_with_vggs_head_is_kept_whole(tmp_path: Path, head: str) -> None:
    module = tiny_segmenter(head=head, head_channels=8, class_weights=[1, 1, 0.5], schedule="step").eval()
    save_weights(module, tmp_path / "best.ckpt")
    loaded = Segmenter.load(tmp_path / "best.ckpt")
    frames = draw_video(0, "red")[0]
    assert np.array_equal(loaded.predict_scores(frames), module.predict_scores(frames))
    assert loaded.class_weights is not None and loaded.class_weights.tolist() == [1, 1, 0.5]


def test_a_checkpoint_from_before_there_were_other_heads_loads(tmp_path: Path) -> None:
    module = tiny_segmenter().eval()
    save_weights(module, tmp_path / "new.ckpt")
    state = read_checkpoint(tmp_path / "new.ckpt")
    new = ("head", "head_channels", "schedule", "step_size", "step_gamma", "class_weights")
    new += ("test_scales", "test_flip", "decision")
    state["hyper_parameters"] = {key: value for key, value in state["hyper_parameters"].items() if key not in new}
    torch.save(state, tmp_path / "old.ckpt")
    assert all("aspp" in key or "backbone" in key for key in state["state_dict"] if key.startswith("network."))
    frames = draw_video(0, "red")[0]
    assert np.array_equal(Segmenter.load(tmp_path / "old.ckpt").predict_scores(frames), module.predict_scores(frames))


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(DataError, match="Unknown schedule 'cosine'"):
        tiny_segmenter(schedule="cosine")
    with pytest.raises(DataError, match=r"2 numbers for 3 classes \(background, red, green\)"):
        tiny_segmenter(class_weights=[1, 1])
    with pytest.raises(DataError, match="step_size must be >= 1"):
        tiny_segmenter(schedule="step", step_size=0).configure_optimizers()
    with pytest.raises(DataError, match="Unknown decision 'object'"):
        tiny_segmenter(decision="object")
    for scales in ([], [1.0, 0.0], [-1], None, ["large"], "1.0"):
        with pytest.raises(DataError, match="test_scales="):
            tiny_segmenter(test_scales=scales)


def test_vggs_weights_start_backbone_and_head(tmp_path: Path) -> None:
    import timm

    model = timm.create_model("vgg11", pretrained=False, num_classes=3, mlp_ratio=1 / 512)  # fc1 of 8 channels
    torch.save(model.state_dict(), tmp_path / "vgg.pth")
    module = tiny_segmenter(
        backbone="vgg11", backbone_args=None, weights=str(tmp_path / "vgg.pth"), head="large_fov", head_channels=4
    )
    assert torch.equal(module.network.backbone.body.features[0].weight, model.features[0].weight)
    assert torch.equal(module.network.head.fc6.weight, model.pre_logits.fc1.weight[::2, :, ::3, ::3])
