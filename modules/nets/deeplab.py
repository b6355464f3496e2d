"""DeepLabv2: a dilated backbone and atrous spatial pyramid pooling (ASPP)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from modules.nets.backbones import Backbone


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


class DeepLabV2(nn.Module):
    """Semantic segmentation of frames of any size (Chen et al. 2018).

    Attributes:
        backbone: gives the features; output stride 8 is the paper's.
        aspp: features to logits.
        num_classes: background included.
    """

    def __init__(self, backbone: Backbone, num_classes: int, *, rates: Sequence[int] = (6, 12, 18, 24)) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.aspp = ASPP(backbone.num_features, num_classes, rates)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised RGB (B, 3, H, W) to logits (B, num_classes, H, W), upsampled bilinearly."""
        height, width = x.shape[-2:]
        logits = self.aspp(self.forward_features(x))
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
        """Return optimiser groups: trainable backbone parameters at ``lr``, the head's at ``head_multiplier * lr``."""
        groups = [
            {"params": [item for item in self.backbone.parameters() if item.requires_grad], "lr": lr},
            {"params": [item for item in self.aspp.parameters() if item.requires_grad], "lr": lr * head_multiplier},
        ]
        return [group for group in groups if group["params"]]
