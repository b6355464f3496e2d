from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from modules.nets.backbones import create_backbone
from modules.nets.unpooling import drop_last_pool, find_levels, find_switches, record_switches, unpool
from pseudolabel.types import DataError

SMALL = {"channels": [4, 4, 8, 8]}
THIN = {"mlp_ratio": 1 / 512}  # of the fully connected layers, which are taken off
MAPS = torch.tensor([[[[1.0, 5.0, 0.0, 0.0], [2.0, 3.0, 0.0, 7.0], [0.0, -1.0, 4.0, 4.0], [-2.0, -3.0, 4.0, 4.0]]]])


def test_values_go_back_to_where_the_maxima_were() -> None:
    switches = find_switches(MAPS, cell=2, channels=1)
    assert switches.tolist() == [[[[1, 7], [8, 10]]]]  # of equal maxima the first
    unpooled = unpool(torch.tensor([[[[10.0, 20.0], [30.0, 40.0]]]]), switches, cell=2)
    assert unpooled.tolist() == [[[[0, 10, 0, 0], [0, 0, 0, 20], [30, 0, 40, 0], [0, 0, 0, 0]]]]


def test_it_is_torchs_unpooling_and_so_is_its_gradient() -> None:
    maps, values = torch.randn(2, 3, 12, 8), torch.randn(2, 3, 4, 2)
    values = torch.randn(2, 3, 6, 4).requires_grad_()
    twin = values.detach().clone().requires_grad_()
    switches = find_switches(maps, cell=2, channels=3)
    found, expected = unpool(values, switches, cell=2), F.max_unpool2d(twin, switches, 2)
    assert torch.equal(found, expected)
    factor = torch.randn_like(found)
    (found * factor).sum().backward()
    (expected * factor).sum().backward()
    assert torch.equal(values.grad, twin.grad)  # type: ignore[arg-type]
    assert unpool(values.bfloat16(), switches, cell=2).dtype == torch.bfloat16


def test_cells_of_other_sizes() -> None:
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    switches = find_switches(maps, cell=4, channels=1)
    assert switches.tolist() == [[[[15]]]]
    assert unpool(torch.ones(1, 1, 1, 1), switches, cell=4).nonzero().tolist() == [[0, 0, 3, 3]]


def test_channels_are_thinned_out_or_repeated_evenly() -> None:
    maps = torch.stack([torch.eye(4)[:, [k]].reshape(2, 2) for k in range(4)])[None]  # maximum of channel k at place k
    assert find_switches(maps, cell=2, channels=4).flatten().tolist() == [0, 1, 2, 3]
    assert find_switches(maps, cell=2, channels=2).flatten().tolist() == [0, 2]
    assert find_switches(maps, cell=2, channels=6).flatten().tolist() == [0, 0, 1, 2, 2, 3]


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="must have the same shape"):
        unpool(torch.zeros(1, 2, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.long), cell=2)


def test_the_switches_of_a_vgg_are_those_of_its_own_pooling() -> None:
    backbone = drop_last_pool(create_backbone("vgg11", args=THIN)).eval()
    levels = find_levels(backbone)
    assert [(level.stride, level.cell) for level in levels] == [(1, 2), (2, 2), (4, 2), (8, 2)]
    images, expected, hidden = torch.randn(1, 3, 32, 48), {}, None
    with torch.no_grad(), record_switches(backbone, levels, {1: 64, 2: 128, 4: 256, 8: 512}) as switches:
        features = backbone(images)
        hidden = images
        for layer in backbone.body.features:  # type: ignore[union-attr, operator]
            if isinstance(layer, nn.MaxPool2d):
                stride = 32 // hidden.shape[-2]
                hidden, expected[stride] = F.max_pool2d(hidden, 2, return_indices=True)
            else:
                hidden = layer(hidden)
    assert features.shape == (1, 512, 2, 3)
    assert sorted(switches) == sorted(expected) == [1, 2, 4, 8]
    assert all(torch.equal(switches[stride], expected[stride]) for stride in expected)


@pytest.mark.parametrize(
    ("name", "stride", "args", "expected"),
    [
        ("vgg11", 32, THIN, [(1, 2), (2, 2), (4, 2), (8, 2), (16, 2)]),
        ("vgg11_bn", 8, THIN, [(1, 2), (2, 2), (4, 2)]),
        ("resnet18", 32, SMALL, [(2, 2), (4, 2), (8, 2), (16, 2)]),
        ("resnet18", 8, SMALL, [(2, 2), (4, 2)]),
        ("mobilenetv2_050", 16, {"pad_type": "same"}, [(2, 2), (4, 2), (8, 2)]),
        ("convnext_atto", 32, {}, [(4, 2), (8, 2), (16, 2)]),
    ],
)
def test_levels_of_backbones(name: str, stride: int, args: dict, expected: list) -> None:
    backbone = create_backbone(name, output_stride=stride, args=args)
    levels = find_levels(backbone)
    assert [(level.stride, level.cell) for level in levels] == expected
    assert all(module.training for module in backbone.modules())
    assert not any(module._forward_hooks for module in backbone.modules())


def test_looking_for_levels_changes_no_statistics() -> None:
    backbone = create_backbone("resnet18", args=SMALL)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    find_levels(backbone)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_switches_of_a_residual_network_are_the_maxima_of_its_finer_maps() -> None:
    backbone = create_backbone("resnet18", output_stride=8, args=SMALL).eval()
    levels, found = find_levels(backbone), {}
    body = backbone.body
    body.act1.register_forward_hook(lambda module, inputs, output: found.update({2: output.clone()}))  # type: ignore[union-attr]
    body.layer1.register_forward_hook(lambda module, inputs, output: found.update({4: output.clone()}))  # type: ignore[union-attr]
    with torch.no_grad(), record_switches(backbone, levels, {2: 8, 4: 4}) as switches:
        backbone(torch.randn(2, 3, 32, 48))
    for stride, channels in ((2, 8), (4, 4)):
        assert torch.equal(switches[stride], find_switches(found[stride], cell=2, channels=channels))
        maxima = F.max_pool2d(found[stride][:, :: found[stride].shape[1] // channels], 2)
        taken = (
            found[stride][:, :: found[stride].shape[1] // channels].flatten(2).gather(2, switches[stride].flatten(2))
        )
        assert torch.equal(taken, maxima.flatten(2))


def test_hooks_are_gone_after_an_error_too() -> None:
    backbone = create_backbone("resnet18", args=SMALL)
    levels = find_levels(backbone)
    with pytest.raises(RuntimeError, match="channels"), record_switches(backbone, levels, {2: 1, 4: 1, 8: 1, 16: 1}):
        backbone(torch.zeros(1, 5, 32, 32))
    assert not any(module._forward_hooks for module in backbone.modules())


def test_only_a_whole_vgg_loses_its_last_pool() -> None:
    assert isinstance(drop_last_pool(create_backbone("vgg11", args=THIN)).body.features[-1], nn.Identity)  # type: ignore[index, union-attr]
    for name, stride, args in (("resnet18", 32, SMALL), ("vgg11", 8, THIN)):
        with pytest.raises(DataError, match=f"'{name}' of stride {stride} has no last max-pool"):
            drop_last_pool(create_backbone(name, output_stride=stride, args=args))


def test_a_backbone_without_listed_maps_is_refused() -> None:
    backbone = create_backbone("resnet18", args=SMALL)
    backbone.body.feature_info = []
    with pytest.raises(DataError, match="no feature maps of backbone 'resnet18'"):
        find_levels(backbone)
