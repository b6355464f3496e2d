from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from datamodules.datasets import PseudoFrames, PseudoVideos, TagClips, TagFrames, to_channels_first
from datamodules.frame_cache import FrameCache
from datamodules.records import VideoRecord
from pseudolabel.types import Annotation, Tag
from tests.datamodules.fakes import grey_frames, write_frames
from tests.toys import Toy

LABELS = np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 0, 1]]


def frames_of(toy: Toy, **options: object) -> TagFrames:
    return TagFrames(toy.cache, toy.records, LABELS, size=16, **options)  # type: ignore[arg-type]


def test_to_channels_first() -> None:
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    tensor = to_channels_first(images)
    assert tensor.shape == (2, 3, 4, 5) and tensor.dtype == torch.uint8
    assert tensor[1, 2, 3, 4] == images[1, 3, 4, 2]


def test_tag_frames_carry_the_label_of_their_video(shared_toy: Toy) -> None:
    data = frames_of(shared_toy)
    assert len(data) == 24
    for item in (0, 5, 23):
        sample = data[item]
        assert sample["image"].shape == (3, 16, 16) and sample["image"].dtype == torch.uint8
        assert sample["label"].tolist() == LABELS[item // 4].tolist()


def test_a_crop_depends_on_seed_epoch_and_item_alone(shared_toy: Toy) -> None:
    data = frames_of(shared_toy, epoch=3, seed=1)
    first = data[7]["image"]
    for item in (0, 9, 2):  # what was drawn before does not matter
        _ = data[item]
    assert torch.equal(data[7]["image"], first)
    assert torch.equal(frames_of(shared_toy, epoch=3, seed=1)[7]["image"], first)
    assert not torch.equal(frames_of(shared_toy, epoch=4, seed=1)[7]["image"], first)
    assert not torch.equal(frames_of(shared_toy, epoch=3, seed=2)[7]["image"], first)


def test_tag_frames_for_validation_are_whole(shared_toy: Toy) -> None:
    data = TagFrames(shared_toy.cache, shared_toy.records, LABELS, size=48, train=False, positions=lambda record: [2])
    assert len(data) == 6
    image = data[1]["image"]
    frame = shared_toy.cache.frames(shared_toy.records[1])[2]  # 32 x 48: its width is kept
    assert abs(float(image.float().mean()) - float(frame.mean())) < 2
    assert torch.equal(image, frames_like(data, 1))


def frames_like(data: TagFrames, item: int) -> torch.Tensor:
    """The same item of another epoch: validation does not depend on it."""
    other = TagFrames(
        data.cache, data.records, data.labels, size=data.size, train=False, positions=lambda record: [2], epoch=9
    )
    return other[item]["image"]


def numbered_clip(tmp_path: Path, count: int, cached: int | None) -> tuple[FrameCache, VideoRecord]:
    record = VideoRecord("cat", write_frames(tmp_path / "cat", grey_frames(count)), (Tag("cat"),), "train")
    return FrameCache(tmp_path / "cache", frames_per_video=cached), record


def numbers(clip: torch.Tensor) -> list[int]:
    return [round((float(frame) - 20) / 20) for frame in clip.float().mean(dim=(0, 2, 3))]


def test_a_clip_for_validation_is_the_middle_one(tmp_path: Path) -> None:
    cache, record = numbered_clip(tmp_path, 10, cached=2)
    data = TagClips(cache, [record], LABELS[:1], size=8, length=4, train=False)
    sample = data[0]
    assert sample["clip"].shape == (3, 4, 8, 8) and sample["clip"].dtype == torch.uint8
    assert numbers(sample["clip"]) == [3, 4, 5, 6]
    strided = TagClips(cache, [record], LABELS[:1], size=8, length=4, stride=3, train=False)
    assert numbers(strided[0]["clip"]) == [0, 3, 6, 9]


def test_clips_start_anywhere_and_short_videos_are_looped(tmp_path: Path) -> None:
    cache, record = numbered_clip(tmp_path, 10, cached=None)
    starts = set()
    for epoch in range(30):
        data = TagClips(cache, [record], LABELS[:1], size=8, length=4, epoch=epoch, jitter=0.0)
        found = numbers(data[0]["clip"])
        assert found == list(range(found[0], found[0] + 4))
        starts.add(found[0])
    assert starts == set(range(7))
    looped = TagClips(cache, [record], LABELS[:1], size=8, length=13, jitter=0.0)
    assert numbers(looped[0]["clip"]) == [*range(10), 0, 1, 2]


def test_clips_are_repeated_with_other_crops(shared_toy: Toy) -> None:
    data = TagClips(shared_toy.cache, shared_toy.records, LABELS, size=16, length=2, repeat=2)
    assert len(data) == 12
    assert data[1]["label"].tolist() == data[7]["label"].tolist() == [0, 1]
    assert not torch.equal(data[1]["clip"], data[7]["clip"])


def pseudo_frames(toy: Toy, version: int, **options: object) -> PseudoFrames:
    rows = toy.store.index(version)
    return PseudoFrames(toy.cache, toy.by_name, toy.store, version, rows, crop=16, **options)  # type: ignore[arg-type]


def test_only_selected_frames_train_with_their_weight(toy: Toy) -> None:
    rows = toy.store.index(0)
    for number, row in enumerate(rows):
        row.selected, row.weight = number in (2, 5), 0.25 * number
    rows[7].selected, rows[7].weight = True, 0.0
    toy.store.update_index(0, rows)
    data = pseudo_frames(toy, 0)
    assert [(row.video, row.frame) for row in data.rows] == [("green1", 2), ("green3", 1)]
    assert [float(data[item]["weight"]) for item in range(2)] == [0.5, 1.25]


def test_pseudo_frames_show_the_version_that_is_asked_for(toy: Toy) -> None:
    toy.store.begin(1)
    for record in toy.records:
        clip = toy.clip(record.name)
        toy.store.write(1, clip, Annotation(np.full(clip.frames.shape[:3], 2, np.uint8), np.ones(4, np.float32)))
    toy.store.publish(1)
    old, new = pseudo_frames(toy, 0)[3], pseudo_frames(toy, 1)[3]
    assert torch.equal(old["image"], new["image"])
    assert set(new["labels"].unique().tolist()) == {2}
    assert old["labels"].dtype == torch.long and 0 in old["labels"]


def test_labels_lie_on_their_object(shared_toy: Toy) -> None:
    for epoch in range(5):
        data = pseudo_frames(shared_toy, 0, epoch=epoch)
        for item in range(len(data)):
            sample = data[item]
            bright = sample["image"].float().max(dim=0).values > 150
            assert bool((bright | (sample["labels"] == 0)).all())


def test_void_teaches_what_it_is_told_to(toy: Toy) -> None:
    toy.store.begin(1)
    for record in toy.records:
        clip = toy.clip(record.name)
        labels = np.full(clip.frames.shape[:3], 2, np.uint8)
        labels[:, :, 10:20] = 255
        toy.store.write(1, clip, Annotation(labels, np.ones(4, np.float32)))
    toy.store.publish(1)
    for void_as in (255, 0):
        frames = pseudo_frames(toy, 1, void_as=void_as)
        assert {int(label) for item in range(len(frames)) for label in frames[item]["labels"].unique()} == {2, void_as}
    videos = PseudoVideos(toy.cache, toy.by_name, toy.store, 1, toy.rows(1, ["red0"]), superpixels=20, compactness=10.0)
    assert bool((videos[0]["labels"][:, :, 10:20] == 255).all()), "void never counts"
    assert int((videos[0]["labels"] == 2).sum()) == 4 * 32 * 38


def test_pseudo_videos_hold_whole_frames(shared_toy: Toy) -> None:
    names = ["red0", "green3"]
    rows = [row for row in shared_toy.rows(0, names) if row.frame != 1]
    data = PseudoVideos(
        shared_toy.cache, shared_toy.by_name, shared_toy.store, 0, rows, superpixels=20, compactness=10.0
    )
    assert len(data) == 2 and data.names == ["green3", "red0"]
    sample = data[1]
    frames = np.array(shared_toy.cache.frames(shared_toy.by_name["red0"]))[[0, 2, 3]]
    assert torch.equal(sample["frames"], to_channels_first(frames))
    assert torch.equal(sample["labels"][1], torch.from_numpy(shared_toy.store.read(0, "red0", 2)))
    assert sample["superpixels"].shape == (3, 32, 48)
    assert int(sample["superpixels"].max()) > 5
