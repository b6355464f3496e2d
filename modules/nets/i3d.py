"""I3D: Inception-v1 inflated to video."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pseudolabel.types import DataError, nearest_name

Triple = tuple[int, int, int]
"""Time, height, width."""

# Channels of an Inception block: 1x1 branch; 3x3 branch (reduce, out); second 3x3 branch (reduce, out); pool branch.
# GoogLeNet, Table 1; the paper's 5x5 branch is a 3x3 in its inflated form.
_INCEPTION = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
# Kernel, then the stride in time and in space of the unreduced network.
_POOLS: dict[str, tuple[Triple, int, int]] = {
    "MaxPool3d_2a_3x3": ((1, 3, 3), 1, 2),
    "MaxPool3d_3a_3x3": ((1, 3, 3), 1, 2),
    "MaxPool3d_4a_3x3": ((3, 3, 3), 2, 2),
    "MaxPool3d_5a_2x2": ((2, 2, 2), 2, 2),
}
_EXTENTS = {"Conv3d_1a_7x7": 7, "Conv3d_2c_3x3": 3} | {name: kernel[-1] for name, (kernel, _, _) in _POOLS.items()}
"""Side of the kernel of every layer that sees more than a cell, but for the odd ones inside of the Inception blocks."""
_LAYERS = (
    *("Conv3d_1a_7x7", "MaxPool3d_2a_3x3", "Conv3d_2b_1x1", "Conv3d_2c_3x3", "MaxPool3d_3a_3x3"),
    *("Mixed_3b", "Mixed_3c", "MaxPool3d_4a_3x3"),
    *("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f", "MaxPool3d_5a_2x2"),
    *("Mixed_5b", "Mixed_5c"),
)


def pad_same(x: Tensor, kernel: Triple, stride: Triple, dilation: Triple) -> Tensor:
    """Pad (B, C, T, H, W) with zeros as TensorFlow's SAME does: output ceil(size / stride), the odd zero at the end."""
    padding: list[int] = []
    for size, extent, step, rate in zip(x.shape[2:], kernel, stride, dilation, strict=True):
        total = max((-(-size // step) - 1) * step + (extent - 1) * rate + 1 - size, 0)
        padding = [total // 2, total - total // 2, *padding]  # F.pad wants the last axis first
    return F.pad(x, padding) if any(padding) else x


class Unit3d(nn.Module):
    """Convolution, batch norm and ReLU with SAME padding; ``plain`` is a biased convolution alone."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Triple = (1, 1, 1),
        *,
        stride: Triple = (1, 1, 1),
        dilation: Triple = (1, 1, 1),
        plain: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.dilation = kernel, stride, dilation
        self.conv3d = nn.Conv3d(in_channels, out_channels, kernel, stride=stride, dilation=dilation, bias=plain)
        # TensorFlow's constants, with which the public weights were trained.
        self.bn = None if plain else nn.BatchNorm3d(out_channels, eps=1e-3, momentum=0.01)
        if not plain:
            nn.init.kaiming_normal_(self.conv3d.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, out, ceil(T / stride), ...)."""
        x = self.conv3d(pad_same(x, self.kernel, self.stride, self.dilation))
        return x if self.bn is None else F.relu(self.bn(x))


class MaxPool3dSame(nn.Module):
    """Max pooling with SAME padding. Inputs are never negative (after ReLU), so zeros are neutral."""

    def __init__(self, kernel: Triple, *, stride: Triple = (1, 1, 1), dilation: Triple = (1, 1, 1)) -> None:
        super().__init__()
        self.kernel, self.stride, self.dilation = kernel, stride, dilation

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, C, ceil(T / stride), ...)."""
        x = pad_same(x, self.kernel, self.stride, self.dilation)
        return F.max_pool3d(x, self.kernel, self.stride, dilation=self.dilation)


class InceptionBlock(nn.Module):
    """Four parallel branches, concatenated (Szegedy et al. 2015, Fig. 2b, inflated)."""

    def __init__(self, in_channels: int, channels: tuple[int, ...], *, dilation: Triple = (1, 1, 1)) -> None:
        super().__init__()
        direct, reduce_1, out_1, reduce_2, out_2, pooled = channels
        cube = (3, 3, 3)
        self.b0 = Unit3d(in_channels, direct)
        self.b1a = Unit3d(in_channels, reduce_1)
        self.b1b = Unit3d(reduce_1, out_1, cube, dilation=dilation)
        self.b2a = Unit3d(in_channels, reduce_2)
        self.b2b = Unit3d(reduce_2, out_2, cube, dilation=dilation)
        self.b3a = MaxPool3dSame(cube, dilation=dilation)
        self.b3b = Unit3d(in_channels, pooled)
        self.out_channels = direct + out_1 + out_2 + pooled

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, out_channels, T, H, W)."""
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], dim=1)


class InceptionI3d(nn.Module):
    """Action classifier on video.

    Source: Carreira & Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", 2017, Fig. 3.
    Layers carry the names of the authors' release, so at ``width=1`` the public PyTorch weights trained on Kinetics-400
    load strictly (``rgb_imagenet.pt``; see :func:`modules.nets.backbones.load_weights`).

    A smaller ``output_stride`` or ``temporal_stride`` sets the stride of the latest layers to 1 and dilates what
    follows: weights keep their shapes and meaning, and the finer map contains the coarse one.

    Args:
        num_classes: size of the logits.
        width: multiplies every number of channels; 1 is the paper's.
        output_stride: input pixels per cell of the last map: 32, 16 or 8.
        temporal_stride: input frames per cell of the last map: 8, 4, 2 or 1.
        dropout: probability before the logits.
        dilate: False leaves the layers after a removed stride undilated: smaller receptive fields, so that a network
            trained from random weights on small frames locates better. Pretrained weights want True.
        last: the Inception block with which the features end. With an earlier one than the paper's the network is
            shallower and each cell of its map sees less of the frame.

    Attributes:
        num_features: channels of the last block, 1024 at width 1.
        stride: input pixels per cell of the last map; below output_stride where ``last`` comes before the strides.
        lag: input pixels by which what a cell of the last map sees lies right of and below the middle of the
            stride x stride pixels that it stands for, for frames whose sides are multiples of the stride. SAME padding
            puts odd zeros at the end, so every layer that needs one looks half a step ahead.
        last: as given, the name of the layer to give to Grad-CAM.

    Raises:
        DataError: a stride or block is not one of those listed.
    """

    def __init__(
        self,
        num_classes: int = 400,
        *,
        width: float = 1.0,
        output_stride: int = 32,
        temporal_stride: int = 8,
        dropout: float = 0.5,
        dilate: bool = True,
        last: str = "Mixed_5c",
    ) -> None:
        super().__init__()
        if last not in _INCEPTION:
            hint = nearest_name(last, _INCEPTION) or "."
            raise DataError(f"Unknown last block '{last}'{hint} Known: {', '.join(_INCEPTION)}.")
        if output_stride not in (32, 16, 8) or temporal_stride not in (8, 4, 2, 1):
            raise DataError(
                f"Wrong output_stride={output_stride}, temporal_stride={temporal_stride}. "
                "Expected output_stride 32, 16 or 8 and temporal_stride 8, 4, 2 or 1."
            )
        self.num_classes, self.width = num_classes, width
        self.output_stride, self.temporal_stride, self.last = output_stride, temporal_stride, last
        channels, self.lag, self.stride = 3, 0.0, 1
        for name, stride, dilation in _strides(output_stride, temporal_stride, dilate=dilate):
            layer, channels = self._layer(name, channels, stride, dilation)
            self.add_module(name, layer)
            padding = (_EXTENTS.get(name, 1) - 1) * dilation[-1] + 1 - stride[-1]
            self.lag += 0.5 * self.stride * (padding % 2)
            self.stride *= stride[-1]
            if name == last:
                break
        self.num_features = channels
        self.dropout = nn.Dropout(dropout)
        self.logits = Unit3d(channels, num_classes, plain=True)

    def _layer(self, name: str, channels: int, stride: Triple, dilation: Triple) -> tuple[nn.Module, int]:
        """Return the named layer and the channels that leave it."""
        if name in _POOLS:
            return MaxPool3dSame(_POOLS[name][0], stride=stride, dilation=dilation), channels
        if name in _INCEPTION:
            block = InceptionBlock(channels, tuple(map(self._scaled, _INCEPTION[name])), dilation=dilation)
            return block, block.out_channels
        out = {"Conv3d_1a_7x7": 64, "Conv3d_2b_1x1": 64, "Conv3d_2c_3x3": 192}[name]
        kernel = (_EXTENTS.get(name, 1),) * 3
        return Unit3d(channels, self._scaled(out), kernel, stride=stride, dilation=dilation), self._scaled(out)

    def _scaled(self, channels: int) -> int:
        return max(1, round(channels * self.width))

    def forward(self, x: Tensor) -> Tensor:
        """Map RGB in [-1, 1], (B, 3, T, H, W), to logits (B, num_classes), averaged over time and space."""
        return self.head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Map RGB in [-1, 1], (B, 3, T, H, W), to the last block, (B, C, t, h, w): sizes over strides, rounded up."""
        for name in _LAYERS[: _LAYERS.index(self.last) + 1]:
            x = self.get_submodule(name)(x)
        return x

    def head(self, features: Tensor) -> Tensor:
        """Map features (B, C, t, h, w) to logits (B, num_classes).

        Pools over the whole map, whatever its size. The paper averages windows of 2 x 7 x 7 and then the logits over
        time: the same on the 7 x 7 maps of 224-pixel frames, except that its first and last cell in time count half.
        """
        pooled = features.mean(dim=(2, 3, 4), keepdim=True)
        logits: Tensor = self.logits(self.dropout(pooled))
        return logits.flatten(1)

    def replace_logits(self, num_classes: int) -> None:
        """Put new, randomly initialised logits of ``num_classes`` in place, on the device of the old ones."""
        weight = self.logits.conv3d.weight
        self.num_classes = num_classes
        self.logits = Unit3d(self.num_features, num_classes, plain=True).to(weight.device, weight.dtype)


def _strides(output_stride: int, temporal_stride: int, *, dilate: bool) -> Iterator[tuple[str, Triple, Triple]]:
    """Yield name, stride and dilation of every layer: strides are kept until the product is reached, then dilated."""
    reached, rate = [1, 1], [1, 1]  # time, space
    for name in _LAYERS:
        nominal = (2, 2) if name == "Conv3d_1a_7x7" else _POOLS[name][1:] if name in _POOLS else (1, 1)
        before, step = tuple(rate), [1, 1]
        for axis, limit in enumerate((temporal_stride, output_stride)):
            if reached[axis] * nominal[axis] <= limit:
                step[axis] = nominal[axis]
                reached[axis] *= nominal[axis]
            elif dilate:
                rate[axis] *= nominal[axis]
        yield name, (step[0], step[1], step[1]), (before[0], before[1], before[1])
