from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from datamodules.videos import VideosSource
from datamodules.web.catalogue import Catalogue
from datamodules.web.manifest import Decision, read_manifest
from datamodules.web.quality import retrieval_quality
from datamodules.web.retrieve import RetrievalSummary, RetrieveSettings, retrieve
from datamodules.web.sources import SourceUnavailable
from pseudolabel.types import DataError, FloatArray, UInt8Array
from tests.datamodules.fakes import write_table
from tests.datamodules.web.fakes import (
    BLUE,
    CLASSES,
    GREY,
    RED,
    Web,
    encode,
    frames_of,
    score,
    write_catalogue,
    write_picture,
)

SETTINGS = RetrieveSettings(margin=0.4, batch=2)
VIDEOS = {
    "good": ("dog", "rgg"),
    "thumb": ("dog", "grr"),  # what is right behind a thumbnail that is not
    "plain": ("dog", "rgr"),
    "both": ("dog cat", "rb"),
    "puss": ("cat", "bgb"),
}


@pytest.fixture
def web(tmp_path: Path) -> Web:
    return Web(tmp_path / "web", VIDEOS)


def result(folder: Path) -> dict[str, bytes]:
    """The files a person sees, by name."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def rows_of(folder: Path, **wanted: object) -> list[Decision]:
    rows = read_manifest(folder / "manifest.csv")
    return [row for row in rows if all(getattr(row, key) == value for key, value in wanted.items())]


def test_what_passes_is_kept_and_why(web: Web, tmp_path: Path) -> None:
    out = tmp_path / "out"
    web.skipped.append(("odd", "thumbnail missing: odd.jpg"))
    summary = retrieve(web, CLASSES, score, out, settings=SETTINGS)
    assert summary == RetrievalSummary(
        out,
        videos={"dog": 3, "cat": 1},
        clips={"dog": 4, "cat": 2},
        seconds={"dog": pytest.approx(2.0), "cat": pytest.approx(1.2)},  # type: ignore[dict-item]
        counts={"search": (6, 7), "thumbnail": (4, 6), "download": (4, 4), "key_frame": (6, 11), "window": (6, 6)},
        without_hit=(),
        skipped=(("odd", "thumbnail missing: odd.jpg"),),
        thumbnails={"dog": (4, pytest.approx(1.0, abs=0.05)), "cat": (2, pytest.approx(1.0, abs=0.05))},  # type: ignore[dict-item]
    )
    (odd,) = rows_of(out, id="odd")
    assert (odd.name, odd.step, odd.kept, odd.reason) == ("", "search", False, "thumbnail missing: odd.jpg")
    (thumb,) = rows_of(out, id="thumb", step="thumbnail")
    assert not thumb.kept and thumb.score == pytest.approx(0.5, abs=0.02) and "not above 0.8" in thumb.reason
    assert "download thumb" not in web.calls
    files = [row.file for row in rows_of(out, step="window", kept=True)]
    assert sorted(files) == sorted(file.name for file in out.glob("*.mp4")) and len(files) == 6
    assert not (out / ".downloads").exists()


def test_the_result_is_a_data_set(web: Web, tmp_path: Path) -> None:
    retrieve(web, CLASSES, score, tmp_path / "out", settings=SETTINGS)
    source = VideosSource(tmp_path / "out")
    assert source.skipped == [] and source.label_space.names == ("background", "cat", "dog")
    assert [str(tag) for record in source.records for tag in record.tags] == ["dog"] * 4 + ["cat"] * 2


def test_a_video_found_for_two_classes_gives_a_set_of_clips_for_each(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "thumbnail", lambda hit: frames_of("r" if hit.keyword == "dog" else "b")[0])
    retrieve(web, CLASSES, score, tmp_path, settings=SETTINGS)
    shots = [(row.name, row.start) for row in rows_of(tmp_path, id="both", step="window")]
    assert shots == [("dog", 0.0), ("cat", pytest.approx(0.6))]


def test_only_the_score_of_the_searched_class_counts(web: Web, tmp_path: Path) -> None:
    swapped = retrieve(web, CLASSES[::-1], lambda images: score(images)[:, ::-1], tmp_path, settings=SETTINGS)
    assert swapped.clips == {"cat": 2, "dog": 4}


def test_search_words(web: Web, tmp_path: Path) -> None:
    summary = retrieve(web, ["poodle"], lambda images: score(images)[:, :1], tmp_path, keywords={"poodle": "dog"})
    assert summary.videos == {"poodle": 3} and web.calls[0] == "search dog"
    assert "poodle" in (tmp_path / "tags.csv").read_text()


class Killed(BaseException):
    """What no code catches."""


class Fuse:
    """Ends the run at the n-th call of the source or of the scorer."""

    def __init__(self, web: Web, calls: int) -> None:
        self.left, self.web = calls, web
        for name in ("search", "thumbnail", "download"):
            setattr(web, name, self.burning(getattr(web, name)))

    def burning(self, work):  # type: ignore[no-untyped-def]
        def call(*args):  # type: ignore[no-untyped-def]
            if self.left == 0:
                raise Killed
            self.left -= 1
            return work(*args)

        return call


def test_killed_at_any_instant_it_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    names = ("good", "puss")

    def run(folder: Path, calls: int) -> Web:
        web = Web(tmp_path / "web", {name: VIDEOS[name] for name in names})
        fuse = Fuse(web, calls)
        retrieve(web, CLASSES, fuse.burning(score), folder, settings=SETTINGS)
        return web

    whole = result(tmp_path / "whole") if run(tmp_path / "whole", 10**6) else {}
    calls = 0
    for calls in range(10**6):
        folder = tmp_path / f"killed-{calls}"
        try:
            run(folder, calls)
            break
        except Killed:
            assert not {"manifest.csv", "tags.csv"} & set(result(folder))
        done = {file.stem for file in (folder / ".steps").iterdir()}
        again = run(folder, 10**6)
        assert {name: content for name, content in result(folder).items() if name != "manifest.partial.csv"} == whole
        for name in names:
            finished = {f"video.dog.{name}", f"video.cat.{name}"} & done
            assert (f"download {name}" in again.calls) == (not finished)
        assert ("search dog" in again.calls) == ("search.dog" not in done)
    assert calls == 12  # 2 searches, 2 thumbnails in 2 batches, 2 downloads in 2 batches of key frames each


def test_a_finished_retrieval_is_not_done_again(web: Web, tmp_path: Path) -> None:
    first = retrieve(web, CLASSES, score, tmp_path, settings=SETTINGS)
    calls, files = len(web.calls), result(tmp_path)
    assert retrieve(web, CLASSES, score, tmp_path, settings=SETTINGS) == first
    assert len(web.calls) == calls and result(tmp_path) == files


def test_other_settings_are_refused(web: Web, tmp_path: Path) -> None:
    retrieve(web, CLASSES, score, tmp_path, settings=SETTINGS, scorer="encoder 1")
    for changes, message in (
        ({"settings": RetrieveSettings(margin=0.3, batch=2)}, "margin: 0.4 there, 0.3 now"),
        ({"scorer": "encoder 2"}, "scorer: 'encoder 1' there"),
        ({"keywords": {"dog": "cat"}}, "keywords"),
    ):
        with pytest.raises(DataError, match=f"other settings.*{message}"):
            retrieve(web, CLASSES, score, tmp_path, **{"settings": SETTINGS, "scorer": "encoder 1", **changes})  # type: ignore[arg-type]


def test_caps_and_limits(web: Web, tmp_path: Path) -> None:
    capped = RetrieveSettings(margin=0.4, batch=1, videos_per_class=1)
    summary = retrieve(web, CLASSES, score, tmp_path / "cap", settings=capped)
    assert summary.videos == {"dog": 1, "cat": 1}
    assert [row.reason for row in rows_of(tmp_path / "cap", id="plain", step="thumbnail")] == [
        "not looked at: 1 videos of the class are kept already"
    ]
    assert "thumbnail plain" not in web.calls
    batched = RetrieveSettings(margin=0.4, batch=8, videos_per_class=1)  # the cap is reached inside a batch
    assert retrieve(web, CLASSES, score, tmp_path / "batch", settings=batched).videos == {"dog": 1, "cat": 1}
    limited = retrieve(web, CLASSES, score, tmp_path / "two", settings=RetrieveSettings(margin=0.4, search_limit=1))
    assert limited.counts["search"] == (2, 2)


def test_a_keyword_without_a_result(web: Web, tmp_path: Path) -> None:
    three = (*CLASSES, "zebra")

    def with_zebra(images: Sequence[UInt8Array]) -> FloatArray:
        return np.pad(score(images), ((0, 0), (0, 1)))

    assert retrieve(web, three, with_zebra, tmp_path / "some", settings=SETTINGS).without_hit == ("zebra",)
    (row,) = rows_of(tmp_path / "some", name="zebra")
    assert not row.kept and row.reason == "no result for 'zebra'"
    with pytest.raises(DataError, match="No video found in the fake for any of 'zebra'"):
        retrieve(web, ["zebra"], score, tmp_path / "none")


def test_nothing_kept_is_an_error_after_the_manifest(web: Web, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Nothing was retrieved.*manifest\.csv"):
        retrieve(web, CLASSES, lambda images: 0 * score(images), tmp_path, settings=SETTINGS)
    assert len(rows_of(tmp_path, step="thumbnail", kept=False)) == 6 and not (tmp_path / "tags.csv").exists()


def test_one_that_cannot_be_had_is_listed_and_a_dead_source_stops(web: Web, tmp_path: Path) -> None:
    web.fail = {"thumbnail puss": DataError("no picture"), "download good": DataError("removed by its owner")}
    summary = retrieve(web, CLASSES, score, tmp_path / "out", settings=SETTINGS)
    assert summary.videos == {"dog": 2, "cat": 0}
    assert rows_of(tmp_path / "out", id="good", step="download")[0].reason == "removed by its owner"
    assert rows_of(tmp_path / "out", id="puss", step="thumbnail")[0].reason == "thumbnail missing: no picture"
    for call in ("search cat", "thumbnail plain", "download plain"):
        web.fail = {call: SourceUnavailable("no network")}
        with pytest.raises(SourceUnavailable, match="no network"):
            retrieve(web, CLASSES, score, tmp_path / "late", settings=SETTINGS)
    web.fail = {}  # what failed for want of a network is not held against the videos
    assert retrieve(web, CLASSES, score, tmp_path / "late", settings=SETTINGS).videos == {"dog": 3, "cat": 1}


@pytest.mark.parametrize(
    ("classes", "keywords", "message"),
    [
        ([], None, "no classes"),
        (["dog", "dog"], None, "names that differ"),
        (["dog", ""], None, "names that differ"),
        (["background"], None, "names that differ"),
        (["a\nb"], None, "names that differ"),
        (["dog"], {"dogg": "x"}, "did you mean 'dog'"),
        (["dog"], {"dog": " "}, "Expected a word"),
    ],
)
def test_bad_classes(
    web: Web, tmp_path: Path, classes: list[str], keywords: dict[str, str] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        retrieve(web, classes, score, tmp_path / "out", keywords=keywords)
    assert not (tmp_path / "out").exists()


def test_a_catalogue_with_every_fault(tmp_path: Path) -> None:
    """Irrelevant videos and intervals, wrong keywords and thumbnails; captions, ids and files as they come."""
    root = tmp_path / "web"
    rows = []

    def add(name: str, words: str, seconds: str, thumbnail: tuple[int, int, int], *, file: str = "") -> Path:
        file = file or f"{len(rows)}.mp4"
        write_picture(root / f"{len(rows)}.png", thumbnail)
        rows.append([name, '../../a, b;\n"c"/d\\e', words, file, f"{len(rows)}.png", ""])
        return encode(root / file, frames_of(seconds))

    add("../up/dog", "dog", "rrgg", RED)
    add("犬 1", "my dog", "ggrr", RED)
    add("late, dog", "dog", "rr", GREY)  # a wrong thumbnail: lost
    add("not a dog", "dog", "gggg", RED)  # a wrong thumbnail: the key frames tell
    add("cat", "dog;cat", "bbgb", BLUE)  # a wrong keyword
    torn = add("torn", "cat", "bbbbbb", BLUE)
    torn.write_bytes(torn.read_bytes()[:900])
    add("cat", "cat", "bbbb", BLUE)  # an id for the second time
    (root / "4.png").rename(root / "four.png")
    rows[4][4] = "four.png"
    rows.append(["lost", "", "cat", "lost.mp4", "0.png", ""])
    source = Catalogue(write_catalogue(root, rows))
    out = tmp_path / "out"
    summary = retrieve(source, CLASSES, score, out, settings=SETTINGS)
    assert summary.videos == {"dog": 2, "cat": 1}
    assert [name for name, _ in summary.skipped] == ["cat", "lost", "torn"]
    assert {file.parent for file in tmp_path.rglob("*.mp4")} == {root, out}
    assert not rows_of(out, id="torn", step="key_frame")[0].kept
    assert {row.title for row in rows_of(out) if row.name} == {'../../a, b; "c"/d\\e'}
    truth = write_table(
        tmp_path / "truth" / "intervals.csv",
        [
            ("id", "start", "stop", "class"),
            ("../up/dog", 0, 2, "dog"),
            ("犬 1", 2, 4, "dog"),
            ("late, dog", 0, 2, "dog"),
            ("cat", 0, 2, "cat"),
            ("cat", 3, 4, "cat"),
        ],
    )
    quality = retrieval_quality(out / "manifest.csv", truth)
    dog, cat = quality.classes["dog"], quality.classes["cat"]
    assert (dog.right, dog.kept, dog.true) == pytest.approx((2.4, 2.8, 6.0))
    assert (cat.right, cat.kept, cat.true) == pytest.approx((1.6, 2.0, 3.0))
    assert (quality.overall.precision, quality.overall.recall) == pytest.approx((4 / 4.8, 4 / 9))
    assert len(VideosSource(out).records) == sum(summary.clips.values())
