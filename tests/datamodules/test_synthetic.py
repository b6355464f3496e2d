from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from datamodules import synthetic
from datamodules.a2d import A2D_VALID_IDS, A2DSource, a2d_label_space, read_mask
from datamodules.rendering import render_video
from datamodules.studio.casting import DEFAULT_PAIRS, SPLITS, Options
from datamodules.studio.difficulty import Difficulty
from datamodules.studio.folders import folder_name
from datamodules.synthetic import SyntheticSource, generate, write_mask
from datamodules.video import VideoReader
from pseudolabel.types import DataError, Tag

TINY: dict[str, Any] = {"train_videos": 5, "test_videos": 2, "frames": 6, "size": (32, 48), "annotated": 3}

READER_OPTIONS = ("actions", "val_videos", "split_seed")
"""Options of the source that the files do not depend on."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic")
    return generate(root, **TINY, several=0.6, workers=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def assert_same_clip(first: Path, second: Path) -> None:
    """Some builds of x264 do not give the same bytes twice for the same frames, but the pictures agree closely."""
    frames = [VideoReader(path).read(range(TINY["frames"])).astype(float) for path in (first, second)]
    assert np.abs(frames[0] - frames[1]).mean() < 3


def table(folder: Path, name: str) -> list[list[str]]:
    with (folder / name).open(newline="") as stream:
        return list(csv.reader(stream))


def test_default_pairs_are_the_seventeen_valid_ones() -> None:
    assert len(DEFAULT_PAIRS) == len(set(DEFAULT_PAIRS)) == 17
    assert {"bird-flying", "cat-rolling", "dog-walking", "ball-none"} <= set(DEFAULT_PAIRS)
    assert not {"cat-flying", "dog-flying", "ball-walking"} & set(DEFAULT_PAIRS)


def test_worker_count_does_not_matter(folder: Path, tmp_path: Path) -> None:
    again = generate(tmp_path, **TINY, several=0.6, workers=2)
    assert again.name == folder.name
    ours, theirs = contents(again), contents(folder)
    assert ours.keys() == theirs.keys()
    assert len(ours) == 7 + 7 * 3 + 3
    for name in ours:
        if name.endswith(".mp4"):
            assert_same_clip(again / name, folder / name)
        else:
            assert ours[name] == theirs[name], name


def test_other_seed_gives_other_videos_in_another_folder(folder: Path) -> None:
    other = generate(folder.parent, **TINY, several=0.6, seed=1, workers=1)
    assert other != folder
    clips = [VideoReader(root / "clips320H" / "train_00000.mp4").read(range(6)) for root in (folder, other)]
    assert np.abs(clips[0].astype(float) - clips[1]).mean() > 10


def test_video_does_not_depend_on_how_many_there_are(folder: Path, tmp_path: Path) -> None:
    more = generate(tmp_path, **{**TINY, "train_videos": 2, "test_videos": 1}, several=0.6, workers=1)
    for name in ("train_00001", "test_00000"):
        assert_same_clip(*(root / "clips320H" / f"{name}.mp4" for root in (more, folder)))
        mask = f"Annotations/mat/{name}/00002.mat"
        assert contents(more)[mask] == contents(folder)[mask]


def test_layout_is_that_of_a2d(folder: Path) -> None:
    rows = table(folder, "videoset.csv")
    assert [row[0] for row in rows] == [f"train_{n:05d}" for n in range(5)] + ["test_00000", "test_00001"]
    assert [row[2:] for row in rows[:1]] == [["00:00:00", "00:00:01", "32", "48", "6", "3", "0"]]
    assert [row[8] for row in rows] == ["0"] * 5 + ["1"] * 2
    assert {int(row[1]) for row in rows} <= set(A2D_VALID_IDS)
    masks = sorted((folder / "Annotations" / "mat" / "train_00000").iterdir())
    assert [file.name for file in masks] == ["00002.mat", "00004.mat", "00006.mat"]
    reader = VideoReader(folder / "clips320H" / "train_00000.mp4")
    assert (len(reader), reader.size) == (6, (32, 48))


def test_tags_are_exactly_the_labels_of_the_masks(folder: Path) -> None:
    tags: dict[str, set[str]] = {}
    for video, actor, action in table(folder, "tags.csv")[1:]:
        tags.setdefault(video, set()).add(f"{actor}-{action}")
    (folder / "tags.csv").rename(folder / "aside.csv")
    try:
        from_masks = A2DSource(folder, val_videos=1)
    finally:
        (folder / "aside.csv").rename(folder / "tags.csv")
    assert {record.name: {str(tag) for tag in record.tags} for record in from_masks.records} == tags
    assert max(map(len, tags.values())) == 2


def test_source_reads_the_rendered_masks_exactly(folder: Path) -> None:
    source = SyntheticSource(folder.parent, **TINY, several=0.6, val_videos=1, workers=1)
    assert source.skipped == []
    assert [record.name for record in source.select("test")] == ["test_00000", "test_00001"]
    assert len(source.records) == 7
    assert source.label_space.names[1:] == DEFAULT_PAIRS
    number = 3
    record = next(record for record in source.records if record.name == f"train_{number:05d}")
    assert record.annotated == (1, 3, 5)
    # A video's own order of tags: the leading pair is the label of videoset.csv.
    lead = int(table(folder, "videoset.csv")[number][1])
    tags = sorted(record.tags, key=lambda tag: source.label_space.raw_ids[source.label_space.index(tag)] != lead)
    labels = [source.label_space.raw_ids[source.label_space.index(tag)] for tag in tags]
    difficulty = Difficulty(several=0.6)
    rendered = render_video(
        [0, 0, number], tags, labels, frames=6, size=(32, 48), annotated=record.annotated, difficulty=difficulty
    )
    for index in record.annotated:
        mask = source.mask(record, index)
        assert mask is not None
        np.testing.assert_array_equal(mask, source.label_space.from_raw(rendered.masks[index]))
    assert source.mask(record, 0) is None
    decoded = VideoReader(record.path).read(range(6)).astype(float)
    assert np.abs(decoded - rendered.frames).mean() < 12


def test_every_pair_leads_equally_often() -> None:
    pairs = ["cat-walking", "cat-none", "dog-rolling"]
    options = Options.build(30, 9, 6, (32, 48), 3, pairs, 0, {"several": 0.5})
    for split, times in (("train", 10), ("test", 3)):
        videos = [video for video in options.videos() if video.split == split]
        assert Counter(str(video.tags[0]) for video in videos) == dict.fromkeys(pairs, times)
        assert all(len(set(video.tags)) == len(video.tags) for video in videos)
    assert 5 <= sum(len(video.tags) == 2 for video in options.videos()) <= 34


def test_subset_of_pairs_is_the_label_space(tmp_path: Path) -> None:
    pairs = ["dog-walking", "cat-none"]
    options: dict[str, Any] = {"train_videos": 6, "test_videos": 1, "frames": 3, "size": (32, 32), "annotated": 1}
    source = SyntheticSource(tmp_path, **options, pairs=pairs, several=0.0, val_videos=2, workers=1)
    assert source.label_space.names == ("background", "cat-none", "dog-walking")
    assert Counter(record.split for record in source.records) == {"train": 4, "val": 2, "test": 1}
    assert Counter(str(tag) for record in source.select("val") for tag in record.tags) == dict.fromkeys(pairs, 1)


def test_existing_folder_is_not_written_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "_write", lambda *_: pytest.fail("written again"))
    assert generate(folder.parent, **TINY, several=0.6, workers=1) == folder


def test_foreign_folder_is_refused_with_the_cure(folder: Path, tmp_path: Path) -> None:
    foreign = tmp_path / folder.name
    foreign.mkdir()
    with pytest.raises(DataError, match=r"got None\. Delete the folder"):
        generate(tmp_path, **TINY, several=0.6)
    changed = json.loads((folder / "generator.json").read_text()) | {"seed": 7}
    (foreign / "generator.json").write_text(json.dumps(changed))
    with pytest.raises(DataError, match="Delete the folder"):
        generate(tmp_path, **TINY, several=0.6)


def test_broken_off_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(synthetic, "write_mask", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        generate(tmp_path, **TINY, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_appears_meanwhile_is_kept(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_rank_is_faster(partial: Path, *_: object) -> None:
        (partial / "mine").touch()
        folder.rename(tmp_path / folder.name)

    monkeypatch.setattr(synthetic, "_write", other_rank_is_faster)
    try:
        assert generate(tmp_path, **TINY, several=0.6) == tmp_path / folder.name
        assert [item.name for item in tmp_path.iterdir()] == [folder.name]
        assert not (tmp_path / folder.name / "mine").exists()
    finally:
        (tmp_path / folder.name).rename(folder)


DEMO_PAIRS = [
    "ball-jumping",
    "ball-rolling",
    "bird-flying",
    "bird-none",
    "bird-walking",
    "cat-jumping",
    "cat-rolling",
    "cat-walking",
    "dog-none",
    "dog-rolling",
    "dog-walking",
]


def test_new_options_at_their_defaults_do_not_move_old_folders() -> None:
    """Shots, idle and irrelevant at their defaults are not part of the demo data's hash."""
    options = Options.build(400, 60, 16, (96, 128), 4, DEMO_PAIRS, 0, {"camera": 0.25, "distractors": 2})
    assert folder_name(options.fingerprint) == "779c6a01cb"
    assert not {"shots", "idle", "irrelevant", "actions"} & options.fingerprint.keys()
    names = {folder_name(options.fingerprint)}
    for changed in ({"shots": 2}, {"idle": 0.5}, {"shots": 2, "irrelevant": 0.5}):
        names.add(folder_name(replace(options, **changed).fingerprint))  # type: ignore[arg-type]
    assert len(names) == 4


