"""DeepLab: a dilated backbone under atrous spatial pyramid pooling (ASPP) or VGG's fully connected layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.nets.backbones import Backbone, read_state_dict
from modules.nets.vgg import decimate, is_vgg
from pseudolabel.types import DataError, nearest_name

FIELDS_OF_VIEW = {"large_fov": (3, 12), "small_fov": (4, 4)}
"""Kernel size and dilation of fc6, by the head's name."""

HEADS = ("aspp", *FIELDS_OF_VIEW)


class ASPP(nn.Module):
    """Sum of parallel dilated 3x3 convolutions, one per rate, each from features to class logits.

    Source: Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and
    Fully Connected CRFs", 2018, section 3.2, in the form of its ResNet-101 model.
    """

    def __init__(self, in_channels: int, num_classes: int, rates: Sequence[int]) -> None:
        super().__init__()
        if not rates:
            raise ValueError("ASPP needs at least one dilation rate, got none. The paper's are (6, 12, 18, 24).")
        self.branches = nn.ModuleList(
            nn.Conv2d(in_channels, num_classes, 3, padding=rate, dilation=rate) for rate in rates
        )
        for branch in self.branches:
            nn.init.normal_(branch.weight, std=0.01)  # type: ignore[arg-type]
            nn.init.zeros_(branch.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, C, h, w) to logits (B, num_classes, h, w)."""
        logits: Tensor = self.branches[0](x)
        for branch in self.branches[1:]:
            logits = logits + branch(x)
        return logits


class FieldOfView(nn.Module):
    """VGG's fully connected layers as convolutions: fc6 (dilated), fc7 and fc8, with ReLU and dropout between.

    A cell of the output sees 25 x 25 cells of the features with 3 x 3 taps 12 apart (``"large_fov"``) and 13 x 13 with
    4 x 4 taps 4 apart (``"small_fov"``). The papers call these 224 x 224 and 128 x 128 pixels, the input of the
    undilated VGG whose 7 x 7 and 4 x 4 cells of stride 32 they stand for. Both paddings keep the size of the map.

    Source: Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs", 2015,
    section 4 (field of view; DeepLab-LargeFOV); Tokmakov et al. 2016, section 4.3 and Table 1.

    Args:
        in_channels: channels of the features.
        num_classes: background included.
        kernel_size: of fc6.
        dilation: of fc6; ``dilation * (kernel_size - 1)`` must be even.
        channels: of fc6 and fc7.
        dropout: share of the channels' values dropped after fc6 and after fc7.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        kernel_size: int,
        dilation: int,
        channels: int = 1024,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        span = dilation * (kernel_size - 1)
        if span % 2:
            raise ValueError(f"dilation {dilation} with kernel_size {kernel_size} cannot keep the size of the map.")
        self.fc6 = nn.Conv2d(in_channels, channels, kernel_size, padding=span // 2, dilation=dilation)
        self.fc7 = nn.Conv2d(channels, channels, 1)
        self.fc8 = nn.Conv2d(channels, num_classes, 1)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.normal_(self.fc8.weight, std=0.01)
        for layer in (self.fc6, self.fc7, self.fc8):
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map features (B, C, h, w) to logits (B, num_classes, h, w)."""
        for layer in (self.fc6, self.fc7):
            x = self.dropout(F.relu(layer(x)))
        logits: Tensor = self.fc8(x)
        return logits

    def load_vgg(self, path: str | Path) -> None:
        """Start fc6 and fc7 from a timm VGG's two hidden fully connected layers, thinned out to their sizes.

        Args:
            path: local weights of a timm VGG; a file without these layers (features alone) changes nothing.

        Raises:
            DataError: the file is missing or unreadable, or its layers are smaller than these.
        """
        state = read_state_dict(Path(path))
        for layer, name in ((self.fc6, "pre_logits.fc1"), (self.fc7, "pre_logits.fc2")):
            if f"{name}.weight" not in state:
                continue
            weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
            if any(found < wanted for found, wanted in zip(weight.shape, layer.weight.shape, strict=True)):
                raise DataError(
                    f"Weights '{path}': {name} has shape {tuple(weight.shape)}, too small for the head's "
                    f"{tuple(layer.weight.shape)}. Use at most {min(weight.shape[:2])} head channels."
                )
            with torch.no_grad():
                layer.weight.copy_(decimate(weight, layer.out_channels, layer.in_channels, layer.kernel_size[0]))
                layer.bias.copy_(decimate(bias[:, None, None, None], layer.out_channels, 1, 1).flatten())  # type: ignore[union-attr]


class DeepLabV2(nn.Module):
    """Semantic segmentation of frames of any size (Chen et al. 2018, and with VGG's layers as head, 2015).

    Attributes:
        backbone: gives the features; output stride 8 is the papers'.
        aspp: features to logits, the head ``"aspp"``.
        fov: features to logits, the heads ``"large_fov"`` and ``"small_fov"``.
        num_classes: background included.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        rates: Sequence[int] = (6, 12, 18, 24),
        head: str = "aspp",
        head_channels: int = 1024,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        if head == "aspp":
            self.aspp = ASPP(backbone.num_features, num_classes, rates)
        elif head in FIELDS_OF_VIEW:
            kernel_size, dilation = FIELDS_OF_VIEW[head]
            self.fov = FieldOfView(
                backbone.num_features, num_classes, kernel_size=kernel_size, dilation=dilation, channels=head_channels
            )
        else:
            hint = nearest_name(head, HEADS) or "."
            raise DataError(f"Unknown head '{head}'{hint} Expected one of {', '.join(HEADS)}.")

    @property
    def head(self) -> ASPP | FieldOfView:
        """The module from features to logits."""
        return self.aspp if hasattr(self, "aspp") else self.fov

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised RGB (B, 3, H, W) to logits (B, num_classes, H, W), upsampled bilinearly."""
        height, width = x.shape[-2:]
        logits = self.head(self.forward_features(x))
        stride = self.backbone.output_stride
        size = (logits.shape[-2] * stride, logits.shape[-1] * stride)
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits[..., :height, :width]

    def forward_features(self, x: Tensor) -> Tensor:
        """Map normalised RGB (B, 3, H, W) to features (B, C, ceil(H / stride), ceil(W / stride)).

        The right and bottom borders are repeated until both sides are multiples of the stride, so that one feature
        cell always stands for exactly stride x stride pixels.
        """
        stride = self.backbone.output_stride
        below, right = -x.shape[-2] % stride, -x.shape[-1] % stride
        if below or right:
            x = F.pad(x, (0, right, 0, below), mode="replicate")
        features: Tensor = self.backbone(x)
        return features

    def parameter_groups(self, lr: float, head_multiplier: float = 10) -> list[dict[str, Any]]:
        """Return optimiser groups: what is pretrained at ``lr``, what starts anew at ``head_multiplier * lr``.

        A head is new as a whole, save that of DeepLab-LargeFOV on a VGG: there fc6 and fc7 are VGG's, and fc8 is new.
        """
        head: nn.Module = self.head
        if isinstance(self.head, FieldOfView) and is_vgg(self.backbone.name):
            head = self.head.fc8
        new = list(head.parameters())
        fast = {id(item) for item in new}
        groups = [
            {"params": [item for item in self.parameters() if item.requires_grad and id(item) not in fast], "lr": lr},
            {"params": [item for item in new if item.requires_grad], "lr": lr * head_multiplier},
        ]
        return [group for group in groups if group["params"]]
