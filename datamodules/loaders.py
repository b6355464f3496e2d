"""Data modules whose loaders are rebuilt every epoch, and samplers that give N ranks what one rank would get."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
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