def test_demo_configuration_keeps_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(synthetic, "write_once", lambda _, fingerprint, *__, **___: asked.append(fingerprint))
    source = yaml.safe_load(Path("configs/data/synthetic.yaml").read_text())["source"]
    generate(tmp_path, **{k: v for k, v in source.items() if k not in ("root", "workers", *READER_OPTIONS)})
    assert folder_name(asked[0]) == "779c6a01cb"


def test_pictures_of_one_shot_are_what_they_always_were() -> None:
    """Sums of a video rendered before shots existed."""
    video = render_video([0, 0, 0], [Tag("cat", "walking")], [68], frames=2, size=(32, 48), annotated=[0])
    assert hashlib.sha256(video.masks.tobytes()).hexdigest()[:10] == "2b14023a48"
    assert video.frames.mean() == pytest.approx(125.399, abs=0.5)


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> tuple[SyntheticSource, Options]:
    knobs: dict[str, Any] = {"shots": 4, "idle": 0.4, "irrelevant": 0.3}
    calm = {"several": 0.6, "absent": 0.0, "camera": 0.0, "noise": 0.0, "light": 0.0, "distractors": 0}
    root = tmp_path_factory.mktemp("shots")
    source = SyntheticSource(root, **TINY, **knobs, **calm, actions=False, val_videos=1, workers=1)
    return source, Options.build(5, 2, 6, (32, 48), 3, None, 0, calm, **knobs)


