"""The decision between scores, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pseudolabel.decision import check_decision, decide
from pseudolabel.types import DataError

SCORES = np.array([[[0.4, 0.5, 0.3]], [[0.35, 0.2, 0.1]], [[0.25, 0.3, 0.6]]], np.float32)  # (C, 1, 3)


def test_the_likeliest_class_may_be_background_beside_two_objects() -> None:
    assert decide(SCORES).tolist() == [[0, 0, 2]]


def test_objects_together_exceed_the_background() -> None:
    found = decide(SCORES, "object_first")
    assert found.dtype == np.uint8
    assert found.tolist() == [[1, 0, 2]]  # even: background


@pytest.mark.parametrize("decision", ["likeliest", "object_first"])
def test_frames_are_decided_each_by_itself(decision: str) -> None:
    both = decide(np.stack([SCORES, SCORES[:, :, ::-1]]), check_decision(decision))
    np.testing.assert_array_equal(both[1], both[0][:, ::-1])


def test_an_unknown_decision_is_refused() -> None:
    with pytest.raises(DataError, match="object_first"):
        check_decision("object")
