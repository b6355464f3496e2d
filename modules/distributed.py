"""The few facts about ranks that stages need, right with and without a process group."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch.distributed as dist

Item = TypeVar("Item")


def rank() -> int:
    """Return this process's number (0 without a process group; a launcher's ``LOCAL_RANK`` before it exists)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank()
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0)))


def world_size() -> int:
    """Return the number of processes that have joined."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        dist.barrier()


def own_share(items: Sequence[Item]) -> list[Item]:
    """Return this rank's items: rank, rank + N, and so on."""
    return list(items[rank() :: world_size()]) if world_size() > 1 else list(items)


def gather_lists(items: list[Any]) -> list[Any]:
    """Return the concatenation of every rank's list, on every rank."""
    if world_size() == 1:
        return items
    gathered: list[list[Any]] = [[] for _ in range(world_size())]
    dist.all_gather_object(gathered, items)
    return [item for part in gathered for item in part]


def from_rank_zero(value: Any) -> Any:
    """Return rank 0's value on every rank."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
