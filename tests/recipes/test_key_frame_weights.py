from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from pseudolabel.store import PARow, PAStore
from recipes.key_frame_weights import KeyFrameSelector, surviving_frames

ROWS = [
    *[PARow("cat", frame, quality, area=0.2) for frame, quality in ((0, 0.6), (1, 0.9), (2, 0.7), (8, 0.5))],
    PARow("cat", 9, 0.0, area=0.0),  # no object: neither a positive nor, with a box, a negative
    PARow("held", 0, 0.9, area=0.3),
    *[PARow("dog", frame, 1.0, area=0.0) for frame in range(6)],
]
SHOTS = {"cat": {0: 0, 1: 0, 2: 0, 8: 1, 9: 1}, "held": {0: 0}}
UNDETECTED = {"cat": set(), "held": set(), "dog": {0, 1, 2, 3}}


def select(tmp_path: Path, **options: object) -> np.ndarray:
    given = OmegaConf.create({"most": 2, "weighting": "quality", "negatives": 0.4, **options})
    training = lambda index: [row for row in index if row.video != "held"]  # noqa: E731
    return KeyFrameSelector(training, PAStore(tmp_path), SHOTS, UNDETECTED, given, 0)(ROWS)


def test_the_best_of_each_shot_count_by_their_quality(tmp_path: Path) -> None:
    weights = select(tmp_path, negatives=0.0)
    np.testing.assert_allclose(weights, [0, 0.9, 0.7, 0.5, 0, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(select(tmp_path, negatives=0.0, weighting="none"), weights > 0)


def test_negatives_are_drawn_from_frames_without_a_detection(tmp_path: Path) -> None:
    weights = select(tmp_path)
    drawn = np.flatnonzero(weights[6:])
    assert len(drawn) == 2 and set(drawn) <= {0, 1, 2, 3}, "three positives are 0.6 of all: two of four candidates"
    assert (weights[6:][drawn] == 1).all()
    assert (select(tmp_path, negatives=0.9)[6:] == [1, 1, 1, 1, 0, 0]).all(), "as many as there are"
    np.testing.assert_array_equal(weights, select(tmp_path))


def test_em_drops_frames_that_are_predicted_nearly_empty() -> None:
    select_frames = surviving_frames(lambda index: [row for row in index if row.video != "held"], least=0.65)
    assert select_frames(ROWS).tolist() == [0, 1, 1, 0, 0, 0, *[0] * 6]


def test_nothing_that_can_be_learned_gives_no_weight(tmp_path: Path) -> None:
    empty = [row for row in ROWS if row.area == 0]
    selector = KeyFrameSelector(
        lambda index: index,
        PAStore(tmp_path),
        SHOTS,
        UNDETECTED,
        OmegaConf.create({"most": 5, "weighting": "quality", "negatives": 0.5}),
        0,
    )
    assert selector(empty).sum() == pytest.approx(0)
