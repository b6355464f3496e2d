from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from modules.segmenter import Segmenter
from pseudolabel.store import PAStore
from pseudolabel.types import DataError
from tests.datamodules.fakes import write_mask_png, write_tags
from tests.recipes.tiny import synthetic_arguments, tiny_config, user_folder, videos_arguments
from train import main, train

ROOT = Path(__file__).resolve().parent.parent
KEYS = {
    "recipe", "data", "seed", "seconds", "peak_memory_gib", "versions", "best_version", "models", "test", "tested_on",
    "twin", "share_of_twin",
}  # fmt: skip


def contents(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha1(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- the main job


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished run on the embedded data: its folder and what ``train`` returned."""
    folder = tmp_path_factory.mktemp("main")
    torch.manual_seed(0)
    return folder / "runs/tiny", train(tiny_config(synthetic_arguments(folder)))


def test_one_command_leaves_everything_on_disk(done: tuple[Path, dict[str, Any]]) -> None:
    run, results = done
    assert json.loads((run / "results.json").read_text()) == results
    assert results.keys() >= KEYS
    assert (results["recipe"], results["data"], results["seed"]) == ("ws2", "synthetic", 0)
    assert OmegaConf.load(run / "config.yaml").rounds.max_versions == 2
    assert list(json.loads((run / "state.json").read_text())) == [
        "encoder2d", "encoder3d", "v0", "segmenter", "scores", "twin",
    ]  # fmt: skip
    for stage in ("encoder2d", "encoder3d", "segmenter", "twin"):
        assert (run / stage / "last.ckpt").is_file() and (run / stage / "best.ckpt").is_file()
    assert {file.name for file in (run / "tables").iterdir()} == {"table2.csv", "table3.csv", "table4.csv"}
    assert {file.name for file in (run / "pictures").iterdir()} == {"v0.png", "v1.png"}
    assert {row["stage"] for row in table(run / "metrics.csv")} == {"encoder2d", "encoder3d", "segmenter", "twin"}
    assert table(run / "skipped.csv") == []


def test_every_version_is_scored(done: tuple[Path, dict[str, Any]]) -> None:
    run, results = done
    store = PAStore(run / "pa")
    assert store.versions() == [0, 1] == [entry["version"] for entry in results["versions"]]
    for entry in results["versions"]:
        index = store.index(entry["version"])
        assert len({row.video for row in index}) == 16 and all(0 <= row.quality <= 1 for row in index)
        assert 0 <= entry["pa_miou_full"] <= 1 and "pa_miou_full_by_miou_pa" in entry
        assert 0 < entry["selected_share"] <= 1 and 0 < entry["criterion"] <= 1.5 and entry["epochs"] == 1
    assert results["share_of_twin"] == pytest.approx(results["test"]["miou"] / results["twin"]["test"]["miou"])
    assert results["tested_on"] == "test" and results["test"]["frames"] == 8
    assert results["seconds"] > 1 and 0.1 < results["peak_memory_gib"] < 6


def test_checkpoints_load_without_running_code(done: tuple[Path, dict[str, Any]]) -> None:
    run, _ = done
    for file in run.rglob("*.ckpt"):
        torch.load(file, weights_only=True)
    segmenter = Segmenter.load(run / "segmenter/best.ckpt")
    assert "cat-walking" in segmenter.space.names
    assert segmenter.predict_scores(np.zeros((1, 30, 50, 3), np.uint8)).shape == (
        1,
        segmenter.space.num_classes,
        30,
        50,
    )


def test_the_same_command_again_redoes_nothing(done: tuple[Path, dict[str, Any]]) -> None:
    run, results = done
    before, began = contents(run), time.monotonic()
    times = {
        file: file.stat().st_mtime_ns for folder in ("pa", "segmenter", "twin") for file in run.rglob(f"{folder}/**/*")
    }
    again = train(tiny_config(synthetic_arguments(run.parent.parent)))
    assert time.monotonic() - began < 3
    assert again == results
    assert contents(run) == before
    assert {file: file.stat().st_mtime_ns for file in times} == times


def test_other_settings_in_the_same_folder_are_refused(done: tuple[Path, dict[str, Any]]) -> None:
    run, _ = done
    with pytest.raises(DataError, match=r"holds a run with other settings \(rounds\.max_epochs: 1 there, 2 now\)"):
        train(tiny_config(synthetic_arguments(run.parent.parent, "rounds.max_epochs=2")))


@pytest.mark.parametrize("switches", [["selection=full", "criterion=miou_pa", "compare=[]", "cues=actor"]])
def test_the_switches_of_the_ablation(done: tuple[Path, dict[str, Any]], tmp_path: Path, switches: list[str]) -> None:
    data = f"data.root={done[0].parent.parent}/data"
    more = ["refine.enabled=false", "twin=false", "segmenter.init=null"]
    results = train(tiny_config(synthetic_arguments(tmp_path, data, *switches, *more)))
    assert results["versions"][0]["selected_share"] == 1.0
    assert results["twin"] == {} and results["share_of_twin"] is None
    assert not (tmp_path / "runs/tiny/encoder3d").exists()
    assert "pa_miou_full_by_miou_pa" not in results["versions"][1]


# --- a user's own folder


@pytest.mark.parametrize("masks", [True, False])
def test_a_users_folder_of_plain_classes(tmp_path: Path, masks: bool) -> None:
    root = user_folder(tmp_path / "videos", masks=masks)
    before = contents(root)
    results = train(tiny_config(videos_arguments(root, tmp_path)))
    run = tmp_path / "runs/tiny"
    assert contents(root) == before
    assert PAStore(run / "pa").versions() == [0, 1]
    assert results.keys() >= KEYS and results["tested_on"] == "train"
    assert len(table(run / "tables/table2.csv")) >= 4
    if masks:
        assert 0 < results["versions"][0]["pa_jaccard_full"] <= 1
        assert results["test"]["frames"] == 24 and "action_miou" not in results["test"]
        assert results["share_of_twin"] > 0
    else:
        assert results["test"] == {} and results["share_of_twin"] is None
        assert "test" not in results["twin"] and results["versions"][0]["pa_miou_full"] is None


def test_true_masks_change_nothing_but_the_scores(tmp_path: Path) -> None:
    with_masks = user_folder(tmp_path / "a/videos", masks=True)
    wrong = user_folder(tmp_path / "b/videos", masks=True)
    for file in (wrong / "masks").rglob("*.png"):
        write_mask_png(file, np.full((32, 48), 1, np.uint8))
    for root in (with_masks, wrong):
        train(tiny_config(videos_arguments(root, root.parent, "twin=false")))
    one, other = (tmp_path / name / "runs/tiny" for name in "ab")
    assert contents(one / "pa") == contents(other / "pa")
    assert (one / "results.json").read_text() != (other / "results.json").read_text()


# --- killed


def start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "train.py", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_when(process: subprocess.Popen[str], seen: Any) -> None:
    """Kill -9 as soon as ``seen()``."""
    until = time.monotonic() + 60
    while not seen():
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < until
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def epochs(run: Path, stage: str) -> list[int]:
    rows = table(run / "metrics.csv")
    metric = "train/loss"
    return [int(row["epoch"]) for row in rows if row["stage"] == stage and row["metric"] == metric]


def test_a_killed_run_goes_on_with_the_same_command(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    data = f"data.root={done[0].parent.parent}/data"
    more = [data, "encoder2d.epochs=12", "rounds.max_epochs=6", "rounds.patience=6"]
    run = tmp_path / "killed/runs/tiny"
    command = synthetic_arguments(tmp_path / "killed", *more)

    kill_when(start(command), lambda: (run / "encoder2d/last.ckpt").exists() and len(epochs(run, "encoder2d")) >= 3)
    assert not (run / "state.json").exists()
    kill_when(start(command), lambda: (run / "segmenter/v1.ckpt").exists())
    assert "v0" in json.loads((run / "state.json").read_text()) and not (run / "results.json").exists()
    whole = contents(run / "encoder2d") | contents(run / "pa/v0")

    last = start(command)
    said = last.communicate(timeout=120)[0]
    assert last.returncode == 0, said[-3000:]
    assert "encoder2d: done before" in said and "v0: done before" in said
    kept = contents(run / "encoder2d") | contents(run / "pa/v0")
    assert {name: value for name, value in kept.items() if name != "index.csv"} == {
        name: value for name, value in whole.items() if name != "index.csv"
    }
    for stage, count in (("encoder2d", 12), ("segmenter", 12)):
        done_epochs = epochs(run, stage)
        assert set(done_epochs) == set(range(count))
        assert len(done_epochs) <= count + 1  # only the epoch that was cut off is done again
    assert not list(run.rglob(".*.partial"))

    # Unbroken, in a process of its own as well: with other numbers of threads sums round differently.
    unbroken = start(synthetic_arguments(tmp_path / "whole", *more))
    said = unbroken.communicate(timeout=120)[0]
    assert unbroken.returncode == 0, said[-3000:]
    assert "encoder2d epoch 1 " in said, "ours"
    assert "GPU available" not in said and "Tip:" not in said, "Lightning's"
    reference = json.loads((tmp_path / "whole/runs/tiny/results.json").read_text())
    results = json.loads((run / "results.json").read_text())
    assert results["versions"] == reference["versions"] and results["test"] == reference["test"]
    assert contents(run / "pa") == contents(tmp_path / "whole/runs/tiny/pa")


def test_an_interrupted_training_is_told_as_such(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    run = tmp_path / "runs/tiny"
    process = start(synthetic_arguments(tmp_path, f"data.root={done[0].parent.parent}/data", "encoder2d.epochs=1000"))
    until = time.monotonic() + 60
    while not (run / "metrics.csv").exists() or not epochs(run, "encoder2d"):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)  # Ctrl-C
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130, said[-3000:]
    assert said.splitlines()[-1] == "interrupted; the same command goes on from here"
    assert "Traceback" not in said


# --- mistakes


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    single = user_folder(tmp_path / "single", masks=False)
    write_tags(single, [[f"red{n}", "red", ""] for n in (0, 2, 4)])
    (tmp_path / "empty").mkdir()
    files = user_folder(tmp_path / "files", masks=False)
    for arguments, message in [
        (["encoder2d.epoch=1"], "did you mean 'encoder2d.epochs'"),
        (["data=videos"], "data.root has no value"),
        (videos_arguments(tmp_path / "nowhere", tmp_path), "no such folder"),
        (videos_arguments(tmp_path / "empty", tmp_path), "tags.csv"),
        (videos_arguments(single, tmp_path, "name=single"), "a single class (red)"),
        (videos_arguments(files, tmp_path, "name=switch", "cues=motion"), "cues=motion: expected"),
        (
            videos_arguments(files, tmp_path, "name=optim", "encoder2d.model.optimizer=adamm"),
            "Unknown optimizer 'adamm'",
        ),
        (videos_arguments(files, tmp_path, "name=accel", "trainer.accelerator=abacus"), "abacus"),
        (videos_arguments(files, tmp_path, "name=net", "encoder2d.model.backbone=resnet19"), "resnet19"),
        (videos_arguments(files, tmp_path, "name=w", "encoder2d.model.weights=/gone.pth"), "/gone.pth"),
    ]:
        assert main(arguments) == 1, arguments
        error = capsys.readouterr().err
        lines = [line for line in error.splitlines() if not line.startswith("GPU") and "TPU" not in line]
        assert lines[-1].startswith("error: ") and message in lines[-1], error
        assert "Traceback" not in error


def test_the_program_itself_ends_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "train.py", f"root={tmp_path}", "rounds.patients=3"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr.splitlines() == [
        "error: Unknown key 'rounds.patients'; did you mean 'rounds.patience'? `--cfg` shows all keys."
    ]


def test_help_and_configuration_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "Tags in, masks out" in capsys.readouterr().out
    assert main(["--cfg", "seed=5"]) == 0
    shown = OmegaConf.create(capsys.readouterr().out)
    assert shown.seed == 5 and shown.recipe == "ws2"
