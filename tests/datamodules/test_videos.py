from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.videos import VideosSource
from pseudolabel.types import DataError, LabelSpace, Tag
from tests.datamodules.fakes import write_clip, write_frames, write_mask_png, write_tags


def labels(*values: int, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    """A mask whose first pixels of the top row have these values."""
    mask = np.zeros(size, np.uint8)
    mask[0, : len(values)] = values
    return mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file in the root, one in ``videos`` and a folder of frames; sorted classes are bird 1, cat 2, dog 3."""
    write_clip(tmp_path / "rex.mp4")
    write_clip(tmp_path / "videos" / "tom.mp4")
    write_frames(tmp_path / "JPEGImages" / "240p" / "tweety", pattern="f{}.jpg")
    write_tags(
        tmp_path, [["rex", "dog", "running"], ["rex", "cat", ""], ["tom", "cat", "rolling"], ["tweety", "bird", ""]]
    )
    return tmp_path


def test_records_of_plain_classes(root: Path) -> None:
    source = VideosSource(root, actions=False)
    assert source.label_space.names == ("background", "bird", "cat", "dog") and not source.label_space.has_actions
    found = {record.name: (record.path.relative_to(root).as_posix(), record.tags) for record in source.records}
    assert found == {
        "rex": ("rex.mp4", (Tag("cat"), Tag("dog"))),
        "tom": ("videos/tom.mp4", (Tag("cat"),)),
        "tweety": ("JPEGImages/240p/tweety", (Tag("bird"),)),
    }
    assert source.skipped == [] and len(source.select("train")) == 3


def test_actions_make_pairs_when_there_are_any(root: Path) -> None:
    assert VideosSource(root).label_space.names == ("background", "bird-none", "cat-none", "cat-rolling", "dog-running")
    write_tags(root, [["rex", "dog"], ["tom", "cat"]], header=["video", "class"])
    assert VideosSource(root).label_space.names == ("background", "cat", "dog")


def test_masks_hold_class_ids(root: Path) -> None:
    write_mask_png(root / "masks/rex/00002.png", labels(2, 3, 255))
    write_mask_png(root / "masks/rex/00003.png", labels(3), palette=False)
    write_mask_png(root / "masks/tweety/f1.png", labels(1, 2, 255))
    source = VideosSource(root, actions=False)
    rex, tom, tweety = source.records
    assert (rex.annotated, tom.annotated, tweety.annotated) == ((2, 3), (), (1,))
    for record, index, expected in [(rex, 2, [2, 3, 255, 0]), (rex, 3, [3, 0, 0, 0]), (tweety, 1, [1, 2, 255, 0])]:
        mask = source.mask(record, index)
        assert mask is not None and mask.dtype == np.uint8 and mask.shape == (32, 32)
        assert mask[0, :4].tolist() == expected
    assert source.mask(rex, 0) is None and source.mask(tom, 0) is None


@pytest.mark.parametrize("value", [1, 255])
def test_binary_masks_of_one_tag(root: Path, value: int) -> None:
    write_mask_png(root / "Annotations/480p/tom/00000.png", labels(value, value))
    write_mask_png(root / "Annotations/480p/tom/00001.png", labels())
    source = VideosSource(root, actions=False)
    tom = source.records[1]
    first, second = source.mask(tom, 0), source.mask(tom, 1)
    assert first is not None and first[0, :3].tolist() == [2, 2, 0]
    assert second is not None and not second.any()


def test_one_frame_alone_does_not_make_masks_binary(root: Path) -> None:
    write_mask_png(root / "masks/tom/00000.png", labels(255))
    write_mask_png(root / "masks/tom/00001.png", labels(2))
    source = VideosSource(root, actions=False)
    void = source.mask(source.records[1], 0)
    assert void is not None and void[0, :2].tolist() == [255, 0]


def test_one_bit_masks(root: Path) -> None:
    (root / "masks/tom").mkdir(parents=True)
    Image.fromarray(labels(255)).convert("1").save(root / "masks/tom/00000.png")
    source = VideosSource(root, actions=False)
    mask = source.mask(source.records[1], 0)
    assert mask is not None and mask[0, :2].tolist() == [2, 0]


def test_binary_masks_of_two_tags_are_refused(root: Path) -> None:
    write_mask_png(root / "masks/rex/00000.png", labels(255))
    source = VideosSource(root, actions=False)
    with pytest.raises(DataError, match=r"has 2 tags.*which one is 255"):
        source.mask(source.records[0], 0)


def test_the_resolution_of_the_frames_wins(root: Path) -> None:
    write_mask_png(root / "Annotations/1080p/tweety/f0.png", labels(1, size=(64, 64)))
    write_mask_png(root / "Annotations/240p/tweety/f0.png", labels(1))
    source = VideosSource(root, actions=False)
    mask = source.mask(source.records[2], 0)
    assert mask is not None and mask.shape == (32, 32)


def test_bad_masks(root: Path) -> None:
    write_mask_png(root / "masks/rex/00000.png", labels(2, 7, 9))
    write_mask_png(root / "masks/rex/00001.png", labels(2, size=(16, 32)))
    Image.new("RGB", (32, 32)).save(root / "masks/rex/00002.png")
    write_mask_png(root / "masks/rex/4.png", labels(2))
    (root / "masks/rex/00003.png").write_bytes(b"")
    source = VideosSource(root, actions=False)
    rex = source.records[0]
    assert rex.annotated == (0, 1, 2)
    assert [Path(item).name for item, _ in source.skipped] == ["00003.png", "4.png"]
    for index, message in [
        (0, r"00000\.png has the unknown values 7, 9.*1 bird, 2 cat, 3 dog.*Save masks"),
        (1, r"00001\.png is 16x32.*32x32"),
        (2, r"00002\.png. holds colours"),
    ]:
        with pytest.raises(DataError, match=message):
            source.mask(rex, index)


def test_a_truncated_mask_is_named(root: Path) -> None:
    noisy = np.random.default_rng(0).integers(0, 4, (32, 32), np.uint8)
    file = write_mask_png(root / "masks/rex/00000.png", noisy)
    file.write_bytes(file.read_bytes()[:-100])
    source = VideosSource(root, actions=False)
    with pytest.raises(DataError, match=r"00000\.png. cannot be read"):
        source.mask(source.records[0], 0)


def test_broken_videos_are_listed_and_the_rest_goes_on(root: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    cut = write_clip(root / "cut.mp4", noise)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (root / "zero.mp4").write_bytes(b"")
    (root / "hollow").mkdir()
    write_clip(root / "untagged.mp4")
    write_frames(root / "GroundTruth" / "rex")
    write_tags(
        root, [[name, "dog", ""] for name in ("rex", "cut", "zero", "hollow", "absent", "unt-tagged", "tom", "tweety")]
    )
    source = VideosSource(root)
    assert [record.name for record in source.records] == ["rex", "tom", "tweety"]
    reasons = dict(source.skipped)
    assert reasons.keys() == {"cut", "zero", "hollow", "absent", "unt-tagged", "untagged"}
    assert "truncated" in reasons["cut"] and "0 bytes" in reasons["zero"] and "holds no frame" in reasons["hollow"]
    assert "did you mean 'untagged'" in reasons["unt-tagged"] and "no row" in reasons["untagged"]


def test_ids_do_not_move_when_a_video_breaks(root: Path) -> None:
    before = VideosSource(root).label_space
    (root / "videos/tom.mp4").unlink()
    assert VideosSource(root).label_space == before


def test_nothing_usable(root: Path) -> None:
    write_tags(root, [["absent", "dog", ""]])
    with pytest.raises(DataError, match=r"No usable video.*absent"):
        VideosSource(root)
    with pytest.raises(DataError, match="no such folder"):
        VideosSource(root / "nowhere")
    (root / "tags.csv").unlink()
    with pytest.raises(DataError, match=r"tags\.csv is missing"):
        VideosSource(root)


def test_known_classes(root: Path) -> None:
    assert len(VideosSource(root, classes=["dog", "cat", "bird", "horse"]).records) == 3
    with pytest.raises(DataError, match="unknown class 'bird'; did you mean 'birds'"):
        VideosSource(root, classes=["dog", "cat", "birds"])


def many(root: Path, per_class: int, *, split: str = "") -> Path:
    """Videos of two classes, all links to one."""
    first = write_clip(root / "dog0.mp4")
    names = [f"{kind}{number}" for kind in ("dog", "cat") for number in range(per_class)]
    for name in names[1:]:
        (root / f"{name}.mp4").hardlink_to(first)
    rows = [[name, name[:3], split if name == "dog0" else ""] for name in names]
    write_tags(root, rows, header=["video", "class", "split"])
    return root


def test_validation_needs_ten_videos_per_class(tmp_path: Path) -> None:
    source = VideosSource(many(tmp_path / "ten", 10))
    assert sorted(record.tags[0].actor for record in source.select("val")) == ["cat", "dog"]
    assert len(source.select("train")) == 18 and source.select("test") == []
    assert len(VideosSource(tmp_path / "ten", val_share=0.3).select("val")) == 6
    assert len(VideosSource(many(tmp_path / "nine", 9)).select("train")) == 18
    with pytest.raises(DataError, match="val_share"):
        VideosSource(tmp_path / "ten", val_share=1.0)


def test_a_given_split_is_kept(tmp_path: Path) -> None:
    source = VideosSource(many(tmp_path, 10, split="test"))
    assert [record.name for record in source.select("test")] == ["dog0"]
    assert len(source.select("train")) == 19 and source.select("val") == []


def test_only_some_classes_are_wanted(root: Path) -> None:
    write_mask_png(root / "masks/rex/00002.png", labels(2, 3, 255, 1))
    whole = VideosSource(root, actions=False)
    some = VideosSource(root, actions=False, label_space=LabelSpace((Tag("zebra"), Tag("dog"))))
    dogs = [record.name for record in whole.records if Tag("dog") in record.tags]
    assert [record.name for record in some.records] == dogs and all(r.tags == (Tag("dog"),) for r in some.records)
    assert {name for name, reason in some.skipped if "none of the classes" in reason} == {"tom", "tweety"}
    before, after = (source.mask(source.records[0], 2) for source in (whole, some))
    assert before is not None and after is not None
    dog = whole.label_space.index(Tag("dog"))
    expected = np.where(before == dog, 2, np.where(before == 255, 255, 0))  # ids of the file, read in the new order
    np.testing.assert_array_equal(after, expected)
