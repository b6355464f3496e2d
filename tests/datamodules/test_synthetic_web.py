from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from datamodules import synthetic_web
from datamodules.rendering import MIN_VISIBLE
from datamodules.studio.difficulty import Difficulty
from datamodules.studio.web_film import cut_short, render_shot, seen_classes
from datamodules.studio.web_stage import WebOptions, WebVideo
from datamodules.synthetic_web import Interval, SyntheticWeb, generate_web, seen_intervals
from datamodules.video import VideoReader
from pseudolabel.types import DataError
from tests.datamodules.fakes import write_clip

CLASSES = ("cat", "dog")
TINY: dict[str, Any] = {
    "classes": CLASSES,
    "videos_per_class": 4,
    "size": (32, 48),
    "fps": 6.0,
    "seconds": (3.0, 5.0),
    "shot_seconds": (1.0, 2.0),
    "key_frame_seconds": 1.0,
    "mask_every": 3,
    "irrelevant_videos": 0.5,
    "irrelevant_intervals": 0.5,
    "wrong_keywords": 0.5,
    "wrong_thumbnails": 0.5,
    "idle": 0.2,
    "seed": 3,
}
CALM = {"distractors": 1, "clutter": 0.3}
FAULTS = {"missing_thumbnails": 1, "cut_short": 1, "duplicate_ids": 1}


