from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import LRScheduler

from modules.optim import build_optimizer, one_cycle, poly
from pseudolabel.types import DataError


def rates(optimizer: torch.optim.Optimizer, schedule: LRScheduler, steps: int) -> list[float]:
    """The learning rate that each step is taken with."""
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(1))]


def test_optimizers_by_name() -> None:
    sgd = build_optimizer(parameters(), "sgd", lr=0.1, weight_decay=0.01, momentum=0.8)
    assert isinstance(sgd, SGD)
    assert [sgd.defaults[key] for key in ("lr", "weight_decay", "momentum")] == [0.1, 0.01, 0.8]
    adamw = build_optimizer(parameters(), "adamw", lr=0.1, weight_decay=0.01)
    assert isinstance(adamw, AdamW) and adamw.defaults["weight_decay"] == 0.01
    adam = build_optimizer(parameters(), "adam", lr=0.1, weight_decay=0.0)
    assert type(adam) is Adam and adam.defaults["betas"] == (0.9, 0.999) and adam.defaults["weight_decay"] == 0
    with pytest.raises(DataError, match=r"Unknown optimizer 'lion'\. Expected 'sgd', 'adam' or 'adamw'"):
        build_optimizer(parameters(), "lion", lr=0.1, weight_decay=0.0)


def test_groups_keep_their_own_rate() -> None:
    groups = [{"params": parameters(), "lr": 0.1}, {"params": parameters(), "lr": 1.0}]
    optimizer = build_optimizer(groups, "sgd", lr=0.1, weight_decay=0.0)
    one_cycle(optimizer, 10, warmup=0.5)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 0.2])


def test_one_cycle_rises_linearly_and_falls_as_a_cosine() -> None:
    optimizer = SGD(parameters(), lr=2.0)
    seen = rates(optimizer, one_cycle(optimizer, 10, warmup=0.2), 11)
    assert seen[:3] == pytest.approx([1.0, 2.0, 2.0])
    assert seen[6] == pytest.approx(1.0)  # half-way down
    assert seen[10] == pytest.approx(0.0)
    assert seen[2:] == sorted(seen[2:], reverse=True)


def test_one_cycle_of_a_single_step() -> None:
    optimizer = SGD(parameters(), lr=2.0)
    assert rates(optimizer, one_cycle(optimizer, 1), 1) == [2.0]


def test_poly_follows_the_span_of_the_moment() -> None:
    optimizer = SGD(parameters(), lr=1.0)
    span = [0, 4]
    schedule = poly(optimizer, lambda: (span[0], span[1]), power=2.0)
    assert rates(optimizer, schedule, 3) == pytest.approx([1.0, 0.75**2, 0.5**2])
    span[:] = [3, 10]
    schedule.step()  # step 4 is the second of the new span
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.9**2)
    for _ in range(20):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.0