def test_shots_follow_each_other_in_clip_and_masks(shots: tuple[SyntheticSource, Options]) -> None:
    source, options = shots
    plans = {plan.name: plan for plan in options.videos()}
    assert {kind for plan in plans.values() for kind in plan.shots} == {"moving", "idle", "irrelevant"}
    for record in source.records:
        plan = plans[record.name]
        assert set(record.tags) == {Tag(tag.actor) for tag in plan.tags}
        assert record.annotated == tuple(6 * shot + index for shot in range(4) for index in (1, 3, 5))
        for shot, kind in enumerate(plan.shots):
            masks = [source.mask(record, 6 * shot + index) for index in (1, 3, 5)]
            seen = set(np.unique(np.stack([mask for mask in masks if mask is not None])).tolist())
            wanted = set() if kind == "irrelevant" else {source.label_space.index(tag) for tag in record.tags}
            assert seen - {0} == wanted
    record = source.records[0]
    frames = VideoReader(record.path).read(range(24)).astype(float)
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    inside = np.delete(steps, [5, 11, 17])
    assert steps[[5, 11, 17]].min() > 1.5 * inside.max()


def test_frames_of_a_shot_are_those_of_its_masks(shots: tuple[SyntheticSource, Options]) -> None:
    """The clip's frames of shot 2 are the pictures that belong to shot 2's masks."""
    source, options = shots
    plan = next(plan for plan in options.videos() if plan.shots[2] == "moving")
    record = next(record for record in source.records if record.name == plan.name)
    space = a2d_label_space()
    split = SPLITS.index(plan.split)
    rendered = render_video(
        [0, split, plan.number, 0, 2],
        plan.tags,
        [space.raw_ids[space.index(tag)] for tag in plan.tags],
        frames=6,
        size=(32, 48),
        annotated=options.annotated_frames,
        difficulty=options.difficulty,
    )
    decoded = VideoReader(record.path).read(range(12, 18)).astype(float)
    assert np.abs(decoded - rendered.frames).mean() < 12
    mask = source.mask(record, 15)
    assert mask is not None
    ids = {space.raw_ids[space.index(tag)]: source.label_space.index(Tag(tag.actor)) for tag in plan.tags}
    np.testing.assert_array_equal(mask, np.vectorize(lambda raw: ids.get(raw, 0))(rendered.masks[3]))


