from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from pseudolabel.detect import CsvDetector
from pseudolabel.types import DataError

FRAMES = np.zeros((3, 20, 30, 3), np.uint8)
NUMBERS = np.array([4, 7, 9])


def write(folder: Path, text: str) -> Path:
    path = folder / "boxes.csv"
    path.write_text(text)
    return path


def test_boxes_come_to_their_frames(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "score,video,frame,x0,y0,x1,y1,who\n"  # other order, one more column
        "0.9,rex,9,1,2,5,6,ann\n0.95,rex,9,0,0,30,20,ann\n-1,rex,4,1,2,5,6,bob\n\n-0.5,rex,4,1,2,99,6.5,bob\n"
        "0.9,other,4,1,2,5,6,ann\n0.9,rex,5,1,2,5,6,ann\n",
    )
    found = CsvDetector(path)(FRAMES, video="rex", indices=NUMBERS)
    assert [one.boxes.tolist() for one in found] == [[[1, 2, 30, 6.5]], [], [[0, 0, 30, 20], [1, 2, 5, 6]]]
    np.testing.assert_allclose(found[2].scores, [0.95, 0.9])
    assert [len(one) for one in CsvDetector(path, 0.92)(FRAMES, video="rex", indices=NUMBERS)] == [0, 0, 1]
    assert [len(one) for one in CsvDetector(path, most=1)(FRAMES, video="rex", indices=NUMBERS)] == [1, 0, 1]


def test_numbers_that_are_none_are_dropped_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "video,frame,x0,y0,x1,y1,score\nrex,4,1,2,5,6,nan\nrex,4,inf,2,5,6,1\nrex,4,1,2,5,6,1\n")
    with caplog.at_level(logging.WARNING):
        found = CsvDetector(path)(FRAMES, video="rex", indices=NUMBERS)
    assert [len(one) for one in found] == [1, 0, 0]
    assert "2 not finite" in caplog.text


def test_boxes_in_frames_that_are_not_looked_at_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = "rex,0,1,2,5,6,1\nrex,1,1,2,5,6,1\nmax,0,1,2,5,6,1\nmax,4,1,2,5,6,1\n"
    path = write(tmp_path, f"video,frame,x0,y0,x1,y1,score\n{rows}")
    with caplog.at_level(logging.WARNING):
        assert [len(one) for one in CsvDetector(path)(FRAMES, video="max", indices=NUMBERS)] == [1, 0, 0]
        assert not caplog.text, "a table of all frames is no mistake"
        assert [len(one) for one in CsvDetector(path)(FRAMES, video="rex", indices=NUMBERS)] == [0, 0, 0]
    assert f"the 2 boxes of video 'rex' are in none of the frames that are looked at ({NUMBERS[0]}," in caplog.text


def test_a_video_in_which_nothing_was_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, "video,frame,x0,y0,x1,y1,score\nrex,4,1,2,5,6,1\nempty,,,,,,\n")
    with caplog.at_level(logging.WARNING):
        found = CsvDetector(path)(FRAMES, video="empty", indices=NUMBERS)
    assert [len(one) for one in found] == [0, 0, 0] and not caplog.text
    with pytest.raises(DataError, match="did you mean 'rex'"):
        CsvDetector(path)(FRAMES, video="rexx", indices=NUMBERS)
    caplog.clear()
    assert [len(one) for one in CsvDetector(path, missing="empty")(FRAMES, video="rexx", indices=NUMBERS)] == [0] * 3
    assert not caplog.text and CsvDetector(path).videos == ["rex", "empty"]
    with pytest.raises(DataError, match="missing must be"):
        CsvDetector(path, missing="no")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("video,frame,x0,y0,x1,score\nrex,4,1,2,5,1\n", "no column 'y1'.*Got the header"),
        ("", "no column 'video'"),
        ("video,frame,x0,y0,x1,y1,score\nrex,4,1,2,5,6,1\nrex,5,1,two,5,6,1\n", r"line 3 .*y0 is 'two'.*a number"),
        ("video,frame,x0,y0,x1,y1,score\nrex,4.5,1,2,5,6,1\n", "line 2 .*frame is '4.5'.*whole number"),
        ("video,frame,x0,y0,x1,y1,score\nrex,-1,1,2,5,6,1\n", "line 2 .*frame is -1"),
        ("video,frame,x0,y0,x1,y1,score\nrex,1,1,2,5\n", "line 2 .*y1 is ''"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        CsvDetector(write(tmp_path, text))


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        CsvDetector(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DataError, match="UTF-8"):
        CsvDetector(tmp_path / "binary.csv")
