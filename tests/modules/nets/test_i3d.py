from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from modules.nets.backbones import load_weights
from modules.nets.i3d import InceptionI3d, MaxPool3dSame, Unit3d, pad_same
from pseudolabel.types import DataError

# Input channels and the six widths of every block, as in the authors' release.
BLOCKS = {
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}


def _release_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the public checkpoint, which is older than ``num_batches_tracked``."""
    convolutions = {
        "Conv3d_1a_7x7": (64, 3, 7, 7, 7),
        "Conv3d_2b_1x1": (64, 64, 1, 1, 1),
        "Conv3d_2c_3x3": (192, 64, 3, 3, 3),
    }
    for name, (into, b0, b1a, b1b, b2a, b2b, b3b) in BLOCKS.items():
        convolutions[f"{name}.b0"] = (b0, into, 1, 1, 1)
        convolutions[f"{name}.b1a"] = (b1a, into, 1, 1, 1)
        convolutions[f"{name}.b1b"] = (b1b, b1a, 3, 3, 3)
        convolutions[f"{name}.b2a"] = (b2a, into, 1, 1, 1)
        convolutions[f"{name}.b2b"] = (b2b, b2a, 3, 3, 3)
        convolutions[f"{name}.b3b"] = (b3b, into, 1, 1, 1)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in convolutions.items():
        shapes[f"{name}.conv3d.weight"] = shape
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{part}"] = shape[:1]
    return shapes | {"logits.conv3d.weight": (400, 1024, 1, 1, 1), "logits.conv3d.bias": (400,)}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def _with_statistics(network: InceptionI3d) -> InceptionI3d:
    """Give batch norm random affine terms and statistics, so that equality tests see every layer."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def test_names_and_shapes_are_the_releases() -> None:
    with torch.device("meta"):
        network = InceptionI3d()
    own = {key: tuple(value.shape) for key, value in network.state_dict().items() if "num_batches" not in key}
    assert own == _release_shapes()
    assert network.num_features == 1024
    # 12.3 M without the 410 000 of the logits.
    assert sum(parameter.numel() for parameter in network.parameters()) == 12_697_264


def test_batch_norm_has_the_releases_constants() -> None:
    layers = [module for module in InceptionI3d(2, width=0.02).modules() if isinstance(module, nn.BatchNorm3d)]
    assert len(layers) == 57
    assert {(layer.eps, layer.momentum) for layer in layers} == {(1e-3, 0.01)}


def test_a_checkpoint_in_the_releases_form_loads_strictly(tmp_path: Path) -> None:
    source = InceptionI3d(4, width=0.1)
    state = {key: value for key, value in source.state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "rgb_imagenet.pt")
    network = InceptionI3d(4, width=0.1)
    assert not torch.equal(network.Mixed_5c.b2b.conv3d.weight, source.Mixed_5c.b2b.conv3d.weight)
    load_weights(network, tmp_path / "rgb_imagenet.pt")
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in network.state_dict().items())
    other = InceptionI3d(9, width=0.1)
    load_weights(other, tmp_path / "rgb_imagenet.pt", ignored=("logits.",))
    assert torch.equal(other.Mixed_5c.b2b.conv3d.weight, source.Mixed_5c.b2b.conv3d.weight)


def test_a_network_may_end_early() -> None:
    whole = InceptionI3d(5, width=0.1, output_stride=8, temporal_stride=4, dilate=False).eval()
    early = InceptionI3d(5, width=0.1, output_stride=8, temporal_stride=4, dilate=False, last="Mixed_4b").eval()
    shared = {
        key: value for key, value in whole.state_dict().items() if key in early.state_dict() and "logits" not in key
    }
    early.load_state_dict(shared, strict=False)
    clip = torch.rand(1, 3, 8, 32, 32)
    seen: list[torch.Tensor] = []
    whole.Mixed_4b.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        whole(clip)
        assert torch.equal(early.forward_features(clip), seen[0])
        assert early(clip).shape == (1, 5)
    assert not hasattr(early, "Mixed_4c") and early.num_features == seen[0].shape[1]


@pytest.mark.parametrize("output_stride", [32, 16, 8])
@pytest.mark.parametrize("temporal_stride", [8, 4, 2, 1])
def test_feature_size_follows_the_strides(output_stride: int, temporal_stride: int) -> None:
    network = InceptionI3d(5, width=0.05, output_stride=output_stride, temporal_stride=temporal_stride).eval()
    with torch.no_grad():
        features = network.forward_features(torch.randn(1, 3, 8, 32, 64))
        assert features.shape == (
            1,
            network.num_features,
            8 // temporal_stride,
            32 // output_stride,
            64 // output_stride,
        )
        assert network.head(features).shape == (1, 5)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 20, 33), (9, 47, 31)])
