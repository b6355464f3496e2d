from __future__ import annotations

import numpy as np
import pytest

from pseudolabel.camera import background_flow, residual_evidence, scaled_strength, stays_within, unexplained
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


def test_what_the_background_explains_is_no_evidence() -> None:
    rng = np.random.default_rng(0)
    first = np.full((40, 60, 3), 120, np.uint8)
    first[:, 30:] = rng.integers(0, 256, (40, 30, 1), dtype=np.uint8)
    second = np.roll(first, 4, axis=1)
    flow = np.zeros((40, 60, 2), np.float32)
    flow[..., 0] = 4.0
    still = np.zeros_like(flow)
    against_still = unexplained(first, second, flow, still, side=1)
    assert against_still[:, 4:30].max() == 0  # smooth: standing still explains it as well
    assert np.median(against_still[:, 34:56]) > 0.9
    assert unexplained(first, second, flow, flow, side=1)[:, :56].max() == 0
    away = unexplained(first, second, still, still, side=1, noise=0.01)[:, 34:56]
    np.testing.assert_allclose(np.median(away), 0.5, atol=0.01)  # neither explains it


def test_error_of_one_pixel_by_hand() -> None:
    first, second = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.uint8)
    second[4, 4] = 90
    zero, right = np.zeros((9, 9, 2), np.float32), np.zeros((9, 9, 2), np.float32)
    right[..., 0] = 20.0  # off the picture: its black edge fits
    found = unexplained(first, second, right, zero, noise=5.0, side=3)
    np.testing.assert_allclose(found[3:6, 3:6], 10 / (10 + 5), rtol=1e-6)
    assert found[0].max() == 0
