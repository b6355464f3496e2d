from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.inputs import find_inputs
from datamodules.video import VideoReader
from modules.checkpoints import save_weights
from modules.encoder2d import Encoder2D
from modules.segmenter import Segmenter
from predict import main, predict
from pseudolabel.decision import Decision, decide
from pseudolabel.palette import read_mask, voc_palette
from pseudolabel.types import DataError, LabelSpace, Tag, UInt8Array
from recipes.configuration import load_config
from recipes.prediction import label_scores, segment_frames
from tests.datamodules.fakes import write_clip, write_frames

torch.set_num_threads(1)

SPACE = LabelSpace((Tag("cat", "running"), Tag("cat", "walking"), Tag("dog", "running")))
Run = Callable[..., dict[str, Any]]


def noise(count: int = 4, size: tuple[int, int] = (32, 32), *, seed: int = 0) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def tiny_segmenter(space: LabelSpace = SPACE, *, max_side: int | None = None) -> Segmenter:
    torch.manual_seed(3)
    model = Segmenter(
        space.to_dict(),
        backbone="resnet18",
        backbone_args={"channels": [4, 8, 8, 8]},
        output_stride=8,
        rates=[1, 2],
        max_side=max_side,
    )
    for branch in model.network.aspp.branches:  # far from a tie, so that every class wins somewhere
        torch.nn.init.normal_(branch.weight, std=1.0)
    return model.eval()


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ckpt") / "best.ckpt"
    save_weights(tiny_segmenter(), path)
    return path


@pytest.fixture
def run(ckpt: Path, tmp_path: Path) -> Run:
    """Predict into ``tmp_path/out`` on the CPU."""

    def call(given: str | Path, *more: str, ckpt: Path = ckpt) -> dict[str, Any]:
        base = [f"ckpt={ckpt}", f"input='{given}'", f"out={tmp_path / 'out'}", "device=cpu"]
        return predict(load_config("predict", [*base, *more]))

    return call


def masks_in(folder: Path) -> UInt8Array:
    return np.stack([read_mask(file) for file in sorted(folder.glob("*.png"))])


def test_video_gives_masks_overlay_and_summary(run: Run, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "rex.mp4", noise(5, (32, 48)), fps=12.5)
    summary = run(clip)
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == ["rex", "rex.mp4", "summary.json"]
    assert sorted(p.name for p in (out / "rex").iterdir()) == [f"{index:05d}.png" for index in range(5)]
    masks = masks_in(out / "rex")
    assert masks.shape == (5, 32, 48)
    assert set(np.unique(masks)) <= {0, 1, 2, 3}
    shown = VideoReader(out / "rex.mp4")
    assert (len(shown), shown.size, shown.fps) == (5, (32, 48), 12.5)

    assert summary == json.loads((out / "summary.json").read_text())
    (entry,) = summary["inputs"]
    assert (entry["frames"], entry["size"], entry["fps"]) == (5, [32, 48], 12.5)
    assert entry["files"] == {"masks": "rex/", "num_masks": 5, "overlay": "rex.mp4"}
    expected = {
        SPACE.names[index]: {
            "pixel_share": round(float((masks == index).mean()), 6),
            "frames": int((masks == index).any(axis=(1, 2)).sum()),
        }
        for index in np.unique(masks[masks > 0])
    }
    assert len(expected) > 1, "the tiny network must find several classes, or this test shows nothing"
    assert entry["classes"] == expected


def test_legend_is_the_palette_of_the_masks(run: Run, tmp_path: Path) -> None:
    summary = run(write_clip(tmp_path / "rex.mp4", noise(1)), "overlay=false")
    assert summary["classes"] == ["background", "cat-running", "cat-walking", "dog-running"]
    assert summary["palette"]["background"] == {"value": 0, "colour": "#000000"}
    assert summary["palette"]["dog-running"] == {"value": 3, "colour": "#808000"}
    with Image.open(tmp_path / "out" / "rex" / "00000.png") as image:
        assert image.mode == "P"
        assert bytes(image.getpalette() or []) == voc_palette()
    assert not (tmp_path / "out" / "rex.mp4").exists()


