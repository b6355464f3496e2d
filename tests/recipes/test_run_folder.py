from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from pseudolabel.types import DataError
from recipes.run_folder import RunFolder, peak_memory_gib, write_json


def begun(path: Path) -> RunFolder:
    """A run folder in which a stage has left a checkpoint."""
    run = RunFolder(path, config())
    (path / "encoder2d").mkdir()
    (path / "encoder2d/last.ckpt").touch()
    return run


def config(**changes: Any) -> DictConfig:
    plain = {
        "name": "x",
        "root": "runs",
        "run_dir": "${root}/${name}",
        "seed": 0,
        "workers": 2,
        "workers_per_loader": 0,
        "trainer": {"devices": 1},
        "logger": {"wandb": False},
        "labels": {"workers": 2},
        "motion_dir": "${root}/motion",
        "images": {"name": "synthetic", "source": {"workers": "${workers}"}},
        "data": {
            "name": "toy",
            "cache_dir": None,
            "source": {"size": [32, 48], "workers": "${workers}", "seed": "${seed}"},
        },
    }
    cfg = OmegaConf.create(plain)
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("__", "."), value)
    return cfg


def test_the_resolved_configuration_is_written_first(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs/x", config(seed=3))
    saved = OmegaConf.load(run.path / "config.yaml")
    assert saved.data.source.seed == 3 and saved.run_dir == "runs/x"
    assert "${" not in (run.path / "config.yaml").read_text()
    assert [file.name for file in run.path.iterdir()] == ["config.yaml"]
    assert run.state == {}


def test_the_same_settings_go_on(tmp_path: Path) -> None:
    begun(tmp_path)
    before = (tmp_path / "config.yaml").stat().st_mtime_ns
    RunFolder(tmp_path, config())
    assert (tmp_path / "config.yaml").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"data__source__size": [64, 64]}, "data.source.size: [32, 48] there, [64, 64] now"),
        ({"data__name": "other"}, "data.name: 'toy' there, 'other' now"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    begun(tmp_path)
    with pytest.raises(DataError) as caught:
        RunFolder(tmp_path, config(**changes))
    assert named in str(caught.value) and "another name=" in str(caught.value)


def test_before_the_first_stage_settings_may_be_corrected(tmp_path: Path) -> None:
    RunFolder(tmp_path, config(seed=1))
    (tmp_path / "skipped.csv").touch()
    (tmp_path / "encoder2d").mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/frames.npy").touch()
    RunFolder(tmp_path, config(seed=2))
    assert OmegaConf.load(tmp_path / "config.yaml").seed == 2


def test_a_key_that_is_gone_or_new_is_another_setting(tmp_path: Path) -> None:
    begun(tmp_path)
    more = OmegaConf.merge(config(), {"extra": 5})
    assert isinstance(more, DictConfig)
    with pytest.raises(DataError, match="extra: None there, 5 now"):
        RunFolder(tmp_path, more)


@pytest.mark.parametrize(
    "changes",
    [
        {"workers": 8},
        {"workers_per_loader": 4},
        {"trainer__devices": 2},
        {"logger__wandb": True},
        {"root": "/moved"},
        {"data__cache_dir": "/fast"},
        {"labels__workers": 0},
        {"images__source__workers": 7},
        {"motion_dir": "/shared"},
    ],
)
def test_where_and_how_it_is_computed_may_change(tmp_path: Path, changes: dict[str, Any]) -> None:
    begun(tmp_path)
    RunFolder(tmp_path, config(**changes))


def test_a_stage_is_done_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[Path] = []

    def work(folder: Path) -> dict[str, Any]:
        assert folder.is_dir()
        calls.append(folder)
        return {"answer": len(calls)}

    run = RunFolder(tmp_path, config())
    first = run.stage("think", work)
    assert first["answer"] == 1 and first["seconds"] >= 0 and first["peak_memory_gib"] > 0
    assert run.stage("think", work) == first
    assert RunFolder(tmp_path, config()).stage("think", work) == first
    assert calls == [tmp_path / "think"]
    assert "think: done before" in capsys.readouterr().out
    run.stage("act", work)
    assert list(json.loads((tmp_path / "state.json").read_text())) == ["think", "act"]


def test_a_stage_that_fails_is_not_done(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        raise RuntimeError("the power went off")

    run = RunFolder(tmp_path, config())
    run.stage("think", lambda folder: {})
    with pytest.raises(RuntimeError):
        run.stage("act", fail)
    assert list(run.state) == ["think"]
    assert run.stage("act", lambda folder: {"answer": 2})["answer"] == 2


def test_json_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_peak_memory_is_plausible() -> None:
    assert 0.01 < peak_memory_gib() < 200
