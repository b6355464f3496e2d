from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from datamodules.attention_batches import AttentionFrames, AttentionItem
from datamodules.loaders import EpochDataModule
from modules.attention_decoder import AttentionDecoder
from modules.checkpoints import read_checkpoint, save_weights
from modules.encoder2d import Encoder2D
from pseudolabel.types import DataError, LabelSpace, Tag
from tests.toys import SPACE, draw_video, quiet_trainer

TINY: dict[str, Any] = {"backbone": "resnet18", "backbone_args": {"channels": [4, 8, 8, 8]}, "output_stride": 8}


def encoder(*, weights_of: int = 0, **changes: Any) -> Encoder2D:
    torch.manual_seed(weights_of)
    return Encoder2D(["red", "green"], **{**TINY, "image_size": 32, "extra_conv": 8, "multi_label": True, **changes})


def decoder(classifier: Encoder2D | None = None, **options: Any) -> AttentionDecoder:
    options = {"label_space": SPACE.to_dict(), "width": 0.0625, "scales": [0.5, 1, 2], **options}
    return AttentionDecoder.from_encoder(encoder() if classifier is None else classifier, **options)


def picture(number: int, what: int) -> np.ndarray:
    """Frame (0), mask (1) or a crude attention map (2) of a square's video."""
    frames, masks = draw_video(number, ["red", "green"][number % 2])
    if what < 2:
        return (frames, masks)[what][0]
    places = np.argwhere(masks[0])
    attention = np.zeros(masks[0].shape, np.float32)
    top, left = places.min(0)
    attention[top : top + 8, left : left + 8] = 1
    return attention


def toy_data(*, attention: bool, workers: int = 0, batch_size: int = 6) -> EpochDataModule:
    items = [
        AttentionItem(
            partial(picture, number, 0),
            1 + number % 2,
            partial(picture, number, 1),
            partial(picture, number, 2) if attention else None,
        )
        for number in range(12)
    ]

    def frames(epoch: int, train: bool) -> AttentionFrames:
        return AttentionFrames(items, crop=32, num_classes=3, epoch=epoch, train=train)

    return EpochDataModule(
        lambda epoch: frames(epoch, True),
        lambda epoch: frames(epoch, False),
        batch_size=batch_size,
        val_batch_size=6,
        workers=workers,
    )


class Losses(pl.Callback):
    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.values.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def fit(module: AttentionDecoder, data: EpochDataModule, epochs: int, **options: Any) -> list[dict[str, float]]:
    losses = Losses()
    quiet_trainer(max_epochs=epochs, callbacks=[losses], **options).fit(module, data)
    return losses.values


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def batch(size: tuple[int, int] = (32, 32)) -> dict[str, Any]:
    torch.manual_seed(1)
    return {
        "image": torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8),
        "target": torch.tensor([1, 2]),
        "labels": torch.randint(0, 2, (2, *size), dtype=torch.uint8),
        "weight": torch.tensor([1.0, 1.0]),
    }


def test_the_decoder_learns_the_squares_and_the_encoder_stays_as_it_was() -> None:
    module = decoder(width=0.125, lr=2e-3)
    before = state(module)
    seen = fit(module, toy_data(attention=True, batch_size=12), 160, check_val_every_n_epoch=160)
    assert seen[-1]["train/loss"] < 0.15 * seen[0]["train/loss"]
    assert seen[-1]["val/iou"] > 0.5
    assert "train/tag_loss" not in seen[0]
    for name, value in module.state_dict().items():
        same = torch.equal(value, before[name])
        assert same == name.startswith("network.encoder."), name
    assert not module.encoder.training and module.network.decoder.training


def test_a_frozen_encoder_gets_no_gradient_and_no_rate() -> None:
    module = decoder()
    module.training_step(batch(), 0).backward()
    assert all(parameter.grad is None for parameter in module.encoder.parameters())
    assert all(parameter.grad is not None for parameter in module.network.decoder.parameters())
    optimizer = module.configure_optimizers()
    assert type(optimizer) is torch.optim.Adam and len(optimizer.param_groups) == 1
    assert optimizer.defaults["lr"] == 1e-3 and optimizer.defaults["betas"] == (0.9, 0.999)


