from __future__ import annotations

import pytest
import torch
from torch import nn

from modules.nets.deconvnet import DeconvNet
from modules.nets.unpooling import Level
from pseudolabel.types import DataError

VGG = [Level(stride, "", 2) for stride in (1, 2, 4, 8)]
RESIDUAL = [Level(stride, "", 2) for stride in (2, 4)]


def widths(net: DeconvNet) -> list[list[int]]:
    """Outputs of the convolutions, block by block."""
    blocks = [net.entry, *net.blocks]
    return [[layer.out_channels for layer in block if isinstance(layer, nn.Conv2d)] for block in blocks]  # type: ignore[union-attr]


def switches(net: DeconvNet, size: tuple[int, int], batch: int = 1) -> dict[int, torch.Tensor]:
    """Every cell's value goes to its upper left corner."""
    found = {}
    for level in net.levels:
        height, width = size[0] // level.stride, size[1] // level.stride
        plane = torch.arange(height * width).view(height, width)[:: level.cell, :: level.cell]
        found[level.stride] = plane.expand(batch, net.channels[level.stride], -1, -1)
    return found


def test_transfernets_layout_on_a_vgg16() -> None:
    with torch.device("meta"):
        net = DeconvNet(VGG, output_stride=16)
    assert net.channels == {8: 512, 4: 256, 2: 128, 1: 64}
    assert widths(net) == [[512], [512, 512, 256], [256, 256, 128], [128, 64], [64, 64]]
    assert net.entry[0].in_channels == 1 and net.classifier.out_channels == 2
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert all(layer.kernel_size == (3, 3) for layer in net.blocks.modules() if isinstance(layer, nn.Conv2d))


def test_the_same_rule_elsewhere_and_thinner() -> None:
    assert widths(DeconvNet(RESIDUAL, output_stride=8, width=0.125)) == [[32], [32, 32, 16], [16, 8]]
    coarse = DeconvNet([Level(stride, "", 2) for stride in (4, 8, 16)], output_stride=32, width=1 / 64)
    assert widths(coarse) == [[8], [8, 8, 8], [8, 8, 4], [4, 4, 2]]
    assert widths(DeconvNet([], output_stride=4, width=0.125)) == [[16]]


def test_logits_have_the_size_of_the_attention() -> None:
    for levels, stride, size in ((VGG, 16, (32, 48)), (RESIDUAL, 8, (24, 16)), ([], 4, (8, 12))):
        net = DeconvNet(levels, output_stride=stride, width=1 / 32)
        logits = net(torch.rand(2, 1, *size), switches(net, size, 2))
        assert logits.shape == (2, 2, *size)


def test_attention_is_averaged_and_travels_along_the_switches() -> None:
    net = DeconvNet([Level(2, "", 2)], output_stride=4, width=1 / 128)  # 1 channel: entry, 2 convolutions, classifier
    net.requires_grad_(False)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.zero_()
            layer.weight[..., layer.kernel_size[0] // 2, layer.kernel_size[0] // 2] = 1  # pass the value on
    net.classifier.weight[0] = 0
    attention = torch.zeros(1, 1, 4, 8)
    attention[..., :2, :2], attention[..., 4:] = 1, 0.5  # means of the two cells: 1/4 and 1/2
    where = torch.tensor([[[[5, 2]]]])  # in the plane of 2 x 4 cells: row 1 column 1, row 0 column 2
    logits = net(attention, {2: where})
    assert (logits[:, 0] == 0).all()
    fine = torch.tensor([[0.0, 0.0, 0.5, 0.0], [0.0, 0.25, 0.0, 0.0]])
    expected = nn.functional.interpolate(fine[None, None], scale_factor=2, mode="bilinear")[:, 0]
    torch.testing.assert_close(logits[:, 1], expected)


def test_kaimings_start_keeps_the_scale_and_a_gaussian_one_loses_it() -> None:
    size = (64, 64)
    spread = {}
    for init in ("kaiming", "gaussian"):
        net = DeconvNet(VGG, output_stride=16, width=0.25, init=init)
        net.classifier = nn.Identity()  # type: ignore[assignment]
        with torch.no_grad():
            spread[init] = float(net(torch.rand(4, 1, *size), switches(net, size, 4)).std())
    assert spread["gaussian"] < 1e-6 < 0.01 < spread["kaiming"] < 10


def test_batch_norm_if_asked() -> None:
    net = DeconvNet(RESIDUAL, output_stride=8, width=1 / 32, batch_norm=True)
    convolutions = [layer for layer in net.blocks.modules() if isinstance(layer, nn.Conv2d)]
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in net.blocks.modules()) == len(convolutions) == 5
    assert all(layer.bias is None for layer in convolutions)


def test_wrong_settings_and_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="width must be > 0, got 0"):
        DeconvNet(VGG, output_stride=16, width=0)
    with pytest.raises(DataError, match="Unknown init 'zeros'"):
        DeconvNet(VGG, output_stride=16, init="zeros")
    net = DeconvNet(RESIDUAL, output_stride=8, width=1 / 32)
    with pytest.raises(ValueError, match="Attention is 12 x 16, expected multiples of 8"):
        net(torch.zeros(1, 1, 12, 16), {})
