from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from modules.segmenter import Segmenter
from predict import predict
from pseudolabel.palette import read_mask
from pseudolabel.store import PAStore
from recipes.configuration import load_config
from tests.recipes.moving import MCNN, moving_folder, stills_folder
from train import train

REPOSITORY = Path(__file__).resolve().parents[2]


def test_two_processes_go_through_all_stages_and_the_model_predicts(tmp_path: Path) -> None:
    data, stills = moving_folder(tmp_path / "data"), stills_folder(tmp_path / "stills")
    given = [*MCNN, f"data.root={data}", f"root={tmp_path}/runs", "images=folder", f"images.root={stills}"]
    subprocess.run([sys.executable, "train.py", *given, "trainer=ddp_sim", "name=two"], cwd=REPOSITORY, check=True)
    one = train(load_config("train", [*given, "name=one"]))
    two = json.loads((tmp_path / "runs/two/results.json").read_text())
    assert [model["stage"] for model in two["models"]] == [model["stage"] for model in one["models"]]
    assert two["motion"] == one["motion"] and two["selected_shots"] == one["selected_shots"]
    stores = [PAStore(tmp_path / "runs" / name / "pa") for name in ("one", "two")]
    assert stores[0].index(0) == stores[1].index(0) and stores[1].versions() == [0, 1, 2, 3]
    state = json.loads((tmp_path / "runs/two/state.json").read_text())
    assert state["stage_a"]["steps"] == 12 and 0 <= state["stage_a"]["label_wait_share"] <= 1

    out = tmp_path / "out"
    checkpoint = tmp_path / "runs/two/stage_c/best.ckpt"
    clip = data / "video0"
    options = [f"ckpt={checkpoint}", f"input={clip}", f"out={out}", "overlay=false"]
    found = predict(load_config("predict", options))
    assert set(Segmenter.load(checkpoint).space.names[1:]) == {"green", "red"}
    masks = [read_mask(path) for path in sorted(out.rglob("*.png"))]
    assert len(masks) == 16 and {mask.shape for mask in masks} == {(48, 64)}
    assert set(np.unique(masks)) <= {0, 1, 2} and found