def test_any_clip_size_goes_through_rounded_up(shape: tuple[int, int, int]) -> None:
    network = InceptionI3d(5, width=0.05).eval()
    clip = torch.randn(2, 3, *shape)
    with torch.no_grad():
        expected = (-(-shape[0] // 8), -(-shape[1] // 32), -(-shape[2] // 32))
        assert network.forward_features(clip).shape[2:] == expected
        assert network(clip).shape == (2, 5)


def test_strides_do_not_change_the_weights() -> None:
    coarse, fine = InceptionI3d(3, width=0.1), InceptionI3d(3, width=0.1, output_stride=8, temporal_stride=1)
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in (coarse, fine)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(("output_stride", "temporal_stride"), [(16, 8), (8, 8), (32, 4), (32, 2), (8, 2)])
def test_a_finer_map_contains_the_coarse_one(output_stride: int, temporal_stride: int) -> None:
    # Dilation keeps what the weights compute: at the strided cells the values are equal, borders included.
    coarse = _with_statistics(InceptionI3d(3, width=0.08))
    fine = InceptionI3d(3, width=0.08, output_stride=output_stride, temporal_stride=temporal_stride).eval()
    fine.load_state_dict(coarse.state_dict())
    clip = torch.randn(1, 3, 16, 64, 64)
    with torch.no_grad():
        expected, dense = coarse.forward_features(clip), fine.forward_features(clip)
    assert expected.abs().max() > 0.1
    step_t, step = 8 // temporal_stride, 32 // output_stride
    found = dense[:, :, _phase(step_t) :: step_t, _phase(step) :: step, _phase(step) :: step]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def _phase(step: int) -> int:
    """Cell of the fine map that equals the first coarse one: SAME pads the strided pools at their end."""
    return {1: 0, 2: 0, 4: 2}[step]


def test_head_is_the_global_mean_through_the_logits() -> None:
    network = InceptionI3d(3, width=0.05).eval()
    features = torch.randn(2, network.num_features, 3, 4, 5)
    weight, bias = network.logits.conv3d.weight.flatten(1), network.logits.conv3d.bias
    torch.testing.assert_close(network.head(features), features.mean(dim=(2, 3, 4)) @ weight.T + bias)


def test_replace_logits() -> None:
    network = InceptionI3d(400, width=0.05).double()
    network.replace_logits(6)
    assert network.num_classes == 6
    assert network.eval()(torch.zeros(1, 3, 8, 32, 32, dtype=torch.double)).shape == (1, 6)


def test_pad_same_puts_the_odd_zero_at_the_end() -> None:
    x = torch.ones(1, 1, 4, 5, 6)
    padded = pad_same(x, (3, 3, 7), (2, 2, 2), (1, 1, 1))
    # 4 frames, stride 2: 2 outputs need 5. 5 rows: 3 outputs need 7. 6 columns: 3 outputs need 11.
    assert padded.shape == (1, 1, 5, 7, 11)
    assert padded[0, 0, :, 1, 2].tolist() == [1, 1, 1, 1, 0]
    assert padded[0, 0, 0, :, 2].tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert padded[0, 0, 0, 1].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0]


def test_unit_and_pool_by_hand() -> None:
    unit = Unit3d(1, 1, (1, 1, 3), stride=(1, 1, 2)).eval()
    nn.init.ones_(unit.conv3d.weight)
    row = torch.tensor([1.0, 2, 3, -9]).view(1, 1, 1, 1, 4)
    # Windows (1, 2, 3) and (3, -9, 0), then batch norm with eps 1e-3, then ReLU.
    torch.testing.assert_close(unit(row).flatten(), torch.tensor([6 / 1.001**0.5, 0.0]))
    assert MaxPool3dSame((1, 1, 3), stride=(1, 1, 2))(row.abs()).flatten().tolist() == [3, 9]


@pytest.mark.parametrize("options", [{"output_stride": 4}, {"temporal_stride": 3}])
def test_unknown_strides_are_refused(options: dict) -> None:
    with pytest.raises(DataError, match="Expected output_stride 32, 16 or 8 and temporal_stride 8, 4, 2 or 1"):
        InceptionI3d(2, width=0.02, **options)


def test_an_unknown_last_block_is_refused() -> None:
    with pytest.raises(DataError, match=r"Unknown last block 'Mixed_4x'.*did you mean 'Mixed_4"):
        InceptionI3d(2, width=0.02, last="Mixed_4x")


def test_it_tells_directions_of_time_apart() -> None:
    # Single frames are the same in both classes: a square that moves right or left.
    clips = torch.full((2, 3, 8, 32, 32), -1.0)
    for t in range(8):
        clips[0, :, t, 8:24, 2 * t : 2 * t + 10] = 1
        clips[1, :, 7 - t, 8:24, 2 * t : 2 * t + 10] = 1
    network = InceptionI3d(2, width=0.06, temporal_stride=2, dropout=0.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(network(clips), torch.tensor([0, 1]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("options", "stride", "lag"),
    [
        ({"last": "Mixed_3c", "output_stride": 8}, 8, 3.5),  # half a pixel, half of 2 and half of 4
        ({"last": "Mixed_4b", "output_stride": 16}, 16, 7.5),
        ({"last": "Mixed_3c", "output_stride": 32}, 8, 3.5),  # it ends before the strides do
        ({"last": "Mixed_5c", "output_stride": 16, "dilate": False}, 16, 15.5),
        ({"last": "Mixed_5c", "output_stride": 32}, 32, 7.5),  # the 2 x 2 pool with stride 2 needs no padding
        ({"last": "Mixed_5c", "output_stride": 8, "dilate": False}, 8, 7.5),  # without its stride it needs one zero
        ({"last": "Mixed_5c", "output_stride": 8, "dilate": True}, 8, 3.5),  # dilated it needs two, one at each side
    ],
)
def test_the_lag_of_its_cells(options: dict, stride: int, lag: float) -> None:
    network = InceptionI3d(3, width=0.05, **options)
    assert (network.stride, network.lag) == (stride, lag)


def test_a_cell_looks_where_its_lag_says() -> None:
    torch.manual_seed(0)
    network = InceptionI3d(3, width=0.125, output_stride=8, last="Mixed_3b").eval()
    seen = torch.zeros(96)
    for _ in range(3):
        clip = torch.rand(1, 3, 8, 96, 96, requires_grad=True)
        features = network.forward_features(clip)
        features[..., 6, 6].sum().backward()
        assert clip.grad is not None
        seen += clip.grad.abs().sum(dim=(0, 1, 2, 3))
    centre = float((seen * torch.arange(96)).sum() / seen.sum())
    assert abs(centre - (6 * 8 + 3.5 + network.lag)) < 1.0
