from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.datasets import PseudoFrames
from modules.checkpoints import read_checkpoint
from modules.predictors import load_predictor
from predict import predict
from pseudolabel.boxes import box_iou
from pseudolabel.store import PAStore
from pseudolabel.types import DataError
from recipes.configuration import load_config
from recipes.workspace import Workspace
from tests.datamodules.fakes import write_table
from tests.recipes.human_toys import boxes_table, human_config
from tests.recipes.moving import moving_folder, stills_folder
from train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = moving_folder(tmp_path_factory.mktemp("moving") / "data", videos=6)
    boxes_table(root)
    return root


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("human")
    train(human_config(data, folder))
    return folder


def test_all_stages_end_with_tables_and_results(finished: Path) -> None:
    run = finished / "runs/tiny"
    results = json.loads((run / "results.json").read_text())
    assert results["target"] == "red" and results["metric"] == "iou" and results["tested_on"] == "held_back"
    assert [model["round"] for model in results["models"]] == [1, 2]
    assert [version["version"] for version in results["versions"]] == [0, 1]
    assert results["versions"][0]["pa_iou_full"] > 0.5, "the boxes are nearly the squares"
    assert results["test"]["iou"] > 0.3 and results["share_of_twin"] > 0
    assert results["key_frames"]["num_shots"] == 6 and results["detections"]["videos_without_boxes"] == 0
    assert PAStore(run / "pa").versions() == [0, 1] and (run / "pictures/v1.png").exists()
    assert all((run / f"tables/{name}.csv").exists() for name in ("videos", "masks", "table1"))


def test_the_best_key_frames_and_the_empty_frames_train(finished: Path) -> None:
    run = finished / "runs/tiny"
    boxes = {(row["video"], row["frame"]) for row in csv.DictReader((run / "contexts/boxes.csv").open())}
    rows = PAStore(run / "pa").index(0)
    green = [row for row in rows if row.video in ("video0", "video2", "video4")]
    assert green and all(row.area == 0 for row in green)
    assert any(row.selected and row.weight == 1 for row in green)
    taught = [row for row in rows if row.area > 0 and row.selected]
    assert taught and all(row.weight == pytest.approx(row.quality, abs=1e-5) for row in taught)
    assert not any(row.selected for row in green if (row.video, str(row.frame)) in boxes)


def test_the_same_command_again_redoes_nothing(data: Path, finished: Path) -> None:
    run = finished / "runs/tiny"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.suffix != ".csv"}
    train(human_config(data, finished))
    again = {path: path.stat().st_mtime_ns for path in before}
    assert {path.name for path in before if again[path] != before[path]} <= {"results.json", "config.yaml"}


def test_its_checkpoint_predicts_with_and_without_the_crf(data: Path, finished: Path, tmp_path: Path) -> None:
    ckpt = finished / "runs/tiny/segmenter/best.ckpt"
    assert load_predictor(ckpt).space.names == ("background", "red")
    shares, settings = {}, {}
    for crf in ("false", "true", "null"):
        given = [f"ckpt={ckpt}", f"input={data}/video1", f"out={tmp_path}/{crf}", "overlay=false", f"crf={crf}"]
        summary = predict(load_config("predict", given))
        shares[crf] = summary["inputs"][0]["classes"]["red"]["pixel_share"]
        settings[crf] = summary["settings"]["crf"]
    assert all(0.02 < share < 0.6 for share in shares.values())
    assert shares["null"] == shares["true"] != shares["false"]
    assert not settings["false"]["enabled"] and settings["null"] == settings["true"]
    assert settings["null"]["enabled"] and settings["null"]["bilateral_xy"] == 5.0


def _continued(finished: Path, folder: Path, stages: tuple[str, ...], parts: tuple[str, ...]) -> Path:
    run = folder / "runs/tiny"
    for part in parts:
        shutil.copytree(finished / "runs/tiny" / part, run / part)
    state = json.loads((finished / "runs/tiny/state.json").read_text())
    (run / "state.json").write_text(json.dumps({name: state[name] for name in stages}))
    return run


VIDEOS = ("key_frames", "contexts")


