from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from recipes.closing import close
from recipes.mcnn_report import describe, motion_name, show_tables
from recipes.registry import Recipe
from recipes.run_folder import RunFolder

CFG = OmegaConf.create({"recipe": "mcnn", "data": {"name": "toy"}, "seed": 0, "labels": {"name": "motion"}})


def stages() -> dict[str, Any]:
    def scored(value: float) -> dict[str, Any]:
        places = {"images_val": value, "test": value / 2, "train": value / 4}
        return {name: {"miou": miou, "jaccard": miou / 2} for name, miou in places.items()}

    motion = {"train": {"miou": 0.5, "jaccard": 0.6, "videos": 3, "all_videos": 4}}
    return {
        "motion": {"shots": 9, "kept": 5, "still": 2, "classes_without_shot": ["cat"], "seconds": 1.0},
        "stage_a": {"steps": 40, "label_wait_share": 0.125, "seconds": 2.0},
        "scores": {"motion": motion, "models": [{"stage": "stage_a", **scored(0.4)}]},
        "twin": {"frames": 7, **scored(0.8)},
    }


def test_the_twin_is_described_whole() -> None:
    results = describe(CFG, stages())
    assert results["tested_on"] == "images_val" and results["test"]["miou"] == 0.4
    assert results["twin"]["images_val"]["miou"] == 0.8 and results["twin"]["test"]["miou"] == 0.4
    assert results["share_of_twin"] == pytest.approx(0.5)
    assert results["classes_without_shot"] == ["cat"] and results["versions"][0]["still"] == 2


def test_the_summary_compares_like_with_like(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, recipe = RunFolder(tmp_path / "run", CFG), Recipe(lambda: {}, describe, show_tables)
    close(CFG, run, recipe, stages(), seconds=3.0)
    out = capsys.readouterr().out
    assert "40.00 / 80.00" in out and "50.0 %" in out  # on images_val both, not 40.00 / 40.00
    assert "12.5 %" in (run.path / "tables/waiting.csv").read_text()
    assert "motion segments (3 videos of one tag)" in (run.path / "tables/table1.csv").read_text()


def test_motion_segments_of_all_videos_need_no_remark() -> None:
    assert motion_name({"videos": 4, "all_videos": 4}) == "motion segments" == motion_name({})
