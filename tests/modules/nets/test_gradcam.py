from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from modules.nets.backbones import create_backbone, freeze_batch_norm
from modules.nets.gradcam import GradCAM, class_activation_map, multi_scale_maps
from modules.nets.i3d import InceptionI3d


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


class _Pooled(nn.Module):
    """A convolution, global average pooling and a linear classifier, in 2-D or 3-D."""

    def __init__(self, convolution: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.convolution = convolution
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(convolution.out_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.act(self.convolution(x))
        return self.fc(self.drop(features.flatten(2).mean(2)))


def _network() -> _Pooled:
    return _Pooled(nn.Conv2d(3, 4, 3, padding=1), 5)


def _hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._backward_hooks) for module in network.modules())


def test_map_by_hand() -> None:
    # Features = the input; y = fc(mean). dy_c/dA_m = fc[c, m] / Z at each of the Z = 4 positions.
    network = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2, bias=False))
    network[3].weight.data = torch.tensor([[1.0, -2.0], [4.0, 0.0]])
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [1.0, 3.0]]]])
    with GradCAM(network, network[0]) as cam:
        maps, logits = cam(image, torch.tensor([[0, 1]]))
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps[0, 0], torch.tensor([[0.25, 0.0], [0.25, 0.0]]))
    torch.testing.assert_close(maps[0, 1], torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    torch.testing.assert_close(logits, torch.tensor([[2.5 - 2 * 1.25, 10.0]]))


def test_weights_are_the_mean_gradient_of_a_network_that_is_not_linear() -> None:
    # y = sum over positions of A^2 / 2: gradient = A, so the weight is the mean of A.
    class Energy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x).pow(2).flatten(1).sum(1, keepdim=True) / 2

    network = Energy()
    with GradCAM(network, network.layer) as cam:
        maps, _ = cam(torch.tensor([[[[1.0, 2.0, 6.0]]]]), torch.tensor([[0]]))
    torch.testing.assert_close(maps[0, 0], torch.tensor([[3.0, 6.0, 18.0]]))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_equals_cam_over_z_behind_global_pooling(dimensions: int) -> None:
    convolution = nn.Conv2d(3, 4, 3, padding=1) if dimensions == 2 else nn.Conv3d(3, 4, 3, padding=1)
    network = _Pooled(convolution, 5).eval()
    images = torch.randn(2, 3, *(3, 5, 6)[3 - dimensions :])
    targets = torch.tensor([[0, 4, 2], [3, 3, 1]])
    with GradCAM(network, network.act) as cam:
        maps, logits = cam(images, targets)
    with torch.no_grad():
        features = network.act(network.convolution(images))
        expected = class_activation_map(features, network.fc.weight, targets).relu() / features[0, 0].numel()
        assert maps.shape == (2, 3, *images.shape[2:])
        assert maps.amax() > 0
        torch.testing.assert_close(maps, expected)
        torch.testing.assert_close(logits, network(images))


def test_i3d_grad_cam_equals_cam_over_z() -> None:
    network = InceptionI3d(4, width=0.05, temporal_stride=2, output_stride=16).train()
    clips, targets = torch.randn(2, 3, 4, 32, 32), torch.tensor([[1], [3]])
    with GradCAM(network, network.Mixed_5c) as cam:
        maps, _ = cam(clips, targets)
    assert network.training
    with torch.no_grad():
        features = network.eval().forward_features(clips)
    weight = network.logits.conv3d.weight.detach()
    assert maps.shape == (2, 1, 2, 2, 2)
    torch.testing.assert_close(maps, class_activation_map(features, weight, targets).relu() / 8)


