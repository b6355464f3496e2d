"""The attention decoder: from one coarse attention map to a mask, by deconvolution and unpooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from modules.nets.unpooling import Level, unpool
from pseudolabel.types import DataError

WIDTHS = {1: 64, 2: 128, 4: 256, 8: 512, 16: 512}
"""Channels that are unpooled to each stride, VGG-16's own; TransferNet mirrors them."""

DEPTHS = {1: 2, 2: 2, 4: 3, 8: 3, 16: 3}
"""Convolutions after the unpooling to each stride, as in the blocks of VGG-16."""

INITS = ("kaiming", "gaussian")


class DeconvNet(nn.Module):
    """Class-agnostic segmentation of what an attention map points at (Hong et al. 2017, Sec. 3.3).

    On a VGG-16 without its last max-pool (stride 16) this is TransferNet's layout (Hong, Oh, Lee, Han, "Learning
    Transferrable Knowledge for Semantic Segmentation with Deep Convolutional Neural Network", 2016): deconv5_1 (512),
    then unpooling by the encoder's pool4, 512 512 256, pool3, 256 256 128, pool2, 128 64, pool1, 64 64, and a 1 x 1
    convolution to background and foreground; all others are 3 x 3 with ReLU, without batch norm. A deconvolution of
    stride 1 is a convolution with the mirrored kernel, and is one here.

    On other backbones, and at other strides, the layout is ours by the same rule: one unpooling for every level of the
    encoder (:func:`modules.nets.unpooling.find_levels`), with widths and depths by stride. Where the encoder has no map
    at the resolution of the frame, the logits of the finest level are enlarged bilinearly.

    Args:
        levels: of the encoder, from fine to coarse.
        output_stride: of the encoder; the attention map is averaged over cells of this side.
        width: factor of all channels, > 0.
        batch_norm: normalise after every 3 x 3 convolution, as DecoupledNet does (Hong et al. 2015), not TransferNet.
        init: ``"kaiming"`` (ours) or ``"gaussian"``, deviation 0.01, as TransferNet. The former keeps the values' scale
            through unpooling too, so that thin nets learn from the first step, and gives the classifier weights of both
            signs: from tiny ones all features come to speak for the background, which is most of a frame.

    Attributes:
        channels: stride of a level -> number of channels of its switches.

    Raises:
        DataError: the width is not positive, or another ``init``.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        *,
        output_stride: int,
        width: float = 1.0,
        batch_norm: bool = False,
        init: str = "kaiming",
    ) -> None:
        super().__init__()
        if width <= 0:
            raise DataError(f"width must be > 0, got {width}. 1 is TransferNet's, 0.25 suits a CPU.")
        if init not in INITS:
            raise DataError(f"Unknown init '{init}'. Expected one of {', '.join(INITS)}.")
        self.output_stride = output_stride
        self.levels = tuple(sorted(levels, key=lambda level: -level.stride))  # from coarse to fine

        def wide(stride: int) -> int:
            return max(1, round(_of_stride(WIDTHS, stride) * width))

        self.channels = {level.stride: wide(level.stride) for level in self.levels}
        inside = wide(self.levels[0].stride if self.levels else output_stride // 2)
        self.entry = _convolutions([1, inside], batch_norm=batch_norm)
        blocks = []
        for place, level in enumerate(self.levels):
            after = self.levels[place + 1].stride if place + 1 < len(self.levels) else level.stride // 2
            widths = [*[inside] * _of_stride(DEPTHS, level.stride), wide(after)]
            blocks.append(_convolutions(widths, batch_norm=batch_norm))
            inside = wide(after)
        self.blocks = nn.ModuleList(blocks)
        self.classifier = nn.Conv2d(inside, 2, 1)
        self._initialise(init)

    def forward(self, attention: Tensor, switches: Mapping[int, Tensor]) -> Tensor:
        """Decode attention maps of any classes.

        Args:
            attention: float (B, 1, H, W) in [0, 1], at the size of the image whose sides are multiples of the stride.
            switches: stride -> long (B, ``channels[stride]``, h, w), of the same images.

        Returns:
            logits (B, 2, H, W), background and foreground.

        Raises:
            ValueError: the sides are no multiples of the stride.
        """
        height, width = attention.shape[-2:]
        if height % self.output_stride or width % self.output_stride:
            raise ValueError(
                f"Attention is {height} x {width}, expected multiples of {self.output_stride}. Pad image and attention."
            )
        hidden = self.entry(F.avg_pool2d(attention, self.output_stride))
        for level, block in zip(self.levels, self.blocks, strict=True):
            hidden = block(unpool(hidden, switches[level.stride], cell=level.cell))
        logits: Tensor = self.classifier(hidden)
        if logits.shape[-2:] != (height, width):
            logits = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
        return logits

    def _initialise(self, init: str) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                if init == "kaiming":
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear" if layer is self.classifier else "relu")
                else:
                    nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        if init == "kaiming":
            for level, block in zip(self.levels, self.blocks, strict=True):
                first: Any = block
                first[0].weight.data *= level.cell  # of cell x cell inputs all but one are 0


def _of_stride(table: Mapping[int, int], stride: int) -> int:
    """The entry of the largest stride that is not above ``stride``, else the first."""
    return table[max((known for known in table if known <= stride), default=min(table))]


def _convolutions(widths: Sequence[int], *, batch_norm: bool) -> nn.Sequential:
    """3 x 3 convolutions from each width to the next, each with ReLU and perhaps batch norm."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers.append(nn.Conv2d(before, after, 3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
