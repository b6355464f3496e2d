from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from modules.nets.patch_discriminator import PatchDiscriminator


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("size", [(32, 32), (45, 33), (64, 64), (128, 128)])
def test_one_logit_per_patch(size: tuple[int, int]) -> None:
    assert PatchDiscriminator(width=4)(torch.randn(3, 3, *size)).shape == (3,)


def test_five_strided_convolutions_with_leaky_relu_between() -> None:
    layers = list(PatchDiscriminator(width=8).layers)
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [8, 16, 32, 64, 1]
    assert all(layer.kernel_size == (4, 4) and layer.stride == (2, 2) for layer in convolutions)
    assert [layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)] == [0.2] * 4
    assert isinstance(layers[-1], nn.Conv2d)


def test_the_verdict_is_the_mean_of_the_last_map_and_ignores_the_batch() -> None:
    network = PatchDiscriminator(width=4)
    patches = torch.randn(2, 3, 64, 64)
    last = network.layers(patches)
    assert last.shape == (2, 1, 2, 2)
    torch.testing.assert_close(network(patches), last.sum(dim=(1, 2, 3)) / 4)
    torch.testing.assert_close(network(patches[:1]), network(patches)[:1])


def test_a_small_patch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"height=31, width=64, expected at least 32 x 32"):
        PatchDiscriminator(width=4)(torch.zeros(1, 3, 31, 64))


def test_it_learns() -> None:
    network = PatchDiscriminator(width=4)
    real = torch.randn(8, 3, 32, 32) * 0.3
    fake = real.clone()
    fake[..., 8:24, 8:24] += 1  # a pasted square
    patches, truth = torch.cat([real, fake]), torch.cat([torch.ones(8), torch.zeros(8)])
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(40):
        loss = nn.functional.binary_cross_entropy_with_logits(network(patches), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ((network(patches) > 0) == (truth > 0)).float().mean() >= 0.9
