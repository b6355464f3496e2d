from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pseudolabel.store import PARow, PAStore
from pseudolabel.types import Annotation, Clip, DataError, Tag


def make_clip(name: str, indices: tuple[int, ...] = (0, 3)) -> Clip:
    frames = np.zeros((len(indices), 4, 8, 3), np.uint8)
    return Clip(frames, np.array(indices), name, 25.0, (Tag("cat"),))


def make_annotation(length: int = 2, value: int = 1) -> Annotation:
    labels = np.zeros((length, 4, 8), np.uint8)
    labels[:, :2, :4] = value  # 8 of 32 pixels
    labels[:, 3] = 255
    return Annotation(labels, np.full(length, 0.7, np.float32))


def write_many(root: Path, names: list[str]) -> None:
    store = PAStore(root)
    for name in names:
        store.write(0, make_clip(name), make_annotation())


def test_a_version_from_begin_to_read(tmp_path: Path) -> None:
    store = PAStore(tmp_path / "pa")
    assert store.versions() == [] and store.current() is None
    assert store.begin(0) == tmp_path / "pa" / ".v0.partial"
    store.write(0, make_clip("b", (7, 2)), make_annotation(value=3))
    store.write(0, make_clip("a"), make_annotation())
    assert store.versions() == []
    with pytest.raises(DataError, match="v0 is not in"):
        store.index(0)
    assert store.publish(0) == tmp_path / "pa" / "v0"
    assert store.versions() == [0] and store.current() == 0
    assert store.index(0) == [
        PARow(video, frame, 0.7, True, 1.0, 0.25) for video, frame in [("a", 0), ("a", 3), ("b", 2), ("b", 7)]
    ]
    np.testing.assert_array_equal(store.read(0, "b", 7), make_annotation(value=3).labels[0])
    files = sorted(str(path.relative_to(tmp_path / "pa")) for path in (tmp_path / "pa").rglob("*") if path.is_file())
    assert files == ["v0/a/00000.png", "v0/a/00003.png", "v0/b/00002.png", "v0/b/00007.png", "v0/index.csv"]
    first = (tmp_path / "pa/v0/index.csv").read_text().splitlines()[:2]
    assert first == ["video,frame,quality,selected,weight,area", "a,0,0.7,1,1.0,0.25"]


def test_presence_of_rows_means_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PAStore(tmp_path)
    store.write(0, make_clip("a"), make_annotation())
    from pseudolabel import store as module

    written = []

    def break_on_second(path: Path, labels: np.ndarray) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(path)
        path.write_bytes(b"half")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_mask", break_on_second)
        with pytest.raises(KeyboardInterrupt):
            store.write(0, make_clip("b"), make_annotation())
    assert store.is_written(0, "a") and not store.is_written(0, "b")
    again = PAStore(tmp_path)
    again.begin(0)
    assert again.is_written(0, "a"), "what was finished is kept"
    again.publish(0)
    assert {row.video for row in again.index(0)} == {"a"}
    assert not (tmp_path / "v0" / "b").exists(), "a half-written video is dropped"
    assert again.is_written(0, "a") and not again.is_written(0, "b")


def test_writing_again_replaces_the_video_whole(tmp_path: Path) -> None:
    store = PAStore(tmp_path)
    store.write(0, make_clip("a", (0, 1, 2)), make_annotation(3))
    store.write(0, make_clip("a", (5,)), make_annotation(1))
    store.publish(0)
    assert [row.frame for row in store.index(0)] == [5]
    assert [path.name for path in (tmp_path / "v0" / "a").iterdir()] == ["00005.png"]


def test_publish_is_idempotent_and_goes_on_after_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PAStore(tmp_path)
    store.write(0, make_clip("a"), make_annotation())

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pseudolabel.store.os.rename", crash)
        with pytest.raises(KeyboardInterrupt):
            store.publish(0)
    assert store.versions() == []
    store.write(0, make_clip("b"), make_annotation())
    store.publish(0)
    assert {row.video for row in store.index(0)} == {"a", "b"}
    before = (tmp_path / "v0" / "index.csv").read_bytes()
    store.publish(0)
    assert (tmp_path / "v0" / "index.csv").read_bytes() == before
    assert not list(tmp_path.rglob("rows.csv"))


def test_publishing_nothing_is_an_error(tmp_path: Path) -> None:
    store = PAStore(tmp_path)
    with pytest.raises(DataError, match="no finished video"):
        store.publish(0)
    store.begin(0)
    with pytest.raises(DataError, match="no finished video"):
        store.publish(0)


