from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.records import VideoRecord, VideoSource
from datamodules.target import TargetSource, tagged
from pseudolabel.types import VOID, DataError, LabelSpace, Tag, UInt8Array

PAIRS = (Tag("cat", "running"), Tag("cat", "none"), Tag("dog", "running"))


class Pairs(VideoSource):
    def __init__(self) -> None:
        super().__init__(LabelSpace(PAIRS))
        self.records = [
            VideoRecord("both", Path("both"), (PAIRS[0], PAIRS[2]), "train", (0,)),
            VideoRecord("cats", Path("cats"), PAIRS[:2], "train", (0,)),
            VideoRecord("dogs", Path("dogs"), PAIRS[2:], "test", (0,)),
        ]
        self.skipped = [("broken", "is broken")]

    def mask(self, record: VideoRecord, index: int) -> UInt8Array | None:
        return np.array([[0, 1, 2, 3, VOID]], np.uint8) if index == 0 else None


def test_all_actions_of_the_target_are_one_class() -> None:
    source = TargetSource(Pairs(), "cat")
    assert source.label_space.names == ("background", "cat") and source.skipped == [("broken", "is broken")]
    assert [record.tags for record in source.records] == [(Tag("cat"),), (Tag("cat"),), ()]
    np.testing.assert_array_equal(source.mask(source.records[0], 0), [[0, 1, 1, 0, VOID]])
    assert source.mask(source.records[0], 1) is None
    assert [record.name for record in tagged(source.records)] == ["both", "cats"]


def test_a_class_without_a_video_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"target=cats: no video is tagged with it; did you mean 'cat'\? Known: cat, dog"
    ):
        TargetSource(Pairs(), "cats")