def test_folder_of_frames_keeps_their_names(run: Run, tmp_path: Path) -> None:
    frames = write_frames(tmp_path / "bear", noise(3, (33, 35)), pattern="frame{}.png")
    (entry,) = run(frames)["inputs"]
    assert (entry["frames"], entry["size"]) == (3, [33, 35])
    folder = tmp_path / "out" / "bear"
    assert sorted(p.name for p in folder.iterdir()) == ["frame0.png", "frame1.png", "frame2.png"]
    assert masks_in(folder).shape == (3, 33, 35)
    assert VideoReader(tmp_path / "out" / "bear.mp4").size == (34, 36)  # yuv420p needs even sides


def test_single_image(run: Run, tmp_path: Path) -> None:
    Image.fromarray(noise(1, (41, 23))[0]).save(tmp_path / "cat.png")  # portrait, odd
    (entry,) = run(tmp_path / "cat.png")["inputs"]
    assert (entry["frames"], entry["size"], entry["fps"]) == (1, [41, 23], None)
    assert read_mask(tmp_path / "out" / "cat" / "00000.png").shape == (41, 23)
    with Image.open(tmp_path / "out" / "cat.jpg") as overlay:
        assert overlay.size == (23, 41)


def test_camera_orientation_of_an_image_is_applied(run: Run, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    Image.fromarray(noise(1, (20, 40))[0]).save(tmp_path / "phone.jpg", exif=exif)
    assert run(tmp_path / "phone.jpg")["inputs"][0]["size"] == [40, 20]


def test_folder_of_anything_skips_and_lists_what_is_broken(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "mixed"
    write_clip(root / "a.mp4", noise(6, (64, 64)))
    whole = write_clip(tmp_path / "whole.mp4", noise(20, (64, 64))).read_bytes()
    (root / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "zero.mp4").touch()
    (root / "notes.txt").write_text("not for us")
    write_frames(root / "frames", noise(2))
    Image.fromarray(noise(1)[0]).save(root / "pic.jpg")
    summary = run(root)
    assert [(entry["name"], entry["frames"]) for entry in summary["inputs"]] == [("a", 6), ("frames", 2), ("pic", 1)]
    assert [Path(entry["input"]).name for entry in summary["skipped"]] == ["cut.mp4", "zero.mp4"]
    rows = list(csv.reader((tmp_path / "out" / "skipped.csv").open()))
    assert rows[0] == ["input", "reason"]
    assert "truncated" in rows[1][1] and "0 bytes" in rows[2][1]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a", "a.mp4", "frames", "frames.mp4", "pic", "pic.jpg", "summary.json", "skipped.csv"}
    assert "2 skipped" in capsys.readouterr().out
    run(root / "a.mp4")
    assert not (tmp_path / "out" / "skipped.csv").exists(), "of the earlier run"


def test_same_stems_get_names_of_their_own(tmp_path: Path) -> None:
    for name in ("a/dog.mp4", "b/dog.mp4", "b/dog-2.mp4", "b/Dog.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    sources, problems = find_inputs(f"{tmp_path}/a,{tmp_path}/?/*,{tmp_path}/a/dog.mp4", out=tmp_path / "out")
    named = {source.path.relative_to(tmp_path).as_posix(): source.name for source in sources}
    assert named == {"a/dog.mp4": "dog", "b/Dog.avi": "Dog-3", "b/dog-2.mp4": "dog-2", "b/dog.mp4": "dog-4"}
    assert not problems
    again, _ = find_inputs(f"{tmp_path}/a,{tmp_path}/?/*", out=tmp_path / "out")
    assert again == sources


def test_both_of_one_stem_are_written(run: Run, tmp_path: Path) -> None:
    write_clip(tmp_path / "in" / "dog.mp4", noise(2))
    write_frames(tmp_path / "in" / "dog", noise(3))
    entries = run(f"{tmp_path}/in/*")["inputs"]
    assert {entry["name"]: entry["frames"] for entry in entries} == {"dog": 3, "dog-2": 2}
    assert len(masks_in(tmp_path / "out" / "dog")) == 3
    assert len(masks_in(tmp_path / "out" / "dog-2")) == 2


@pytest.mark.parametrize("max_side", [None, 24])
def test_batch_size_does_not_change_the_masks(tmp_path: Path, max_side: int | None) -> None:
    model = tiny_segmenter(max_side=max_side)
    reader = VideoReader(write_frames(tmp_path / "rex", noise(7, (30, 47))))
    one, many = (
        np.stack([labels for _, labels in segment_frames(model, reader, batch_size=size, align_radius=2)])
        for size in (1, 4)
    )
    assert one.shape == (7, 30, 47)
    assert len(np.unique(one)) > 1
    assert (one == many).all()


def test_frames_stay_with_their_masks_through_alignment(tmp_path: Path) -> None:
    model = tiny_segmenter()
    reader = VideoReader(write_frames(tmp_path / "rex", noise(6)))
    pairs = list(segment_frames(model, reader, batch_size=4, align_radius=2))
    assert (np.stack([frame for frame, _ in pairs]) == noise(6)).all()
    plain = model.predict_scores(noise(6)).argmax(1)
    aligned = np.stack([labels for _, labels in pairs])
    raw = np.stack([labels for _, labels in segment_frames(model, reader, align_radius=None)])
    assert (raw == plain).all()
    actors = SPACE.actor_of
    assert (actors[aligned] == actors[plain]).all(), "the vote changes actions, never actors"
    assert (aligned != plain).any(), "noise must give the vote something to change"


def test_large_frames_are_shrunk_and_their_scores_grown_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = tiny_segmenter(max_side=24)
    seen: list[tuple[int, ...]] = []

    def scores(frames: UInt8Array, *, batch_size: int = 16) -> np.ndarray:
        seen.append(frames.shape)
        ramp = np.tile(np.linspace(0, 1, frames.shape[2], dtype=np.float32), (frames.shape[1], 1))
        return np.stack([np.stack([1 - ramp, ramp, 0 * ramp, 0 * ramp])] * len(frames))

    monkeypatch.setattr(model, "predict_scores", scores)
    reader = VideoReader(write_frames(tmp_path / "rex", noise(2, (30, 48))))
    labels = np.stack([labels for _, labels in segment_frames(model, reader, align_radius=None)])
    assert seen == [(2, 15, 24, 3)]
    assert labels.shape == (2, 30, 48)
    assert (labels[:, :, :24] == 0).all() and (labels[:, :, 24:] == 1).all()


@pytest.mark.parametrize(("decision", "expected"), [("likeliest", 0), ("object_first", 1)])
def test_the_checkpoint_decides(
    decision: Decision, expected: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = tiny_segmenter()
    model.decision = decision

    def scores(frames: UInt8Array, *, batch_size: int = 16) -> np.ndarray:
        return np.broadcast_to(np.float32([0.4, 0.35, 0.25, 0])[:, None, None], (len(frames), 4, *frames.shape[1:3]))

    monkeypatch.setattr(model, "predict_scores", scores)
    reader = VideoReader(write_frames(tmp_path / "rex", noise(2)))
    for _, labels in segment_frames(model, reader, align_radius=None):
        assert (labels == expected).all()


def test_label_scores_by_hand() -> None:
    scores = np.array([[[0.5, 0.4, 0.1]], [[0.3, 0.35, 0.3]], [[0.2, 0.25, 0.6]]], np.float32)  # (3, 1, 3)
    assert label_scores(scores, size=(1, 3)).tolist() == [[0, 0, 2]]
    assert label_scores(scores, size=(1, 3), threshold=0.32).tolist() == [[0, 1, 2]]
    assert label_scores(scores, size=(1, 3), threshold=0.0).tolist() == [[1, 1, 2]]
    assert label_scores(scores, size=(1, 3), threshold=0.61).tolist() == [[0, 0, 0]]
    edge = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], np.float32)  # bilinear: 1, 0.75, 0.25, 0
    assert label_scores(edge, size=(1, 4)).tolist() == [[0, 0, 1, 1]]
    assert label_scores(edge, size=(1, 4), threshold=0.25).tolist() == [[0, 1, 1, 1]]


@pytest.mark.parametrize("decision", ["object_first", "expected_overlap"])
def test_labels_of_objects_first_are_those_of_the_decision(decision: Decision) -> None:
    scores = np.random.default_rng(0).dirichlet(np.full(4, 0.8), size=(5, 6)).transpose(2, 0, 1).astype(np.float32)
    labels = label_scores(scores, size=(5, 6), decision=decision)
    np.testing.assert_array_equal(labels, decide(scores, decision))
    assert (labels != decide(scores)).any()
    edge = np.array([[[1.0, 0.2]], [[0.0, 0.4]], [[0.0, 0.4]]], np.float32)  # background, grown: 1, 0.8, 0.4, 0.2
    assert label_scores(edge, size=(1, 4), decision="object_first").tolist() == [[0, 0, 1, 1]]
    assert label_scores(edge, size=(1, 4)).tolist() == [[0, 0, 0, 1]]
    kept = label_scores(scores, size=(5, 6), threshold=0.4, decision="object_first")
    np.testing.assert_array_equal(kept, label_scores(scores, size=(5, 6), threshold=0.4))  # a threshold decides alone


def test_threshold_of_one_leaves_background(run: Run, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "rex.mp4", noise(3))
    torch.manual_seed(0)
    model = tiny_segmenter()
    for branch in model.network.aspp.branches:  # unsure: no score of exactly 1.0
        torch.nn.init.normal_(branch.weight, std=0.01)
    save_weights(model, tmp_path / "unsure.ckpt")
    (entry,) = run(clip, "threshold=1.0", ckpt=tmp_path / "unsure.ckpt")["inputs"]
    assert entry["classes"] == {}
    assert not masks_in(tmp_path / "out" / "rex").any()
    assert run(clip, "threshold=0.0", ckpt=tmp_path / "unsure.ckpt")["inputs"][0]["classes"]
    assert masks_in(tmp_path / "out" / "rex").all()


def test_outputs_are_renewed_only_as_a_whole(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_clip(tmp_path / "rex.mp4", noise(4))
    run(clip)
    out = tmp_path / "out"
    before = {path: path.read_bytes() for path in (*sorted((out / "rex").iterdir()), out / "rex.mp4")}
    count = iter(range(100))
    real = Segmenter.predict_scores

    def fail_later(self: Segmenter, frames: UInt8Array, **options: Any) -> Any:
        if next(count) == 2:
            raise DataError("broken in the middle")
        return 1 - real(self, frames, **options)

    monkeypatch.setattr(Segmenter, "predict_scores", fail_later)
    with pytest.raises(DataError, match="broken in the middle"):
        run(clip, "batch_size=1", "align_radius=0")
    assert {path: path.read_bytes() for path in before} == before
    assert not list(out.glob(".*"))
    monkeypatch.setattr(Segmenter, "predict_scores", real)
    write_clip(clip, noise(2))
    run(clip)
    assert sorted(path.name for path in (out / "rex").iterdir()) == ["00000.png", "00001.png"]


@pytest.mark.parametrize("out", ["out", "."])
def test_inputs_are_never_overwritten(run: Run, tmp_path: Path, out: str) -> None:
    """Frames where the masks would go, and a clip where its own overlay would go."""
    folder = tmp_path / out
    source = write_frames(folder / "rex", noise(2)) if out == "out" else write_clip(folder / "rex.mp4", noise(2))
    files = [source] if source.is_file() else sorted(source.iterdir())
    before = [file.read_bytes() for file in files]
    with pytest.raises(DataError, match="overwrite the input"):
        run(source, f"out={folder}")
    assert [file.read_bytes() for file in files] == before


def test_images_that_are_no_masks_are_not_overwritten(run: Run, tmp_path: Path) -> None:
    photo = write_frames(tmp_path / "out" / "rex", noise(1)) / "00000.png"
    before = photo.read_bytes()
    with pytest.raises(DataError, match="is no mask"):
        run(write_clip(tmp_path / "rex.mp4", noise(1)))
    assert photo.read_bytes() == before


def test_own_outputs_are_no_inputs(tmp_path: Path) -> None:
    write_clip(tmp_path / "rex.mp4", noise(1))
    write_frames(tmp_path / "out", noise(1))
    for given in (tmp_path, f"{tmp_path}/*"):
        sources, _ = find_inputs(str(given), out=tmp_path / "out")
        assert [source.path.name for source in sources] == ["rex.mp4"]


def test_paths_with_spaces_commas_and_quotes(ckpt: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "it's (my), dog=1.mp4", noise(1))
    words = [f"ckpt={ckpt}", f"input={clip}", f"out={tmp_path / 'my out'}", "device=cpu"]
    assert main(words) == 0
    assert len(masks_in(tmp_path / "my out" / "it's (my), dog=1")) == 1


def test_mistakes_end_in_one_line(ckpt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = write_clip(tmp_path / "rex.mp4", noise(1))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[:200])
    encoder = Encoder2D(["cat", "dog"], backbone="resnet18", backbone_args={"channels": [4, 8, 8, 8]})
    save_weights(encoder, tmp_path / "encoder.ckpt")
    good = [f"ckpt={ckpt}", f"input={clip}", f"out={tmp_path / 'out'}", "device=cpu"]
    cases: list[tuple[list[str], list[str]]] = [
        ([f"input={clip}"], ["ckpt= is missing"]),
        ([f"ckpt={ckpt}"], ["input= is missing"]),
        ([*good, "opcity=0.1"], ["opcity", "did you mean 'opacity'"]),
        ([*good, "threshold=1.5"], ["threshold=1.5", "0 to 1"]),
        ([*good, "batch_size=0"], ["batch_size=0", "1 or more"]),
        ([*good, "masks=maybe"], ["masks=maybe", "true or false"]),
        ([*good, "device=cuba"], ["device=cuba"]),
        ([*good, "classes=[cat,dog]"], ["cat-running, cat-walking, dog-running", "cat, dog"]),
        ([*good, f"ckpt={tmp_path / 'encoder.ckpt'}"], ["Encoder2D", "Segmenter"]),
        ([*good, f"ckpt={tmp_path / 'no.ckpt'}"], ["not found", "no.ckpt"]),
        ([*good, f"input={tmp_path / 'rx.mp4'}"], ["rx.mp4", "did you mean 'rex.mp4'"]),
        ([*good, f"input={tmp_path}/*.avi"], ["*.avi", "matches no file"]),
        ([*good, f"input={cut}"], ["cut.mp4", "0 frames could be decoded"]),
        ([*good, f"input={cut},{tmp_path / 'no.mp4'}"], ["No input could be used", "first of 2", "skipped.csv"]),
    ]
    for words, parts in cases:
        assert main(words) == 1, words
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, words
        assert all(part in lines[0] for part in parts), (words, lines[0])
    assert not (tmp_path / "out" / "summary.json").exists()
    assert main([*good, "classes=dog-running,cat-walking,cat-running"]) == 0


def test_help_and_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "input=clip.mp4" in capsys.readouterr().out
    assert main(["--cfg", "input=a b.mp4"]) == 0
    assert "input: a b.mp4" in capsys.readouterr().out
