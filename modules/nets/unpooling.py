"""Unpooling: where the maxima of an encoder's maps were, read in its own forward pass, and values put back there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.modes import evaluating
from modules.nets.backbones import Backbone
from modules.nets.vgg import is_vgg
from pseudolabel.types import DataError

_PROBE_SIZE = 128
_VGG_STRIDE = 32


@dataclass(frozen=True)
class Level:
    """One resolution of an encoder that is finer than its output.

    Attributes:
        stride: input pixels per cell.
        module: name, within ``backbone.body``, of the last module whose map has this stride.
        cell: the side of the cells whose maximum is looked for, in cells of this level: 2 = the next level is half as
            fine.
    """

    stride: int
    module: str
    cell: int


def drop_last_pool(backbone: Backbone) -> Backbone:
    """Take the last max-pool off a VGG of stride 32, in place: its maps have stride 16, and no weight changes.

    The localisation networks of Zhou et al. 2016 and TransferNet (Hong et al. 2016) end at conv5_3 as well.

    Raises:
        DataError: not a VGG of stride 32.
    """
    body: Any = backbone.body
    if (
        not is_vgg(backbone.name)
        or backbone.output_stride != _VGG_STRIDE
        or not isinstance(body.features[-1], nn.MaxPool2d)
    ):
        raise DataError(
            f"Backbone '{backbone.name}' of stride {backbone.output_stride} has no last max-pool to drop. "
            f"Expected a VGG of stride {_VGG_STRIDE}."
        )
    body.features[-1] = nn.Identity()
    backbone.output_stride = _VGG_STRIDE // 2
    return backbone


def find_levels(backbone: Backbone) -> tuple[Level, ...]:
    """Find the maps of a backbone that are finer than its output, measured on a small black image.

    The candidates are the modules that timm lists in ``feature_info``; of those of one stride the last one counts. In a
    VGG these are the inputs of the max-pools, so that its switches are exactly those of its own pooling. A max-pool
    over overlapping windows (the stem of a ResNet, 3 x 3 cells) has no switches to go back by, as two windows may share
    one maximum: there, as wherever a stride and not a pool makes the map smaller, the switches are the places of the
    maxima in disjoint cells of the map that is made smaller. This is ours.

    Args:
        backbone: its mode is left as found.

    Returns:
        The levels from fine to coarse; none where timm lists nothing finer than the output.

    Raises:
        DataError: timm does not list the maps of this architecture.
    """
    names = [info["module"] for info in getattr(backbone.body, "feature_info", None) or ()]
    if not names:
        raise DataError(
            f"timm lists no feature maps of backbone '{backbone.name}', and unpooling needs them. "
            "Use a CNN such as vgg16, resnet50 or mobilenetv2_100."
        )
    sides: dict[str, int] = {}

    def measure(module: nn.Module, inputs: object, output: object, *, name: str) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            sides[name] = output.shape[-1]

    handles = [backbone.body.get_submodule(name).register_forward_hook(partial(measure, name=name)) for name in names]
    try:
        parameter = next(backbone.parameters())
        with evaluating(backbone), torch.no_grad():
            backbone(parameter.new_zeros(1, 3, _PROBE_SIZE, _PROBE_SIZE))
    finally:
        for handle in handles:
            handle.remove()
    strides = {_PROBE_SIZE // side: name for name, side in sides.items() if _PROBE_SIZE % side == 0}
    fine = sorted(stride for stride in strides if stride < backbone.output_stride)
    coarser = [*fine[1:], backbone.output_stride]
    return tuple(Level(stride, strides[stride], next_ // stride) for stride, next_ in zip(fine, coarser, strict=True))


def find_switches(maps: Tensor, *, cell: int, channels: int) -> Tensor:
    """Return where the maximum of every cell lies.

    Args:
        maps: (B, C, H, W), both sides multiples of ``cell``.
        cell: side of the disjoint cells.
        channels: of the result; its channel k looks at channel ``k * C // channels`` of the maps, so that all of them
            are used evenly where the numbers differ, and each by its own where they agree.

    Returns:
        long (B, channels, H / cell, W / cell): positions ``row * W + column`` in the plane (H, W). Of several equal
        maxima the first one counts.
    """
    if channels != maps.shape[1]:
        maps = maps[:, torch.arange(channels, device=maps.device) * maps.shape[1] // channels]
    _, switches = F.max_pool2d(maps.detach(), cell, return_indices=True)
    return switches


def unpool(values: Tensor, switches: Tensor, *, cell: int) -> Tensor:
    """Put every value where its cell's maximum was, and 0 elsewhere (Zeiler and Fergus 2014; Noh et al. 2015).

    Args:
        values: (B, C, h, w).
        switches: long (B, C, h, w) of :func:`find_switches`, with the same ``cell``.
        cell: side of the cells.

    Returns:
        (B, C, h * cell, w * cell).

    Raises:
        ValueError: the shapes differ.
    """
    if values.shape != switches.shape:
        raise ValueError(f"values {tuple(values.shape)} and switches {tuple(switches.shape)} must have the same shape.")
    batch, channels, height, width = values.shape
    # scatter rather than max_unpool2d, which knows no bfloat16 on a CPU and no fixed order on a GPU
    plane = values.new_zeros(batch, channels, height * cell * width * cell)
    return plane.scatter(2, switches.flatten(2), values.flatten(2)).view(batch, channels, height * cell, width * cell)


@contextmanager
def record_switches(
    backbone: Backbone, levels: Sequence[Level], channels: Mapping[int, int]
) -> Iterator[dict[int, Tensor]]:
    """Record the switches of the forward passes that are made within; the hooks are gone afterwards.

    Args:
        backbone: run once or more within the context; the last pass counts.
        levels: of :func:`find_levels`.
        channels: number of switch channels by the level's stride.

    Yields:
        A dict that is filled by the pass: stride -> switches, see :func:`find_switches`.
    """
    switches: dict[int, Tensor] = {}

    def record(module: nn.Module, inputs: object, output: Tensor, *, level: Level) -> None:
        switches[level.stride] = find_switches(output, cell=level.cell, channels=channels[level.stride])

    handles = [
        backbone.body.get_submodule(level.module).register_forward_hook(partial(record, level=level))
        for level in levels
    ]
    try:
        yield switches
    finally:
        for handle in handles:
            handle.remove()