def test_shares_of_idle_and_irrelevant_shots_and_never_all_irrelevant() -> None:
    options = Options.build(200, 0, 6, (32, 48), 3, None, 0, {}, shots=5, idle=0.25, irrelevant=0.4)
    kinds = [plan.shots for plan in options.videos()]
    counted = Counter(kind for plan in kinds for kind in plan)
    assert counted["idle"] / 1000 == pytest.approx(0.25, abs=0.04)
    assert counted["irrelevant"] / 1000 == pytest.approx(0.4, abs=0.04)
    assert all(set(plan) != {"irrelevant"} for plan in kinds)
    every = Options.build(50, 0, 6, (32, 48), 3, None, 0, {}, shots=2, irrelevant=1.0)
    assert all(sorted(plan.shots) == ["irrelevant", "moving"] for plan in every.videos())


def test_plain_classes_read_the_same_files(folder: Path) -> None:
    pairs = SyntheticSource(folder.parent, **TINY, several=0.6, val_videos=1, workers=1)
    plain = SyntheticSource(folder.parent, **TINY, several=0.6, val_videos=1, workers=1, actions=False)
    assert plain.root == pairs.root
    assert plain.label_space.names == ("background", "ball", "bird", "cat", "dog")
    assert not plain.label_space.has_actions
    by_name = {record.name: record for record in plain.records}
    for record in pairs.records:
        twin = by_name[record.name]
        assert set(twin.tags) == {Tag(tag.actor) for tag in record.tags}
        assert len(twin.tags) == len(set(twin.tags))
        labels, actors = pairs.mask(record, 1), plain.mask(twin, 1)
        assert labels is not None and actors is not None
        names = [plain.label_space.names[value] for value in actors.ravel()]
        assert names == [pairs.label_space.names[value].partition("-")[0] for value in labels.ravel()]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": (33, 48)}, "even"),
        ({"size": (32,)}, r"must be \(H, W\)"),
        ({"annotated": 7}, "annotated <= frames"),
        ({"train_videos": 0, "test_videos": 0}, "at least one video"),
        ({"pairs": ["cat-eating"]}, "cannot show cat-eating"),
        ({"pairs": ["cat-waking"]}, "did you mean 'cat-walking'"),
        ({"occlusoin": 0.5}, "did you mean 'occlusion'"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"noise": -1.0}, "at least 0, got -1.0"),
        ({"noise": "much"}, "at least 0, got 'much'"),
        ({"shots": 0}, "at least one shot"),
        ({"idle": 1.2}, "at most 1 together, got 1.2 and 0.0"),
        ({"shots": 2, "idle": 0.7, "irrelevant": 0.7}, "shares of the shots"),
        ({"irrelevant": 0.2}, "needs videos of several shots"),
        ({"min_area": 0.3, "max_area": 0.2}, "min_area <= max_area"),
    ],
)
def test_bad_options_are_data_errors(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        generate(tmp_path, **{**TINY, **changed})
    assert list(tmp_path.iterdir()) == []


def test_mask_file_is_matlab_73(tmp_path: Path) -> None:
    mask = np.array([[0, 68, 79], [0, 0, 41]], np.uint8)
    path = tmp_path / "00001.mat"
    write_mask(path, mask)
    raw = path.read_bytes()
    assert raw.startswith(b"MATLAB 7.3 MAT-file")
    assert raw[124:128] == b"\x00\x02IM"
    assert raw[512:520] == b"\x89HDF\r\n\x1a\n"
    with h5py.File(path) as content:
        assert content["reS_id"].shape == (3, 2)
        assert content["reS_id"].attrs["MATLAB_class"] == b"uint8"
    np.testing.assert_array_equal(read_mask(path), mask)
