from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from modules.nets.backbones import Preprocessing, create_backbone, freeze_batch_norm, load_weights
from pseudolabel.types import DataError

SMALL = {"channels": [4, 4, 8, 8]}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("name", "stride", "args", "channels"),
    [
        ("resnet18", 32, {"channels": [16, 32, 64, 128]}, 128),
        ("resnet18", 8, SMALL, 8),
        ("resnet50", 16, {}, 2048),
        ("mobilenetv2_100", 16, {"pad_type": "same"}, 1280),
        ("mobilenetv2_050", 32, {}, 1280),
        ("mobilenetv3_small_050", 32, {}, 288),
    ],
)
def test_backbone_gives_a_map_at_its_stride(name: str, stride: int, args: dict, channels: int) -> None:
    backbone = create_backbone(name, output_stride=stride, args=args).eval()
    with torch.no_grad():
        features = backbone(torch.zeros(2, 3, 64, 96))
    assert features.shape == (2, channels, 64 // stride, 96 // stride)
    assert (backbone.num_features, backbone.output_stride, backbone.name) == (channels, stride, name)


def test_features_are_timms() -> None:
    torch.manual_seed(3)
    model = timm.create_model("resnet18", pretrained=False, **SMALL).eval()
    torch.manual_seed(3)
    backbone = create_backbone("resnet18", args=SMALL).eval()
    backbone.body.load_state_dict(model.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images), model.forward_features(images))


@pytest.mark.parametrize("name", ["vgg11", "mobilenetv3_small_050"])
def test_no_parameter_is_left_without_gradient(name: str) -> None:
    # vgg's pre_logits and mobilenetv3's conv_head come after forward_features.
    backbone = create_backbone(name)
    backbone(torch.randn(2, 3, 64, 64)).sum().backward()
    assert [key for key, parameter in backbone.named_parameters() if parameter.grad is None] == []


def test_building_leaves_batch_statistics_and_mode_untouched() -> None:
    backbone = create_backbone("resnet18", args=SMALL)
    assert backbone.body.bn1.num_batches_tracked == 0
    assert torch.equal(backbone.body.bn1.running_mean, torch.zeros(64))
    assert all(module.training for module in backbone.modules())


def test_building_downloads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("network access")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    create_backbone("resnet18.a1_in1k", args=SMALL)
    with pytest.raises(DataError, match="Unknown backbone 'hf-hub:timm/resnet18'"):
        create_backbone("hf-hub:timm/resnet18")


def test_preprocessing_is_timms_unless_given() -> None:
    assert create_backbone("resnet18", args=SMALL).preprocessing.mean == (0.485, 0.456, 0.406)
    given = create_backbone("resnet18", args=SMALL, mean=(0.5, 0.5, 0.5), std=[0.5, 0.5, 0.25]).preprocessing
    assert given == Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.25))


def test_preprocessing_round_trip_and_values() -> None:
    preprocessing = Preprocessing((0.5, 0.5, 0.2), (0.5, 0.25, 0.1))
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing
    assert preprocessing.to_dict() == {"mean": [0.5, 0.5, 0.2], "std": [0.5, 0.25, 0.1]}
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    expected = torch.tensor([1.0, 2.0, 8.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(preprocessing.normalize(white), expected)
    torch.testing.assert_close(preprocessing.normalize(torch.ones(1, 3, 1, 1)), expected)


@pytest.mark.parametrize(("mean", "std"), [((0.5, 0.5), (0.5, 0.5, 0.5)), ((0.5, 0.5, 0.5), (0.5, 0.0, 0.5))])
def test_preprocessing_rejects_wrong_numbers(mean: tuple, std: tuple) -> None:
    with pytest.raises(DataError, match="3 means and 3 positive stds"):
        Preprocessing(mean, std)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_weights_load_and_the_classifier_is_ignored(tmp_path: Path, suffix: str) -> None:
    model = timm.create_model("resnet18", pretrained=False, num_classes=7, **SMALL)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(model.state_dict(), path)
    else:
        torch.save({"state_dict": model.state_dict()} if suffix == ".pt" else model.state_dict(), path)
    backbone = create_backbone("resnet18", args=SMALL, weights=path)
    own = backbone.body.state_dict()
    assert set(model.state_dict()) - set(own) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in own.items())


def test_weights_without_batch_counts_and_in_half_precision_load(tmp_path: Path) -> None:
    model = timm.create_model("resnet18", pretrained=False, **SMALL)
    state = {key: value.half() for key, value in model.state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "old.pth")
    backbone = create_backbone("resnet18", args=SMALL, weights=str(tmp_path / "old.pth"))
    weight = backbone.body.conv1.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, state["conv1.weight"].float())


