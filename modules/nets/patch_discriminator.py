"""Discriminator of real patches against cut-and-paste patches."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

MIN_PATCH = 32
"""Smallest side of a patch, in pixels: five strides of 2."""


class PatchDiscriminator(nn.Module):
    """Five strided 4x4 convolutions with leaky ReLU between them; the last gives the logit.

    Source: Chen et al., "Learning a Weakly-Supervised Video Actor-Action Segmentation Model with a Wise Selection",
    2020: the cut-and-paste discriminator. Kernel, stride and widths are DCGAN's; the paper does not state them. There
    is no batch norm, so that the verdict on a patch does not depend on its batch.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        channels = (3, width, 2 * width, 4 * width, 8 * width)
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, 4, stride=2, padding=1))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                # Gain of leaky ReLU: without batch norm, DCGAN's N(0, 0.02) lets the signal fade from layer to layer.
                nn.init.kaiming_normal_(layer.weight, a=0.2, nonlinearity="leaky_relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, patches: Tensor) -> Tensor:
        """Judge patches.

        Args:
            patches: (B, 3, H, W) normalised RGB, sides of at least 32.

        Returns:
            (B,) logits, positive = real; the mean over the last map where the patch is larger than 32.

        Raises:
            ValueError: the patches are too small.
        """
        height, width = patches.shape[-2:]
        if min(height, width) < MIN_PATCH:
            raise ValueError(
                f"Wrong patch size height={height}, width={width}, expected at least {MIN_PATCH} x {MIN_PATCH}. "
                "Resize the patches."
            )
        logits: Tensor = self.layers(patches)
        return logits.mean(dim=(1, 2, 3))
