from __future__ import annotations

import numpy as np
import pytest

from pseudolabel.detect import Boxes
from pseudolabel.matching import best_proposals, match_proposals, painted_scores
from pseudolabel.proposals import Proposals
from pseudolabel.types import DataError


def boxes(*rows: tuple[float, ...]) -> Boxes:
    corners = np.array(rows, np.float32).reshape(-1, 4)
    return Boxes(corners, np.ones(len(corners), np.float32))


def pool() -> Proposals:
    masks = np.zeros((4, 10, 12), bool)
    masks[0, 0:4, 0:4] = True
    masks[1, 0:4, 0:4] = np.eye(4)  # the same tight box
    masks[2, 5:10, 5:12] = True
    masks[3] = True
    return Proposals.from_masks(masks)


def plain_best(given: Boxes, proposals: Proposals, scores: np.ndarray | None) -> list[int]:
    """Eq. 3 as written, one box and one proposal at a time."""
    answers = []
    for x0, y0, x1, y1 in given.boxes:
        values = []
        for number, (u0, v0, u1, v1) in enumerate(proposals.boxes):
            shared = max(0, min(x1, u1) - max(x0, u0)) * max(0, min(y1, v1) - max(y0, v0))
            iou = shared / ((x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0) - shared)
            mean = 0.0 if scores is None else float(scores[proposals.mask(number)].mean())
            values.append(iou + mean if iou > 0 else -1.0)
        answers.append(int(np.argmax(values)) if max(values) > 0 else -1)
    return answers


def test_equal_boxes_are_told_apart_by_confidence() -> None:
    scores = np.zeros((10, 12), np.float32)
    scores[np.arange(4), np.arange(4)] = 1  # only the diagonal
    box = boxes((0, 0, 4, 4))
    assert best_proposals(box, pool(), None).tolist() == [0]  # equals: the first
    assert best_proposals(box, pool(), scores).tolist() == [1]
    assert match_proposals(box, pool(), scores).sum() == 4


def test_the_mask_is_the_union_over_boxes() -> None:
    proposals = pool()
    mask = match_proposals(boxes((0, 0, 4, 4), (5, 5, 12, 10), (5, 5, 11, 10)), proposals, None)
    np.testing.assert_array_equal(mask, proposals.mask(0) | proposals.mask(2))


def test_equals_the_equation_on_random_input() -> None:
    rng = np.random.default_rng(1)
    corners = rng.uniform(0, 8, (600, 2))
    given = Boxes(
        np.concatenate([corners, corners + rng.uniform(0.5, 5, (600, 2))], axis=1).astype(np.float32),
        np.ones(600, np.float32),
    )
    proposals = Proposals.from_masks(rng.random((20, 10, 12)) > 0.97)
    scores = rng.random((10, 12)).astype(np.float32)
    for values in (None, scores):
        assert best_proposals(given, proposals, values).tolist() == plain_best(given, proposals, values)


def test_nothing_gives_nothing() -> None:
    empty = Proposals.from_masks(np.zeros((0, 10, 12), bool))
    assert not match_proposals(boxes((0, 0, 4, 4)), empty, None).any()
    assert match_proposals(Boxes.none(), pool(), None).shape == (10, 12)
    assert not match_proposals(Boxes.none(), pool(), np.ones((10, 12), np.float32)).any()
    broken = boxes((np.nan, 0, 4, 4), (20, 20, 30, 30))  # not a box, and one away from all
    assert best_proposals(broken, pool(), np.ones((10, 12), np.float32)).tolist() == [-1, -1]
    assert not match_proposals(broken, pool(), None).any()


def test_a_proposal_without_pixels_is_never_chosen() -> None:
    masks = np.zeros((2, 10, 12), bool)
    masks[1, 2:4, 2:4] = True
    assert best_proposals(boxes((0, 0, 12, 10)), Proposals.from_masks(masks), None).tolist() == [1]


def test_scores_of_another_size_are_refused() -> None:
    with pytest.raises(DataError, match="size of the proposals"):
        match_proposals(boxes((0, 0, 4, 4)), pool(), np.zeros((5, 6), np.float32))
    with pytest.raises(DataError, match="finite"):
        match_proposals(boxes((0, 0, 4, 4)), pool(), np.full((10, 12), np.nan, np.float32))


def test_the_surest_box_paints_its_proposal() -> None:
    masks = np.zeros((2, 8, 10), bool)
    masks[0, 1:5, 1:5], masks[1, 3:7, 3:9] = True, True
    boxes = Boxes(
        np.array([[1, 1, 5, 5], [3, 3, 9, 7], [3, 3, 9, 6]], np.float32), np.array([0.4, 0.2, 0.7], np.float32)
    )
    expected = np.where(masks[1], 0.7, np.where(masks[0], 0.4, 0)).astype(np.float32)
    np.testing.assert_array_equal(painted_scores(boxes, Proposals.from_masks(masks)), expected)
    assert not painted_scores(Boxes.none(), Proposals.from_masks(masks)).any()
