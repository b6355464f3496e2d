from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.web.catalogue import Catalogue
from pseudolabel.types import DataError
from tests.datamodules.web.fakes import BLUE, RED, write_catalogue, write_picture


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a1", "a2", "a3"):
        (tmp_path / "videos").mkdir(exist_ok=True)
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(b"video")
        write_picture(tmp_path / "thumbs" / f"{name}.png", RED)
    return tmp_path


def row(name: str, keywords: str, *, title: str = "", duration: str = "", thumbnail: str = "") -> list[str]:
    return [name, title, keywords, f"videos/{name}.mp4", thumbnail or f"thumbs/{name}.png", duration]


def found(source: Catalogue, keyword: str, limit: int = 10) -> list[str]:
    return [hit.id for hit in source.search(keyword, limit)]


def test_hits_have_what_the_table_says(root: Path) -> None:
    source = Catalogue(write_catalogue(root, [row("a1", "dog;park", title="../Rex, in\nthe park", duration="61.5")]))
    (hit,) = source.search("dog", 5)
    assert (hit.id, hit.title, hit.keyword, hit.duration) == ("a1", "../Rex, in\nthe park", "dog", 61.5)
    assert source.download(hit, root / "elsewhere") == root / "videos" / "a1.mp4"
    assert not (root / "elsewhere").exists()
    picture = source.thumbnail(hit)
    assert picture.shape == (24, 40, 3) and picture.dtype == np.uint8 and (picture == RED).all()


def test_search_words_are_whole_words_of_one_keyword(root: Path) -> None:
    rows = [row("a1", "Hot-DOG stand;potted"), row("a2", "dogma;plant"), row("a3", "a potted_plant", title="dog")]
    source = Catalogue(write_catalogue(root, rows))
    assert found(source, "dog") == ["a1"] and found(source, "Dog ") == ["a1"]
    assert found(source, "potted plant") == ["a3"]
    assert found(source, "zebra") == [] and found(source, " ") == [] and found(source, "-") == []


def test_the_limit_takes_the_first(root: Path) -> None:
    source = Catalogue(write_catalogue(root, [row(name, "dog") for name in ("a3", "a1", "a2")]))
    assert found(source, "dog", 2) == ["a3", "a1"]


def test_what_cannot_be_used_is_listed_with_its_reason(root: Path) -> None:
    rows = [
        row("a1", "dog"),
        row("a1", "cat"),
        row("gone", "dog"),
        row("a2", "dog", thumbnail="thumbs/gone.png"),
        ["", "no id", "dog", "videos/a3.mp4", "thumbs/a3.png", ""],
        row("a3", "dog", duration="long"),
        ["a4", "no thumbnail", "dog", "videos/a3.mp4", "", ""],
    ]
    source = Catalogue(write_catalogue(root, rows))
    assert found(source, "dog") == ["a1"] and found(source, "cat") == []
    reasons = dict(source.skipped)
    assert [name for name, _ in source.skipped] == ["a1", "gone", "a2", "line 6", "a3", "a4"]
    for name, part in (
        ("a1", "duplicate id"),
        ("gone", "video missing"),
        ("a2", "thumbnail missing"),
        ("line 6", "no id"),
        ("a3", "duration is 'long'"),
        ("a4", "thumbnail missing"),
    ):
        assert part in reasons[name]


def test_a_folder_without_a_table_is_searched_by_its_names(tmp_path: Path) -> None:
    for name in ("My Dog_2", "cat-nap", "bare", ".hidden"):
        (tmp_path / f"{name}.webm").write_bytes(b"video")
    write_picture(tmp_path / "My Dog_2.jpg", RED)
    write_picture(tmp_path / "cat-nap.png", BLUE)
    (tmp_path / "cat-nap.txt").write_text("sleeping\nsofa dog\n", encoding="utf-8")
    source = Catalogue(tmp_path)
    assert found(source, "dog") == ["My Dog_2", "cat-nap"]
    assert found(source, "cat nap") == ["cat-nap"] and found(source, "sleeping") == ["cat-nap"]
    assert found(source, "sleeping sofa") == []
    assert [name for name, _ in source.skipped] == ["bare"] and "thumbnail missing" in source.skipped[0][1]


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        Catalogue(tmp_path / "absent")
    with pytest.raises(DataError, match=r"No usable video.*0 were skipped"):
        Catalogue(tmp_path)
    with pytest.raises(DataError, match=r"No usable video.*video missing"):
        Catalogue(write_catalogue(tmp_path, [row("gone", "dog")]))
    (tmp_path / "catalogue.csv").write_text("id,title,keyword,video,thumbnail\n")
    with pytest.raises(DataError, match="no column 'keywords'; did you mean 'keyword'"):
        Catalogue(tmp_path)


def test_files_that_go_later_are_errors_of_the_one_video(root: Path) -> None:
    source = Catalogue(write_catalogue(root, [row("a1", "dog"), row("a2", "dog")]))
    first, second = source.search("dog", 2)
    (root / "thumbs" / "a1.png").unlink()
    (root / "thumbs" / "a2.png").write_bytes(b"torn")
    for hit in (first, second):
        with pytest.raises(DataError, match="cannot be read"):
            source.thumbnail(hit)
