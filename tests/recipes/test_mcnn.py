from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from datamodules.shot_store import ShotRecord
from pseudolabel.store import PAStore
from pseudolabel.types import DataError, Tag
from recipes.mcnn import MCNN
from recipes.run_folder import RunFolder
from recipes.workspace import Workspace
from tests.recipes.moving import mcnn_config, moving_folder, stills_folder
from train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_folder(tmp_path_factory.mktemp("moving") / "data")


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stills_folder(tmp_path_factory.mktemp("stills") / "data")


def test_all_stages_end_with_tables_and_results(data: Path, stills: Path, tmp_path: Path) -> None:
    cfg = mcnn_config(data, tmp_path, ["images=folder", f"images.root={stills}"])
    results = train(cfg)
    run = tmp_path / "runs/tiny"
    assert [model["stage"] for model in results["models"]] == ["stage_a", "stage_b", "stage_c"]
    assert results["tested_on"] == "images_val" and 0 <= results["test"]["miou"] <= 1
    assert results["selected_shots"] == 4  # one of the two shots of every video
    assert results["motion"]["train"]["jaccard"] > 0.5 and results["corloc"]["motion"] > 0.5
    assert set(results["corloc"]["classes"]) == {"green", "red"}
    assert json.loads((run / "results.json").read_text())["share_of_twin"] == results["share_of_twin"]
    assert (run / "tables/table1.csv").exists() and (run / "tables/table4.csv").exists()
    assert PAStore(run / "pa").versions() == [0, 1, 2, 3] and (run / "pictures/v3.png").exists()
    twin = results["twin"]
    assert twin["images_val"]["miou"] * results["share_of_twin"] == pytest.approx(results["test"]["miou"], abs=1e-4)
    with (run / "colocalisation/video0.csv").open(newline="") as file:
        boxes = list(csv.DictReader(file))
    assert all(0 <= float(box["x0"]) < float(box["x1"]) <= 64 and box["class"] == "green" for box in boxes)
    first = {path: path.stat().st_mtime_ns for path in run.glob("stage_*/best.ckpt")}
    assert train(cfg)["test"] == results["test"]  # the same command again redoes nothing
    assert {path: path.stat().st_mtime_ns for path in run.glob("stage_*/best.ckpt")} == first


@pytest.mark.parametrize("labels", ["hard", "em_adapt"])
def test_other_labels_train_without_fine_tuning(data: Path, tmp_path: Path, labels: str) -> None:
    more = [f"labels.name={labels}", "finetune.enabled=false", "twin=false", "stage_a.steps=4"]
    results = train(mcnn_config(data, tmp_path, more))
    assert [model["stage"] for model in results["models"]] == ["stage_a"] and results["tested_on"] == "train"


def test_images_alone_teach_the_baseline(data: Path, stills: Path, tmp_path: Path) -> None:
    more = ["images=folder", f"images.root={stills}", "train_on=images", "labels.name=em_adapt", "twin=false"]
    results = train(mcnn_config(data, tmp_path, [*more, "stage_a.steps=2", "colocalise.enabled=false"]))
    assert [model["stage"] for model in results["models"]] == ["stage_a"] and results["corloc"] == {}


def test_no_shot_good_enough_keeps_stage_a(data: Path, tmp_path: Path) -> None:
    more = ["finetune.least_overlap=1.01", "twin=false", "stage_a.steps=2", "colocalise.enabled=false"]
    results = train(mcnn_config(data, tmp_path, more))
    a, b = results["models"]
    assert a["train"] == b["train"] and results["selected_shots"] == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("labels.name=soft", "labels.name=soft: expected motion or hard or em_adapt"),
        ("train_on=images", "train_on=images needs tagged images"),
        ("data.source.actions=true", "recipe=mcnn labels classes"),
        ("segmenter.init=imagenet", "segmenter.init=imagenet: expected null or encoder2d"),
    ],
)
def test_settings_that_cannot_be_are_told(data: Path, tmp_path: Path, setting: str, message: str) -> None:
    if "actions" in setting:
        tags = (data / "tags.csv").read_text().replace(",\n", ",walking\n").replace(",\r\n", ",walking\r\n")
        copy = moving_folder(tmp_path / "copy", masks=False)
        (copy / "tags.csv").write_text(tags)
        data = copy
    with pytest.raises(DataError, match=message):
        train(mcnn_config(data, tmp_path, [setting]))