@pytest.mark.parametrize("labels", ["image_level", "em"])
def test_other_ways_of_using_videos(data: Path, finished: Path, tmp_path: Path, labels: str) -> None:
    _continued(finished, tmp_path, VIDEOS, VIDEOS)
    more = [f"labels={labels}", "selection.least_share=0.0", "twin=false", "rounds.max_epochs=2", "crf.enabled=false"]
    results = train(human_config(data, tmp_path, more))
    assert len(results["models"]) == 2
    rows = [row for row in PAStore(tmp_path / "runs/tiny/pa").index(0) if row.video == "video1"]
    assert all(row.area >= 0.15 for row in rows), "EM-Adapt promises the tag a fifth of every frame"


def test_finishing_teaches_every_rounds_network_what_its_masks_leave_out_and_changes_no_mask(
    data: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: set[tuple[int, int]] = set()

    def noted(self: Workspace, store: PAStore, version: int, *args: Any, **options: Any) -> PseudoFrames:
        taught.add((version, options.get("void_as", 255)))
        return make(self, store, version, *args, **options)

    make = Workspace.pseudo_frames
    monkeypatch.setattr(Workspace, "pseudo_frames", noted)
    by_boxes = ["energy.void_in_boxes=true", "energy.lambda_r=1.0", "energy.lambda_e=0.0"]
    more = [*by_boxes, "twin=false", "rounds.max_epochs=2", "crf.enabled=false"]
    for name, epochs in (("plain", 0), ("finish", 2)):
        _continued(finished, tmp_path / name, VIDEOS, VIDEOS)
        results = train(human_config(data, tmp_path / name, [*more, f"finish.epochs={epochs}"]))
        assert results["checkpoint"] == ("finish/best.ckpt" if epochs else "segmenter/best.ckpt")
        wanted = {(0, 255), (1, 255)}
        assert taught == (wanted | {(0, 0), (1, 0)} if epochs else wanted)
        taught.clear()
    runs = [tmp_path / name / "runs/tiny" for name in ("plain", "finish")]
    masks = [{path.relative_to(run): path.read_bytes() for path in (run / "pa").rglob("*.png")} for run in runs]
    assert len(masks[0]) > 2 and masks[0] == masks[1], "masks of versions 0 and 1"
    for version in (0, 1):
        before, after = (_weights(runs[1] / path) for path in (f"segmenter/v{version}.ckpt", f"finish/v{version}.ckpt"))
        learned = [key for key in before if key.endswith("weight")]
        assert learned and all(not torch.equal(before[key], after[key]) for key in learned)
    best, last = (_weights(runs[1] / f"finish/{name}.ckpt") for name in ("best", "v1"))
    assert all(torch.equal(best[key], last[key]) for key in last)


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(path)["state_dict"])


def test_finishing_goes_on_where_it_was_killed(data: Path, finished: Path, tmp_path: Path) -> None:
    whole, more = (*VIDEOS, "v0", "segmenter"), ["finish.epochs=1", "twin=false", "crf.enabled=false"]
    run = _continued(finished, tmp_path, whole, (*VIDEOS, "pa", "segmenter"))
    shutil.copytree(run / "segmenter", run / "finish/v0")  # as if round 1 had been finished: its weights stay
    kept = (run / "finish/v0/best.ckpt").read_bytes()
    results = train(human_config(data, tmp_path, [*more, "finish.average=2"]))
    assert (run / "finish/v0/best.ckpt").read_bytes() == kept != (run / "finish/v1/best.ckpt").read_bytes()
    first, second = (_weights(run / f"finish/v{version}/best.ckpt") for version in (0, 1))
    alone, mean = (_weights(run / f"finish/v{version}.ckpt") for version in (0, 1))
    assert all(torch.equal(alone[key], first[key]) for key in first), "there is none before to average with"
    floating = [key for key in mean if mean[key].is_floating_point()]
    assert all(torch.allclose(mean[key], (first[key] + second[key]) / 2, atol=1e-6) for key in floating)
    assert any("running_mean" in key for key in floating)
    assert len(results["models"]) == 2 and json.loads((run / "state.json").read_text())["finish"]["epochs"] == 1


