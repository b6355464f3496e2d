from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from modules.checkpoints import read_checkpoint, save_weights
from modules.encoder2d import Encoder2D
from pseudolabel.types import DataError
from tests.toys import draw_video

TINY: dict[str, Any] = {
    "backbone": "resnet18",
    "backbone_args": {"channels": [4, 8, 8, 8]},
    "output_stride": 8,
    "image_size": 32,
}


def encoder(**changes: Any) -> Encoder2D:
    return Encoder2D(["red", "green", "blue"], **{**TINY, **changes}).eval()


def test_without_an_extra_convolution_all_is_as_before(tmp_path: Path) -> None:
    module = encoder()
    assert {name for name in module.state_dict() if not name.startswith("backbone.body.")} == {
        "classifier.weight",
        "classifier.bias",
    }
    save_weights(module, tmp_path / "new.ckpt")
    state = read_checkpoint(tmp_path / "new.ckpt")
    del state["hyper_parameters"]["extra_conv"]  # as written before there was one
    torch.save(state, tmp_path / "old.ckpt")
    images = torch.randint(0, 256, (2, 3, 32, 40), dtype=torch.uint8)
    with torch.no_grad():
        pooled = module.backbone(module.normalize(images)).mean((-2, -1))
        assert torch.equal(Encoder2D.load(tmp_path / "old.ckpt")(images), module.classifier(pooled))


def test_the_extra_convolution_is_new_and_part_of_the_head(tmp_path: Path) -> None:
    module = encoder(extra_conv=6, trainable="head")
    convolution = module.extra[0]  # type: ignore[index]
    assert isinstance(convolution, nn.Conv2d)
    assert (convolution.in_channels, convolution.out_channels, convolution.kernel_size) == (8, 6, (3, 3))
    assert module.classifier.in_features == 6
    head = {id(parameter) for parameter in module.head_parameters()}
    trained = {id(parameter) for parameter in module.parameters() if parameter.requires_grad}
    assert head == trained and len(head) == 4
    images = torch.randint(0, 256, (2, 3, 32, 40), dtype=torch.uint8)
    save_weights(module, tmp_path / "best.ckpt")
    with torch.no_grad():
        maps = module.features(images)
        assert maps.shape == (2, 6, 4, 5) and (maps >= 0).all()
        assert torch.equal(maps, convolution(module.backbone(module.normalize(images))).relu())
        assert torch.equal(Encoder2D.load(tmp_path / "best.ckpt")(images), module(images))


@pytest.mark.parametrize("method", ["cam", "gradcam"])
def test_attention_is_of_the_maps_that_are_pooled(method: str) -> None:
    module = encoder(extra_conv=6)
    frames = draw_video(0, "red", frames=2, size=(32, 40))[0]
    found = module.attention(frames, [2], method=method)[0]
    with torch.no_grad():
        maps = module.features(torch.from_numpy(frames).permute(0, 3, 1, 2))
        expected = torch.einsum("c,bchw->bhw", module.classifier.weight[2], maps).relu()
        if method == "gradcam":
            expected /= maps[0, 0].numel()
        grown = nn.functional.interpolate(expected[None], size=(32, 40), mode="bilinear")[0]
    assert expected.max() > 0
    np.testing.assert_allclose(found, grown, rtol=1e-4, atol=1e-7)


def test_the_maximum_or_the_mean_over_scales() -> None:
    module, frames = encoder(), draw_video(1, "green", frames=2, size=(32, 48))[0]
    alone = [module.attention(frames, [0, 1], scales=[scale], method="cam") for scale in (1, 2)]
    for reduce, expected in (("max", np.maximum(*alone)), ("mean", (alone[0] + alone[1]) / 2)):
        way: Literal["max", "mean"] = "max" if reduce == "max" else "mean"
        found = module.attention(frames, [0, 1], scales=[1, 2], method="cam", reduce=way)
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("method", ["cam", "gradcam"])
def test_one_look_gives_attention_and_probabilities(method: str, flip: bool) -> None:
    module, frames = encoder(multi_label=True), draw_video(1, "green", frames=5, size=(32, 48))[0]
    passes: list[int] = []
    module.classifier.register_forward_hook(lambda *arguments: passes.append(1))
    maps, probabilities = module.look(frames, [1], scales=[0.5, 1, 2], flip=flip, method=method, batch_size=2)
    assert len(passes) == 3 * 3 * (2 if flip else 1)  # batches, scales, mirrors: no pass for the probabilities alone
    with torch.no_grad():
        expected = module(torch.from_numpy(frames).permute(0, 3, 1, 2)).sigmoid()
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert probabilities.dtype == np.float32
    same = module.attention(frames, [1], scales=[0.5, 1, 2], flip=flip, method=method)
    np.testing.assert_allclose(maps, same, atol=1e-5)
    other = module.look(frames, [1], scales=[2], method=method, batch_size=2)[1]
    np.testing.assert_allclose(other, expected, atol=1e-5)


def test_probabilities_of_images_of_any_sizes() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in ((32, 32), (20, 50), (90, 64))]
    for multi_label in (False, True):
        module = encoder(multi_label=multi_label).train()
        found = module.predict_probabilities(images, batch_size=2)
        assert found.shape == (3, 3) and found.dtype == np.float32 and module.training
        with torch.no_grad():
            logits = module.eval()(torch.from_numpy(images[0])[None].permute(0, 3, 1, 2))  # has its size already
        expected = logits.sigmoid() if multi_label else logits.softmax(1)
        np.testing.assert_allclose(found[:1], expected, atol=1e-5)
        np.testing.assert_allclose(module.predict_probabilities(np.stack([images[1]] * 3)), found[[1] * 3], atol=1e-5)
    assert not np.allclose(found.sum(1), 1)
    assert module.predict_probabilities([]).shape == (0, 3)


def test_images_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match=r"Image 1 is uint8 \(8, 8\), expected uint8 \(H, W, 3\)"):
        encoder().predict_probabilities([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)])
    with pytest.raises(DataError, match="extra_conv must be a number of channels >= 0, got -1"):
        encoder(extra_conv=-1)


def test_a_vgg_at_stride_16_ends_at_its_last_convolution(tmp_path: Path) -> None:
    thin: dict[str, Any] = {"backbone": "vgg11", "backbone_args": {"mlp_ratio": 1 / 512}}
    module, whole = encoder(**thin, output_stride=16), encoder(**thin, output_stride=32)
    assert list(module.state_dict()) == list(whole.state_dict())
    module.load_state_dict(whole.state_dict())
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        fine, coarse = module.features(images), whole.features(images)
    assert fine.shape == (1, 512, 4, 6)
    assert torch.equal(nn.functional.max_pool2d(fine, 2), coarse)