def test_weights_with_other_keys_or_shapes_are_refused(tmp_path: Path) -> None:
    state = timm.create_model("resnet18", pretrained=False, **SMALL).state_dict()
    del state["conv1.weight"]
    state["layer9.weight"] = torch.zeros(1)
    state["bn1.weight"] = torch.zeros(5)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(DataError) as caught:
        create_backbone("resnet18", args=SMALL, weights=tmp_path / "bad.pth")
    message = str(caught.value)
    assert "bad.pth" in message
    assert "1 missing: conv1.weight" in message
    assert "1 unexpected: layer9.weight" in message
    assert "1 of another shape: bn1.weight (file (5,), network (64,))" in message


def test_a_long_list_of_wrong_keys_is_cut(tmp_path: Path) -> None:
    torch.save({f"k{index}": torch.zeros(1) for index in range(6)}, tmp_path / "bad.pth")
    with pytest.raises(DataError, match=r"6 unexpected: k0, k1, k2, k3, \.\.\."):
        load_weights(nn.Linear(1, 1), tmp_path / "bad.pth")


def test_load_weights_leaves_ignored_prefixes_alone(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    before = module[1].weight.clone()
    torch.save({"0.weight": torch.ones(2, 2), "0.bias": torch.ones(2), "1.weight": torch.ones(9, 2)}, tmp_path / "w.pt")
    load_weights(module, tmp_path / "w.pt", ignored=("1.",))
    assert torch.equal(module[0].weight, torch.ones(2, 2))
    assert torch.equal(module[1].weight, before)


class _Evil:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("evil"),))


@pytest.mark.parametrize("kind", ["code", "noise.pth", "noise.safetensors", "list"])
def test_unreadable_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / (kind if "." in kind else "weights.pth")
    if kind == "code":
        torch.save({"a": _Evil()}, path)
    elif kind == "list":
        torch.save([1, 2], path)
    else:
        path.write_bytes(b"not weights at all")
    with pytest.raises(DataError, match=path.name):
        create_backbone("resnet18", args=SMALL, weights=path)
    assert not (tmp_path / "evil").exists()


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.pth' does not exist.*never downloaded"):
        create_backbone("resnet18", args=SMALL, weights=tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("name", "stride", "args", "message"),
    [
        ("resnet5o", 32, {}, "Unknown backbone 'resnet5o'; did you mean 'resnet50'?"),
        ("zzzzzzq", 32, {}, "Unknown backbone 'zzzzzzq'. Expected"),
        ("vgg11", 16, {}, "output_stride=16"),
        ("densenet121", 16, {}, "unexpected keyword argument 'output_stride'"),
        ("resnet18", 12, {}, "must be 2, 4, 8, 16 or 32, got 12"),
        ("resnet18", 32, {"bogus": 1}, "'bogus'"),
        ("resnet18", 32, {"pretrained": True}, "args must not contain pretrained"),
        ("vit_tiny_patch16_224", 32, {}, "Use a CNN"),
        ("inception_v3", 32, {}, r"expected (1, C, 4, 4)"),
    ],
)
def test_what_cannot_be_built_is_explained(name: str, stride: int, args: dict, message: str) -> None:
    with pytest.raises(DataError) as caught:
        create_backbone(name, output_stride=stride, args=args)
    assert message in str(caught.value)


def _copied(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module)


def _pickled(module: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(module))


@pytest.mark.parametrize("through", [None, _copied, _pickled])
def test_frozen_batch_norm_stays_frozen(through) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm2d(2), nn.Dropout()))
    assert freeze_batch_norm(network) is network
    if through is not None:
        original, network = network, through(network)
        assert network[1].train.args[0] is network[1]
        assert network[1] is not original[1]
    network.train()
    assert [type(module).__name__ for module in network.modules() if not module.training] == ["BatchNorm2d"] * 2
    network(torch.randn(8, 1, 4, 4) + 5)
    assert torch.equal(network[1].running_mean, torch.zeros(2))
    assert network[1].num_batches_tracked == 0
    assert [key for key, parameter in network.named_parameters() if parameter.requires_grad] == ["0.weight", "0.bias"]
    network.eval()
    assert not any(module.training for module in network.modules())


def test_freezing_changes_no_key_of_the_state() -> None:
    backbone = create_backbone("mobilenetv2_050")
    keys = list(backbone.state_dict())
    freeze_batch_norm(backbone)
    assert list(backbone.state_dict()) == keys
    backbone.train()
    assert backbone.training
    assert not backbone.body.bn1.training
