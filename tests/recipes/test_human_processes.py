from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pseudolabel.store import PAStore
from tests.recipes.human_toys import HUMAN, boxes_table, human_config
from tests.recipes.killed import KILLED
from tests.recipes.moving import moving_folder
from train import train

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = ["rounds.max_epochs=3", "twin=false", "crf.enabled=false"]


def _data(folder: Path) -> tuple[Path, list[str]]:
    data = moving_folder(folder / "data")
    boxes_table(data)
    given = [f"data.root={data}", f"root={folder}/runs", f"detector.path={data}/boxes.csv"]
    return data, [*HUMAN, *given, *QUICK]


def test_two_processes_find_and_label_what_one_does(tmp_path: Path) -> None:
    data, arguments = _data(tmp_path)
    subprocess.run([sys.executable, "train.py", *arguments, "trainer=ddp_sim", "name=two"], cwd=REPOSITORY, check=True)
    one = train(human_config(data, tmp_path, QUICK))
    two = json.loads((tmp_path / "runs/two/results.json").read_text())
    assert two["key_frames"] == one["key_frames"] and two["detections"] == one["detections"]
    assert [model["round"] for model in two["models"]] == [1, 2]
    stores = [PAStore(tmp_path / "runs" / name / "pa") for name in ("tiny", "two")]
    assert stores[0].versions() == stores[1].versions() == [0, 1]
    assert stores[0].index(0) == stores[1].index(0)


def test_a_killed_run_goes_on_and_redoes_nothing(tmp_path: Path) -> None:
    data, arguments = _data(tmp_path)
    command = [sys.executable, "-m", "tests.recipes.killed", "v1", *arguments]
    assert subprocess.run(command, cwd=REPOSITORY).returncode == KILLED
    run = tmp_path / "runs/tiny"
    done = json.loads((run / "state.json").read_text())
    assert set(done) == {"key_frames", "contexts", "v0"} and (run / "segmenter/v0.ckpt").exists()
    before = {path: path.stat().st_mtime_ns for name in ("key_frames", "contexts") for path in (run / name).iterdir()}
    results = train(human_config(data, tmp_path, QUICK))
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    assert [model["round"] for model in results["models"]] == [1, 2]
    assert PAStore(run / "pa").versions() == [0, 1]
