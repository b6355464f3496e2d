from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from datamodules.a2d import A2D_ACTIONS, A2D_ACTORS, A2D_VALID_IDS, A2DSource, a2d_label_space
from pseudolabel.types import DataError, Tag
from tests.datamodules.fakes import write_a2d, write_clip, write_mask_mat, write_tags

CAT_WALKING, DOG_RUNNING, BABY_CRAWLING = 68, 77, 22


def raw(*values: int, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    """A raw mask whose first pixels of the top row have these values."""
    mask = np.zeros(size, np.int64)
    mask[0, : len(values)] = values
    return mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    videos = {
        "cat0": ({1: raw(CAT_WALKING), 4: raw(0, CAT_WALKING)}, 0),
        "cat1": ({2: raw(CAT_WALKING)}, 0),
        "both": ({1: raw(CAT_WALKING), 3: raw(DOG_RUNNING)}, 1),
        "baby": ({1: raw(BABY_CRAWLING)}, 0),
    }
    return write_a2d(tmp_path, videos)


def test_the_label_space() -> None:
    space = a2d_label_space()
    assert len(A2D_VALID_IDS) == 43 and space.num_classes == 44
    assert len(A2D_ACTORS) == 7 and len(A2D_ACTIONS) == 9
    assert space.raw_ids[1:] == A2D_VALID_IDS == tuple(sorted(A2D_VALID_IDS))
    named = dict(zip(space.raw_ids, space.names, strict=True))
    assert (
        named[67] == "cat-running"
        and named[11] == "adult-climbing"
        and named[39] == "ball-none"
        and named[0] == "background"
    )
    assert len(space.actors) == 8 and len(space.actions) == 10


def test_a_subset_of_pairs_keeps_the_order_of_the_raw_ids() -> None:
    space = a2d_label_space(["dog-running", "cat-walking", "dog-running"])
    assert space.names == ("background", "cat-walking", "dog-running")
    assert space.raw_ids == (0, 68, 77)
    with pytest.raises(DataError, match=r"'cat-flying' is no valid.*did you mean 'car-flying'"):
        a2d_label_space(["cat-flying"])
    with pytest.raises(DataError, match="at least one class"):
        a2d_label_space([])


def test_records_from_the_masks(root: Path) -> None:
    source = A2DSource(root, val_videos=0)
    assert source.skipped == []
    by_name = {record.name: record for record in source.records}
    assert by_name["both"].tags == (Tag("cat", "walking"), Tag("dog", "running"))
    assert by_name["cat0"].annotated == (0, 3) and by_name["cat1"].annotated == (1,)
    assert {record.name for record in source.select("test")} == {"both"}
    assert len(source.select("train")) == 3


@pytest.mark.parametrize("layout", ["", "Release", "A2D_main_1_0/Release", "A2D/Release"])
def test_layouts(tmp_path: Path, layout: str) -> None:
    write_a2d(tmp_path / layout, {"cat0": ({1: raw(CAT_WALKING)}, 0)})
    assert A2DSource(tmp_path).records[0].path == tmp_path / layout / "clips320H" / "cat0.mp4"


def test_masks_are_transposed_and_translated(tmp_path: Path) -> None:
    mask = np.zeros((32, 48), np.int64)
    mask[5, 40] = CAT_WALKING
    mask[6, :5] = [62, 80, 300, DOG_RUNNING, 255]  # 62 (cat-crawling) is one of the 80 ids, but no valid pair
    source = A2DSource(write_a2d(tmp_path, {"cat0": ({1: mask}, 0)}, size=(32, 48)))
    labels = source.mask(source.records[0], 0)
    assert labels is not None and labels.shape == (32, 48) and labels.dtype == np.uint8
    expected = np.zeros((32, 48), np.uint8)
    expected[5, 40] = source.label_space.index(Tag("cat", "walking"))
    expected[6, :5] = [255, 255, 255, source.label_space.index(Tag("dog", "running")), 255]
    np.testing.assert_array_equal(labels, expected)
    assert source.mask(source.records[0], 1) is None


def test_pairs_restrict_classes_masks_and_videos(root: Path) -> None:
    source = A2DSource(root, pairs=["cat-walking"])
    assert sorted(record.name for record in source.records) == ["both", "cat0", "cat1"]
    both = next(record for record in source.records if record.name == "both")
    assert both.tags == (Tag("cat", "walking"),)
    cat, dog = source.mask(both, 0), source.mask(both, 2)
    assert cat is not None and cat[0, 0] == 1
    assert dog is not None and dog[0, 0] == 255 and dog[1, 1] == 0
    assert source.skipped == []
    with pytest.raises(DataError, match="no usable video"):
        A2DSource(root, pairs=["ball-flying"])


def test_tags_of_the_table_win(root: Path) -> None:
    table = [
        ["cat0", "cat", "eating"],
        ["cat1", "cat", "walking"],
        ["both", "dog", "running"],
        ["elsewhere", "cat", "none"],
    ]
    write_tags(root, table)
    source = A2DSource(root)
    tags = {record.name: [str(tag) for tag in record.tags] for record in source.records}
    assert tags == {"cat0": ["cat-eating"], "cat1": ["cat-walking"], "both": ["dog-running"]}
    assert source.records[0].annotated == (0, 3)
    assert [name for name, _ in source.skipped] == ["baby"]
    write_tags(root, [["cat0", "cat", "flying"]])
    with pytest.raises(DataError, match="Unknown class 'cat-flying'"):
        A2DSource(root)


def test_reading_writes_nothing(root: Path) -> None:
    before = sorted(root.rglob("*"))
    source = A2DSource(root)
    source.mask(source.records[0], 0)
    assert sorted(root.rglob("*")) == before


def test_changed_masks_are_seen(root: Path) -> None:
    A2DSource(root)
    write_mask_mat(root / "Annotations/mat/baby/00001.mat", raw(DOG_RUNNING, CAT_WALKING, BABY_CRAWLING))
    baby = next(record for record in A2DSource(root).records if record.name == "baby")
    assert len(baby.tags) == 3


def many(tmp_path: Path, count: int) -> Path:
    """Many videos by hard links: half cats, half dogs."""
    write_a2d(tmp_path, {"v0": ({1: raw(CAT_WALKING)}, 0)})
    lines = [f"v{number},68,0,1,32,32,4,1,0" for number in range(count)]
    (tmp_path / "videoset.csv").write_text("\n".join(lines) + "\n")
    for number in range(1, count):
        (tmp_path / f"clips320H/v{number}.mp4").hardlink_to(tmp_path / "clips320H/v0.mp4")
    write_tags(tmp_path, [[f"v{n}", *(("cat", "walking") if n % 2 else ("dog", "running"))] for n in range(count)])
    return tmp_path


def test_validation_split(tmp_path: Path) -> None:
    root = many(tmp_path, 60)
    val = A2DSource(root, val_videos=20).select("val")
    assert len(val) == 20 and sum(record.tags[0].actor == "cat" for record in val) == 10
    assert val == A2DSource(root, val_videos=20).select("val")
    assert val != A2DSource(root, val_videos=20, split_seed=1).select("val")
    # Fewer than 3 x 21 videos: 60 * 288 / 3036 = 5.7
    assert len(A2DSource(root, val_videos=21).select("val")) == 6


def test_a_tiny_set_has_a_validation_video(tmp_path: Path) -> None:
    videos = {"cat": ({1: raw(CAT_WALKING)}, 0), "dog": ({1: raw(DOG_RUNNING)}, 0)}
    source = A2DSource(write_a2d(tmp_path, videos))
    assert len(source.select("val")) == len(source.select("train")) == 1
    assert len(A2DSource(tmp_path, val_videos=0).select("train")) == 2
    assert len(A2DSource(tmp_path, pairs=["cat-walking"]).select("train")) == 1


def test_broken_items_are_listed_and_the_rest_goes_on(root: Path) -> None:
    (root / "clips320H/cat1.mp4").unlink()
    (root / "clips320H/baby.mp4").write_bytes(b"")
    masks = root / "Annotations/mat/cat0"
    (masks / "00004.mat").write_bytes(b"no HDF5")
    write_mask_mat(masks / "00002.mat", raw(CAT_WALKING), key="other")
    write_mask_mat(masks / "cover.mat", raw(CAT_WALKING))
    with h5py.File(masks / "00003.mat", "w") as content:
        content["reS_id"] = np.zeros(5)
    source = A2DSource(root)
    assert [record.name for record in source.records] == ["cat0", "both"]
    assert source.records[0].annotated == (0,)
    reasons = {Path(item).name: reason for item, reason in source.skipped}
    assert "not found" in reasons["cat1"] and "0 bytes" in reasons["baby"]
    assert "reS_id" in reasons["00002.mat"] and "no matrix" in reasons["00003.mat"]
    assert "no A2D mask" in reasons["00004.mat"] and "frame number" in reasons["cover.mat"]
    assert len(source.skipped) == 6
    assert source.mask(source.records[0], 3) is None


def test_videos_without_a_valid_label_and_repeated_lines(root: Path) -> None:
    write_mask_mat(root / "Annotations/mat/baby/00001.mat", raw(62))
    table = root / "videoset.csv"
    table.write_text(table.read_text() + table.read_text().splitlines()[0] + "\n\n")
    source = A2DSource(root)
    assert sorted(source.skipped) == [
        ("baby", "has no valid actor-action tag"),
        ("cat0", "is listed twice in videoset.csv; the first line counts"),
    ]
    assert len(source.records) == 3


def test_a_mask_of_another_size_and_a_mask_broken_later(root: Path) -> None:
    file = write_mask_mat(root / "Annotations/mat/cat0/00001.mat", raw(CAT_WALKING, size=(16, 32)))
    source = A2DSource(root)
    with pytest.raises(DataError, match=r"00001\.mat is 16x32.*32x32"):
        source.mask(source.records[0], 0)
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"00001\.mat is no A2D mask"):
        source.mask(source.records[0], 0)