def test_a_whole_version_is_not_written(tmp_path: Path) -> None:
    store = PAStore(tmp_path)
    store.write(0, make_clip("a"), make_annotation())
    store.publish(0)
    with pytest.raises(DataError, match="is whole"):
        store.write(0, make_clip("a"), make_annotation())
    with pytest.raises(DataError, match="is whole"):
        store.begin(0)
    assert not (tmp_path / ".v0.partial").exists()


def test_versions_are_ordered_as_numbers_and_strangers_ignored(tmp_path: Path) -> None:
    store = PAStore(tmp_path)
    for version in (10, 2, 0):
        store.write(version, make_clip("a"), make_annotation())
        store.publish(version)
    store.begin(11)
    (tmp_path / "v3").mkdir()
    (tmp_path / "vnotes").mkdir()
    assert store.versions() == [0, 2, 10] and store.current() == 10


def test_index_round_trip(tmp_path: Path) -> None:
    store = PAStore(tmp_path)
    store.write(0, make_clip("a"), make_annotation())
    store.publish(0)
    rows = [PARow("a", 3, 1 / 3, False, 0.1, 0.2), PARow("a", 0, float(np.float32(0.7)), True, 2.0, 0.0)]
    store.update_index(0, rows)
    assert store.index(0) == rows[::-1]
    with pytest.raises(DataError, match="v1 is not in"):
        store.update_index(1, rows)


def test_index_edited_by_hand(tmp_path: Path) -> None:
    store = PAStore(tmp_path)
    store.write(0, make_clip("a"), make_annotation())
    store.publish(0)
    path = tmp_path / "v0" / "index.csv"
    path.write_text(
        "frame,video,note,quality,selected,weight,area\n3,a,bad border,1,No,1,0\n0,a,,0.5,TRUE,1,0\n", "utf-8-sig"
    )
    assert store.index(0) == [PARow("a", 0, 0.5, True, 1.0, 0.0), PARow("a", 3, 1.0, False, 1.0, 0.0)]
    for text, reason in [
        ("video;frame\n", "columns"),
        ("video,frame,quality,selected,weight,area\na,1,0.5,maybe,1,0\n", "maybe"),
        ("video,frame,quality,selected,weight,area\na,1,nan,1,1,0\n", "finite"),
        ("video,frame,quality,selected,weight,area\na,1\n", "columns"),
    ]:
        path.write_text(text)
        with pytest.raises(DataError, match=rf"index\.csv.*{reason}"):
            store.index(0)


def test_masks_edited_by_hand_are_read(tmp_path: Path) -> None:
    store = PAStore(tmp_path)
    store.write(0, make_clip("a"), make_annotation())
    store.publish(0)
    edited = np.full((4, 8), 2, np.uint8)
    Image.fromarray(edited).save(tmp_path / "v0" / "a" / "00003.png")
    np.testing.assert_array_equal(store.read(0, "a", 3), edited)


def test_a_missing_mask_names_the_cure(tmp_path: Path) -> None:
    store = PAStore(tmp_path)
    store.write(0, make_clip("a"), make_annotation())
    store.publish(0)
    with pytest.raises(DataError, match=r"00001\.png.*does not exist.*restore.*remove its line"):
        store.read(0, "a", 1)
    with pytest.raises(DataError, match=r"v4 is not in.*whole versions: v0"):
        store.read(4, "a", 1)


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "a\\b", ".hidden", "index.csv"])
def test_names_that_cannot_be_folders(tmp_path: Path, name: str) -> None:
    store = PAStore(tmp_path / "pa")
    with pytest.raises(DataError, match="Video name"):
        store.write(0, make_clip(name), make_annotation())
    assert not list(tmp_path.rglob("*.png"))


def test_refuses_annotations_that_do_not_fit(tmp_path: Path) -> None:
    store = PAStore(tmp_path)
    with pytest.raises(DataError, match="does not fit"):
        store.write(0, make_clip("a"), make_annotation(3))
    bad = make_annotation()
    bad.quality[0] = np.nan
    with pytest.raises(DataError, match="not finite"):
        store.write(0, make_clip("a"), bad)
    with pytest.raises(DataError, match="twice"):
        store.write(0, make_clip("a", (1, 1)), make_annotation())


def test_several_processes_write_one_version(tmp_path: Path) -> None:
    names = [f"video{i}" for i in range(12)]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(write_many, [tmp_path] * 2, [names[::2], names[1::2]]))
    store = PAStore(tmp_path)
    store.publish(0)
    assert sorted({row.video for row in store.index(0)}) == sorted(names)
    assert len(store.index(0)) == 24