def test_what_cannot_be_searched_for_motion_is_listed_on_every_start(data: Path, tmp_path: Path) -> None:
    """The frames in the cache are whole; the video itself breaks later."""
    copy = shutil.copytree(data, tmp_path / "copy")
    cfg = mcnn_config(copy, tmp_path, ["twin=false", "finetune.enabled=false", "stage_a.steps=1"])
    run = RunFolder(Path(cfg.run_dir), cfg)
    recipe = MCNN(cfg, run, Workspace(cfg, run.path), [])
    (copy / "video1/00003.png").write_bytes(b"broken")
    found = run.stage("motion", recipe.find_shots)
    assert [name for name, _ in found["skipped"]] == ["video1"] and found["kept"] > 0
    for _ in range(2):  # a second start writes skipped.csv anew
        recipe = MCNN(cfg, run, Workspace(cfg, run.path), [])
        recipe._drop(run.state["motion"]["skipped"])
        assert (run.path / "skipped.csv").read_text().count("\nvideo1,") == 1
        assert "video1" not in [record.name for record in recipe.workspace.train]
        assert "video1" not in recipe.workspace.by_name


def test_shots_of_a_shared_folder_have_the_present_tags_and_videos(data: Path, tmp_path: Path) -> None:
    cfg = mcnn_config(data, tmp_path, [f"motion_dir={tmp_path}/motion"])
    run = RunFolder(Path(cfg.run_dir), cfg)
    recipe = MCNN(cfg, run, Workspace(cfg, run.path), [])
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    for video, tag in (("video0", "red"), ("stranger", "green")):
        recipe.shots.write(
            ShotRecord(video, 0, 0, 2, (Tag(tag),)), frames, np.arange(2), np.zeros((2, 8, 8), np.float32)
        )
        recipe.shots.mark_done(video)
    assert [(shot.video, shot.tags) for shot in recipe._records()] == [("video0", (Tag("green"),))]


def test_other_settings_of_a_shared_folder_are_refused_at_once(data: Path, tmp_path: Path) -> None:
    settings = tmp_path / "motion/settings.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"shots.count": 99}))
    with pytest.raises(DataError, match=r"shots\.count: 99 there, 4 now"):
        train(mcnn_config(data, tmp_path, [f"motion_dir={tmp_path}/motion"]))


def test_no_shot_to_train_on_is_told(data: Path, tmp_path: Path) -> None:
    cfg = mcnn_config(data, tmp_path)
    run = RunFolder(Path(cfg.run_dir), cfg)
    with pytest.raises(DataError, match=r"stage_a has nothing to train on.*no shot of the 4 training videos"):
        MCNN(cfg, run, Workspace(cfg, run.path), []).train_all(tmp_path / "stage_a")


def test_images_without_a_training_split_start_no_stage(data: Path, stills: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(stills, tmp_path / "stills")
    (copy / "labels.csv").write_text((copy / "labels.csv").read_text().replace(",train,", ",val,"))
    more = ["images=folder", f"images.root={copy}", "finetune.least_overlap=1.01", "stage_a.steps=1"]
    with pytest.raises(DataError, match=r"train_on=images needs tagged images.*none of split 'train'"):
        train(mcnn_config(data, tmp_path, [*more, "train_on=images"]))
    results = train(mcnn_config(data, tmp_path, [*more, "twin=false", "colocalise.enabled=false", "name=other"]))
    assert [model["stage"] for model in results["models"]] == ["stage_a", "stage_b"]


def test_classes_without_a_shot_are_told(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(data, tmp_path / "copy")
    for video in ("video1", "video3"):  # nothing moves in the red ones
        first = (copy / video / "00000.png").read_bytes()
        for file in (copy / video).iterdir():
            file.write_bytes(first)
    cfg = mcnn_config(copy, tmp_path)
    run = RunFolder(Path(cfg.run_dir), cfg)
    found = run.stage("motion", MCNN(cfg, run, Workspace(cfg, run.path), []).find_shots)
    assert found["classes_without_shot"] == ["red"] and found["still"] >= 2
    assert "no shot with usable motion shows red" in capsys.readouterr().out
