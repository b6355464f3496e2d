from __future__ import annotations

import numpy as np
import pytest

from pseudolabel.location import location_prior, propagate
from pseudolabel.types import DataError

LINKS = (np.array([[0, 0], [0, 1], [1, 1]]), np.array([0.25, 0.75, 0.5], np.float32))


def array(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_two_frames_by_hand() -> None:
    inside, transfer = [array(0.8, 0.2), array(0.4, 0.0)], [array(1.0, 0.5), array(9.0, 9.0)]
    first, second = propagate(inside, [LINKS], transfer, decay=0.5)
    ahead = [0.4 + 0.5 * 0.8, 0.0 + 0.5 * (0.75 * 0.8 + 0.5 * 0.5 * 0.2) / 1.25]
    back = [0.8 + 0.5 * (0.25 * 0.4) / 1.0, 0.2]
    np.testing.assert_allclose(second, np.add(ahead, [0.4, 0.0]), rtol=1e-6)
    np.testing.assert_allclose(first, np.add(back, [0.8, 0.2]), rtol=1e-6)


def test_without_decay_nothing_is_carried() -> None:
    inside = [array(0.8, 0.2), array(0.4, 0.0)]
    for before, after in zip(inside, propagate(inside, [LINKS], [array(1, 1)], decay=0.0), strict=True):
        np.testing.assert_allclose(after, 2 * before)


def test_one_frame_and_wrong_numbers() -> None:
    np.testing.assert_allclose(propagate([array(0.3)], [], [])[0], [0.6], rtol=1e-6)
    with pytest.raises(DataError, match="2 frames need 1 links"):
        propagate([array(0.3)] * 2, [], [])


def test_prior_by_hand() -> None:
    prior = location_prior(array(2.0, 1.44, 0.6, 0.0))
    np.testing.assert_allclose(prior, [0.999, 0.999, 0.4, 0.001], rtol=1e-6)
    thin = location_prior(np.concatenate([array(2.0), np.zeros(99, np.float32)]))
    np.testing.assert_allclose(thin[:2], [0.999, 0.005], rtol=1e-6)
    np.testing.assert_allclose(location_prior(np.zeros(3, np.float32)), 0.005)
