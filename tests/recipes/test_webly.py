from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from modules.predictors import load_predictor
from predict import predict
from pseudolabel.store import PAStore
from pseudolabel.types import DataError
from recipes.configuration import load_config
from recipes.webly import Webly
from tests.recipes.moving import moving_folder, stills_folder
from tests.recipes.webly_toys import WEBLY, catalogue_folder, webly_config
from train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving_folder(tmp_path_factory.mktemp("moving") / "data")


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stills_folder(tmp_path_factory.mktemp("stills") / "data", train=8, val=4)


@pytest.fixture(scope="module")
def finished(data: Path, stills: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("webly")
    train(webly_config(data, stills, folder))
    return folder


def test_all_stages_end_with_tables_and_results(data: Path, stills: Path, finished: Path) -> None:
    run = finished / "runs/tiny"
    results = json.loads((run / "results.json").read_text())
    assert [model["stage"] for model in results["models"]] == ["cam_one_scale", "cam", "decoder", "adapted"]
    assert results["tested_on"] == "images_val" and results["best_version"] == "adapted"
    assert results["twin"]["images_val"]["miou"] * results["share_of_twin"] == pytest.approx(results["test"]["miou"])
    videos = results["videos"]
    assert set(videos) == {"attention_motion_colour", "attention", "motion"}
    assert videos["attention_motion_colour"]["jaccard"] > 0.5 and videos["motion"]["jaccard"] > 0.3
    version = results["versions"][0]
    assert version["videos"] == 4 and 1 <= version["used"] <= 4 and version["kept"] > 0
    assert PAStore(run / "pa").versions() == [0] and (run / "pictures/v0.png").exists()
    assert all((run / f"tables/{name}.csv").exists() for name in ("table1", "table2", "table4"))
    state = json.loads((run / "state.json").read_text())
    assert state["twin"]["steps"] >= state["decoder"]["steps"] + state["adapted"]["steps"]


def test_the_same_command_again_redoes_nothing(data: Path, stills: Path, finished: Path) -> None:
    run = finished / "runs/tiny"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.suffix != ".csv"}
    results = train(webly_config(data, stills, finished))
    again = {path: path.stat().st_mtime_ns for path in before}
    changed = {path.name for path in before if again[path] != before[path]}
    assert changed <= {"results.json", "config.yaml"} and results["best_version"] == "adapted"


def test_a_stage_that_was_cut_short_goes_on(data: Path, stills: Path, finished: Path, tmp_path: Path) -> None:
    """The labels are published, and the process ended before the stage was stated as done."""
    run = finished / "runs/tiny"
    whole = json.loads((run / "state.json").read_text())
    assert whole["videos"]["kept"] == sum(row.frame >= 0 for row in PAStore(run / "pa").index(0))
    try:
        kept = {name: of for name, of in whole.items() if name in ("encoder2d",)}
        (run / "state.json").write_text(json.dumps(kept))
        recipe = Webly(webly_config(data, stills, finished), _run_folder(run, data, stills, finished), [])
        found = recipe.segment_videos(run / "videos")
        assert {key: found[key] for key in ("kept", "used", "frames")} == {
            key: whole["videos"][key] for key in ("kept", "used", "frames")
        }
    finally:
        (run / "state.json").write_text(json.dumps(whole))


def _run_folder(run: Path, data: Path, stills: Path, folder: Path):
    from recipes.run_folder import RunFolder

    return RunFolder(run, webly_config(data, stills, folder))


def test_its_checkpoint_predicts(data: Path, finished: Path, tmp_path: Path) -> None:
    ckpt = finished / "runs/tiny/adapted/best.ckpt"
    model = load_predictor(ckpt)
    scores = model.predict_scores(np.zeros((1, 30, 41, 3), np.uint8))
    assert scores.shape == (1, 3, 30, 41) and scores.sum(1) == pytest.approx(1, abs=1e-5)
    summary = predict(
        load_config("predict", [f"ckpt={ckpt}", f"input={data}/video0", f"out={tmp_path}/out", "overlay=false"])
    )
    assert summary["classes"] == ["background", "green", "red"] and summary["inputs"][0]["frames"] == 16
    with pytest.raises(DataError, match="holds a Encoder2D, expected one of Segmenter, AttentionDecoder"):
        load_predictor(finished / "runs/tiny/encoder2d/best.ckpt")


