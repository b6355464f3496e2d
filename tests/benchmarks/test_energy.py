from __future__ import annotations

import pytest

from benchmarks.energy import benchmark, show


def test_the_table_of_a_small_picture(capsys: pytest.CaptureFixture[str]) -> None:
    rows = benchmark(height=24, width=32, repeats=1)
    show(rows)
    printed = capsys.readouterr().out
    assert printed.count("\n") == len(rows) + 1
    for peer in ("scikit-learn", "PyMaxflow", "scipy", "aexpansion_grid", "ours without cliques"):
        assert peer in printed
    assert all(row.ours > 0 and row.theirs > 0 for row in rows)