def test_three_dimensions_equal_two_for_a_single_frame() -> None:
    flat = _network().eval()
    deep = _Pooled(nn.Conv3d(3, 4, (1, 3, 3), padding=(0, 1, 1)), 5).eval()
    state = flat.state_dict()
    state["convolution.weight"] = state["convolution.weight"][:, :, None]
    deep.load_state_dict(state)
    images, targets = torch.randn(2, 3, 6, 6), torch.tensor([[1], [2]])
    with GradCAM(flat, flat.convolution) as flat_cam, GradCAM(deep, deep.convolution) as deep_cam:
        maps, _ = flat_cam(images, targets)
        deep_maps, _ = deep_cam(images[:, :, None], targets)
    assert maps.amax() > 0
    torch.testing.assert_close(deep_maps, maps[:, :, None])


def test_k_targets_equal_one_at_a_time_and_samples_are_independent() -> None:
    network, images = _network(), torch.randn(2, 3, 6, 6)
    targets = torch.tensor([[0, 1, 4], [2, 2, 3]])
    with GradCAM(network, network.convolution) as cam:
        together, _ = cam(images, targets)
        for b in range(2):
            for k in range(3):
                alone, _ = cam(images[b : b + 1], targets[b : b + 1, k : k + 1])
                torch.testing.assert_close(together[b, k], alone[0, 0])
    torch.testing.assert_close(together[1, 0], together[1, 1])


def test_nothing_is_left_behind() -> None:
    network = _network()
    network.fc.eval()
    modes = [module.training for module in network.modules()]
    with GradCAM(network, network.convolution) as cam:
        maps, logits = cam(torch.randn(1, 3, 6, 6), torch.tensor([[0]]))
        assert _hooks(network) == 1
        assert cam._activations == []
    assert _hooks(network) == 0
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not maps.requires_grad
    assert not logits.requires_grad


def test_hooks_and_modes_are_restored_after_an_error() -> None:
    network = _network()
    with pytest.raises(RuntimeError, match="channels"), GradCAM(network, network.act) as cam:
        cam(torch.randn(1, 7, 6, 6), torch.tensor([[0]]))
    assert _hooks(network) == 0
    assert all(module.training for module in network.modules())


def test_runs_in_eval_mode_and_leaves_frozen_batch_norm_frozen() -> None:
    backbone = freeze_batch_norm(create_backbone("resnet18", args={"channels": [4, 4, 8, 8]})).train()
    network = nn.Sequential(backbone, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(8, 3))
    modes = [module.training for module in network.modules()]
    with GradCAM(network, backbone) as cam:
        first, _ = cam(torch.ones(1, 3, 64, 64), torch.tensor([[1]]))
        second, _ = cam(torch.ones(1, 3, 64, 64), torch.tensor([[1]]))
    assert torch.equal(first, second)  # no dropout
    assert [module.training for module in network.modules()] == modes


def test_works_without_gradients_around_and_with_frozen_parameters() -> None:
    network = _network()
    images, targets = torch.randn(1, 3, 6, 6), torch.tensor([[2, 0]])
    with GradCAM(network, network.convolution) as cam:
        expected, _ = cam(images, targets)
        with torch.no_grad():
            quiet, _ = cam(images, targets)
            assert not torch.is_grad_enabled()
        network.requires_grad_(False)
        frozen, _ = cam(images, targets)
    assert expected.amax() > 0
    assert torch.equal(quiet, expected)
    assert torch.equal(frozen, expected)


def test_inference_mode_is_refused_but_its_tensors_are_not() -> None:
    network = _network()
    with torch.inference_mode():
        images = torch.randn(1, 3, 6, 6)
        with pytest.raises(RuntimeError, match="inference_mode"), GradCAM(network, network.convolution) as cam:
            cam(images, torch.tensor([[0]]))
    with GradCAM(network, network.convolution) as cam:
        assert cam(images, torch.tensor([[0]]))[0].shape == (1, 1, 6, 6)
    assert _hooks(network) == 0


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.tensor([0]), "Wrong targets shape"),
        (torch.zeros(1, 0, dtype=torch.long), "Wrong targets shape"),
        (torch.tensor([[0], [1]]), "Wrong targets shape"),
        (torch.tensor([[5]]), r"must be in 0\.\.4"),
        (torch.tensor([[-1]]), r"must be in 0\.\.4"),
    ],
)
def test_wrong_targets_are_refused(targets: Tensor, message: str) -> None:
    network = _network()
    with pytest.raises(ValueError, match=message), GradCAM(network, network.convolution) as cam:
        cam(torch.randn(1, 3, 6, 6), targets)
    assert all(module.training for module in network.modules())


