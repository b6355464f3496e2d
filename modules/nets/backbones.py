"""2-D convolutional backbones by their timm name, with local weights only: nothing is ever downloaded."""

from __future__ import annotations

import math
import pickle
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from modules.nets.vgg import dilate_vgg, is_vgg
from pseudolabel.types import DataError, nearest_name

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_PROBE_SIZE = 128
_RESERVED_ARGS = frozenset(
    {"pretrained", "checkpoint_path", "features_only", "num_classes", "output_stride", "in_chans"}
)


@dataclass(frozen=True)
class Preprocessing:
    """What the network expects of its input: RGB in [0, 1], minus ``mean``, over ``std``, per channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise DataError(
                f"Preprocessing needs 3 means and 3 positive stds, got mean={self.mean} std={self.std}. "
                "Give one number per RGB channel."
            )

    def normalize(self, images: Tensor) -> Tensor:
        """Normalise RGB images.

        Args:
            images: (..., 3, H, W), uint8 in 0..255 or floating point in [0, 1].

        Returns:
            Floating point (..., 3, H, W), ``(image - mean) / std``.
        """
        values = images if images.is_floating_point() else images.float() / 255
        mean, std = (values.new_tensor(numbers)[:, None, None] for numbers in (self.mean, self.std))
        return (values - mean) / std

    def to_dict(self) -> dict[str, list[float]]:
        """Return plain types, for checkpoints that load with ``weights_only=True``."""
        return {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Preprocessing:
        """Inverse of :meth:`to_dict`."""
        return cls(tuple(state["mean"]), tuple(state["std"]))


class Backbone(nn.Module):
    """A timm CNN without pooling and classifier. Build it with :func:`create_backbone`.

    For Grad-CAM at its last convolution map, give the backbone itself as the layer.

    Attributes:
        body: the timm model, without the modules that only its classifier uses.
        name: timm's name of the architecture.
        num_features: C, the channels of the output.
        output_stride: input pixels per output cell.
        preprocessing: how the input is to be normalised.
    """

    def __init__(
        self, body: nn.Module, *, name: str, num_features: int, output_stride: int, preprocessing: Preprocessing
    ) -> None:
        super().__init__()
        self.body = body
        self.name = name
        self.num_features = num_features
        self.output_stride = output_stride
        self.preprocessing = preprocessing

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised RGB (B, 3, H, W) to features (B, C, ceil(H / stride), ceil(W / stride))."""
        features: Tensor = self.body.forward_features(x)  # type: ignore[operator]
        return features


