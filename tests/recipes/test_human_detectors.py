from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from datamodules.records import VideoRecord, VideoSource
from pseudolabel.detect import CsvDetector, Detector
from pseudolabel.types import DataError, LabelSpace, Tag, UInt8Array
from recipes.human_detectors import MotionDetector, TableDetector, detector_of
from tests.datamodules.fakes import write_frames, write_table
from tests.recipes.moving import SIDE, draw_shot


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    frames, masks = draw_shot("red", frames=8, seed=3, size=(96, 128))
    folder = tmp_path_factory.mktemp("moving") / "video"
    write_frames(folder, frames)
    return folder, masks


def test_the_box_of_what_moves_stands_for_a_detection(video: tuple[Path, np.ndarray]) -> None:
    folder, masks = video
    records = {"video": VideoRecord("video", folder, (Tag("red"),), "train")}
    detect = MotionDetector(records, max_side=None)
    indices = np.array([3, 5])
    found = detect(np.zeros((2, 96, 128, 3), np.uint8), video="video", indices=indices)
    assert any(len(boxes) for boxes in found)
    for boxes, index in zip(found, indices, strict=True):
        for x0, y0, x1, y1 in boxes.boxes:
            ys, xs = np.nonzero(masks[index])
            assert abs((x0 + x1) / 2 - xs.mean()) < SIDE / 2 and abs((y0 + y1) / 2 - ys.mean()) < SIDE / 2


def test_videos_without_the_tag_have_no_box(video: tuple[Path, np.ndarray]) -> None:
    detect = MotionDetector({"video": VideoRecord("video", video[0], (), "train")}, max_side=None)
    assert not len(detect(np.zeros((1, 96, 128, 3), np.uint8), video="video", indices=np.array([4]))[0])


class Whole(VideoSource):
    """A video of 200 x 400 pixels."""

    def __init__(self) -> None:
        super().__init__(LabelSpace((Tag("red"),)))
        self.records = [VideoRecord("video", Path("video"), (Tag("red"),), "train")]
        self._sizes = {"video": (200, 400)}

    def mask(self, record: VideoRecord, index: int) -> UInt8Array | None:
        return None


def test_a_table_is_in_pixels_of_the_video(tmp_path: Path) -> None:
    rows = [["video", "frame", "x0", "y0", "x1", "y1", "score"], ["video", 3, 100, 20, 300, 180, 0.9]]
    table = write_table(tmp_path / "boxes.csv", rows)
    detect = TableDetector(CsvDetector(table, 0.3, missing="empty"), Whole())
    found = detect(np.zeros((2, 50, 100, 3), np.uint8), video="video", indices=np.array([3, 4]))
    np.testing.assert_allclose(found[0].boxes, [[25, 5, 75, 45]])
    assert len(found[1]) == 0


def test_a_table_of_other_videos_is_refused_and_one_of_some_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    header = ["video", "frame", "x0", "y0", "x1", "y1", "score"]
    other = ["video.mp4", 3, 100, 20, 300, 180, 0.9]
    table = write_table(tmp_path / "other.csv", [header, other])
    with pytest.raises(DataError, match=r"names 1 videos that the data does.*'video.mp4'; did you mean 'video'"):
        TableDetector(CsvDetector(table, 0.3, missing="empty"), Whole())
    both = write_table(tmp_path / "both.csv", [header, other, ["video", *other[1:]]])
    TableDetector(CsvDetector(both, 0.3, missing="empty"), Whole())
    assert "'video.mp4'; did you mean 'video'? Their boxes are not used." in caplog.text


@pytest.mark.parametrize("needs", ["prediction", "overlap"])
def test_scores_that_are_no_probabilities_are_refused_before_any_work_where_weights_need_some(
    tmp_path: Path, needs: str
) -> None:
    header = ["video", "frame", "x0", "y0", "x1", "y1", "score"]
    rows = [["video", frame, 100, 20, 300, 180, score] for frame, score in enumerate((0.9, -1.5, "nan", 2.5))]
    table = write_table(tmp_path / "boxes.csv", [header, *rows])

    def load(quality: str, margins: bool | None, threshold: float) -> Detector:
        csv = {"name": "csv", "path": str(table), "most": 5, "threshold": threshold, "margins": margins}
        cfg = OmegaConf.create({"detector": csv, "energy": {"quality": quality}})
        return detector_of(cfg, Whole(), lambda: pytest.fail("no classifier is needed"), torch.device("cpu"))

    with pytest.raises(
        DataError, match=r"boxes\.csv: .* got 1 scores outside of \[0, 1\], the first 2\.5\. .*margins="
    ):
        load(needs, None, 0.3)
    with pytest.raises(DataError, match="got 2 scores outside"):  # -1.5 counts if it is above the threshold
        load(needs, False, -2.0)
    for quality, margins in ((needs, True), ("probability", None)):
        assert isinstance(load(quality, margins, 0.3), TableDetector)
