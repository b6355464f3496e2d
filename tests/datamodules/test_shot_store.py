from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed

from datamodules.shot_store import ShotRecord, ShotStore
from pseudolabel.types import DataError, Tag

TAGS = (Tag("dog", "running"), Tag("cat"))


def record(video: str = "a", number: int = 2) -> ShotRecord:
    return ShotRecord(video, number, 40, 90, TAGS)


def write(store: ShotStore, shot: ShotRecord, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (3, 4, 6, 3)).astype(np.uint8)
    indices = np.array([40, 55, 89])
    motion = rng.random((3, 4, 6)).astype(np.float32)
    store.write(shot, frames, indices, motion)
    return frames, indices, motion


def test_shots_come_back(tmp_path: Path) -> None:
    store = ShotStore(tmp_path / "shots")
    assert store.records() == []
    frames, indices, motion = write(store, record())
    found = store.read("a-shot002")
    assert np.array_equal(found[0], frames) and found[0].dtype == np.uint8
    assert np.array_equal(found[1], indices) and found[1].dtype == np.int64
    assert np.abs(found[2] - motion).max() <= 0.5 / 255 + 1e-6 and found[2].dtype == np.float32


def test_certain_motion_stays_certain(tmp_path: Path) -> None:
    store = ShotStore(tmp_path)
    motion = np.array([[[0.0, 1.0]]], np.float32)
    store.write(record(), np.zeros((1, 1, 2, 3), np.uint8), np.array([7]), motion)
    assert store.read("a-shot002")[2].tolist() == [[[0.0, 1.0]]]


def test_a_video_counts_when_it_is_done(tmp_path: Path) -> None:
    store = ShotStore(tmp_path)
    for shot in (record("b", 10), record("b", 9), record("a-shot001", 3), record("folder/c", 0)):
        write(store, shot)
    assert store.records() == [] and not store.is_written("b")
    store.mark_done("b", shots=12, kept=2)
    store.mark_done("nothing", shots=4, kept=0)
    assert [shot.name for shot in store.records()] == ["b-shot009", "b-shot010"]
    assert store.records()[0] == record("b", 9)
    assert store.is_written("b") and store.is_written("nothing") and not store.is_written("a-shot001")
    assert store.summary("b") == {"shots": 12, "kept": 2}
    for video in ("a-shot001", "folder/c"):
        store.mark_done(video)
    assert [shot.name for shot in store.records()][:2] == ["a-shot001-shot003", "b-shot009"]
    for shot in store.records():  # a new store, as after a restart
        ShotStore(tmp_path).read(shot.name)
    with pytest.raises(DataError, match="'c' are not in"):
        store.summary("c")


def test_a_job_killed_while_writing_leaves_nothing_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ShotStore(tmp_path)

    def die(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", die)
    with pytest.raises(KeyboardInterrupt):
        write(store, record())
    monkeypatch.undo()
    with pytest.raises(DataError, match="'a-shot002' cannot be read"):
        store.read("a-shot002")
    store.mark_done("a")
    assert store.records() == []
    frames, *_ = write(store, record())
    store.mark_done("a")
    assert np.array_equal(store.read(store.records()[0].name)[0], frames)


def _one(folder: Path, number: int) -> None:
    store = ShotStore(folder)
    write(store, record(f"v{number}", 0), seed=number)
    store.mark_done(f"v{number}")


def test_many_processes_write_their_own_videos(tmp_path: Path) -> None:
    Parallel(n_jobs=2, prefer="threads")(delayed(_one)(tmp_path, number) for number in range(6))
    assert [shot.video for shot in ShotStore(tmp_path).records()] == [f"v{number}" for number in range(6)]


def test_damaged_files_are_reported(tmp_path: Path) -> None:
    store = ShotStore(tmp_path)
    write(store, record())
    store.mark_done("a")
    (tmp_path / "a/shot002.npz").write_bytes(b"PK\x03\x04 half of it")
    with pytest.raises(DataError, match=r"'a-shot002' cannot be read .* make it again"):
        store.read("a-shot002")
    with pytest.raises(DataError, match="is no shot's name"):
        store.read("a")
    (tmp_path / "a/done.json").write_text("{")
    with pytest.raises(DataError, match=r"done\.json is damaged"):
        store.records()


@pytest.mark.parametrize(
    ("frames", "indices", "motion", "message"),
    [
        (np.zeros((2, 4, 4), np.uint8), [0, 1], np.zeros((2, 4, 4)), "must be uint8"),
        (np.zeros((2, 4, 4, 3)), [0, 1], np.zeros((2, 4, 4)), "must be uint8"),
        (np.zeros((0, 4, 4, 3), np.uint8), [], np.zeros((0, 4, 4)), "T > 0"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0], np.zeros((2, 4, 4)), "need evidence"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, 1], np.zeros((2, 4, 5)), "need evidence"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, 1], np.full((2, 4, 4), 1.5), r"must lie in \[0, 1\], got 1.5"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0, 1], np.full((2, 4, 4), np.nan), r"must lie in \[0, 1\]"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, frames, indices, motion, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ShotStore(tmp_path).write(record(), frames, np.array(indices), motion)