def test_the_encoder_may_be_trained_through_the_attention_and_on_tags() -> None:
    module = decoder(train_encoder=True, tag_weight=0.0, encoder_multiplier=0.5)
    module.training_step(batch(), 0).backward()
    convolution = module.encoder.extra[0]  # type: ignore[index]
    through_attention = convolution.weight.grad.clone()
    assert through_attention.abs().max() > 0
    groups = module.configure_optimizers().param_groups
    assert [group["lr"] for group in groups] == [1e-3, 5e-4]
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))
    module.zero_grad()
    module.hparams["tag_weight"] = 1.0
    module.training_step({**batch(), "labels": torch.full((2, 32, 32), 255)}, 0).backward()
    assert convolution.weight.grad.abs().max() > 0  # no mask at all: the tags teach
    assert not torch.equal(convolution.weight.grad, through_attention)
    before = state(module.encoder)
    seen = fit(module, toy_data(attention=False), 2)
    assert "train/tag_loss" in seen[0]
    moved = [name for name, value in module.encoder.state_dict().items() if not torch.equal(value, before[name])]
    assert any("running_mean" in name for name in moved) and "classifier.weight" in moved


def test_the_tags_of_the_encoder() -> None:
    answers = torch.zeros(2, 3)
    for multi_label, expected in ((True, [[0, 1, 1], [0, 1, 0]]), (False, [[0, 0.5, 0.5], [0, 1, 0]])):
        classifier = Encoder2D(["blue", "green", "red"], **TINY, multi_label=multi_label)
        module = decoder(classifier, train_encoder=True)  # its classes are red and green, in this order
        tags = torch.tensor([[1, 1], [0, 1]])
        assert module._tags({**batch(), "tags": tags}, answers).tolist() == expected
        assert module._tags(batch(), answers).tolist() == [[0, 0, 1], [0, 1, 0]]


def test_void_and_weight() -> None:
    module, whole = decoder().eval(), batch()
    alone = [float(module.training_step({**whole, "weight": torch.eye(2)[k]}, 0).detach()) for k in range(2)]
    assert float(module.training_step(whole, 0).detach()) == pytest.approx(sum(alone), rel=1e-5)
    whole["labels"][1] = 255
    assert float(module.training_step(whole, 0).detach()) == pytest.approx(alone[0], rel=1e-5)


def test_attention_is_the_maximum_over_scales_stretched() -> None:
    classifier = encoder().eval()
    network, frames = decoder(classifier).network, draw_video(1, "green", frames=2, size=(32, 48))[0]
    images = torch.from_numpy(frames).permute(0, 3, 1, 2)
    found = network.attend(images, torch.tensor([[1], [0]]))
    raw = classifier.attention(frames, [0, 1], scales=[0.5, 1, 2], method="cam", reduce="max")
    for image, target in enumerate((1, 0)):
        expected = raw[target, image] - raw[target, image].min()
        np.testing.assert_allclose(found[image, 0], expected / expected.max(), atol=1e-5)
    features, _ = network.encode(images.float())
    passes: list[int] = []
    network.encoder.extra.register_forward_hook(lambda *arguments: passes.append(1))
    torch.testing.assert_close(network.attend(images.float(), torch.tensor([[1], [0]]), features), found)
    assert len(passes) == 2  # scale 1 is known


@pytest.mark.parametrize(
    ("backbone", "stride", "args"),
    [("resnet18", 16, TINY["backbone_args"]), ("vgg11", 16, {"mlp_ratio": 1 / 512}), ("mobilenetv2_050", 16, {})],
)
def test_frames_of_any_size(backbone: str, stride: int, args: dict) -> None:
    module = decoder(encoder(backbone=backbone, backbone_args=args, output_stride=stride), scales=[1], width=1 / 32)
    logits = module(torch.zeros(1, 3, 37, 50), torch.rand(1, 1, 5, 7))
    assert logits.shape == (1, 2, 37, 50)
    frames = draw_video(0, "red", frames=2, size=(37, 50))[0]
    scores = module.predict_scores(frames)
    assert scores.shape == (2, 3, 37, 50) and scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)


def test_switches_are_those_of_the_frame() -> None:
    module, attention = decoder().eval(), torch.full((1, 1, 32, 32), 0.5)
    one, other = (torch.from_numpy(picture(number, 0)[None, :, :32]).permute(0, 3, 1, 2) for number in (0, 1))
    assert not torch.equal(module(one, attention), module(other, attention))


