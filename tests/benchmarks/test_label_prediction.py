from __future__ import annotations

import pytest

from benchmarks.label_prediction import benchmark, show


def test_the_table_of_a_small_shot(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(benchmark(frames=3, side=48, iterations=(1, 2), repeats=1))
    show(rows)
    assert capsys.readouterr().out.count("\n") == len(rows) + 1 == 5
    for row in rows:
        assert row.ours > 0 and row.plain > 0
        assert row.same > 0.97 and abs(row.iou - row.plain_iou) < 0.05