def test_extra_supervision_joins_in_the_last_round(data: Path, finished: Path, tmp_path: Path) -> None:
    stills = stills_folder(tmp_path / "stills", train=6, val=4)
    whole = (*VIDEOS, "v0", "segmenter")
    for kind in ("boxes", "masks"):
        _continued(finished, tmp_path / kind, whole, (*VIDEOS, "pa", "segmenter"))
        more = ["images=folder", f"images.root={stills}", f"extra.supervision={kind}", "extra.epochs=2", "twin=false"]
        more += ["finish.epochs=0"]  # no average: the last round's network alone
        results = train(human_config(data, tmp_path / kind, more))
        assert results["models"][-1]["round"] == f"2 + {kind}" and results["checkpoint"] == "extra/best.ckpt"
        assert [path.name for path in (tmp_path / kind / "runs/tiny/extra").glob("v*")] == ["v1"]
        assert results["tested_on"] == "images_val" and results["test"]["iou"] >= 0


def test_extra_supervision_teaches_all_networks_that_are_averaged_and_goes_on_where_it_was_killed(
    data: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stills, whole = stills_folder(tmp_path / "stills", train=6, val=4), (*VIDEOS, "v0", "segmenter")
    run = _continued(finished, tmp_path, whole, (*VIDEOS, "pa", "segmenter"))
    taught: list[int] = []

    def noted(self: Workspace, store: PAStore, version: int, *args: Any, **options: Any) -> PseudoFrames:
        if (run / "extra").exists():
            taught.append(version)
        return make(self, store, version, *args, **options)

    make = Workspace.pseudo_frames
    monkeypatch.setattr(Workspace, "pseudo_frames", noted)
    more = ["finish.epochs=1", "finish.average=2", "twin=false", "crf.enabled=false"]
    more += ["images=folder", f"images.root={stills}", "extra.supervision=masks", "extra.epochs=1"]
    results = train(human_config(data, tmp_path, more))
    assert list(dict.fromkeys(taught)) == [0, 1] and results["models"][-1]["round"] == "2 + masks"
    starts = [_weights(run / f"finish/v{version}/best.ckpt") for version in (0, 1)]
    ends = [_weights(run / f"extra/v{version}/best.ckpt") for version in (0, 1)]
    learned = [key for key in starts[0] if key.endswith("weight") and not torch.equal(starts[0][key], starts[1][key])]
    for own, other, end in zip(starts, starts[::-1], ends, strict=True):  # one epoch leaves a network nearer to its own
        near, far = (sum(float((end[key] - start[key]).abs().sum()) for key in learned) for start in (own, other))
        assert 0 < near < 0.7 * far
    mean = _weights(run / "extra/best.ckpt")
    floating = [key for key in mean if mean[key].is_floating_point()]
    assert all(torch.allclose(mean[key], (ends[0][key] + ends[1][key]) / 2, atol=1e-6) for key in floating)

    state = json.loads((run / "state.json").read_text())
    (run / "state.json").write_text(json.dumps({k: v for k, v in state.items() if k not in ("extra", "scores")}))
    taught.clear()
    (run / "extra/best.ckpt").unlink()  # as if it had been killed after the first of its networks
    shutil.rmtree(run / "extra/v1")
    train(human_config(data, tmp_path, more))
    assert set(taught) == {1} and _weights(run / "extra/best.ckpt").keys() == mean.keys()


def test_a_detector_that_finds_nothing_is_told(data: Path, finished: Path, tmp_path: Path) -> None:
    _continued(finished, tmp_path, ("key_frames",), ("key_frames",))
    with pytest.raises(DataError, match=r"found nothing in any of 3 videos of the target.*lower detector\.threshold"):
        train(human_config(data, tmp_path, ["detector.threshold=0.99"]))


def test_a_table_of_the_wrong_frames_is_told_and_the_run_goes_on_with_a_mended_one(
    data: Path,
    finished: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = _continued(finished, tmp_path, ("key_frames",), ("key_frames",))
    header = ["video", "frame", "x0", "y0", "x1", "y1", "score"]
    table = write_table(tmp_path / "boxes.csv", [header, ["video1", 99, 1, 2, 10, 12, 0.9]])
    quick = ["rounds.max_epochs=1", "rounds.max_versions=1", "twin=false", "crf.enabled=false"]
    given = ["detector.name=csv", f"detector.path={table}", "detector.threshold=0.3", *quick]
    with pytest.raises(DataError, match=r"found nothing in any of 3.*warnings above.*frames\.csv"):
        train(human_config(data, tmp_path, given))
    assert "the 1 boxes of video 'video1' are in none of the frames that are looked at" in caplog.text
    listed = (run / "key_frames/frames.csv").read_text().splitlines()
    notes = [json.loads(path.read_text())["indices"] for path in (run / "key_frames").glob("*.json")]
    assert listed[0] == "video,frame" and len(listed) == 1 + sum(map(len, notes))
    shutil.copy(data / "boxes.csv", table)
    others = {row["video"] for row in csv.DictReader((data / "tags.csv").open()) if row["class"] != "red"}
    with table.open("a") as file:
        file.writelines(f"{name},{frame},1,2,10,12,0.9\n" for name in sorted(others) for frame in range(60))
    assert train(human_config(data, tmp_path, given))["detections"]["videos_without_boxes"] == 0
    assert "no frame without red teaches: the detector found it in all frames" in capsys.readouterr().out
    table.write_text(table.read_text() + "video1,99,1,2,10,12,0.9\n")
    capsys.readouterr()
    train(human_config(data, tmp_path, given))
    assert "boxes.csv has changed since its boxes were read" in capsys.readouterr().out


def test_a_detector_learns_from_boxes_of_images(data: Path, finished: Path, tmp_path: Path) -> None:
    run = _continued(finished, tmp_path, ("key_frames",), ("key_frames",))
    stills = stills_folder(tmp_path / "stills", train=12, val=4)
    rows: list[list[object]] = [["image", "class", "x0", "y0", "x1", "y1"]]
    for file in sorted((stills / "masks").iterdir()):
        ys, xs = np.nonzero(np.asarray(Image.open(file)) == 2)
        if len(ys):
            rows.append([file.stem, "red", xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    table = write_table(stills / "boxes.csv", rows)
    shutil.rmtree(stills / "masks")  # nothing looks at them
    learning = ["box_detector.epochs=25", "box_detector.batch_size=4", "box_detector.model.backbone=resnet18"]
    sizes = ["box_detector.model.channels=32", "box_detector.model.crop=64", "box_detector.model.lr=5.0e-3"]
    narrow = ["box_detector.model.backbone_args={channels:[8,8,16,16]}"]
    quick = ["rounds.max_epochs=1", "rounds.max_versions=1", "twin=false", "crf.enabled=false"]
    given = ["detector.name=trained", "detector.path=null", "detector.threshold=0.2", "detector.most=1"]
    more = [*given, *learning, *sizes, *narrow, *quick, "images=folder", f"images.root={stills}"]
    results = train(human_config(data, tmp_path, more))
    assert results["detector"] == {"name": "trained", "images": 12, "boxes": 6}, "green ones are counter-examples"
    assert (run / "detector/best.ckpt").is_file() and results["detections"]["frames_with_boxes"] > 0
    true = {(row["video"], row["frame"]): row for row in csv.DictReader((data / "boxes.csv").open())}
    overlaps = []
    for row in csv.DictReader((run / "contexts/boxes.csv").open()):
        if known := true.get((row["video"], row["frame"])):
            corners = [np.array([[float(one[key]) for key in ("x0", "y0", "x1", "y1")]]) for one in (row, known)]
            overlaps.append(float(box_iou(*corners)[0, 0]))
    assert np.mean(overlaps) > 0.4
    write_table(table, [rows[0], ["still13", "red", 1, 2, 9, 12]])
    with pytest.raises(DataError, match=r"No image of split 'train' in .*stills has a box of the class"):
        train(human_config(data, tmp_path / "again", more))
    table.unlink()
    with pytest.raises(DataError, match=r"(?s)boxes\.csv is missing.*image,class,x0,y0,x1,y1"):
        train(human_config(data, tmp_path / "again", more))
    assert not (tmp_path / "again/runs/tiny/key_frames").exists(), "told before any work"


def test_an_empty_folder_of_proposals_is_refused_at_once(data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty is empty\. Expected <video>/<frame>.npz"):
        train(human_config(data, tmp_path, [f"proposals.path={tmp_path}/empty"]))


def test_a_broken_video_is_listed_and_the_others_go_on(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    (copy / "video1/00003.png").write_bytes(b"no image")
    more = ["rounds.max_epochs=1", "rounds.max_versions=1", "twin=false", "crf.enabled=false"]
    results = train(human_config(copy, tmp_path, more))
    assert results["key_frames"]["num_shots"] == 4
    assert "video1" in (tmp_path / "runs/tiny/skipped.csv").read_text()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("target=blue", "target=blue: no video is tagged with it"),
        ("detector.name=hgo", "detector.name=hgo; did you mean 'hog'"),
        ("detector.path=missing.csv", r"needs a table of boxes \(video,frame,.*got detector.path=missing.csv"),
        ("selection.negatives=1.0", r"selection.negatives=1.0: expected a share in \[0, 1\)"),
        (
            "energy.quality=overlapp",
            "energy.quality=overlapp; did you mean .overlap.*expected probability or",
        ),
        ("supervoxels.level=21", "supervoxels.level=21: expected one of the levels 0..20"),
        ("extra.supervision=masks", "extra.supervision=masks needs images with boxes or masks"),
        ("detector.name=trained", "detector.name=trained needs images of which the boxes are known"),
        ("extra.fill=-1", "extra.fill=-1: expected at least 0"),
        ("box_detector.epochs=0", "box_detector.epochs=0: expected at least 1"),
        ("energy.q=0.7", "q must be in"),
        ("detector.name=hog", "detector.name=hog finds people, but the target is 'red'"),
        ("detector.threshold=null", "detector.name=csv needs detector.threshold"),
        ("key_frames.most=0", "key_frames.most=0: expected at least 1"),
        ("detector.threshold=abc", "detector.threshold=abc: expected a number"),
        ("selection.most=null", "selection.most=None: expected at least 1"),
        ("proposals.path=nowhere", "proposals.path=nowhere is no folder"),
        ("finish.epochs=-1", "finish.epochs=-1: expected at least 0"),
        ("finish.average=0", "finish.average=0: expected at least 1"),
        ("finish.epochs=1 finish.average=2 rounds.reinit=true", "networks trained apart have no mean"),
        ("detector.margins=abc", "detector.margins=abc: expected true, false or null"),
        ("energy.void_score=abc", "energy.void_score=abc: expected a number"),
    ],
)
def test_wrong_settings_are_refused_before_any_work(data: Path, tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        train(human_config(data, tmp_path, override.split()))
    assert not (tmp_path / "runs/tiny/key_frames").exists()


def test_proposals_may_come_from_files(data: Path, finished: Path, tmp_path: Path) -> None:
    _continued(finished, tmp_path, ("key_frames",), ("key_frames",))
    state = json.loads((finished / "runs/tiny/key_frames/video1.json").read_text())
    for name in ("video1", "video3", "video5"):
        frames = json.loads((finished / f"runs/tiny/key_frames/{name}.json").read_text())["indices"]
        for frame in frames:
            path = tmp_path / "pools" / name / f"{frame:05d}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            half = np.zeros((2, 48, 64), bool)
            half[0, :, :32], half[1, :, 32:] = True, True
            np.savez(path, masks=half)
    more = [f"proposals.path={tmp_path}/pools", "rounds.max_epochs=1", "rounds.max_versions=1", "twin=false"]
    train(human_config(data, tmp_path, [*more, "crf.enabled=false", "energy.higher=0.0", "energy.pairwise=0.0"]))
    areas = {row.area for row in PAStore(tmp_path / "runs/tiny/pa").index(0) if row.video == "video1"}
    assert areas <= {0.0, *(a for a in areas if 0.2 < a <= 1.0)} and len(areas) >= 1 and state["num_shots"] == 2
