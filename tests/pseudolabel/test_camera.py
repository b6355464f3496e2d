from __future__ import annotations

import numpy as np
import pytest

from pseudolabel.camera import background_flow, residual_evidence, scaled_strength, stays_within
from pseudolabel.types import DataError


def homography_flow(matrix: np.ndarray, height: int = 90, width: int = 120) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(float)
    moved = np.stack([x, y, np.ones_like(x)], axis=-1) @ matrix.T
    return (moved[..., :2] / moved[..., 2:] - np.stack([x, y], axis=-1)).astype(np.float32)


def test_homography_is_found_beside_an_object() -> None:
    truth = homography_flow(np.array([[1.02, 0.01, 3.0], [-0.02, 0.99, -2.0], [1e-4, -5e-5, 1.0]]))
    flow = truth.copy()
    flow[20:60, 30:80] += (6.0, -4.0)
    found = background_flow(flow)
    np.testing.assert_allclose(found, truth, atol=0.1)
    np.testing.assert_array_equal(found, background_flow(flow))


def test_translation_and_none() -> None:
    flow = np.full((30, 40, 2), 5.0, np.float32)
    flow[:10] = -3.0
    np.testing.assert_array_equal(background_flow(flow, model="translation"), np.full_like(flow, 5.0))
    assert not background_flow(flow, model="none").any()
    with pytest.raises(DataError, match="homography"):
        background_flow(flow, model="affine")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (12, 12)])
def test_tiny_fields_fall_back(size: tuple[int, int]) -> None:
    np.testing.assert_allclose(background_flow(np.full((*size, 2), 2.0, np.float32)), 2.0, atol=1e-3)


def test_wild_flow_gives_finite_background() -> None:
    flow = np.random.default_rng(0).normal(0, 50, (60, 80, 2)).astype(np.float32)
    assert np.isfinite(background_flow(flow)).all() and np.abs(background_flow(flow)).max() <= 160


def test_pixels_that_leave() -> None:
    flow = np.zeros((2, 4, 2), np.float32)
    flow[..., 0] = 1.5
    assert stays_within(flow).tolist() == [[True, True, False, False]] * 2


def test_scales() -> None:
    speed = np.zeros((20, 20), np.float32)
    speed[:10] = 4.0
    np.testing.assert_array_equal(residual_evidence(speed), speed / 4)
    np.testing.assert_array_equal(residual_evidence(speed / 16), speed / 16)  # slower than the floor
    np.testing.assert_allclose(scaled_strength(speed), speed * 1.5 / 4)
    np.testing.assert_allclose(scaled_strength(speed / 1000), speed / 1000 * 1.5 / 0.05, rtol=1e-5)
