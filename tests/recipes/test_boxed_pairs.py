from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from datamodules.images import ImageSource
from pseudolabel.types import DataError
from recipes.boxed_pairs import boxed_images
from recipes.human import Human
from recipes.run_folder import RunFolder
from recipes.workspace import Workspace
from tests.datamodules.fakes import write_table
from tests.recipes.human_toys import boxes_table, human_config
from tests.recipes.moving import moving_folder, stills_folder

HEADER = ["image", "class", "x0", "y0", "x1", "y1"]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    data = moving_folder(tmp_path / "data", videos=4)
    boxes_table(data)
    cfg = human_config(data, tmp_path)
    human = Human(cfg, RunFolder(tmp_path / "run", cfg), [])
    return Workspace(cfg, tmp_path / "run", human.source, least_classes=1)


@pytest.fixture
def stills(workspace: Workspace, tmp_path: Path) -> ImageSource:
    return ImageSource(stills_folder(tmp_path / "stills", train=8, val=2), workspace.space)


def test_boxes_shrink_with_their_image(workspace: Workspace, stills: ImageSource) -> None:
    write_table(stills.root / "boxes.csv", [HEADER, *[[f"still{n}", "red", 20, 8, 40, 24] for n in (1, 3, 5, 7)]])
    found = boxed_images(workspace, stills, split="train", max_side=32, from_masks=False)
    shown = [item for item in found if len(item.boxes)]
    assert len(found) == 8 and len(shown) == 4
    image, boxes = shown[0]()
    assert image.shape == (24, 32, 3) and boxes.tolist() == [[10, 4, 20, 12]]
    assert boxed_images(workspace, stills, split="train", max_side=None, from_masks=False)[0]()[0].shape == (48, 64, 3)


def test_a_key_changes_with_the_boxes(workspace: Workspace, stills: ImageSource) -> None:
    keys = []
    for x1 in (40, 41):
        write_table(stills.root / "boxes.csv", [HEADER, ["still1", "red", 20, 8, x1, 24]])
        keys.append(boxed_images(workspace, stills, split="train", max_side=None, from_masks=False)[0].key)
    assert keys[0] != keys[1] and all(key.startswith("still1-") for key in keys)


def test_what_teaches_nothing_is_listed(workspace: Workspace, stills: ImageSource, tmp_path: Path) -> None:
    rows = [HEADER, ["still1", "red", 20, 8, 40, 24], ["still3", "red", 20, 8, 400, 240], ["stil5", "red", 2, 8, 9, 24]]
    write_table(stills.root / "boxes.csv", rows)
    found = boxed_images(workspace, stills, split="train", max_side=None, from_masks=False)
    assert sorted(item.record.name for item in found) == ["still0", "still1", "still2", "still4", "still6"]
    listed = {row[0]: row[1] for row in csv.reader((tmp_path / "run/skipped.csv").open())}
    assert "reaches to [400.0, 240.0]" in listed["images/still3"]
    assert "2 images show the class, but no box of it is known" in listed["images/boxes.csv"]
    assert "the first 'stil5'" in listed["images/unknown in boxes.csv"]
    with pytest.raises(DataError, match=r"No image of split 'val' .* has a box of the class"):
        boxed_images(workspace, stills, split="val", max_side=None, from_masks=False)


def test_masks_tell_boxes_if_they_may(workspace: Workspace, stills: ImageSource) -> None:
    with pytest.raises(DataError, match=r"boxes\.csv is missing"):
        boxed_images(workspace, stills, split="train", max_side=None, from_masks=False)
    found = boxed_images(workspace, stills, split="train", max_side=None, from_masks=True)
    assert len(found) == 8 and sum(len(item.boxes) for item in found) == 4
    assert all(np.isfinite(item.boxes).all() for item in found)
