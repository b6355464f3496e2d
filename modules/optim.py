"""Optimisers and the learning-rate schedules in use."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from modules.losses import poly_decay, step_decay
from pseudolabel.types import DataError


def build_optimizer(
    parameters: Iterable[Any], name: str, *, lr: float, weight_decay: float, momentum: float = 0.9
) -> torch.optim.Optimizer:
    """Build ``"sgd"`` (with momentum), ``"adam"`` or ``"adamw"`` (both with their papers' moments).

    Args:
        parameters: parameters or parameter groups.
        name: which.
        lr: base learning rate.
        weight_decay: L2 factor.
        momentum: of SGD.

    Raises:
        DataError: another name.
    """
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)
    raise DataError(f"Unknown optimizer '{name}'. Expected 'sgd', 'adam' or 'adamw'.")


def one_cycle(optimizer: torch.optim.Optimizer, total_steps: int, *, warmup: float = 0.2) -> LambdaLR:
    """Linear warm-up over the first ``warmup`` of the steps, then cosine to zero."""
    rise = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, total_steps - rise))))

    return LambdaLR(optimizer, factor)


def poly(optimizer: torch.optim.Optimizer, span: Callable[[], tuple[int, int]], *, power: float) -> LambdaLR:
    """Poly schedule over the span (first step, number of steps) that is current when a step is taken.

    Rounds move the span: every version of the pseudo-annotations has a schedule of its own.
    """

    def factor(step: int) -> float:
        start, total = span()
        return poly_decay(step - start, total, power)

    return LambdaLR(optimizer, factor)


_THIRDS = 3


def step_down(
    optimizer: torch.optim.Optimizer,
    span: Callable[[], tuple[int, int]],
    *,
    size: int | None,
    gamma: float,
) -> LambdaLR:
    """Step schedule: the learning rate times ``gamma`` every ``size`` steps after the start of a span.

    Tokmakov et al. 2016 give the steps. Without a size it is a third of the span: Liang et al. 2017 drop the rate after
    every 20 of 60 epochs.

    Args:
        optimizer: whose rates.
        span: start and length in steps of the present schedule.
        size: steps, or None.
        gamma: factor of each drop.

    Raises:
        DataError: ``size`` is below one step.
    """
    if size is not None and size < 1:
        raise DataError(f"step_size must be >= 1 optimiser step, got {size}. DeepLab-LargeFOV uses 2000.")

    def factor(step: int) -> float:
        start, steps = span()
        return step_decay(step - start, max(1, -(-steps // _THIRDS)) if size is None else size, gamma)

    return LambdaLR(optimizer, factor)
