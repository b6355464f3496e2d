from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from benchmarks.human import VARIANTS, shared_stages, show_tables


def test_what_variants_share_with_the_complete_method() -> None:
    shared = {name: list(shared_stages(changes)) for name, changes in VARIANTS.items()}
    everything = ["encoder2d", "key_frames", "detector", "contexts", "v0", "segmenter", "finish"]
    assert shared["human"] == shared["boxes"] == shared["masks"] == everything
    assert shared["no-weight"] == shared["no-negatives"] == everything[:5]
    assert shared["no-pair"] == shared["image-based"] == shared["em"] == everything[:4]
    assert shared["co-localisation"] == everything[:2] and not shared_stages({"encoder2d.epochs": 3})


def _row(variant: str, seed: int, rounds: list[float], twin: float | None = None) -> dict[str, Any]:
    models = [{"round": number + 1, "test": {"iou": iou, "jaccard": iou}} for number, iou in enumerate(rounds)]
    cost = {"seconds": 60.0, "peak_memory_gib": 1.0}
    return {
        **{"variant": variant, "seed": seed, "tested_on": "test", "models": models, **cost},
        "versions": [{"pa_iou_full": iou / 2} for iou in rounds[:2]],
        "twin": {} if twin is None else {"test": {"iou": twin}},
    }


def test_tables_are_paired_by_seed(tmp_path: Path) -> None:
    rows = [
        *[_row("human", 0, [0.2, 0.4], 0.8), _row("human", 1, [0.3, 0.5], 0.8)],
        *[_row("image-based", 0, [0.2, 0.3]), _row("no-pair", 0, [0.2, 0.35]), _row("masks", 1, [0.3, 0.5, 0.6])],
    ]
    show_tables(rows, tmp_path)

    def table(name: str) -> list[list[str]]:
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            return list(csv.reader(file))

    assert table("table1") == [
        ["round", "image-based", "no-pair", "human"],
        ["1", "20.00", "20.00", "25.00 ± 7.07"],
        ["2", "30.00", "35.00", "45.00 ± 7.07"],
    ]
    assert table("table1_masks")[2:] == [["2", "15.00", "17.50", "22.50 ± 3.54"]]
    of_masks = {row[1]: row[2:] for row in table("differences") if row[0] == "masks of key frames"}
    assert of_masks["full − no-pair"] == ["2.50", "1 of 1"] and "masks − boxes" not in of_masks
    pairs = {row[1]: row[2:] for row in table("differences") if row[0] == "test"}
    assert pairs["full − image-based"] == ["10.00", "1 of 1"] and pairs["no-pair − image-based"] == ["5.00", "1 of 1"]
    assert pairs["last round − first"] == ["20.00 ± 0.00", "2 of 2"]
    assert table("table3")[1:] == [
        *[["human", "45.00 ± 7.07"], ["masks", "60.00"], ["supervised twin", "80.00 ± 0.00"]],
    ]
