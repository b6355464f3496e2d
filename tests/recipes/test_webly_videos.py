from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules.records import VideoRecord
from pseudolabel.types import Tag
from pseudolabel.video_graph import segment_video
from pseudolabel.video_graph_settings import VideoGraphSettings
from recipes.webly_settings import part_of
from recipes.webly_videos import part_name, segment_by
from tests.recipes.moving import draw_shot

SETTINGS = VideoGraphSettings(num_superpixels=60, seeds="both")


def test_several_ways_at_once_give_what_each_gives_alone() -> None:
    frames, truth = draw_shot("red", frames=6, seed=3)
    attention = truth.astype(np.float32)
    ways = {"all": SETTINGS, "motion": part_of(SETTINGS, "motion")}
    found = list(segment_by(iter(zip(frames, attention, strict=True)), ways))
    assert len(found) == 6
    for way, of in ways.items():
        alone = segment_video(frames, attention if of.lambda_a else None, settings=of)
        np.testing.assert_array_equal(np.stack([masks[way] for masks in found]), alone)


def test_a_video_of_several_tags_is_labelled_once_for_each() -> None:
    one = VideoRecord("a", Path("a.mp4"), (Tag("cat"),), "train")
    two = VideoRecord("b", Path("b.mp4"), (Tag("cat"), Tag("dog")), "train")
    assert [part_name(of, tag) for of in (one, two) for tag in of.tags] == ["a", "b-cat", "b-dog"]