def plan(**changed: Any) -> list[WebVideo]:
    faults = {**dict.fromkeys(FAULTS, 0), **changed}
    return WebOptions(**TINY, **faults, difficulty=Difficulty(**CALM, several=0.0)).videos()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_web(tmp_path_factory.mktemp("web"), **TINY, **CALM, workers=1)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_web(tmp_path_factory.mktemp("faulty"), **TINY, **CALM, **FAULTS, workers=2)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def key_frames(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [packet.pts * stream.time_base for packet in container.demux(stream) if packet.is_keyframe]
    return [round(float(time) * TINY["fps"]) for time in times]


def test_catalogue_lists_what_is_there(folder: Path) -> None:
    rows = table(folder / "catalogue.csv")
    assert list(rows[0]) == ["id", "title", "keywords", "video", "thumbnail", "duration"]
    videos = plan()
    assert [(row["id"], row["title"], row["keywords"].split(";")) for row in rows] == [
        (video.id, video.title, list(video.keywords)) for video in videos
    ]
    for row, video in zip(rows, videos, strict=True):
        reader = VideoReader(folder / row["video"])
        reader.check()
        assert (len(reader), reader.size, reader.fps) == (video.frames, (32, 48), 6.0)
        assert float(row["duration"]) == pytest.approx(video.frames / 6.0, abs=1e-3)
        with Image.open(folder / row["thumbnail"]) as image:
            assert (image.format, image.size) == ("JPEG", (48, 32))
    assert (folder / "classes.txt").read_text() == "background\ncat\ndog\n"
    assert {path.name for path in folder.iterdir()} == {
        *("catalogue.csv", "classes.txt", "generator.json", "masks", "thumbnails", "truth", "videos")
    }


def test_key_frames_are_at_the_cuts_and_never_far_apart(folder: Path) -> None:
    for video in plan():
        found = key_frames(folder / "videos" / f"{video.id}.mp4")
        cuts = np.cumsum([0, *(shot.frames for shot in video.shots)])
        assert set(cuts[:-1].tolist()) <= set(found)
        assert np.diff([*found, cuts[-1]]).max() <= 6


def test_truth_agrees_with_the_masks_and_the_plan(folder: Path) -> None:
    web = SyntheticWeb(folder)
    videos = {video.id: video for video in plan()}
    assert list(web.videos) == list(videos)
    assert web.label_space.names == ("background", *CLASSES)
    seen_somewhere = set()
    for name, video in videos.items():
        truth = web.videos[name]
        assert (truth.found_by, truth.subject, truth.thumbnail) == (video.found_by, video.subject, video.pictured)
        assert bool(web.intervals(name, name=video.found_by)) == video.relevant
        assert web.annotated(name) == tuple(range(0, video.frames, 3))
        for frame in web.annotated(name):
            mask = web.mask(name, frame)
            assert mask is not None and mask.shape == (32, 48) and mask.max() <= 2
            shown = {cls for place, cls in enumerate(CLASSES, 1) if (mask == place).mean() >= MIN_VISIBLE}
            middle = (frame + 0.5) / 6.0
            assert shown == {row.name for row in web.intervals(name) if row.start <= middle < row.stop}
            seen_somewhere |= shown
        assert web.mask(name, 1) is None
    assert seen_somewhere == set(CLASSES)
    assert [row.id for row in web.intervals()] == sorted(
        (row.id for row in web.intervals()), key=list(web.videos).index
    )
    assert {row.name for row in web.intervals(name="cat")} == {"cat"}
    assert {path.name for path in (folder / "masks").iterdir()} == set(videos)


def test_pictures_are_those_of_the_studio(folder: Path) -> None:
    """Frames, masks and thumbnails of a relevant video are its shots, one after another."""
    options = WebOptions(
        **TINY,
        **dict.fromkeys(FAULTS, 0),
        difficulty=Difficulty(**CALM, several=0.0),  # type: ignore[arg-type]
    )
    web = SyntheticWeb(folder)
    video = next(video for video in options.videos() if video.relevant and video.poster is None)
    films = [render_shot(shot, options, seed=[*video.seed, number]) for number, shot in enumerate(video.shots)]
    frames = np.concatenate([film.frames for film in films])
    masks = np.concatenate([film.masks for film in films])
    decoded = VideoReader(folder / "videos" / f"{video.id}.mp4").read(range(video.frames))
    assert np.abs(decoded.astype(float) - frames).mean() < 12
    for frame in web.annotated(video.id):
        np.testing.assert_array_equal(web.mask(video.id, frame), masks[frame])
    with Image.open(folder / "thumbnails" / f"{video.id}.jpg") as image:
        thumbnail = np.array(image).astype(float)
    nearest = int(np.abs(frames - thumbnail).mean(axis=(1, 2, 3)).argmin())
    assert np.abs(frames[nearest] - thumbnail).mean() < 12
    assert (masks[nearest] == 1 + CLASSES.index(video.found_by)).mean() >= MIN_VISIBLE


def test_wrong_thumbnail_is_no_frame_of_the_video(folder: Path) -> None:
    wrong = [video for video in plan() if video.poster]
    assert any(video.relevant for video in wrong) and not all(video.relevant for video in wrong)
    for video in wrong:
        frames = VideoReader(folder / "videos" / f"{video.id}.mp4").read(range(video.frames)).astype(float)
        with Image.open(folder / "thumbnails" / f"{video.id}.jpg") as image:
            assert np.abs(frames - np.array(image)).mean(axis=(1, 2, 3)).min() > 15


def test_actors_that_are_no_class_are_background() -> None:
    options = WebOptions(
        **{**TINY, "classes": ("dog",), "wrong_keywords": 0.0},
        **dict.fromkeys(FAULTS, 0),
        difficulty=Difficulty(**CALM, several=0.0),  # type: ignore[arg-type]
    )
    stranger = next(
        (video, number)
        for video in options.videos()
        for number, shot in enumerate(video.shots)
        if shot.actor not in ("", "dog")
    )
    video, number = stranger
    film = render_shot(video.shots[number], options, seed=[*video.seed, number])
    assert not film.masks.any()
    assert not seen_classes(film.masks, 1).any()


def test_worker_count_does_not_matter_and_faults_change_nothing_else(folder: Path, faulty: Path) -> None:
    ours, theirs = contents(faulty), contents(folder)
    videos = plan(**FAULTS)
    hit = {video.id for video in videos if video.cut_short or video.thumbnail_missing}
    same = [name for name in theirs if name.endswith((".jpg", ".png")) and not any(video in name for video in hit)]
    assert len(same) > 20 and all(ours[name] == theirs[name] for name in same)
    whole = next(video.id for video in videos if video.id not in hit)
    clips = [VideoReader(root / "videos" / f"{whole}.mp4").read(range(12)).astype(float) for root in (folder, faulty)]
    assert np.abs(clips[0] - clips[1]).mean() < 3  # x264 may not give the same bytes twice


def test_faults_of_files(folder: Path, faulty: Path) -> None:
    videos = plan(**FAULTS)
    rows = table(faulty / "catalogue.csv")
    assert len(rows) == len(videos) + 1
    twice = next(video.id for video in videos if video.listed_twice)
    assert [row["id"] for row in rows].count(twice) == 2
    for row in rows:
        video = next(video for video in videos if video.id == row["id"])
        assert (faulty / row["thumbnail"]).exists() != video.thumbnail_missing
    torn = next(video for video in videos if video.cut_short)
    reader = VideoReader(faulty / "videos" / f"{torn.id}.mp4")
    with pytest.raises(DataError, match="truncated"):
        reader.check()
    assert 1 <= len(reader) < torn.frames
    web, whole = SyntheticWeb(faulty), SyntheticWeb(folder)
    assert max(web.annotated(torn.id)) < len(reader) <= max(web.annotated(torn.id)) + 3
    end = len(reader) / 6.0
    expected = [
        row._replace(stop=min(row.stop, round(end, 3))) for row in whole.intervals(torn.id) if row.start < end - 1e-3
    ]
    assert web.intervals(torn.id) == expected


def test_cut_short_keeps_the_header_and_the_first_pictures(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3)).astype("uint8"))
    whole = path.read_bytes()
    cut_short(path, share=0.5)
    start = whole.index(b"mdat")
    assert path.read_bytes() == whole[: start + round((len(whole) - start) / 2)]
    assert 1 <= len(VideoReader(path)) < 12


