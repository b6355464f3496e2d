"""Losses and schedules as pure functions."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
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


def class_weighted_cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy whose classes count by their weight (Tokmakov et al. 2016, Eq. 1 and Sec. 4.2).

    ``-1/N sum_i v_l(i) log p_i^l(i)`` over the N labelled pixels of the whole batch, l(i) the label of pixel i; the
    paper's Eq. 1 lacks the minus sign. It is not divided by the sum of the weights, as torch's own would be: in a batch
    of one class, which every shot is, they would cancel out. A batch that is void everywhere gives 0.

    Args:
        logits: float (B, C, H, W).
        labels: long (B, H, W), class ids, 255 = void.
        class_weights: float (C,), >= 0 (see :func:`class_balance`).
        weights: float (B,), >= 0, trust in each image; None = 1.

    Returns:
        Scalar tensor, >= 0.

    Raises:
        ValueError: the shapes do not fit together.
    """
    batch, classes, height, width = logits.shape
    weights = logits.new_ones(batch) if weights is None else weights
    if labels.shape != (batch, height, width) or class_weights.shape != (classes,) or weights.shape != (batch,):
        raise ValueError(
            f"logits (B, C, H, W) = {tuple(logits.shape)} need labels (B, H, W), class_weights (C,) and weights (B,), "
            f"got {tuple(labels.shape)}, {tuple(class_weights.shape)} and {tuple(weights.shape)}."
        )
    losses = F.cross_entropy(
        logits.float(), labels, weight=class_weights.float(), ignore_index=VOID, reduction="none"
    )  # (B, H, W), each pixel's term times its label's weight
    per_image = losses.sum(dim=(1, 2))
    return (weights.to(per_image) * per_image).sum() / (labels != VOID).sum().clamp(min=1)


ClassUnit = Literal["rarest", "mean", "all"]
"""Which object counts 1 in the loss: a sample of the rarest class, the average sample, or every sample."""

CLASS_UNITS: tuple[ClassUnit, ...] = ("rarest", "mean", "all")


def class_balance(counts: ArrayLike, *, unit: ClassUnit = "rarest") -> Tensor:
    """Return the weight of every class by its number of training samples (Tokmakov et al. 2016, Sec. 4.2).

    ``min_j num_j / num_l`` for object class l, the minimum being over the object classes that have samples, and 1 for
    background, whose weight the paper leaves open. A class without samples gets 1: no label will name it.

    ``unit="mean"`` is ours: the same ratios, scaled so that the samples' mean weight is 1. Else one class of very few
    samples makes all objects light against the background. ``unit="all"``, ours as well, is no balance at all.

    Args:
        counts: (C,) samples per class, >= 0, background first (its count is not used).
        unit: see :data:`ClassUnit`.

    Returns:
        float32 (C,), > 0; at most 1 with ``unit="rarest"``.

    Raises:
        ValueError: no object class has samples, or a count is negative.
    """
    samples = torch.as_tensor(counts).float()
    objects = samples[1:]
    present = objects > 0
    if samples.ndim != 1 or not bool(present.any()) or bool((objects < 0).any()):
        raise ValueError(f"class_balance needs counts (C,) >= 0 with samples of some object class, got {samples}.")
    if unit == "all":
        return torch.ones_like(samples)
    reference = objects[present].min() if unit == "rarest" else objects[present].mean()
    weights = torch.where(present, reference / objects.clamp(min=1), torch.ones_like(objects))
    return torch.cat([weights.new_ones(1), weights])


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


def step_decay(step: int, size: int, gamma: float = 0.1) -> float:
    """Return the factor ``gamma ** floor(step / size)`` on the learning rate (the "step" policy of Caffe).

    Args:
        step: optimiser steps taken, >= 0.
        size: optimiser steps between two drops, >= 1; DeepLab-LargeFOV uses 2000.
        gamma: factor of each drop.

    Returns:
        A factor in (0, 1] for gamma in (0, 1].
    """
    if size < 1:
        raise ValueError(f"size must be >= 1 step, got {size}")
    return float(gamma ** (max(step, 0) // size))
