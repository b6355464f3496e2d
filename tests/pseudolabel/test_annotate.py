from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest

from pseudolabel.annotate import annotate
from pseudolabel.store import PAStore
from pseudolabel.types import Annotation, Clip, DataError, Scores, Tag


def make_clip(number: int, name: str | None = None) -> Clip:
    frames = np.full((2, 32, 32, 3), number, np.uint8)
    return Clip(frames, np.arange(2), name or f"video{number}", 25.0, (Tag("cat"),))


def brightness(clip: Clip, scores: Scores | None) -> Annotation:
    if clip.frames[0, 0, 0, 0] == 3:
        raise DataError("nothing to see")
    added = 0 if scores is None else int(scores.argmax(1).max())
    return Annotation(clip.frames[..., 0] + np.uint8(added), np.ones(len(clip.frames), np.float32))


@pytest.mark.parametrize("workers", [1, 2])
def test_annotates_and_reports_the_skipped(tmp_path: Path, workers: int) -> None:
    store = PAStore(tmp_path)
    calls: list[None] = []
    skipped = annotate(
        ((make_clip(i), None) for i in range(1, 6)),
        brightness,
        store,
        0,
        workers=workers,
        progress=lambda: calls.append(None),
    )
    assert skipped == [("video3", "nothing to see")]
    assert len(calls) == 5
    store.publish(0)
    assert sorted({row.video for row in store.index(0)}) == ["video1", "video2", "video4", "video5"]
    assert all((store.read(0, f"video{i}", 1) == i).all() for i in (1, 2, 4, 5))


def test_scores_reach_the_annotator(tmp_path: Path) -> None:
    store = PAStore(tmp_path)
    scores = np.zeros((2, 3, 32, 32), np.float32)
    scores[:, 2] = 1
    annotate([(make_clip(1), scores)], brightness, store, 1)
    store.publish(1)
    assert (store.read(1, "video1", 0) == 3).all()


def test_finished_videos_are_not_annotated_again(tmp_path: Path) -> None:
    store = PAStore(tmp_path)
    annotate([(make_clip(1), None)], brightness, store, 0)
    seen = []

    def watch(clip: Clip, scores: Scores | None) -> Annotation:
        seen.append(clip.name)
        return brightness(clip, scores)

    annotate([(make_clip(i), None) for i in (1, 2)], watch, store, 0)
    assert seen == ["video2"]
    store.publish(0)
    assert annotate([(make_clip(i), None) for i in (1, 2, 4)], watch, store, 0) == []
    assert seen == ["video2"], "a whole version is left as it is"


def test_a_name_that_cannot_be_written_is_skipped(tmp_path: Path) -> None:
    skipped = annotate([(make_clip(1, "a/b"), None), (make_clip(2), None)], brightness, PAStore(tmp_path), 0)
    assert [name for name, _ in skipped] == ["a/b"]
    assert "Video name" in skipped[0][1]


def test_other_errors_stop_the_job(tmp_path: Path) -> None:
    def broken(clip: Clip, scores: Scores | None) -> Annotation:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        annotate([(make_clip(1), None)], broken, PAStore(tmp_path), 0)


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (2, 4)])
def test_clips_are_taken_as_workers_become_free(tmp_path: Path, workers: int, ahead: int) -> None:
    store = PAStore(tmp_path)
    taken, finished, most = 0, 0, 0

    def clips() -> Iterator[tuple[Clip, None]]:
        nonlocal taken, most
        for i in range(20):
            taken += 1
            written = len(list(tmp_path.rglob("rows.csv")))
            most = max(most, taken - written)
            yield make_clip(10 + i), None

    def count() -> None:
        nonlocal finished
        finished += 1

    annotate(clips(), brightness, store, 0, workers=workers, progress=count)
    assert (taken, finished) == (20, 20)
    assert most <= ahead


def test_the_backend_is_joblibs_present_one(tmp_path: Path) -> None:
    store = PAStore(tmp_path)
    seen = []

    def watch(clip: Clip, scores: Scores | None) -> Annotation:
        seen.append(clip.name)  # visible here only when the backend shares this process
        return brightness(clip, scores)

    with joblib.parallel_config(backend="threading"):
        annotate([(make_clip(i), None) for i in (1, 2)], watch, store, 0, workers=2)
    assert sorted(seen) == ["video1", "video2"]
