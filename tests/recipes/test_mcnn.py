from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pseudolabel.store import PAStore
from pseudolabel.types import DataError
from recipes.mcnn import MCNN, frame_overlaps
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


def test_overlap_of_frames_by_hand() -> None:
    first = np.zeros((3, 2, 2), bool)
    second = first.copy()
    first[0, 0], second[0, :, 0] = True, True  # 1 of 3 pixels
    first[1], second[1] = True, True
    assert frame_overlaps(first, second) == pytest.approx([1 / 3, 1, 0])


def test_the_best_shot_of_each_video_is_chosen(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that says 'object' everywhere overlaps best where the motion segment is largest."""
    from pytorch_lightning.loggers import Logger

    from modules.segmenter import Segmenter
    from recipes.run_folder import RunFolder
    from recipes.workspace import Workspace

    cfg = mcnn_config(data, tmp_path, ["finetune.least_overlap=0.05", "twin=false"])
    run = RunFolder(Path(cfg.run_dir), cfg)
    loggers: list[Logger] = []
    recipe = MCNN(cfg, run, Workspace(cfg, run.path), loggers)
    run.stage("motion", recipe.find_shots)

    class Everywhere:
        def to(self, _: object) -> "Everywhere":
            return self

        def predict_scores(self, frames: np.ndarray) -> np.ndarray:
            scores = np.zeros((len(frames), 3, *frames.shape[1:3]), np.float32)
            scores[:, 1:] = 0.5
            scores[:, 1] = 0.6  # always "green"
            return scores

    monkeypatch.setattr(Segmenter, "load", classmethod(lambda cls, path: Everywhere()))
    chosen, overlaps = recipe._best_shots(Path("unused"))
    share = {s.name: float((recipe.shots.read(s.name)[2] > 0.5).mean()) for s in recipe.shots.records()}
    for name, overlap in overlaps.items():
        green = name.startswith(("video0", "video2"))
        assert overlap == pytest.approx(share[name] if green else 0.0, abs=1e-4)
    assert sorted(shot.video for shot in chosen) == ["video0", "video2"]  # the red ones are below the least overlap
    for shot in chosen:
        assert overlaps[shot.name] == max(value for name, value in overlaps.items() if name.startswith(shot.video))