def test_scores_are_the_pixelwise_maximum_of_the_present_classes() -> None:
    module = decoder(class_threshold=0.0).eval()
    for parameter in module.network.decoder.parameters():
        parameter.data *= 3  # so that the foreground maps differ
    frames = draw_video(1, "green", frames=3)[0]
    images = torch.from_numpy(frames).permute(0, 3, 1, 2)
    with torch.no_grad():
        attention = module.network.attend(images, torch.tensor([0, 1]).expand(3, -1))
        fg = torch.stack([module(images, attention[:, [k]]).softmax(1)[:, 1] for k in range(2)], 1)
    expected = torch.cat([1 - fg.amax(1, keepdim=True), fg], 1)
    scores = module.predict_scores(frames, batch_size=2)
    np.testing.assert_allclose(scores, expected / expected.sum(1, keepdim=True), atol=1e-5)

    only = SPACE.allowed([Tag("green")])
    restricted = module.predict_scores(frames, allowed=only)
    assert (restricted[:, 1] == 0).all() and (restricted[:, 2] > 0).all()
    each = np.stack([only, SPACE.allowed([Tag("red")]), SPACE.allowed([])])
    mixed = module.predict_scores(frames, allowed=each, batch_size=1)
    assert (mixed[0, 1] == 0).all() and (mixed[1, 2] == 0).all() and (mixed[2, 0] == 1).all()


def test_without_a_probable_class_the_best_one_is_decoded() -> None:
    classifier = encoder()
    classifier.classifier.weight.data *= 1e-3  # all probabilities are close to the bias's
    classifier.classifier.bias.data = torch.tensor([-2.0, -1.0])
    module, frames = decoder(classifier), draw_video(0, "red")[0]
    scores = module.predict_scores(frames)
    assert (scores[:, 1] == 0).all() and (scores[:, 2] > 0).all()
    both = module.predict_scores(frames, threshold=0.05)
    assert (both[:, 1:] > 0).all()


def test_predictions_leave_the_modes_as_found() -> None:
    module = decoder().train()
    modes = {name: layer.training for name, layer in module.named_modules()}
    frames = draw_video(3, "green", frames=5)[0]
    scores = module.predict_scores(frames, batch_size=2)
    np.testing.assert_allclose(scores[3:4], module.predict_scores(frames[3:4]), atol=1e-5)
    assert {name: layer.training for name, layer in module.named_modules()} == modes
    assert any(modes.values()) and not all(modes.values())


def test_a_saved_decoder_is_complete_by_itself(tmp_path: Path) -> None:
    classifier = encoder(weights_of=3, mean=[0.4] * 3, std=[0.2] * 3)
    save_weights(classifier, tmp_path / "encoder.ckpt")
    module = AttentionDecoder.from_encoder(tmp_path / "encoder.ckpt", width=0.0625, max_side=40).eval()
    (tmp_path / "encoder.ckpt").unlink()
    save_weights(module, tmp_path / "best.ckpt")
    assert read_checkpoint(tmp_path / "best.ckpt")["kind"] == "AttentionDecoder"
    loaded = AttentionDecoder.load(tmp_path / "best.ckpt")
    frames = draw_video(0, "red")[0]
    assert np.array_equal(loaded.predict_scores(frames), module.predict_scores(frames))
    assert loaded.space == SPACE and loaded.max_side == 40 and not loaded.training
    assert torch.equal(loaded.encoder.mean, classifier.mean)


@pytest.mark.parametrize("train_encoder", [False, True])
def test_half_precision_and_workers(train_encoder: bool) -> None:
    module = decoder(train_encoder=train_encoder, schedule="one_cycle", batch_norm=True)
    seen = fit(module, toy_data(attention=False, workers=2), 2, precision="bf16-mixed")
    assert len(seen) == 2 and all(np.isfinite(list(values.values())).all() for values in seen)
    with torch.autocast("cpu", torch.bfloat16):
        scores = module.predict_scores(draw_video(0, "red")[0])
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())


def test_frozen_statistics_stay_so_when_batch_norms_are_built_anew() -> None:
    module = decoder().train()
    module.encoder.backbone = nn.SyncBatchNorm.convert_sync_batchnorm(module.encoder.backbone.train())
    module.on_fit_start()
    norms = [layer for layer in module.encoder.modules() if isinstance(layer, nn.SyncBatchNorm)]
    assert norms and not any(layer.training for layer in norms)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(DataError, match="Unknown schedule 'poly'"):
        decoder(schedule="poly")
    with pytest.raises(DataError, match=r"The encoder knows no class 'gren'; did you mean 'green'\?"):
        decoder(label_space=LabelSpace((Tag("gren"),)).to_dict())
