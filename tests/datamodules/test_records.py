from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from datamodules.records import TagRow, VideoRecord, VideoSource, read_tags, stratified_split
from pseudolabel.types import DataError, LabelSpace, Tag, UInt8Array
from tests.datamodules.fakes import write_clip, write_table, write_tags

DOG, CAT, BIRD = Tag("dog"), Tag("cat"), Tag("bird")


class Flat(VideoSource):
    """Every frame is background, in a mask of a given shape."""

    def __init__(self, records: list[VideoRecord], shape: tuple[int, int] = (32, 32)) -> None:
        super().__init__(LabelSpace.from_tags([DOG]))
        self.records, self.shape = records, shape

    def mask(self, record: VideoRecord, index: int) -> UInt8Array | None:
        self.check_mask_size(record, self.shape, Path("masks/00000.png"))
        return np.zeros(self.shape, np.uint8)


def test_select_keeps_the_order() -> None:
    records = [
        VideoRecord(name, Path(name), (DOG,), split) for name, split in [("b", "val"), ("c", "train"), ("a", "val")]
    ]
    source = Flat(records)
    assert [record.name for record in source.select("val")] == ["b", "a"]
    assert source.select("test") == []
    with pytest.raises(DataError, match="Unknown split 'tran'; did you mean 'train'"):
        source.select("tran")


def test_mask_size_names_both_sizes_and_the_file(tmp_path: Path) -> None:
    record = VideoRecord("v", write_clip(tmp_path / "v.mp4"), (DOG,), "test")
    assert Flat([record]).mask(record, 0) is not None
    with pytest.raises(DataError, match=r"00000\.png is 16x32 .* are 32x32"):
        Flat([record], (16, 32)).mask(record, 0)


def test_each_tag_set_gives_its_share() -> None:
    videos = [(DOG,)] * 40 + [(CAT,)] * 20 + [(DOG, CAT)] * 10 + [(CAT, DOG)] * 10 + [(BIRD,)]
    chosen = stratified_split(videos, 16, 0)
    assert Counter(tuple(sorted(videos[index])) for index in chosen) == {(DOG,): 8, (CAT,): 4, (CAT, DOG): 4}
    assert chosen == sorted(set(chosen))


def test_shares_are_rounded_to_the_count() -> None:
    videos = [(DOG,)] * 5 + [(CAT,)] * 5 + [(BIRD,)] * 5
    for count in range(13):
        per_class = Counter(videos[index] for index in stratified_split(videos, count, 3))
        assert sum(per_class.values()) == count
        assert all(abs(per_class[(tag,)] - count / 3) < 1 for tag in (DOG, CAT, BIRD))


def test_one_of_each_group_stays() -> None:
    videos = [(DOG,), (CAT,), (CAT,), (BIRD,), (BIRD,), (BIRD,)]
    chosen = stratified_split(videos, 100, 0)
    assert Counter(videos[index] for index in chosen) == {(CAT,): 1, (BIRD,): 2}
    assert (
        stratified_split([(DOG,), (CAT,)], 1, 0) == stratified_split([], 1, 0) == stratified_split(videos, 0, 0) == []
    )


def test_the_seed_decides() -> None:
    videos = [(DOG,)] * 30
    assert stratified_split(videos, 5, 1) == stratified_split(videos, 5, 1)
    assert len({tuple(stratified_split(videos, 5, seed)) for seed in range(10)}) > 5


def test_read_tags(tmp_path: Path) -> None:
    rows = [
        ["rex", "dog", "running", "x"],
        ["rex", " person ", "", ""],
        ["rex", "dog", "running", "again"],
        [],
        ["tom.mp4", "cat"],
    ]
    path = write_tags(tmp_path, rows, header=["Video", "class", "action", "note"])
    assert read_tags(path) == [
        TagRow("rex", Tag("dog", "running")),
        TagRow("rex", Tag("person")),
        TagRow("tom", Tag("cat")),
    ]


def test_columns_in_any_order_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "tags.csv"
    path.write_text("class,video\ndog,rex\n", encoding="utf-8-sig")
    assert read_tags(path) == [TagRow("rex", DOG)]


def test_splits_are_read(tmp_path: Path) -> None:
    header = ["video", "class", "split"]
    path = write_tags(tmp_path, [["a", "dog", "test"], ["b", "dog", ""], ["c", "dog", "Val"]], header=header)
    assert [row.split for row in read_tags(path)] == ["test", "", "val"]
    write_tags(tmp_path, [["a", "dog", "1"], ["b", "dog", "2"]], header=header)
    assert [row.split for row in read_tags(path)] == ["", ""]
    write_tags(tmp_path, [["a", "dog", "train"], ["b", "dog", "tset"]], header=header)
    with pytest.raises(DataError, match="line 3: unknown split 'tset'; did you mean 'test'"):
        read_tags(path)
    write_tags(tmp_path, [["a", "dog", "train"], ["a", "cat", "test"]], header=header)
    with pytest.raises(DataError, match=r"line 3.*'test' here and in 'train' above"):
        read_tags(path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "empty"),
        ([["video", "class", "action"]], "empty"),
        ([["video", "clas"], ["a", "dog"]], "no column 'class'; did you mean 'clas'"),
        ([["video;class;action"], ["a;dog;running"]], "no column 'video'.*video;class;action"),
        ([["video", "class"], ["a", "dog"], ["b", " "]], "line 3.*no class"),
        ([["video", "class"], ["", "dog"]], "line 2.*no video"),
        ([["video", "class"], ["a", "Background"]], "line 2.*no object"),
        ([["video", "class"], ["../a", "dog"]], "line 2.*got a path"),
    ],
)
def test_bad_tables(tmp_path: Path, table: list[list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_tags(write_table(tmp_path / "tags.csv", table))


def test_missing_and_binary_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tags\.csv is missing(.|\n)*video,class,action\nrex"):
        read_tags(tmp_path / "tags.csv")
    (tmp_path / "tags.csv").write_bytes(b"\xff\xfe\x00video")
    with pytest.raises(DataError, match="UTF-8"):
        read_tags(tmp_path / "tags.csv")
