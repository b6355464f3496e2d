from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from recipes.tables import percent, summary, table_2, table_3, table_4, triple


def scores(value: float, *, actions: bool = True) -> dict[str, Any]:
    found = {}
    for prefix, factor in (("", 1.0), ("actor_", 1.5), ("action_", 1.25)):
        if prefix != "action_" or actions:
            found |= {f"{prefix}{name}": value * factor for name in ("miou", "cls_acc", "glo_acc")}
    return {**found, "jaccard": value / 2, "frames": 4}


def table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_numbers_are_percentages() -> None:
    assert (percent(0.2674), percent(None), percent(0.0)) == ("26.74", "-", "0.00")


def test_three_projections_or_one() -> None:
    assert triple(scores(0.2), "miou") == "20.00 / 30.00 / 25.00"
    assert triple(scores(0.2, actions=False), "miou") == "20.00"
    assert triple({}, "miou") == "-"


def test_table_2_sets_both_criteria_and_the_selected_frames_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = [
        {"version": 0, "frames": 10, "full": scores(0.2), "selected": scores(0.24), "selected_share": 0.5},
        {"version": 1, "frames": 10, "full": scores(0.3), "full_by_miou_pa": scores(0.28)},
    ]
    table_2(annotations, "ric", tmp_path)
    assert table(tmp_path / "table2.csv")[1:] == [
        ["PA.v0", "init-full", "10", "20.00 / 30.00 / 25.00", "10.00"],
        ["PA.v0", "init-select", "5", "24.00 / 36.00 / 30.00", "12.00"],
        ["PA.v1", "miou_pa-full", "10", "28.00 / 42.00 / 35.00", "14.00"],
        ["PA.v1", "ric-full", "10", "30.00 / 45.00 / 37.50", "15.00"],
    ]
    assert "24.00 / 36.00 / 30.00" in capsys.readouterr().out


def test_table_3_is_a_share_of_the_twin(tmp_path: Path) -> None:
    models = [{"version": 0, "test": scores(0.2)}, {"version": 1, "test": scores(0.3)}]
    table_3(models, {"test": scores(0.4)}, tmp_path)
    rows = table(tmp_path / "table3.csv")
    assert [row[0] for row in rows[1:]] == ["model.v0", "model.v1", "supervised twin"]
    assert rows[1][2] == "50.0 % / 50.0 % / 50.0 %" and rows[2][2] == "75.0 % / 75.0 % / 75.0 %"
    table_3([{"version": 0, "test": scores(0.2, actions=False)}], {"test": scores(0.4, actions=False)}, tmp_path)
    assert table(tmp_path / "table3.csv")[1] == ["model.v0", "20.00", "50.0 %", "10.00"]


def test_table_4_shows_the_last_model_and_the_twin(tmp_path: Path) -> None:
    table_4([{"version": 0, "test": scores(0.2)}, {"version": 1, "test": scores(0.4)}], {"test": scores(0.6)}, tmp_path)
    assert table(tmp_path / "table4.csv")[1:] == [
        ["model.v1", "40.00 / 60.00 / 50.00", "40.00 / 60.00 / 50.00"],
        ["supervised twin", "60.00 / 90.00 / 75.00", "60.00 / 90.00 / 75.00"],
    ]


def test_without_true_masks_there_are_dashes(tmp_path: Path) -> None:
    annotations = [{"version": 0, "frames": 4, "full": {}, "selected": {}, "selected_share": 0.25}]
    table_2(annotations, "ric", tmp_path)
    assert table(tmp_path / "table2.csv")[2] == ["PA.v0", "init-select", "1", "-", "-"]
    table_3([{"version": 0, "test": {}}], {}, tmp_path)
    assert table(tmp_path / "table3.csv")[1:] == [["model.v0", "-", "-", "-"]]
    table_4([{"version": 0, "test": {}}], {}, tmp_path)
    assert table(tmp_path / "table4.csv")[1:] == [["model.v0", "-", "-"]]


def test_the_summary_is_printed_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary({"share of the twin": "75.0 %"})
    assert "75.0 %" in capsys.readouterr().out
