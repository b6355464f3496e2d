from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.attention_batches import AttentionFrames, AttentionItem
from pseudolabel.types import VOID, DataError

SIZE = (20, 30)


def frame(number: int) -> np.ndarray:
    """Every pixel says where it is; the blue channel which image it belongs to."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([rows, columns, np.full(SIZE, number)], axis=-1).astype(np.uint8)


def mask(number: int) -> np.ndarray:
    """The class has the right half; the first row is void."""
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 15:] = 1
    labels[0] = VOID
    return labels


def attention(number: int) -> np.ndarray:
    return np.broadcast_to(np.arange(SIZE[1], dtype=np.float32) / 29, SIZE)


def item(number: int, **changes: Any) -> AttentionItem:
    whole = AttentionItem(partial(frame, number), 1 + number, partial(mask, number), name=f"clip{number}/00001")
    return replace(whole, **changes)


def data(items: list[AttentionItem] | None = None, **options: Any) -> AttentionFrames:
    return AttentionFrames([item(0), item(1), item(2)] if items is None else items, **{"crop": 12, **options})


def test_a_sample_is_cut_out_of_image_mask_and_attention_alike() -> None:
    mirrored = set()
    for epoch in range(20):
        sample = data([item(2, attention=partial(attention, 2), weight=0.5)], epoch=epoch)[0]
        image, labels = sample["image"].numpy(), sample["labels"].numpy()
        assert image.shape == (3, 12, 12) and image.dtype == np.uint8
        assert labels.shape == (12, 12) and labels.dtype == np.int64
        rows, columns = image[0].astype(int), image[1].astype(int)
        assert np.array_equal(labels, mask(2)[rows, columns])
        assert sample["attention"].shape == (1, 12, 12)
        np.testing.assert_allclose(sample["attention"][0], columns / 29, atol=1e-6)
        assert int(sample["target"]) == 3 and float(sample["weight"]) == 0.5 and (image[2] == 2).all()
        mirrored.add(bool(columns[0, 0] > columns[0, -1]))
    assert mirrored == {True, False}
    assert not any(data(mirror=False, epoch=epoch)[0]["image"][1, 0].diff().lt(0).any() for epoch in range(8))


def test_scaling_mixes_no_labels_and_padding_is_void() -> None:
    for epoch in range(8):
        sample = data(scales=(0.3, 0.8), crop=24, epoch=epoch)[1]
        labels = sample["labels"].numpy()
        assert set(np.unique(labels)) == {0, 1, VOID}
        assert (labels[20 * 8 // 10 :] == VOID).all()
        assert (labels != VOID).sum() > 20


def test_an_item_without_a_mask_is_void_everywhere() -> None:
    sample = data([item(0, mask=None)])[0]
    assert (sample["labels"] == VOID).all() and sample["image"].shape == (3, 12, 12)


def test_tags_are_all_classes_of_the_image() -> None:
    samples = data([item(0), item(1, tags=(2, 4))], num_classes=5)
    assert samples[0]["tags"].tolist() == [1, 0, 0, 0]
    assert samples[1]["tags"].tolist() == [0, 1, 0, 1]
    assert "tags" not in data()[0]


def test_whole_images_to_judge_by() -> None:
    one, other = (data(train=False, epoch=epoch, jitter=0.5)[0] for epoch in (0, 1))
    assert torch.equal(one["image"], other["image"])
    labels = one["labels"].numpy()
    assert labels.shape == (12, 12) and (labels[2:, :6] == 0).all() and (labels[2:, 6:] == 1).all()


def test_jitter_leaves_the_labels_alone() -> None:
    plain, jittered = (data(jitter=jitter)[0] for jitter in (0.0, 0.5))
    assert torch.equal(plain["labels"], jittered["labels"])
    assert not torch.equal(plain["image"], jittered["image"])


def test_chance_depends_on_seed_epoch_and_item_alone_in_workers_too() -> None:
    def batches(workers: int = 0, **options: Any) -> list[torch.Tensor]:
        loader = DataLoader(data(jitter=0.3, scales=(0.5, 1.5), **options), batch_size=2, num_workers=workers)
        return [batch["image"] for batch in loader]

    here = batches(seed=1, epoch=2)
    assert [len(images) for images in here] == [2, 1]
    for others, same in ((batches(2, seed=1, epoch=2), True), (batches(seed=1, epoch=3), False)):
        assert all(torch.equal(*pair) for pair in zip(here, others, strict=True)) is same
    assert not torch.equal(here[0], batches(seed=2, epoch=2)[0])


def test_it_travels_to_spawned_workers() -> None:
    twin = pickle.loads(pickle.dumps(data()))
    assert torch.equal(twin[1]["image"], data()[1]["image"])


def wrong(values: Any) -> Callable[[], Any]:
    return lambda: np.asarray(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": wrong(np.zeros((10, 30), np.uint8))}, r"'clip0/00001': its mask has shape \(10, 30\), its frame"),
        ({"mask": wrong(np.full(SIZE, 7, np.uint8))}, r"Mask of item 'clip0/00001' holds the values \[7\]"),
        ({"mask": wrong(np.full(SIZE, 300))}, r"holds the values \[300\]"),
        ({"attention": wrong(np.zeros((5, 5), np.float32))}, r"its attention has shape \(5, 5\), its frame"),
    ],
)
def test_what_does_not_fit_is_named(changes: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        data([item(0, **changes)])[0]


def test_wrong_items_are_refused_at_once() -> None:
    with pytest.raises(DataError, match="1 of 2 items bring their attention"):
        data([item(0), item(1, attention=partial(attention, 1))])
    with pytest.raises(DataError, match=r"'clip2/00001' has class id 3, expected an object class, 1\.\.2"):
        data(num_classes=3)
    with pytest.raises(DataError, match="class id 0, expected an object class, 1"):
        data([item(0, target=0)])
