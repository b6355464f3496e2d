"""VGG as DeepLab uses it: denser features by dilation, and fully connected layers turned into convolutions."""

from __future__ import annotations

import torch
from timm.models.vgg import VGG
from torch import Tensor, nn

_DENSE_POOLS = 2


def is_vgg(name: str) -> bool:
    """Return whether timm's ``name`` is a plain VGG, with or without batch norm."""
    return name.startswith("vgg")


def dilate_vgg(body: VGG) -> VGG:
    """Turn a VGG's output stride from 32 to 8, in place, without changing the name or shape of any weight.

    The last two max-pools move by one cell over 3 x 3 cells instead of halving the map, and the convolutions after
    the first of them are dilated by 2, so that they see what they were trained on. Source: Chen et al., "Semantic Image
    Segmentation with Deep Convolutional Nets and Fully Connected CRFs", 2015, section 3.1, as Tokmakov et al.
    2016, section 3.2 use it.

    Returns:
        ``body`` itself.
    """
    pools = [place for place, layer in enumerate(body.features) if isinstance(layer, nn.MaxPool2d)][-_DENSE_POOLS:]
    for place, layer in enumerate(body.features):
        if place in pools:
            body.features[place] = nn.MaxPool2d(3, stride=1, padding=1)
        elif isinstance(layer, nn.Conv2d) and place > pools[0]:
            layer.dilation = layer.padding = (2, 2)
    return body


def decimate(weight: Tensor, out_channels: int, in_channels: int, kernel_size: int) -> Tensor:
    """Thin a filter bank out evenly, as DeepLab makes its fc6 and fc7 of VGG's (Chen et al. 2015, section 3.1).

    Args:
        weight: (O, I, k, k).
        out_channels: <= O.
        in_channels: <= I.
        kernel_size: <= k; the outermost taps are kept.

    Returns:
        (out_channels, in_channels, kernel_size, kernel_size), values of ``weight`` as they are.
    """
    for axis, size in enumerate((out_channels, in_channels)):
        places = torch.arange(size, device=weight.device) * weight.shape[axis] // size
        weight = weight.index_select(axis, places)
    taps = torch.linspace(0, weight.shape[-1] - 1, kernel_size, device=weight.device).round().long()
    return weight.index_select(2, taps).index_select(3, taps)
