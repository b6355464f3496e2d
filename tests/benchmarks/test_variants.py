from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import mcnn, ws2
from benchmarks.variants import check_variants, inherit, settings_of, spread
from pseudolabel.types import DataError
from recipes.configuration import load_config


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
        ("hard", {"motion"}),
        ("em-images", {"motion"}),
        ("iterations-2", {"motion"}),
        ("tune-alpha-3", {"motion", "stage_a"}),
        ("images-em", {"motion", "stage_a", "stage_b"}),
    ],
)
def test_mcnn_variants_share_what_their_settings_leave(variant: str, expected: set[str]) -> None:
    assert set(mcnn.shared_stages(mcnn.VARIANTS[variant])) == expected


def test_ws2_variants_share_v0_unless_the_cues_change() -> None:
    assert "v0" in ws2.shared_stages(ws2.VARIANTS["baseline"])
    assert "v0" not in ws2.shared_stages(ws2.VARIANTS["actor-cue"])


@pytest.mark.parametrize(("name", "module"), [("ablation", ws2), ("mcnn_tables", mcnn)])
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
