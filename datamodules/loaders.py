"""Data modules whose loaders are rebuilt every epoch, and samplers that give N ranks what one rank would get."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sized
from itertools import islice
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset, Sampler

from pseudolabel.types import DataError

EpochDataset = Callable[[int], Dataset[Any]]


class GlobalBatchSampler(Sampler[list[int]]):
    """Deals every global batch out to the ranks, so that a step sees the same frames on 1 and on N ranks.

    Args:
        length: items in the data set.
        batch_size: items of one step over *all* ranks.
        seed: with ``epoch``, decides the order.
        epoch: number of the epoch.
        rank: this process.
        world_size: number of processes; must divide ``batch_size``.

    Raises:
        DataError: ``batch_size`` is not a multiple of ``world_size``.
    """

    def __init__(
        self, length: int, batch_size: int, *, seed: int = 0, epoch: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if batch_size % world_size:
            raise DataError(
                f"batch_size={batch_size} is the total over all ranks and must be a multiple of the {world_size} "
                f"processes. Use batch_size={-(-batch_size // world_size) * world_size}."
            )
        self.length, self.batch_size, self.seed, self.epoch = length, batch_size, seed, epoch
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return max(1, self.length // self.batch_size) if self.length else 0

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        if self.length < self.batch_size:  # a tiny data set: one batch, filled up by repetition
            order = np.resize(order, self.batch_size)
        for step in range(len(self)):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield [int(item) for item in batch[self.rank :: self.world_size]]


class ShardSampler(Sampler[int]):
    """Items rank, rank + N, … without padding: every item is evaluated exactly once over all ranks."""

    def __init__(self, data: Sized, *, rank: int = 0, world_size: int = 1) -> None:
        self.data = data
        self.items = range(rank, len(data), world_size)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[int]:
        return iter(self.items)


class EpochDataModule(pl.LightningDataModule):
    """Builds its data sets anew for every epoch (use with ``reload_dataloaders_every_n_epochs=1``).

    Args:
        train: epoch -> training data set.
        val: epoch -> validation data set, or None.
        batch_size: items of one training step over all ranks.
        val_batch_size: items per validation step on each rank; None = items are passed on as they are (no batch axis).
        workers: loader processes per rank.
        seed: seed of the order.
    """

    def __init__(
        self,
        train: EpochDataset,
        val: EpochDataset | None = None,
        *,
        batch_size: int,
        val_batch_size: int | None = None,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self._train, self._val = train, val
        self.batch_size, self.val_batch_size, self.workers, self.seed = batch_size, val_batch_size, workers, seed

    def _place(self) -> tuple[int, int, int]:
        if self.trainer is None:
            return 0, 0, 1
        return self.trainer.current_epoch, self.trainer.global_rank, self.trainer.world_size

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the present epoch."""
        epoch, rank, world_size = self._place()
        data = self._train(epoch)
        length = len(cast(Sized, data))
        sampler = GlobalBatchSampler(
            length, self.batch_size, seed=self.seed, epoch=epoch, rank=rank, world_size=world_size
        )
        return DataLoader(data, batch_sampler=sampler, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the loader of this rank's share of the validation items."""
        if self._val is None:
            return []
        epoch, rank, world_size = self._place()
        data = self._val(epoch)
        shard = ShardSampler(cast(Sized, data), rank=rank, world_size=world_size)
        if len(shard.data) < world_size:
            raise DataError(
                f"Validation has {len(shard.data)} items for {world_size} processes, and each needs one at least. "
                "Use fewer trainer.devices or more validation videos."
            )
        return DataLoader(data, batch_size=self.val_batch_size, sampler=shard, num_workers=self.workers)


class WholeBatchSampler(Sampler[int]):
    """Deals items that are batches already out to the ranks: as many to each, every item at most once.

    Args:
        length: items in the data set; with fewer items than ranks, some are dealt out more than once.
        seed: with ``epoch``, decides the order.
        epoch: number of the epoch.
        rank: this process.
        world_size: number of processes; a step takes one item on each.
    """

    def __init__(self, length: int, *, seed: int = 0, epoch: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.steps = GlobalBatchSampler(length, world_size, seed=seed, epoch=epoch, rank=rank, world_size=world_size)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[int]:
        return (item for (item,) in self.steps)


class AheadLoader:
    """Shows every batch ``lag`` steps before its turn, so that labels can be made for it (callbacks/online_labels.py).

    Step k gives batch k as a new dict with one more key, ``"ahead"``: the list of batches seen for the first time,
    which are batches 0..lag at the first step, batch k + lag at each later one, and none during the last ``lag``.

    Args:
        loader: gives dicts; iterated anew in every epoch.
        lag: steps between the first sight of a batch and its turn, >= 0. ``lag + 1`` batches are held in memory.

    Raises:
        DataError: ``lag`` is negative.
    """

    def __init__(self, loader: DataLoader[Any], lag: int) -> None:
        if lag < 0:
            raise DataError(f"lag={lag}: labels cannot be made after their batch has had its turn. Use 0 or more.")
        self.loader, self.lag = loader, lag

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        batches = iter(self.loader)
        waiting: deque[dict[str, Any]] = deque()
        new = list(islice(batches, self.lag + 1))
        waiting.extend(new)
        while waiting:
            yield {**waiting.popleft(), "ahead": new}
            new = list(islice(batches, 1))
            waiting.extend(new)


class ShotDataModule(EpochDataModule):
    """Training data whose items are whole batches (see datamodules/shot_batches.py), shown ``lag`` steps ahead.

    Args:
        train: epoch -> data set of batches.
        val: epoch -> validation data set, or None.
        lag: see :class:`AheadLoader`.
        val_batch_size: as in :class:`EpochDataModule`.
        workers: loader processes per rank.
        seed: seed of the order.
    """

    def __init__(
        self,
        train: EpochDataset,
        val: EpochDataset | None = None,
        *,
        lag: int,
        val_batch_size: int | None = None,
        workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(train, val, batch_size=1, val_batch_size=val_batch_size, workers=workers, seed=seed)
        self.lag = lag

    def train_dataloader(self) -> Any:
        """Return the loader of the present epoch; a step takes one item on every rank."""
        epoch, rank, world_size = self._place()
        data = self._train(epoch)
        length = len(cast(Sized, data))
        sampler = WholeBatchSampler(length, seed=self.seed, epoch=epoch, rank=rank, world_size=world_size)
        return AheadLoader(DataLoader(data, batch_size=None, sampler=sampler, num_workers=self.workers), self.lag)
