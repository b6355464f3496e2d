from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from benchmarks.webly import VARIANTS, shared_stages, show_tables


def test_what_variants_share_with_the_complete_method() -> None:
    shared = {name: list(shared_stages(changes)) for name, changes in VARIANTS.items()}
    everything = ["encoder2d", "web", "videos", "decoder"]
    assert shared["webly"] == everything and shared["adapt-all"] == everything
    assert shared["end-to-end"] == everything[:3]
    assert shared["one-scale"] == shared["by-motion"] == shared["by-attention"] == everything[:2]
    assert list(shared_stages({"retrieval.thumbnail": 0.5})) == ["encoder2d"]
    assert not shared_stages({"encoder2d.epochs": 3})


def _row(variant: str, seed: int, decoder: float, twin: float | None = None) -> dict[str, Any]:
    scores = {"cam": 0.2, "cam_one_scale": 0.15, "decoder": decoder, "adapted": decoder + 0.05}
    models = [{"stage": stage, "images_test": {"miou": miou}} for stage, miou in scores.items()]
    videos = {"attention_motion_colour": 0.6, "motion": 0.4, "attention": 0.3}
    return {
        **{"variant": variant, "seed": seed, "tested_on": "images_test", "models": models},
        "twin": {} if twin is None else {"stage": "twin", "images_test": {"miou": twin}},
        "videos": {} if variant != "webly" else {way: {"miou": j, "jaccard": j} for way, j in videos.items()},
        "retrieval": {"quality": {"precision": 0.9, "recall": 0.5}} if variant == "webly" else {},
        **{"seconds": 60.0, "peak_memory_gib": 1.0},
    }


def test_tables_are_paired_by_seed(tmp_path: Path) -> None:
    rows = [_row("webly", 0, 0.4, 0.8), _row("webly", 1, 0.5, 0.8), _row("end-to-end", 0, 0.3)]
    show_tables(rows, tmp_path)

    def table(name: str) -> dict[str, list[str]]:
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            return {row[0]: row[1:] for row in csv.reader(file)}

    pairs = table("differences")
    assert pairs["separate − end-to-end training"] == ["10.00", "1 of 1"]
    assert pairs["J of videos: all terms − motion"] == ["20.00 ± 0.00", "2 of 2"]
    assert pairs["adapted − not"] == ["5.00 ± 0.00", "2 of 2"]
    models = table("table1")
    assert models["decoder, no adaptation"] == ["45.00 ± 7.07", "56.25 ± 8.84"]
    assert models["supervised twin"] == ["80.00 ± 0.00", "100.00 ± 0.00"]
    assert models["decoder, no adaptation (end-to-end)"][0] == "30.00" and table("retrieval")["90.00 ± 0.00"]
