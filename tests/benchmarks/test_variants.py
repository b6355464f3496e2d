from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from benchmarks import mcnn_variants as mcnn
from benchmarks import webly, ws2
from benchmarks.variants import check_variants, inherit, run_variants, settings_of, spread
from pseudolabel.types import DataError
from recipes.configuration import load_config
from recipes.run_folder import RunFolder


def finished(folder: Path, *stages: str) -> Path:
    for stage in stages:
        (folder / stage).mkdir(parents=True)
        (folder / stage / "best.ckpt").write_text(stage)
    (folder / "state.json").write_text(json.dumps({stage: {"steps": 3} for stage in stages}))
    return folder


def test_stages_that_are_the_same_are_taken_over_once(tmp_path: Path) -> None:
    donor = finished(tmp_path / "lead", "stage_a", "stage_b", "twin")
    folder = tmp_path / "variant"
    inherit(donor, folder, {"stage_a": "stage_a", "never": "never"})
    assert json.loads((folder / "state.json").read_text()) == {"stage_a": {"steps": 3}}
    assert (folder / "stage_a/best.ckpt").read_text() == "stage_a" and not (folder / "stage_b").exists()
    (donor / "stage_a/best.ckpt").write_text("changed")
    inherit(donor, folder, {"stage_a": "stage_a", "stage_b": "stage_b"})  # it has begun: nothing is taken over
    assert (folder / "stage_a/best.ckpt").read_text() == "stage_a" and not (folder / "stage_b").exists()


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("hard", {"motion", "encoder2d"}),
        ("small", {"motion", "encoder2d"}),
        ("em-images", {"motion", "encoder2d"}),
        ("iterations-2", {"motion", "encoder2d"}),
        ("tune-alpha-3", {"motion", "encoder2d", "stage_a"}),
        ("images-em", {"motion", "encoder2d", "stage_a", "stage_b"}),
    ],
)
def test_mcnn_variants_share_what_their_settings_leave(variant: str, expected: set[str]) -> None:
    assert set(mcnn.shared_stages(mcnn.VARIANTS[variant])) == expected


@pytest.mark.parametrize(
    ("key", "shared"),
    [
        ("encoder2d.epochs", False),
        ("segmenter.init", False),
        ("segmenter.model.backbone", False),
        ("segmenter.model.backbone_args", False),
        ("segmenter.model.weights", False),
        ("segmenter.model.std", False),
        ("segmenter.model.head", True),
        ("segmenter.crop", True),
        ("labels.lag", True),
    ],
)
def test_the_classifier_is_shared_unless_what_it_depends_on_changes(key: str, shared: bool) -> None:
    stages = mcnn.shared_stages({key: "other"})
    assert ("encoder2d" in stages) == shared and "stage_a" not in stages


class Runs:
    """Stands in for training: writes what a finished run leaves, and notes what it found there."""

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = {}

    def __call__(self, run: DictConfig) -> dict[str, Any]:
        folder = RunFolder(Path(run.run_dir), run)
        self.found[run.name] = set(folder.state)
        for stage in ("motion", "encoder2d", "stage_a", "stage_b"):
            folder.stage(stage, lambda where: {"by": (where / "best.ckpt").write_text(str(run.name))})
        (folder.path / "results.json").write_text("{}")
        return {"recipe": run.recipe}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    found = Runs()
    monkeypatch.setattr("benchmarks.variants.train", found)
    return found


def run_all(root: Path, names: str, *more: str) -> list[dict[str, Any]]:
    cfg = load_config("mcnn_tables", [f"root={root}", "seeds=[4]", f"variants=[{names}]", *more])
    return list(run_variants(cfg, mcnn.VARIANTS, lead="m-cnn", shared=mcnn.shared_stages))


def test_the_lead_comes_first_and_alone_gives(tmp_path: Path, runs: Runs) -> None:
    rows = run_all(tmp_path, "hard,images-em,m-cnn")
    assert [row["variant"] for row in rows] == ["m-cnn", "hard", "images-em"]
    assert runs.found == {
        "m-cnn-seed4": set(),
        "hard-seed4": {"motion", "encoder2d"},
        "images-em-seed4": {"motion", "encoder2d", "stage_a", "stage_b"},
    }
    assert (tmp_path / "images-em-seed4/stage_b/best.ckpt").read_text() == "m-cnn-seed4"
    assert (tmp_path / "hard-seed4/stage_a/best.ckpt").read_text() == "hard-seed4"


def test_without_the_lead_nothing_is_shared(tmp_path: Path, runs: Runs) -> None:
    run_all(tmp_path, "hard,images-em")
    assert runs.found == {"hard-seed4": set(), "images-em-seed4": set()}


def test_a_lead_that_was_finished_before_gives_and_an_unfinished_one_does_not(tmp_path: Path, runs: Runs) -> None:
    run_all(tmp_path, "m-cnn")
    run_all(tmp_path, "images-em")
    assert runs.found["images-em-seed4"] == {"motion", "encoder2d", "stage_a", "stage_b"}
    (tmp_path / "m-cnn-seed4/results.json").unlink()
    run_all(tmp_path, "tune-alpha-3")
    assert runs.found["tune-alpha-3-seed4"] == set()


def test_a_lead_with_other_settings_is_refused(tmp_path: Path, runs: Runs) -> None:
    run_all(tmp_path, "m-cnn")
    with pytest.raises(DataError, match=r"other settings \(stage_a.steps: .*another root="):
        run_all(tmp_path, "hard", "stage_a.steps=7")


def test_a_change_to_the_value_that_is_there_is_none(tmp_path: Path, runs: Runs) -> None:
    run_all(tmp_path, "m-cnn,iterations-4,iterations-5")
    assert "stage_a" in runs.found["iterations-4-seed4"] and "stage_a" not in runs.found["iterations-5-seed4"]


def test_ws2_variants_share_v0_unless_the_cues_change() -> None:
    assert "v0" in ws2.shared_stages(ws2.VARIANTS["baseline"])
    assert "v0" not in ws2.shared_stages(ws2.VARIANTS["actor-cue"])


@pytest.mark.parametrize(("name", "module"), [("ablation", ws2), ("mcnn_tables", mcnn), ("webly_tables", webly)])
def test_every_variant_sets_keys_that_exist(name: str, module: object, tmp_path: Path) -> None:
    cfg = load_config(name, [f"root={tmp_path}"])
    variants = module.VARIANTS  # type: ignore[attr-defined]
    check_variants(cfg.variants, variants)
    for variant, changes in variants.items():
        run = settings_of(cfg, 3, variant, changes)
        assert run.seed == 3 and run.run_dir == f"{tmp_path}/{variant}-seed3" and "variants" not in run


def test_unknown_variants_name_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'hard'"):
        check_variants(["hrad"], mcnn.VARIANTS)


def test_spread_is_mean_and_deviation_in_percent() -> None:
    assert spread([0.5, 0.7, None]) == "60.00 ± 14.14"
    assert spread([0.5]) == "50.00"
    assert spread([None]) == "-"