def test_end_to_end_learns_from_the_videos_alone(data: Path, stills: Path, finished: Path, tmp_path: Path) -> None:
    from benchmarks.variants import inherit
    from benchmarks.webly import VARIANTS, shared_stages

    changes = VARIANTS["end-to-end"]
    inherit(finished / "runs/tiny", tmp_path / "runs/tiny", shared_stages(changes))
    more = [f"{key}={value}" for key, value in changes.items()]
    results = train(webly_config(data, stills, tmp_path, more))
    assert [model["stage"] for model in results["models"]] == ["cam_one_scale", "cam", "decoder"]
    separate = load_predictor(finished / "runs/tiny/decoder/best.ckpt").state_dict()
    together = load_predictor(tmp_path / "runs/tiny/decoder/best.ckpt").state_dict()
    name = "network.encoder.classifier.weight"
    assert not np.allclose(separate[name], together[name]) and results["twin"] == {}


def test_videos_are_retrieved_from_a_catalogue(stills: Path, tmp_path: Path) -> None:
    root = catalogue_folder(tmp_path / "catalogue")
    more = ["data=catalogue", f"data.root={root}", "data.classes=[green,red]", "adapt.enabled=false", "twin=false"]
    gates = ["retrieval.thumbnail=0.3", "retrieval.key_frame=0.3"]
    given = [f"images.root={stills}", f"root={tmp_path}/runs", "data.max_side=null", "data.frames_per_video=6"]
    results = train(load_config("train", [*WEBLY, *more, *gates, *given]))
    assert results["retrieval"]["videos"] and results["best_version"] == "decoder"
    run = tmp_path / "runs/tiny"
    with (run / "web/manifest.csv").open(newline="") as file:
        reasons = [row["reason"] for row in csv.DictReader(file) if row["step"] == "search" and row["kept"] == "0"]
    assert any("clip3" in reason or "thumbnail" in reason for reason in reasons)
    assert (run / "tables/retrieval.csv").exists() and not results["videos"]  # nobody knows the truth


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["training=both"], "training=both: expected separate or end_to_end"),
        (["adapt.train=encoder"], "adapt.train=encoder: expected decoder or all"),
        (["relevance.threshold=1.5"], r"relevance.threshold=1.5: expected a probability"),
        (["attention.scales=[]"], r"attention.scales=\[\]: expected positive factors"),
        (["adapt.foreground=0.0"], "adapt.foreground=0.0: expected a probability between 0 and 1"),
        (["adapt.margin=1.5"], "adapt.margin=1.5: expected a difference of probabilities"),
        (["compare=[colour]"], "compare: unknown 'colour'"),
        (["compare_videos=0"], "compare_videos=0: expected null or at least 1"),
        (["graph.lambda_a=-1.0"], "lambda_a must be finite"),
        (["retrieval.margin=0.0"], "margin and longest must be positive"),
        (["decoder.steps=0"], "decoder.steps=0: expected at least 1"),
        (["images=none"], "learns its classes from tagged images"),
    ],
)
def test_settings_that_cannot_be_are_told(
    data: Path, stills: Path, tmp_path: Path, settings: list[str], message: str
) -> None:
    chosen = [f"images.root={stills}"] if settings != ["images=none"] else []
    given = [word for word in WEBLY if not word.startswith("images") or chosen]
    words = [*given, "data=videos", f"data.root={data}", *chosen, f"root={tmp_path}/runs", *settings]
    with pytest.raises(DataError, match=message):
        train(load_config("train", words))
    assert not (tmp_path / "runs/tiny/encoder2d").exists()
