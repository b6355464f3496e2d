from __future__ import annotations

import time

import pytest

from datamodules.progress import follow


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def worked_on(clock: list[float], items: int, seconds: float, **options: int) -> list[int]:
    seen = []
    for item in follow(range(items), "counting", **options):
        seen.append(item)
        clock[0] += seconds
    return seen


def test_what_is_quick_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    assert worked_on(clock, 5, 5.0) == [0, 1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")


def test_a_line_now_and_then_and_at_the_end(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    assert worked_on(clock, 5, 20.0) == [0, 1, 2, 3, 4]
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.splitlines() == ["counting: 2 of 5, 40 s", "counting: 4 of 5, 80 s", "counting: 5 of 5, 100 s"]


def test_few_items_are_not_worth_a_word(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    assert worked_on(clock, 3, 100.0, least=4) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_items_of_unknown_number(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in follow(iter("ab"), "reading"):
        clock[0] += 31.0
    assert capsys.readouterr().err.splitlines() == ["reading: 1, 31 s", "reading: 2, 62 s"]


def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(follow([1, 2, 3], "drawing", total=3)) == [1, 2, 3]
    assert "drawing" in capsys.readouterr().err
