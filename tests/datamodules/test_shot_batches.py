from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.shot_batches import ImageBatches, MixedBatches, Placement, ShotBatches
from datamodules.shot_store import ShotRecord, ShotStore
from datamodules.transforms import CropBox, crop_and_pad
from pseudolabel.types import VOID, DataError, LabelSpace, Tag

SPACE = LabelSpace((Tag("cat"), Tag("dog")))
HEIGHT, WIDTH, FRAMES = 20, 30, 4


def coded(number: int) -> np.ndarray:
    """Frames whose red is the column, green the row and blue the frame and the shot."""
    frames = np.zeros((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    frames[..., 0] = np.arange(WIDTH)
    frames[..., 1] = np.arange(HEIGHT)[:, None]
    frames[..., 2] = 10 * number + np.arange(FRAMES)[:, None, None]
    return frames


@pytest.fixture
def store(tmp_path: Path) -> ShotStore:
    store = ShotStore(tmp_path)
    for number in range(3):
        shot = ShotRecord("video", number, 0, 40, (SPACE.tags[number % 2],))
        frames = coded(number)
        store.write(shot, frames, np.arange(FRAMES), frames[..., 0] / np.float32(WIDTH - 1))
    store.mark_done("video")
    return store


def shots(store: ShotStore, **options: Any) -> ShotBatches:
    return ShotBatches(store, store.records(), SPACE, **{"crop": 12, **options})


def test_a_shot_is_one_batch_with_one_crop(store: ShotStore) -> None:
    mirrored = set()
    for epoch in range(8):
        batch = shots(store, epoch=epoch)[1]
        image = batch["image"].numpy()
        assert image.shape == (FRAMES, 3, 12, 12) and image.dtype == np.uint8
        assert image[:, 2, 0, 0].tolist() == [10, 11, 12, 13]
        assert (image[:, :2] == image[:1, :2]).all()  # the same place in every frame
        left = image[0, 0, 0].astype(int)
        assert np.abs(np.diff(left)).tolist() == [1] * 11
        mirrored.add(bool(left[0] > left[-1]))
        motion = batch["motion"].numpy()
        assert motion.dtype == np.float32 and batch["valid"].all()
        np.testing.assert_allclose(motion, image[:, 0] / (WIDTH - 1), atol=1 / 255)
    assert mirrored == {False, True}


def test_the_other_entries(store: ShotStore) -> None:
    batch = shots(store)[1]
    assert batch["allowed"].tolist() == [[True, False, True]] * FRAMES
    assert batch["weight"].tolist() == [1.0] * FRAMES and batch["weight"].dtype == torch.float32
    assert (batch["kind"], batch["name"]) == ("shot", "video-shot001")
    assert batch["valid"].dtype == torch.bool and batch["valid"].shape == (FRAMES, 12, 12)


def test_motion_stays_within_its_range(tmp_path: Path) -> None:
    """Areas of a mask of ones, averaged, come to a little more than 1 at some scales."""
    store, size = ShotStore(tmp_path), (63, 79)
    frames, ones = np.zeros((1, *size, 3), np.uint8), np.ones((1, *size), np.float32)
    store.write(ShotRecord("full", 0, 0, 1, SPACE.tags[:1]), frames, np.arange(1), ones)
    store.mark_done("full")
    shrunk = Placement((34, 43), CropBox(0, 0, 34, 43), mirrored=False).apply(ones)
    assert shrunk.max() > 1
    for epoch in range(10):
        assert shots(store, crop=30, scales=(0.54, 0.55), epoch=epoch)[0]["motion"].max() <= 1


def test_small_frames_are_padded_and_not_valid(store: ShotStore) -> None:
    for epoch in range(6):
        batch = shots(store, crop=25, epoch=epoch)[0]
        image, valid, motion = (batch[key].numpy() for key in ("image", "valid", "motion"))
        assert valid[:, :HEIGHT].all() and not valid[:, HEIGHT:].any()  # 30 columns are enough for 25
        assert (image[:, 1, HEIGHT:] == HEIGHT - 1).all()  # the last row repeated
        assert (motion[:, HEIGHT:] == 0).all() and motion[:, :HEIGHT].max() > 0.5
    wide = shots(store, crop=40, epoch=0)[0]["valid"].numpy()
    assert wide.sum() == FRAMES * HEIGHT * WIDTH
    assert {bool(shots(store, crop=40, epoch=epoch)[0]["valid"][0, 0, 0]) for epoch in range(8)} == {False, True}


def test_a_placement_is_what_crop_and_pad_does() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    for seed in range(20):
        for crop, scales in ((12, (1.0, 1.0)), (28, (0.5, 1.5))):
            rngs = (np.random.default_rng(seed) for _ in range(2))
            image, labels = crop_and_pad(frame, np.zeros((20, 30), np.uint8), crop, next(rngs), scales=scales)
            place = Placement.draw((20, 30), next(rngs), crop=crop, scales=scales, mirror=True)
            assert np.array_equal(place.apply(frame[None])[0], image)
            assert np.array_equal(place.valid(), labels != VOID)


def test_scales_and_jitter_are_those_of_the_whole_shot(store: ShotStore) -> None:
    steps = set()
    for epoch in range(5):
        image = shots(store, scales=(2.0, 3.0), mirror=False, epoch=epoch)[0]["image"].numpy().astype(int)
        assert (image[:, :2] == image[:1, :2]).all()
        steps.add(int(image[0, 0, 0, -1] - image[0, 0, 0, 0]))
    assert max(steps) <= 6  # 12 pixels at twice the size or more
    plain, jittered = (shots(store, jitter=jitter)[0]["image"].numpy() for jitter in (0.0, 0.5))
    assert not np.array_equal(plain, jittered)
    assert (jittered[:, :2] == jittered[:1, :2]).all()


def test_chance_depends_on_seed_epoch_and_item_alone(store: ShotStore) -> None:
    def images(**options: Any) -> list[bytes]:
        workers = options.pop("workers", 0)
        loader = DataLoader(
            shots(store, jitter=0.3, scales=(0.5, 2.0), **options), batch_size=None, num_workers=workers
        )
        return [batch["image"].numpy().tobytes() for batch in loader]

    assert images(seed=1, epoch=2) == images(seed=1, epoch=2) == images(seed=1, epoch=2, workers=2)
    assert images(seed=1, epoch=2) != images(seed=1, epoch=3)
    assert images(seed=1, epoch=2) != images(seed=2, epoch=2)


# --- still images

STILLS = [np.full((10 + number, 14, 3), number, np.uint8) for number in range(7)]
ALLOWED = np.array([SPACE.allowed([SPACE.tags[number % 2]]) for number in range(7)])


def stills(**options: Any) -> ImageBatches:
    return ImageBatches(STILLS, ALLOWED, **{"batch_size": 3, "crop": 12, **options})


def test_every_image_once_an_epoch_in_another_order() -> None:
    orders = []
    for epoch in range(3):
        data = stills(epoch=epoch)
        assert len(data) == 3
        orders.append([int(image[0, 0, 0]) for item in range(3) for image in data[item]["image"]])
        assert sorted(orders[-1]) == list(range(7))
    assert orders[0] != orders[1] != orders[2]
    with pytest.raises(IndexError):
        stills()[3]


def test_images_keep_their_own_tags_and_padding() -> None:
    for item in range(3):
        batch = stills(epoch=1)[item]
        assert batch["kind"] == "image" and "motion" not in batch
        assert batch["image"].shape == (len(batch["weight"]), 3, 12, 12)
        for image, allowed, valid in zip(batch["image"], batch["allowed"], batch["valid"], strict=True):
            number = int(image[0, 0, 0])
            assert allowed.tolist() == ALLOWED[number].tolist()
            assert int(valid.sum()) == 12 * min(12, 10 + number)
            assert str(number) in batch["name"]


def test_images_may_be_loaded_when_they_are_needed() -> None:
    loaded: list[int] = []

    def loader(number: int) -> Any:
        def load() -> np.ndarray:
            loaded.append(number)
            return STILLS[number]

        return load

    lazy = ImageBatches([loader(number) for number in range(7)], ALLOWED, batch_size=3, crop=12)
    assert loaded == []
    assert torch.equal(lazy[1]["image"], stills()[1]["image"])
    assert len(loaded) == 3
    with pytest.raises(DataError, match="7 images but tags of 6"):
        ImageBatches(STILLS, ALLOWED[:6], crop=12)


def test_each_image_has_a_crop_of_its_own() -> None:
    ramp = np.repeat(np.arange(60, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(20, axis=0)
    data = ImageBatches([ramp] * 6, np.ones((6, 3), bool), batch_size=6, crop=12)
    corners = data[0]["image"][:, 0, 0, [0, -1]]
    assert len({tuple(corner) for corner in corners.tolist()}) > 3
    assert len({bool(first > last) for first, last in corners.tolist()}) == 2


def test_mixed_batches_are_all_batches_evenly_dealt(store: ShotStore) -> None:
    first, second = shots(store), stills()
    mixed = MixedBatches([first, stills(batch_size=1), second])
    assert len(mixed) == 3 + 7 + 3
    kinds = [mixed[item]["kind"] for item in range(13)]
    assert kinds.count("shot") == 3
    assert [index // 5 for index, kind in enumerate(kinds) if kind == "shot"] == [0, 1, 2]
    names = sorted(mixed[item]["name"] for item in range(13))
    assert names == sorted(part[item]["name"] for part in mixed.parts for item in range(len(part)))