def test_not_found_and_malformed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"A2D not found in `root=.*expected `videoset.csv`.*Either specify"):
        A2DSource(tmp_path)
    write_clip(tmp_path / "clips320H/v.mp4")
    for line in ("v,68,0,1,32,32,4,1", "v,68,0,1,32,32,4,1,2"):
        (tmp_path / "videoset.csv").write_text(line)
        with pytest.raises(DataError, match="line 1: expected 9 columns"):
            A2DSource(tmp_path)
    (tmp_path / "videoset.csv").write_text("v,68,0,1,32,32,4,1,0\n")
    with pytest.raises(DataError, match="no usable video"):
        A2DSource(tmp_path)


def test_plain_classes_project_tags_and_masks(tmp_path: Path) -> None:
    cat_rolling, dog_walking = 66, 78
    two = {1: raw(CAT_WALKING, cat_rolling, DOG_RUNNING, 62, dog_walking)}  # 62 is no valid pair
    other = {1: raw(BABY_CRAWLING)}
    root = write_a2d(tmp_path, {"two": (two, 0), "baby": (other, 0)})
    pairs = ["dog-running", "cat-walking", "cat-rolling"]
    source = A2DSource(root, val_videos=0, pairs=pairs, actions=False)
    assert source.label_space.names == ("background", "cat", "dog")
    assert [record.name for record in source.records] == ["two"]
    assert source.records[0].tags == (Tag("cat"), Tag("dog"))
    mask = source.mask(source.records[0], 0)
    assert mask is not None
    # dog-walking is a valid pair, but not one of `pairs`.
    assert mask[0, :6].tolist() == [1, 1, 2, 255, 255, 0]
