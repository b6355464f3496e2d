from __future__ import annotations

import math
from pathlib import Path

import pytest

from datamodules.web.intervals import merge, overlap, total
from datamodules.web.manifest import Decision, ManifestWriter
from datamodules.web.quality import key_frame_quality, retrieval_quality
from pseudolabel.types import DataError
from tests.datamodules.fakes import write_table


def window(name: str, video: str, start: float, stop: float, *, kept: bool = True) -> Decision:
    return Decision(name, video, "", "window", kept, "", start, 0.9, "f.mp4", start, stop)


def write(folder: Path, decisions: list[Decision]) -> Path:
    with ManifestWriter(folder) as manifest:
        manifest.write(decisions)
    return folder / "manifest.csv"


def test_intervals() -> None:
    assert merge([(4, 6), (0, 2), (2, 3), (5, 5.5)]) == [(0, 3), (4, 6)]
    assert total([(0, 3), (4, 6)]) == 5
    assert overlap([(0, 3), (4, 6)], [(2, 5)]) == 2
    assert overlap([(0, 1)], []) == 0 and overlap([(0, 1)], [(1, 2)]) == 0


def test_precision_and_recall_over_seconds(tmp_path: Path) -> None:
    manifest = write(
        tmp_path,
        [
            window("dog", "a", 0, 4),
            window("dog", "a", 2, 6),  # seconds 2 to 4 count once
            window("dog", "b", 0, 2),  # never shows a dog
            window("dog", "c", 0, 9, kept=False),
            window("cat", "a", 8, 10),
            Decision("bird", "", "", "search", False, "no result"),
        ],
    )
    intervals = write_table(
        tmp_path / "truth" / "intervals.csv",
        [
            ("id", "start", "stop", "class"),
            ("a", 1, 5, "dog"),
            ("c", 0, 4, "dog"),
            ("a", 8, 9, "cat"),
            ("b", 0, 9, "cow"),
        ],
    )
    found = retrieval_quality(manifest, intervals)
    dog, cat, bird = (found.classes[name] for name in ("dog", "cat", "bird"))
    assert (dog.right, dog.kept, dog.true) == (4, 8, 8) and (dog.precision, dog.recall) == (0.5, 0.5)
    assert (cat.precision, cat.recall) == (0.5, 1.0)
    assert math.isnan(bird.precision) and math.isnan(bird.recall)
    assert (found.overall.right, found.overall.kept, found.overall.true) == (5, 10, 9)
    assert set(found.classes) == {"dog", "cat", "bird"}


def test_key_frames_are_the_classifiers_own_part(tmp_path: Path) -> None:
    def seen(name: str, video: str, seconds: float, *, kept: bool) -> Decision:
        return Decision(name, video, "", "key_frame", kept, "", seconds, 0.9)

    rows = [seen("dog", "a", 1, kept=True), seen("dog", "a", 3, kept=True), seen("dog", "a", 1.5, kept=False)]
    rows += [seen("cat", "a", 1, kept=False), window("dog", "a", 0, 4)]
    rows += [seen("dog", "b", 0, kept=True), seen("dog", "a", 2, kept=False)]  # 2 s is the end: not seen any more
    intervals = write_table(
        tmp_path / "truth/intervals.csv", [["id", "start", "stop", "class"], ["a", "0", "2", "dog"]]
    )
    quality = key_frame_quality(write(tmp_path, rows), intervals)
    assert (quality.right, quality.kept, quality.true) == (1, 3, 2)
    assert quality.precision == pytest.approx(1 / 3) and quality.recall == 0.5


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("id", "start", "end", "class")], "no column 'stop'"),
        ([("id", "start", "stop", "class"), ("a", 5, 2, "dog")], "line 2: 5 to 2 s ends before it starts"),
        ([("id", "start", "stop", "class"), ("a", "x", 2, "dog")], "line 2: start is 'x'"),
    ],
)
def test_a_bad_table_is_an_error(tmp_path: Path, rows: list[tuple[object, ...]], message: str) -> None:
    manifest = write(tmp_path, [window("dog", "a", 0, 4)])
    with pytest.raises(DataError, match=message):
        retrieval_quality(manifest, write_table(tmp_path / "intervals.csv", rows))
