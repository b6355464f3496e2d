"""Losses and schedules as pure functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pseudolabel.types import VOID


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of images whose labels deserve different trust (Liang et al. 2017, Eq. 1).

    ``1/B sum_i w_i * 1/M_i sum_j CE(logits_ij, labels_ij)``: the mean over the M_i labelled pixels of each image, times
    its weight, and the mean over images. It is not divided by the sum of the weights, so images of low weight teach
    little. An image that is void everywhere contributes 0.

    Args:
        logits: float (B, C, H, W).
        labels: long (B, H, W), class ids, 255 = void.
        weights: float (B,), >= 0.

    Returns:
        Scalar tensor, >= 0.

    Raises:
        ValueError: the shapes do not fit together.
    """
    batch, _, height, width = logits.shape
    if labels.shape != (batch, height, width) or weights.shape != (batch,):
        raise ValueError(
            f"logits (B, C, H, W) = {tuple(logits.shape)} need labels (B, H, W) and weights (B,), "
            f"got {tuple(labels.shape)} and {tuple(weights.shape)}."
        )
    losses = F.cross_entropy(logits.float(), labels, ignore_index=VOID, reduction="none")  # (B, H, W)
    labelled = (labels != VOID).sum(dim=(1, 2)).clamp(min=1)
    per_image = losses.sum(dim=(1, 2)) / labelled
    return torch.mean(weights.to(per_image) * per_image)


def poly_decay(step: int, total: int, power: float = 0.9) -> float:
    """Return the factor ``(1 - step / total) ** power`` on the learning rate (the "poly" policy of DeepLab).

    Args:
        step: optimiser steps taken, >= 0; beyond ``total`` the factor stays 0.
        total: optimiser steps of the whole schedule, >= 1.
        power: exponent; Chen et al. (WS2) use 0.9.

    Returns:
        A factor in [0, 1].
    """
    if total < 1:
        raise ValueError(f"total must be >= 1 step, got {total}")
    return (1.0 - min(max(step, 0), total) / total) ** power
