from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.datasets import TagFrames
from datamodules.loaders import (
    AheadLoader,
    EpochDataModule,
    GlobalBatchSampler,
    ShardSampler,
    ShotDataModule,
    WholeBatchSampler,
)
from pseudolabel.types import DataError
from tests.datamodules.test_datasets import LABELS
from tests.toys import Toy


class Numbers(Dataset[torch.Tensor]):
    """Item i of epoch e is 100 e + i."""

    def __init__(self, length: int, epoch: int) -> None:
        self.length, self.epoch = length, epoch

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> torch.Tensor:
        return torch.tensor(100 * self.epoch + item)


def module(length: int, *, epoch: int = 0, rank: int = 0, world_size: int = 1, **options: object) -> EpochDataModule:
    data = EpochDataModule(lambda e: Numbers(length, e), lambda e: Numbers(length, e), batch_size=4, **options)  # type: ignore[arg-type]
    data.trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank, world_size=world_size)  # type: ignore[assignment]
    return data


def test_two_ranks_get_the_batches_of_one() -> None:
    for epoch in range(3):
        whole = list(GlobalBatchSampler(22, 4, seed=5, epoch=epoch))
        parts = [list(GlobalBatchSampler(22, 4, seed=5, epoch=epoch, rank=rank, world_size=2)) for rank in (0, 1)]
        assert len(whole) == len(parts[0]) == len(parts[1]) == 5
        for batch, *shares in zip(whole, *parts, strict=True):
            assert [len(share) for share in shares] == [2, 2]
            assert sorted(batch) == sorted(shares[0] + shares[1])


def test_two_ranks_see_the_crops_of_one(shared_toy: Toy) -> None:
    def images(rank: int, world_size: int) -> set[bytes]:
        data = EpochDataModule(
            lambda epoch: TagFrames(shared_toy.cache, shared_toy.records, LABELS, size=16, epoch=epoch), batch_size=4
        )
        place = SimpleNamespace(current_epoch=2, global_rank=rank, world_size=world_size)
        data.trainer = place  # type: ignore[assignment]
        return {image.numpy().tobytes() for batch in data.train_dataloader() for image in batch["image"]}

    one, first, second = images(0, 1), images(0, 2), images(1, 2)
    assert len(one) == 24 and len(first) == len(second) == 12
    assert one == first | second


def test_an_epoch_meets_every_item_once_in_another_order() -> None:
    orders = [[item for batch in GlobalBatchSampler(12, 4, epoch=epoch) for item in batch] for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(12))
    assert orders[0] != orders[1]
    assert list(GlobalBatchSampler(12, 4, seed=1)) != list(GlobalBatchSampler(12, 4, seed=2))


def test_a_tiny_data_set_fills_one_batch() -> None:
    (batch,) = GlobalBatchSampler(3, 8)
    assert len(batch) == 8 and set(batch) == {0, 1, 2}
    assert len(GlobalBatchSampler(3, 8)) == 1
    assert list(GlobalBatchSampler(0, 8)) == []


def test_a_batch_size_that_ranks_cannot_share_is_refused() -> None:
    with pytest.raises(DataError, match=r"batch_size=10 .* Use batch_size=12"):
        GlobalBatchSampler(100, 10, world_size=4)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_shards_cover_every_item_once(world_size: int) -> None:
    shards = [list(ShardSampler(range(7), rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert sorted(item for shard in shards for item in shard) == list(range(7))
    assert [len(ShardSampler(range(7), rank=rank, world_size=world_size)) for rank in range(world_size)] == [
        len(shard) for shard in shards
    ]


def test_loaders_belong_to_the_present_epoch_and_rank() -> None:
    batches = [batch.tolist() for batch in module(9, epoch=3).train_dataloader()]
    assert len(batches) == 2 and all(300 <= value < 309 for batch in batches for value in batch)
    assert [value.tolist() for value in module(5, epoch=2, rank=1, world_size=2).val_dataloader()] == [201, 203]
    assert [v.tolist() for v in module(5, val_batch_size=2).val_dataloader()] == [[0, 1], [2, 3], [4]]


def test_workers_change_nothing() -> None:
    alone, helped = ([batch.tolist() for batch in module(9, workers=workers).train_dataloader()] for workers in (0, 2))
    assert alone == helped


def test_without_validation_data_there_is_no_loader() -> None:
    assert EpochDataModule(lambda epoch: Numbers(4, epoch), batch_size=2).val_dataloader() == []


def test_more_processes_than_validation_items_are_refused() -> None:
    assert len(list(module(2, rank=1, world_size=2).val_dataloader())) == 1
    with pytest.raises(DataError, match=r"1 items for 2 processes.*trainer\.devices"):
        module(1, world_size=2).val_dataloader()


# --- batches that are items


class Named(Dataset[dict[str, int]]):
    """Item i of epoch e is {"number": 100 e + i}."""

    def __init__(self, length: int, epoch: int = 0) -> None:
        self.length, self.epoch = length, epoch

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> dict[str, int]:
        return {"number": 100 * self.epoch + item}


def ahead_of(length: int, lag: int, *, workers: int = 0) -> list[tuple[int, list[int]]]:
    loader = AheadLoader(DataLoader(Named(length), batch_size=None, num_workers=workers), lag)
    assert len(loader) == length
    once, again = ([(batch["number"], [b["number"] for b in batch["ahead"]]) for batch in loader] for _ in range(2))
    assert once == again
    return once


def test_batches_are_shown_ahead() -> None:
    assert ahead_of(4, 0) == [(0, [0]), (1, [1]), (2, [2]), (3, [3])]
    assert ahead_of(5, 2) == [(0, [0, 1, 2]), (1, [3]), (2, [4]), (3, []), (4, [])]
    assert ahead_of(2, 5) == [(0, [0, 1]), (1, [])]
    assert ahead_of(0, 2) == []
    assert ahead_of(5, 2, workers=2) == ahead_of(5, 2)
    with pytest.raises(DataError, match="lag=-1"):
        AheadLoader(DataLoader(Named(1)), -1)


def test_what_is_shown_ahead_is_not_what_is_changed_in_its_turn() -> None:
    loader = AheadLoader(DataLoader(Named(3), batch_size=None), 1)
    for batch in loader:
        batch["labels"] = 1
        assert all("labels" not in other and "ahead" not in other for other in batch["ahead"])


@pytest.mark.parametrize(("length", "world_size"), [(7, 1), (7, 2), (9, 3), (2, 3)])
def test_whole_batches_are_dealt_evenly(length: int, world_size: int) -> None:
    shares = [
        list(WholeBatchSampler(length, seed=1, epoch=4, rank=rank, world_size=world_size)) for rank in range(world_size)
    ]
    assert {len(share) for share in shares} == {max(1, length // world_size)}
    dealt = [item for share in shares for item in share]
    assert set(dealt) <= set(range(length))
    assert len(set(dealt)) == min(length, len(dealt))


def test_the_shots_of_an_epoch() -> None:
    def batches(epoch: int) -> list[int]:
        data = ShotDataModule(lambda e: Named(6, e), lag=2, seed=3)
        data.trainer = SimpleNamespace(current_epoch=epoch, global_rank=0, world_size=1)  # type: ignore[assignment]
        found = list(data.train_dataloader())
        assert [len(batch["ahead"]) for batch in found] == [3, 1, 1, 1, 0, 0]
        return [batch["number"] for batch in found]

    assert sorted(batches(1)) == list(range(100, 106)) and sorted(batches(2)) == list(range(200, 206))
    assert [number - 100 for number in batches(1)] != [number - 200 for number in batches(2)]
