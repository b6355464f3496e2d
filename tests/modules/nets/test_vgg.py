from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from modules.nets.backbones import create_backbone
from modules.nets.vgg import decimate, dilate_vgg, is_vgg


def test_which_names_are_vggs() -> None:
    assert is_vgg("vgg16") and is_vgg("vgg11_bn") and is_vgg("vgg16.tv_in1k")
    assert not is_vgg("repvgg_a0") and not is_vgg("resnet18")


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn", "vgg13", "vgg16", "vgg16_bn", "vgg19"])
def test_the_dense_form(name: str) -> None:
    with torch.device("meta"):
        body = dilate_vgg(timm.create_model(name, num_classes=0))
    pools = [layer for layer in body.features if isinstance(layer, nn.MaxPool2d)]
    assert [(pool.kernel_size, pool.stride, pool.padding) for pool in pools] == [(2, 2, 0)] * 3 + [(3, 1, 1)] * 2
    after = {"1": 2, "3": 2, "6": 3, "9": 4}[name[4]]  # convolutions of the fifth block
    dilations = [layer.dilation for layer in body.features if isinstance(layer, nn.Conv2d)]
    assert dilations == [(1, 1)] * (len(dilations) - after) + [(2, 2)] * after


def test_vgg16_at_stride_8_keeps_names_and_size() -> None:
    backbone = create_backbone("vgg16", output_stride=8).eval()
    assert (backbone.num_features, backbone.output_stride) == (512, 8)
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 24, 40)).shape == (1, 512, 3, 5)


def test_weights_of_the_whole_network_load_by_name(tmp_path: Path) -> None:
    model = timm.create_model("vgg11", pretrained=False, num_classes=3, mlp_ratio=0.001)
    torch.save(model.state_dict(), tmp_path / "vgg.pth")
    for stride in (8, 32):
        body = create_backbone("vgg11", weights=tmp_path / "vgg.pth", output_stride=stride).body
        own = body.state_dict()
        assert set(own) == {key for key in model.state_dict() if key.startswith("features.")}
        assert all(torch.equal(value, model.state_dict()[key]) for key, value in own.items())


def test_every_second_dense_feature_is_a_coarse_one() -> None:
    # The fourth pool kept at 2 x 2 and moved by one cell, dilation makes up for the stride exactly.
    coarse, dense = create_backbone("vgg11").eval().body.features, create_backbone("vgg11", output_stride=8).eval().body
    dense.load_state_dict({f"features.{key}": value for key, value in coarse.state_dict().items()})
    fourth, fifth = (place for place, layer in enumerate(coarse) if isinstance(layer, nn.MaxPool2d) and place > 10)
    dense.features[fourth] = nn.MaxPool2d(2, stride=1)
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected, found = coarse[:fifth](images), dense.features[:fifth](images)
    assert expected.shape[2:] == (4, 6) and found.shape[2:] == (7, 11)
    torch.testing.assert_close(found[..., ::2, ::2], expected, rtol=1e-4, atol=1e-6)
    assert expected.std() > 0


def test_decimation_keeps_every_fourth_channel_and_the_outermost_taps() -> None:
    weight = torch.arange(8 * 6 * 7 * 7.0).view(8, 6, 7, 7)
    assert torch.equal(decimate(weight, 2, 3, 3), weight[::4, ::2, ::3, ::3])
    assert torch.equal(decimate(weight, 8, 6, 4), weight[:, :, ::2, ::2])
    assert torch.equal(decimate(weight[..., :1, :1], 4, 6, 1), weight[::2, :, :1, :1])
