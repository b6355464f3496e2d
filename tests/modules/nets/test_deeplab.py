from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from modules.nets.backbones import Backbone, Preprocessing, create_backbone, freeze_batch_norm
from modules.nets.deeplab import ASPP, DeepLabV2, FieldOfView
from pseudolabel.types import DataError


class _Pooling(nn.Module):
    """Stands in for a timm model: the mean of each 8x8 cell, checking what it is given."""

    def forward_features(self, x: Tensor) -> Tensor:
        assert x.shape[-2] % 8 == 0 and x.shape[-1] % 8 == 0
        return nn.functional.avg_pool2d(x, 8)


def _pooling_network(**options) -> DeepLabV2:
    preprocessing = Preprocessing((0, 0, 0), (1, 1, 1))
    backbone = Backbone(_Pooling(), name="pool", num_features=3, output_stride=8, preprocessing=preprocessing)
    return DeepLabV2(backbone, 2, **options)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (5, 3), (1, 1)])
def test_logits_have_the_size_of_the_frame(size: tuple[int, int]) -> None:
    backbone = create_backbone("resnet18", output_stride=8, args={"channels": [4, 4, 8, 8]})
    network = DeepLabV2(backbone, 5).eval()
    frames = torch.randn(2, 3, *size)
    with torch.no_grad():
        assert network(frames).shape == (2, 5, *size)
        assert network.forward_features(frames).shape == (2, 8, -(-size[0] // 8), -(-size[1] // 8))


def test_aspp_is_the_sum_of_its_branches_at_their_rates() -> None:
    aspp = ASPP(1, 1, rates=(1, 3))
    for value, branch in zip((2.0, 5.0), aspp.branches, strict=True):
        nn.init.constant_(branch.weight, value)
    impulse = torch.zeros(1, 1, 9, 9)
    impulse[..., 4, 4] = 1
    expected = torch.zeros(9, 9)
    expected[3:6, 3:6] += 2
    expected[1:8:3, 1:8:3] += 5
    torch.testing.assert_close(aspp(impulse)[0, 0], expected)


def test_aspp_starts_small_and_needs_rates() -> None:
    aspp = ASPP(64, 21, rates=(6, 12))
    weights = torch.cat([branch.weight.flatten() for branch in aspp.branches])
    assert weights.std().item() == pytest.approx(0.01, rel=0.05)
    assert all(not branch.bias.any() for branch in aspp.branches)
    with pytest.raises(ValueError, match="at least one dilation rate"):
        ASPP(1, 1, rates=())


def test_an_odd_frame_is_padded_not_stretched() -> None:
    # Cells keep standing for 8x8 pixels: what lies beyond the border only repeats it.
    network = _pooling_network(rates=(1,))
    frame = torch.randn(1, 3, 13, 21)
    whole = nn.functional.pad(frame, (0, 3, 0, 3), mode="replicate")
    torch.testing.assert_close(network(frame), network(whole)[..., :13, :21])


def test_upsampling_is_bilinear_with_corners_of_cells_aligned() -> None:
    network = _pooling_network(rates=(1,))
    branch = network.aspp.branches[0]
    nn.init.zeros_(branch.weight)
    with torch.no_grad():
        branch.weight[0, 0, 1, 1] = 1  # class 0 = the mean red of a cell
    frame = torch.zeros(1, 3, 8, 16)
    frame[:, 0, :, 8:] = 1
    # Cell centres lie at 3.5 and 11.5; in between the value grows by 1/8 per pixel.
    expected = ((torch.arange(16.0) - 3.5) / 8).clamp(0, 1)
    torch.testing.assert_close(network(frame)[0, 0], expected.expand(8, 16))


def test_parameter_groups() -> None:
    backbone = create_backbone("resnet18", args={"channels": [4, 4, 8, 8]})
    network = DeepLabV2(backbone, 3)
    body, head = network.parameter_groups(0.02)
    assert (body["lr"], head["lr"]) == (0.02, pytest.approx(0.2))
    grouped = [id(item) for item in body["params"] + head["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(item) for item in network.parameters()}
    assert {id(item) for item in head["params"]} == {id(item) for item in network.aspp.parameters()}
    assert network.parameter_groups(0.02, head_multiplier=2)[1]["lr"] == pytest.approx(0.04)


def test_parameter_groups_hold_only_what_is_trained() -> None:
    network = freeze_batch_norm(DeepLabV2(create_backbone("resnet18", args={"channels": [4, 4, 8, 8]}), 3))
    body = network.parameter_groups(0.1)[0]["params"]
    assert body
    assert all(item.requires_grad and item.ndim == 4 for item in body)
    network.backbone.requires_grad_(False)
    assert len(network.parameter_groups(0.1)) == 1


def test_it_learns() -> None:
    network = DeepLabV2(create_backbone("resnet18", output_stride=8, args={"channels": [4, 4, 8, 8]}), 2)
    frames = torch.randn(4, 3, 32, 32) * 0.1
    frames[..., 16:] += 1
    labels = torch.zeros(4, 32, 32, dtype=torch.long)
    labels[..., 16:] = 1
    optimizer = torch.optim.SGD(network.parameter_groups(0.02), momentum=0.9)
    losses = []
    for _ in range(15):
        loss = nn.functional.cross_entropy(network(frames), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(0.693, abs=0.15)
    assert losses[-1] < 0.6 * losses[0]


# --- heads that are VGG's fully connected layers


@pytest.mark.parametrize(
    ("head", "taps"),
    [("large_fov", [-12, 0, 12]), ("small_fov", [-6, -2, 2, 6])],
)
def test_fields_of_view(head: str, taps: list[int]) -> None:
    # 25 x 25 and 13 x 13 cells: what 7 x 7 and 4 x 4 cells of the undilated network span at stride 8.
    network = _pooling_network(head=head, head_channels=4).eval()
    for layer in (network.head.fc6, network.head.fc7, network.head.fc8):
        nn.init.ones_(layer.weight)
    features = torch.rand(1, 3, 31, 33).requires_grad_()
    logits = network.head(features)
    assert logits.shape == (1, 2, 31, 33)
    logits[0, 1, 15, 16].backward()
    seen = [(row - 15, column - 16) for row, column in features.grad[0].sum(0).nonzero().tolist()]
    assert seen == [(row, column) for row in taps for column in taps]


@pytest.mark.parametrize(("head", "kernel"), [("large_fov", 3), ("small_fov", 4)])
def test_parameters_of_the_heads(head: str, kernel: int) -> None:
    layers = _pooling_network(head=head).head
    assert layers.fc6.weight.shape == (1024, 3, kernel, kernel)
    assert layers.fc7.weight.shape == (1024, 1024, 1, 1)
    assert layers.fc8.weight.shape == (2, 1024, 1, 1)
    assert layers.fc8.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert _pooling_network(head=head, head_channels=7).head.fc7.weight.shape == (7, 7, 1, 1)


def test_dropout_is_between_the_layers_in_training_alone() -> None:
    head = FieldOfView(2, 2, kernel_size=3, dilation=12, channels=64)
    features = torch.rand(1, 2, 5, 5)
    assert not torch.equal(head(features), head(features))
    assert torch.equal(head.eval()(features), head(features))
    by_hand = head.fc8(head.fc7(head.fc6(features).relu()).relu())
    torch.testing.assert_close(head(features), by_hand)


def test_a_field_of_view_that_would_change_the_size_is_refused() -> None:
    with pytest.raises(ValueError, match="dilation 3 with kernel_size 4"):
        FieldOfView(2, 2, kernel_size=4, dilation=3)
    with pytest.raises(DataError, match="Unknown head 'larg_fov'; did you mean 'large_fov'"):
        _pooling_network(head="larg_fov")


@pytest.mark.parametrize("head", ["large_fov", "small_fov"])
@pytest.mark.parametrize(("name", "last_alone"), [("resnet18", False), ("vgg11", True)])
def test_what_no_vgg_gives_learns_faster(head: str, name: str, last_alone: bool) -> None:
    args = {"channels": [4, 4, 8, 8]} if name == "resnet18" else None
    backbone = create_backbone(name, args=args, output_stride=8 if last_alone else 32)
    network = DeepLabV2(backbone, 3, head=head, head_channels=6)
    slow, fast = network.parameter_groups(0.001, head_multiplier=10)
    assert (slow["lr"], fast["lr"]) == (0.001, pytest.approx(0.01))
    new = network.head.fc8 if last_alone else network.head
    assert {id(item) for item in fast["params"]} == {id(item) for item in new.parameters()}
    assert len(slow["params"]) + len(fast["params"]) == len(list(network.parameters()))


def test_hidden_layers_start_from_vggs(tmp_path: Path) -> None:
    head = FieldOfView(3, 2, kernel_size=3, dilation=12, channels=4)
    first, second = torch.randn(8, 6, 7, 7), torch.randn(8, 8, 1, 1)
    state = {"pre_logits.fc1.weight": first, "pre_logits.fc1.bias": torch.arange(8.0)}
    torch.save(
        {**state, "pre_logits.fc2.weight": second, "pre_logits.fc2.bias": -torch.arange(8.0)}, tmp_path / "v.pth"
    )
    last = head.fc8.weight.clone()
    head.load_vgg(tmp_path / "v.pth")
    assert torch.equal(head.fc6.weight, first[::2, ::2, ::3, ::3])
    assert torch.equal(head.fc7.weight, second[::2, ::2])
    assert head.fc6.bias.tolist() == [0, 2, 4, 6] and head.fc7.bias.tolist() == [0, -2, -4, -6]
    assert torch.equal(head.fc8.weight, last)
    with pytest.raises(DataError, match="Use at most 6 head channels"):
        FieldOfView(3, 2, kernel_size=3, dilation=12, channels=9).load_vgg(tmp_path / "v.pth")


def test_weights_of_features_alone_leave_the_head_as_it_is(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "features.pth")
    head = FieldOfView(3, 2, kernel_size=3, dilation=12, channels=4)
    before = head.fc6.weight.clone()
    head.load_vgg(tmp_path / "features.pth")
    assert torch.equal(head.fc6.weight, before)
