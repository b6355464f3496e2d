from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from omegaconf import OmegaConf

from datamodules.images import ImageSource
from pseudolabel.decision import Decision
from pseudolabel.types import LabelSpace, Tag
from recipes.images import open_images, read_with_truth
from recipes.scoring import score_images, score_segmenter
from recipes.workspace import Workspace
from tests.recipes.moving import mcnn_config, moving_folder, stills_folder

SPACE = LabelSpace((Tag("green"), Tag("red")))


class Background:
    """A network that sees nothing."""

    space = SPACE
    decision: Decision = "likeliest"

    def predict_scores(self, frames: np.ndarray) -> np.ndarray:
        scores = np.zeros((len(frames), 3, *frames.shape[1:3]), np.float32)
        scores[:, 0] = 1
        return scores


class Torn(Background):
    """A network that sees an object everywhere and cannot tell which."""

    def predict_scores(self, frames: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.float32([0.4, 0.35, 0.25])[:, None, None], (len(frames), 3, *frames.shape[1:3]))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    cfg = mcnn_config(moving_folder(tmp_path / "data", videos=2, masks=False), tmp_path)
    (tmp_path / "run").mkdir()
    return Workspace(cfg, tmp_path / "run")


def skipped(folder: Path) -> list[str]:
    with (folder / "run/skipped.csv").open(newline="") as file:
        return [row["video"] for row in csv.DictReader(file)]


def test_broken_images_and_masks_are_listed_and_passed_over(workspace: Workspace, tmp_path: Path) -> None:
    source = ImageSource(stills_folder(tmp_path / "stills", val=4), SPACE)
    (source.root / "images/still4.png").write_bytes(b"broken")
    (source.root / "masks/still5.png").write_bytes(b"broken")
    network: Any = Background()
    found = score_images(workspace, network, source, "val", max_side=None)
    assert found["frames"] == 2 and skipped(tmp_path) == ["images/still4", "images/still5"]
    assert score_images(workspace, network, source, "val", max_side=None) == found
    assert len(skipped(tmp_path)) == 2  # once
    records = source.select("val")
    assert read_with_truth(workspace, source, records[0], max_side=None) is None
    pair = read_with_truth(workspace, source, records[2], max_side=32)
    assert pair is not None and pair[0].shape == (24, 32, 3) and pair[1].shape == (48, 64)


def test_an_image_named_like_a_video_does_not_remove_it(workspace: Workspace, tmp_path: Path) -> None:
    root = stills_folder(tmp_path / "stills")
    (root / "images/still0.png").rename(root / "images/video0.png")
    table = (root / "labels.csv").read_text()
    (root / "labels.csv").write_text(table.replace("still0", "video0"))
    (root / "images/video0.png").write_bytes(b"broken")
    cfg = mcnn_config(tmp_path / "data", tmp_path, ["images=folder", f"images.root={root}"])
    source = open_images(cfg, workspace)
    assert source is not None and len(source.records) == 5
    assert skipped(tmp_path) == ["images/video0"]


def test_images_and_videos_are_scored_by_the_decision_of_the_network(tmp_path: Path) -> None:
    cfg = mcnn_config(moving_folder(tmp_path / "data", videos=2), tmp_path)
    (tmp_path / "run").mkdir()
    workspace = Workspace(cfg, tmp_path / "run")
    source = ImageSource(stills_folder(tmp_path / "stills"), SPACE)
    found = {}
    for decision in get_args(Decision):
        network: Any = Torn()
        network.decision = decision
        images = score_images(workspace, network, source, "val", max_side=None)
        videos = score_segmenter(workspace, network, workspace.train, radius=0)
        found[decision] = images["jaccard"], videos["jaccard"]
    assert found["likeliest"] == (0, 0)
    assert min(found["object_first"]) > 0


@pytest.mark.parametrize("images", [{}, {"images": {"name": "none"}}])
def test_data_without_images_of_its_own_has_none(workspace: Workspace, images: dict[str, Any]) -> None:
    cfg = OmegaConf.create(images)
    OmegaConf.set_struct(cfg, True)
    assert open_images(cfg, workspace) is None