def test_seen_intervals_by_hand() -> None:
    cat, dog = [0, 1, 1, 0, 0, 1], [1, 0, 0, 0, 1, 1]
    rows = seen_intervals(np.array([cat, dog], bool).T, CLASSES, fps=2.0, video="a")
    assert rows == [
        Interval("a", 0.0, 0.5, "dog"),
        Interval("a", 0.5, 1.5, "cat"),
        Interval("a", 2.0, 3.0, "dog"),
        Interval("a", 2.5, 3.0, "cat"),
    ]
    assert seen_intervals(np.zeros((4, 2), bool), CLASSES, fps=2.0, video="a") == []


def test_seen_classes_by_hand() -> None:
    masks = np.zeros((3, 10, 100), np.uint8)  # 1.2 % of 1000 pixels are 12
    masks[0, 0, :12] = 1
    masks[1, 0, :11] = 1
    masks[2, :, :50] = 2
    assert seen_classes(masks, 2).tolist() == [[True, False], [False, False], [False, True]]


def test_existing_folder_is_not_written_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic_web, "_write", lambda *_: pytest.fail("written again"))
    assert generate_web(folder.parent, **TINY, **CALM, workers=1) == folder


def test_bad_options_are_data_errors_and_write_nothing(tmp_path: Path) -> None:
    for changed, message in (
        ({"several": 0.5}, "one actor at most"),
        ({"camra": 0.5}, "'camra'; did you mean 'camera'"),
        ({"classes": ["cat", "god"]}, "'god'"),
        ({"irrelevant_videos": 2.0}, "is a share"),
    ):
        with pytest.raises(DataError, match=message):
            generate_web(tmp_path, **{**TINY, **changed})
    assert list(tmp_path.iterdir()) == []


def test_questions_about_what_is_not_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="generate_web"):
        SyntheticWeb(tmp_path)
    web = SyntheticWeb(folder)
    known = next(iter(web.videos))
    for ask in (web.annotated, web.intervals, lambda video: web.mask(video, 0)):
        with pytest.raises(DataError, match=f"did you mean '{known}'"):
            ask(known[:-1] + "?")
    with pytest.raises(DataError, match="did you mean 'cat'"):
        web.intervals(name="cart")
