from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from datamodules.shot_store import ShotStore
from pseudolabel.store import PAStore
from recipes.configuration import load_config
from tests.recipes.killed import KILLED
from tests.recipes.moving import MCNN, moving_folder
from train import train

REPOSITORY = Path(__file__).resolve().parents[2]


def kill(where: str, arguments: list[str]) -> None:
    ended = subprocess.run([sys.executable, "-m", "tests.recipes.killed", where, *arguments], cwd=REPOSITORY)
    assert ended.returncode == KILLED


def test_a_killed_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    data = moving_folder(tmp_path / "data", videos=2)
    quick = ["stage_a.steps=4", "finetune.steps=2", "twin=false", "colocalise.enabled=false"]
    arguments = [*MCNN, *quick, f"data.root={data}", f"root={tmp_path}/runs"]
    run = tmp_path / "runs/tiny"

    kill("motion", arguments)
    shots = ShotStore(run / "motion/shots")
    first = (run / "motion/shots/video0/done.json").stat().st_mtime_ns
    assert shots.is_written("video0") and not shots.is_written("video1") and not (run / "state.json").exists()

    kill("stage_b", arguments)
    assert (run / "stage_b/shots.json").exists() and not (run / "stage_b/best.ckpt").exists()
    trained = (run / "stage_a/best.ckpt").stat().st_mtime_ns

    resumed = train(load_config("train", arguments))
    assert (run / "motion/shots/video0/done.json").stat().st_mtime_ns == first  # nothing was done again
    assert (run / "stage_a/best.ckpt").stat().st_mtime_ns == trained
    whole = train(load_config("train", [*arguments, "name=whole"]))
    assert resumed["models"] == whole["models"] and resumed["versions"] == whole["versions"]
    assert PAStore(run / "pa").index(2) == PAStore(tmp_path / "runs/whole/pa").index(2)