def create_backbone(
    name: str,
    *,
    weights: str | Path | None = None,
    output_stride: int = 32,
    args: Mapping[str, Any] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Backbone:
    """Build a timm CNN as a feature extractor.

    Modules that the features do not depend on (classifier, VGG's ``pre_logits``, ...) are removed, so that every
    parameter receives a gradient, as distributed training wants it. Weights are random unless ``weights`` is given.

    Args:
        name: a timm architecture, e.g. ``resnet50``, ``mobilenetv2_100``, ``vgg16``.
        weights: local state dict, ``.safetensors``, ``.pth`` or ``.pt``; keys of the removed modules are ignored, all
            others must match.
        output_stride: input pixels per feature cell; below 32 the last stages are dilated instead. VGGs take 32, or 8
            in DeepLab's form (:func:`modules.nets.vgg.dilate_vgg`).
        args: further arguments of the timm model, e.g. ``{"pad_type": "same"}`` or ``{"channels": [16, 32, 64, 128]}``.
        mean: per-channel mean of the input in [0, 1]; None = timm's for this architecture.
        std: per-channel standard deviation; None = timm's for this architecture.

    Raises:
        DataError: the name is unknown, the architecture takes no such stride or argument or gives no (B, C, h, w)
            map, or the weights are missing or do not match.
    """
    if not timm.is_model(name):
        hint = nearest_name(name, timm.list_models()) or "."
        raise DataError(f"Unknown backbone '{name}'{hint} Expected the name of a timm CNN, e.g. resnet50.")
    body = _build(name, output_stride, dict(args or {}))
    classifier = body.default_cfg.get("classifier") or ()
    num_features, removed = _remove_head(body, name, output_stride)
    if weights is not None:
        heads = {classifier} if isinstance(classifier, str) else set(classifier)
        load_weights(body, weights, ignored={f"{head}." for head in heads | removed})
    preprocessing = Preprocessing(
        tuple(body.default_cfg["mean"] if mean is None else mean),  # type: ignore[arg-type]
        tuple(body.default_cfg["std"] if std is None else std),  # type: ignore[arg-type]
    )
    return Backbone(
        body, name=name, num_features=num_features, output_stride=output_stride, preprocessing=preprocessing
    )


def load_weights(module: nn.Module, path: str | Path, *, ignored: Iterable[str] = ()) -> None:
    """Load a local state dict into ``module``; names and shapes must match.

    Batch norm's ``num_batches_tracked`` may be missing: files older than PyTorch 0.4.1 have none.

    Args:
        module: takes the weights, cast to its own dtype.
        path: ``.safetensors``, or ``.pth``/``.pt`` read with ``weights_only=True``. A state dict, or a dict that holds
            one under ``state_dict`` or ``model``.
        ignored: prefixes of keys, in the file and in the module, that are left alone.

    Raises:
        DataError: the file is missing, unreadable, or does not match the module.
    """
    path, prefixes = Path(path), tuple(ignored)
    found = {key: value for key, value in read_state_dict(path).items() if not key.startswith(prefixes)}
    own = {key: value for key, value in module.state_dict().items() if not key.startswith(prefixes)}
    problems = {
        "missing": [key for key in own if key not in found and not key.endswith("num_batches_tracked")],
        "unexpected": [key for key in found if key not in own],
        "of another shape": [
            f"{key} (file {tuple(value.shape)}, network {tuple(own[key].shape)})"
            for key, value in found.items()
            if key in own and value.shape != own[key].shape
        ],
    }
    if any(problems.values()):
        text = "; ".join(f"{len(keys)} {kind}: {_first(keys)}" for kind, keys in problems.items() if keys)
        raise DataError(
            f"Weights '{path}' do not fit the network ({len(found)} tensors in the file, {len(own)} expected): {text}. "
            "Use a file saved for this architecture, or set the architecture and its args to what the file was "
            "saved from."
        )
    module.load_state_dict(found, strict=not prefixes)


def freeze_batch_norm(module: ModuleT) -> ModuleT:
    """Freeze every batch norm layer in ``module``, in place: running statistics and affine parameters stay as they are.

    The layers go to eval mode and remain there whenever ``train()`` is called on them or on a parent, also after
    copying and pickling; their weight and bias get ``requires_grad = False``. With synchronised batch norm, convert
    the layers first and freeze them after: the conversion builds new layers.

    Returns:
        ``module`` itself.
    """
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(False)
            # A bound partial rather than a subclass: it survives deepcopy and pickle (spawned processes), and keeps
            # timm's own batch norm classes.
            layer.train = partial(_stay_in_eval, layer)  # type: ignore[method-assign, assignment]
    return module


def _stay_in_eval(layer: nn.Module, mode: bool = True) -> nn.Module:
    """Stand in for ``train()`` of a frozen layer: accept ``mode`` and ignore it."""
    layer.training = False
    return layer


def _build(name: str, output_stride: int, args: dict[str, Any]) -> Any:
    """Call timm, with its various errors turned into one that says what was asked for."""
    if reserved := sorted(_RESERVED_ARGS.intersection(args)):
        raise DataError(f"Backbone '{name}': args must not contain {', '.join(reserved)}. Tagmask sets these itself.")
    if output_stride not in (2, 4, 8, 16, 32):
        raise DataError(f"Backbone '{name}': output_stride must be 2, 4, 8, 16 or 32, got {output_stride}.")
    dense_vgg = is_vgg(name) and output_stride == 8  # timm has no VGG below stride 32
    stride: dict[str, Any] = {} if output_stride == 32 or dense_vgg else {"output_stride": output_stride}
    try:
        body: Any = timm.create_model(name, pretrained=False, num_classes=0, **stride, **args)
        return dilate_vgg(body) if dense_vgg else body
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(
            f"Backbone '{name}' cannot be built with output_stride={output_stride} and args={args} "
            f"({type(error).__name__}: {str(error) or 'no message'}). Use output_stride=32 and the arguments that timm "
            "lists for it, or an architecture with dilation such as resnet50 or mobilenetv2_100."
        ) from error


def _remove_head(body: nn.Module, name: str, output_stride: int) -> tuple[int, set[str]]:
    """Replace modules that the features do not depend on by identities; return the channels and the removed names."""
    training = body.training
    body.eval()
    try:
        with torch.enable_grad():
            features = body.forward_features(torch.zeros(1, 3, _PROBE_SIZE, _PROBE_SIZE))  # type: ignore[operator]
    except (AssertionError, RuntimeError) as error:
        raise DataError(
            f"Backbone '{name}' does not take images of any size ({error}). Use a CNN such as resnet50."
        ) from error
    body.train(training)
    side = math.ceil(_PROBE_SIZE / output_stride)
    shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    if not isinstance(features, Tensor) or features.ndim != 4 or tuple(features.shape[2:]) != (side, side):
        raise DataError(
            f"Backbone '{name}' with output_stride={output_stride} gives features {shape} for an image of "
            f"{_PROBE_SIZE} x {_PROBE_SIZE}, expected (1, C, {side}, {side}). Use a CNN such as resnet50, "
            "or another output_stride."
        )
    return features.shape[1], remove_unused(body, [features])


def remove_unused(body: nn.Module, outputs: Sequence[Tensor]) -> set[str]:
    """Replace the modules of which no parameter is behind ``outputs`` by identities; return their names."""
    used: set[int] = set()
    for output in outputs:
        used.update(_parameters_behind(output))
    removed: set[str] = set()
    for path, module in list(body.named_modules()):
        parameters = list(module.parameters())
        inside_removed = any(path.startswith(f"{other}.") for other in removed)
        if path and parameters and not inside_removed and not any(id(item) in used for item in parameters):
            body.set_submodule(path, nn.Identity())
            removed.add(path)
    return removed


def _parameters_behind(output: Tensor) -> Collection[int]:
    """Return the ids of the parameters in the autograd graph of ``output``."""
    used: set[int] = set()
    seen, stack = set(), [output.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            used.add(id(node.variable))
        stack.extend(parent for parent, _ in node.next_functions)
    return used


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the named tensors of a local file (see :func:`load_weights`); whatever is wrong is a :class:`DataError`."""
    if not path.is_file():
        raise DataError(
            f"Weights file '{path}' does not exist. Weights are never downloaded: give the path of a local "
            ".safetensors, .pth or .pt file, or none to start from random weights."
        )
    try:
        if path.suffix == ".safetensors":
            state: Any = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise DataError(
            f"Weights file '{path}' cannot be read ({str(error).splitlines()[0] if str(error) else error!r}). "
            "Expected a state dict as .safetensors, or as .pth/.pt that loads with weights_only=True."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(
            f"Weights file '{path}' holds {type(state).__name__}, expected a state dict of named tensors. "
            "Save it with torch.save(model.state_dict(), path)."
        )
    return dict(state)


def _first(names: Sequence[str], count: int = 4) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
