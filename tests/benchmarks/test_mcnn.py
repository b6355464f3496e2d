from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mcnn import class_names, show_tables
from pseudolabel.label_settings import LabelPredictionSettings
from recipes.configuration import load_config

WHERE = "images_test"


def scores(miou: float, **classes: float) -> dict[str, Any]:
    return {"miou": miou, "classes": classes or {"background": 0.9, "cat": miou}}


def row(variant: str, seed: int, stages: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    models = [
        {"stage": stage, WHERE: each if isinstance(each, dict) else scores(each)} for stage, each in stages.items()
    ]
    waits = dict.fromkeys(stages, 0.25)
    plain = {"twin": {}, "corloc": {}, "label_wait_share": waits, "seconds": 120.0, "peak_memory_gib": 1.5}
    return {"variant": variant, "seed": seed, "models": models, **plain, **more}


def tables(rows: list[dict[str, Any]], folder: Path) -> dict[str, list[list[str]]]:
    show_tables(rows, folder)
    found = {}
    for file in folder.glob("*.csv"):
        with file.open(newline="") as lines:
            found[file.stem] = list(csv.reader(lines))
    return found


def test_a_class_stands_in_its_column_in_every_row(tmp_path: Path) -> None:
    rows = [
        row("m-cnn", 0, {"stage_a": scores(0.5, background=0.9, dog=0.1)}, twin={WHERE: scores(0.8)}),
        row("hard", 0, {"stage_a": scores(0.4, background=0.8, cat=0.3, dog=0.2)}),
        row("small", 0, {"stage_a": scores(0.3, dog=0.7, cat=0.6)}),
    ]
    header, *lines = tables(rows, tmp_path)["table1"]
    assert header == ["method", "background", "cat", "dog", "average", "share of twin %"]
    assert {line[0]: line[1:] for line in lines} == {
        "M-CNN*, small FOV": ["-", "60.00", "70.00", "30.00", "37.50"],
        "M-CNN*, large FOV": ["90.00", "-", "10.00", "50.00", "62.50"],
        "M-CNN* hard, large FOV": ["80.00", "30.00", "20.00", "40.00", "50.00"],
        "supervised twin": ["90.00", "80.00", "-", "80.00", "100.00"],
    }


def test_every_class_is_named_once_in_the_longest_lists_order() -> None:
    assert class_names([scores(0.1, dog=0.1), scores(0.1, cat=0.1, dog=0.1), {}]) == ["cat", "dog"]
    assert class_names([]) == []


@pytest.mark.parametrize(
    ("large", "small", "expected"), [(0.2, 0.3, ("small", "30.00")), (0.4, 0.3, ("large", "40.00"))]
)
def test_the_baseline_of_table_2_takes_its_better_field_of_view(
    large: float, small: float, expected: tuple[str, str], tmp_path: Path
) -> None:
    rows = [
        row("em-large", 0, {"stage_a": large}),
        row("em-small", 0, {"stage_a": small}),
        row("em-images", 0, {"stage_a": large + 0.1}),
        row("em-images-small", 0, {"stage_a": small + 0.1}),
    ]
    lines = tables(rows, tmp_path)["table2"][1:]
    name, average = expected
    assert [line[0] for line in lines] == [
        f"EM-Adapt, {kind} ({name} FOV, the better)" for kind in ("videos", "images")
    ]
    assert lines[0][-2] == average and float(lines[1][-2]) == float(average) + 10


def test_differences_are_taken_within_each_seed(tmp_path: Path) -> None:
    rows = [
        row("m-cnn", 0, {"stage_a": 0.50, "stage_b": 0.60, "stage_c": 0.65}),
        row("m-cnn", 1, {"stage_a": 0.70, "stage_b": 0.68, "stage_c": 0.69}),
        row("hard", 0, {"stage_a": 0.40}),
        row("hard", 1, {"stage_a": 0.68}),
        row("em-large", 1, {"stage_a": 0.50}),  # of this seed alone: the other has no pair
        row("images-em", 0, {"stage_c": 0.70}),
    ]
    found = tables(rows, tmp_path)["differences"]
    assert found[0] == ["pair", "difference", "seeds above 0"]
    lines = {label: rest for label, *rest in found[1:]}
    assert lines == {
        "motion soft − hard (M-CNN*)": ["6.00 ± 5.66", "2 of 2"],
        "fine-tuned − not (M-CNN − M-CNN*)": ["4.00 ± 8.49", "1 of 2"],
        "M-CNN* − EM-Adapt, large FOV": ["20.00", "1 of 1"],
        "M-CNN − EM-Adapt, videos (large FOV)": ["18.00", "1 of 1"],
        "M-CNN, with images − without": ["3.00 ± 2.83", "2 of 2"],
        "images labelled by network − by EM-Adapt": ["-5.00", "0 of 1"],
    }


def test_sensitivity_in_the_papers_order(tmp_path: Path) -> None:
    rows = [row(f"iterations-{n}", 0, {"stage_a": n / 10}) for n in (5, 1, 3)]
    rows += [row("tune-alpha-0.5", 0, {"stage_a": 0.9, "stage_b": 0.2}), row("alpha-10", 0, {"stage_a": 0.1})]
    assert tables(rows, tmp_path)["sensitivity"][1:] == [
        ["iterations", "1", "10.00"],
        ["iterations", "3", "30.00"],
        ["iterations", "5", "50.00"],
        ["alpha", "10", "10.00"],
        ["alpha in fine-tuning", "0.5", "20.00"],
    ]


def test_colocalisation_and_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corloc = {
        "model": 0.7,
        "motion": 0.5,
        "classes": {"cat": {"model": 0.8, "motion": 0.5}, "dog": {"model": 0.6, "motion": 0.5}},
    }
    other = {"model": 0.5, "motion": 0.3, "classes": {"dog": {"model": 0.5, "motion": 0.3}}}
    rows = [
        row("m-cnn", 0, {"stage_a": 0.5, "stage_b": 0.5}, corloc=other),
        row("m-cnn", 1, {"stage_a": 0.5, "stage_b": 0.5}, corloc=corloc, seconds=240.0, peak_memory_gib=2.0),
        row("hard", 0, {"stage_a": 0.5}, label_wait_share={"stage_a": None}),
    ]
    found = tables(rows, tmp_path)
    assert found["table4"][:2] == [
        ["method", "cat", "dog", "average"],
        ["motion segments", "50.00", "40.00 ± 14.14", "40.00 ± 14.14"],
    ]
    assert found["cost"][1:] == [
        ["m-cnn", "25.00 ± 0.00", "25.00 ± 0.00", "-", "3.0", "2.00"],
        ["hard", "-", "-", "-", "2.0", "1.50"],
    ]
    assert "Table 4. Co-localisation" in capsys.readouterr().out


def test_runs_without_a_true_mask_leave_no_scores_to_show(tmp_path: Path) -> None:
    assert set(tables([row("m-cnn", 0, {"stage_a": {}})], tmp_path)) == {"cost"}


def test_the_configuration_lists_every_setting_of_label_prediction_with_its_default() -> None:
    energy = load_config("train", ["recipe=mcnn", "scale=paper"]).energy
    defaults = {each.name: each.default for each in fields(LabelPredictionSettings) if each.name != "alpha"}
    assert dict(energy) == defaults
