from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from pytorch_lightning.loggers import WandbLogger

from callbacks.pictures import Pictures
from pseudolabel.palette import overlay
from pseudolabel.types import Annotation
from tests.toys import Toy


def source(toy: Toy, *, truth: bool = True) -> Any:
    def mask(record: Any, frame: int, size: tuple[int, int]) -> Any:
        return toy.truth[record.name][frame] if truth else None

    return SimpleNamespace(by_name=toy.by_name, clip=toy.clip, truth=mask)


def tiles(file: Path, width: int) -> np.ndarray:
    """(rows, columns, height, width, 3) of the picture of a 32 x 48 toy."""
    picture = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    height = round(width * 32 / 48)
    rows, columns = picture.shape[0] // height, picture.shape[1] // width
    return picture.reshape(rows, height, columns, width, 3).transpose(0, 2, 1, 3, 4)


def test_a_row_shows_frame_truth_and_versions(shared_toy: Toy, tmp_path: Path) -> None:
    pictures = Pictures(tmp_path / "pictures", source(shared_toy), shared_toy.store, videos=3, width=48)
    file = pictures.draw(0)
    assert file == tmp_path / "pictures/v0.png"
    shown = tiles(file, 48)
    assert shown.shape[:2] == (3, 3)
    names = sorted(shared_toy.by_name)
    for row, name in zip(shown, [names[0], names[2], names[5]], strict=True):
        frame = shared_toy.clip(name).frames[2]
        assert np.array_equal(row[0], frame)
        assert np.array_equal(row[1], overlay(frame, shared_toy.truth[name][2]))
        assert np.array_equal(row[2], overlay(frame, shared_toy.store.read(0, name, 2)))


def test_without_truth_its_tile_is_black(shared_toy: Toy, tmp_path: Path) -> None:
    shown = tiles(Pictures(tmp_path, source(shared_toy, truth=False), shared_toy.store, width=48).draw(0), 48)
    assert shown.shape[0] == 6
    assert (shown[:, 1] == 0).all() and shown[:, 0].any()


def test_a_video_that_a_version_skipped_does_not_stop_the_picture(toy: Toy, tmp_path: Path) -> None:
    toy.store.begin(1)
    for name in sorted(toy.by_name)[1:]:
        toy.store.write(1, toy.clip(name), Annotation(np.zeros((4, 32, 48), np.uint8), np.ones(4, np.float32)))
    toy.store.publish(1)
    shown = tiles(Pictures(tmp_path, source(toy), toy.store, width=48).draw(1), 48)
    assert shown.shape[:2] == (6, 4)
    assert (shown[0, 3] == 0).all() and shown[1, 3].any()
    assert tiles(Pictures(tmp_path, source(toy), toy.store, width=48).draw(0), 48).shape[:2] == (6, 3)


def test_videos_of_different_shapes_share_a_picture(shared_toy: Toy, tmp_path: Path) -> None:
    data = source(shared_toy, truth=False)
    tall = shared_toy.clip("red0")
    tall.frames = tall.frames.transpose(0, 2, 1, 3).copy()
    data.clip = lambda name: tall if name == "red0" else shared_toy.clip(name)
    store = SimpleNamespace(versions=list)
    file = Pictures(tmp_path, data, store, width=48).draw(0)  # type: ignore[arg-type]
    assert cv2.imread(str(file)).shape == (6 * 72, 96, 3)


def test_wandb_gets_the_same_picture(shared_toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(WandbLogger, "log_image", lambda self, key, images, **options: sent.append((key, images)))
    logger = WandbLogger.__new__(WandbLogger)
    file = Pictures(tmp_path, source(shared_toy), shared_toy.store, loggers=[logger], videos=2, width=48).draw(0)
    assert sent == [("masks", [str(file)])]