def test_wrong_use_is_refused() -> None:
    network, arguments = _network(), (torch.randn(1, 3, 6, 6), torch.tensor([[0]]))
    cam = GradCAM(network, network.convolution)
    with pytest.raises(RuntimeError, match="outside its context"):
        cam(*arguments)
    with pytest.raises(RuntimeError, match="ran 0 times"), GradCAM(network, nn.Identity()) as stranger:
        stranger(*arguments)
    with cam, pytest.raises(RuntimeError, match="already entered"):
        cam.__enter__()
    with cam:
        cam(*arguments)
    assert _hooks(network) == 0


def test_cam_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])
    weight = torch.tensor([[1.0, 0.0], [2.0, -1.0]])
    maps = class_activation_map(features, weight, torch.tensor([[1, 0]]))
    assert maps.tolist() == [[[[-1.0, 5.0]], [[1.0, 2.0]]]]


def _record(sizes: list[tuple[int, ...]]) -> Callable[[Tensor], Tensor]:
    def fn(images: Tensor) -> Tensor:
        sizes.append(tuple(images.shape))
        return torch.full((len(images), 2, *images.shape[2:-2], 3, 4), float(images.shape[-1]))

    return fn


@pytest.mark.parametrize(("reduce", "value"), [("max", 12.0), ("mean", (4 + 8 + 12) / 3)])
def test_scales_are_reduced_at_the_images_size(reduce, value: float) -> None:
    sizes: list[tuple[int, ...]] = []
    maps = multi_scale_maps(_record(sizes), torch.zeros(1, 3, 6, 8), (0.5, 1, 1.5), reduce=reduce)
    assert sizes == [(1, 3, 3, 4), (1, 3, 6, 8), (1, 3, 9, 12)]
    torch.testing.assert_close(maps, torch.full((1, 2, 6, 8), value))


def test_scales_of_clips_leave_time_alone() -> None:
    sizes: list[tuple[int, ...]] = []
    maps = multi_scale_maps(_record(sizes), torch.zeros(2, 3, 5, 6, 8), (0.5,))
    assert sizes == [(2, 3, 5, 3, 4)]
    assert maps.shape == (2, 2, 5, 6, 8)


def test_resizing_keeps_samples_channels_and_frames_apart() -> None:
    clips = torch.arange(2 * 3 * 4.0).view(2, 3, 4, 1, 1).expand(-1, -1, -1, 6, 8).contiguous()
    torch.testing.assert_close(multi_scale_maps(lambda images: images, clips, (0.5, 2)), clips)


def test_flipped_maps_are_flipped_back() -> None:
    image = torch.arange(8.0).expand(1, 1, 4, 8).contiguous()
    plain = multi_scale_maps(lambda images: images, image, (1,), flip=True)
    torch.testing.assert_close(plain, image)  # flipped back, both maps agree
    ramp = torch.arange(8.0).expand(1, 1, 4, 8)
    fixed = multi_scale_maps(lambda images: ramp, image, (1,), flip=True, reduce="mean")
    torch.testing.assert_close(fixed, torch.full((1, 1, 4, 8), 3.5))
    largest = multi_scale_maps(lambda images: ramp, image, (1,), flip=True)
    torch.testing.assert_close(largest[0, 0, 0], torch.tensor([7.0, 6, 5, 4, 4, 5, 6, 7]))


@pytest.mark.parametrize(("scales", "reduce"), [((), "max"), ((0.0, 1.0), "max"), ((1.0,), "sum")])
def test_wrong_scales_are_refused(scales: tuple[float, ...], reduce) -> None:
    with pytest.raises(ValueError, match=r"scales must|reduce must"):
        multi_scale_maps(lambda images: images, torch.zeros(1, 1, 4, 4), scales, reduce=reduce)
