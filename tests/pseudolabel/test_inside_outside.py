from __future__ import annotations

import numpy as np
import pytest

from pseudolabel.inside_outside import (
    gradient_norm,
    inside_outside,
    inside_outside_map,
    map_quality,
    motion_boundaries,
    ray_votes,
)
from pseudolabel.types import DataError


def plain_votes(walls: np.ndarray) -> np.ndarray:
    """Walk along every ray of every pixel."""
    height, width = walls.shape
    votes = np.zeros(walls.shape, np.uint8)
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    for y, x in zip(*np.nonzero(~walls), strict=True):
        for dy, dx in steps:
            crossings, j, i = 0, int(y), int(x)
            while 0 <= j + dy < height and 0 <= i + dx < width:
                after = walls[j + dy, i + dx]
                corner = dy and dx and walls[j + dy, i] and walls[j, i + dx]
                if not walls[j, i] and (after or corner):
                    crossings += 1
                j, i = j + dy, i + dx
            votes[y, x] += crossings % 2
    return votes


def ring(size: int = 21, first: int = 5, last: int = 15) -> np.ndarray:
    walls = np.zeros((size, size), bool)
    walls[first : last + 1, first : last + 1] = True
    walls[first + 1 : last, first + 1 : last] = False
    return walls


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4, 0.8])
@pytest.mark.parametrize("size", [(17, 23), (1, 9), (9, 1), (2, 2)])
def test_votes_equal_a_walk_along_every_ray(share: float, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(int(share * 100))
    for _ in range(5):
        walls = rng.random(size) < share
        np.testing.assert_array_equal(ray_votes(walls), plain_votes(walls))


def test_inside_of_a_closed_square_is_exact_and_its_wall_is_not_inside() -> None:
    inside = inside_outside(ring())
    expected = np.zeros((21, 21), bool)
    expected[6:15, 6:15] = True
    np.testing.assert_array_equal(inside, expected)


def test_a_diamond_of_corners_is_closed() -> None:
    y, x = np.mgrid[:21, :21]
    away = np.abs(y - 10) + np.abs(x - 10)
    np.testing.assert_array_equal(inside_outside(away == 6), away < 6)


def test_most_rays_bridge_a_gap() -> None:
    walls = ring()
    walls[5, 9:12] = False
    inside = inside_outside(walls)
    assert inside[6:15, 6:15].mean() > 0.8
    assert inside[:5].sum() == 0


def test_what_touches_the_border_is_dropped_on_request() -> None:
    walls = ring(31, 3, 12) | np.pad(ring(15, 2, 10), ((16, 0), (16, 0)))
    assert inside_outside(walls)[7, 7] and inside_outside(walls, border=5)[22, 22]
    assert not inside_outside(walls, border=5)[7, 7]


def test_gradients_of_a_shear_and_a_zoom() -> None:
    y, x = np.mgrid[:8, :9].astype(np.float32)
    shear, zoom = np.stack([2 * y, 0 * x], axis=-1), np.stack([3 * x, 4 * y], axis=-1)
    for central in (False, True):
        cross = gradient_norm(shear, partials="cross", central=central)
        np.testing.assert_allclose(cross[:-1, :-1], 2)
        assert gradient_norm(shear, partials="along", central=central).max() == 0
        np.testing.assert_allclose(gradient_norm(zoom, partials="along", central=central)[:-1, :-1], 5)
        both = gradient_norm(shear + zoom, partials="all", central=central)
        np.testing.assert_allclose(both[:-1, :-1], np.sqrt(29), rtol=1e-6)


def test_boundary_probability_by_hand() -> None:
    flow = np.zeros((1, 3, 2), np.float32)
    flow[0, :, 1] = (1.0, 1.0, -1.0)  # turns round between the last two
    strength = np.array([[0.1, 2.0, 0.9]], np.float32)
    b = 1 - np.exp(-0.7 * strength[0])
    expected = [0.1 * b[0], b[1], b[2] * (1 - np.exp(-(np.pi**2)))]
    np.testing.assert_allclose(motion_boundaries(flow, strength=strength)[0], expected, rtol=1e-5)


def moving_disc(speed: float, radius: int = 20) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:80, :100]
    disc = (y - 40) ** 2 + (x - 50) ** 2 < radius**2
    flow = np.zeros((80, 100, 2), np.float32)
    flow[disc] = (speed, speed)
    return flow, disc


def test_map_finds_a_moving_disc() -> None:
    flow, disc = moving_disc(5.0)
    inside, quality = inside_outside_map(flow, partials="all")
    assert (inside & disc).sum() > 0.85 * disc.sum() and (inside & ~disc).sum() == 0
    assert quality == pytest.approx(2 * np.pi, rel=0.05)


def test_other_gains_are_tried_only_where_the_map_is_poor() -> None:
    flow, _ = moving_disc(0.8)  # its gradient is too weak for the first gain
    assert inside_outside_map(flow, partials="all", gain=0.3, gains=())[1] == 0
    assert inside_outside_map(flow, partials="all", gain=0.3, gains=(0.4, 3.0))[1] > 5


def test_no_motion_has_no_inside() -> None:
    inside, quality = inside_outside_map(np.full((40, 40, 2), 7.0, np.float32))
    assert not inside.any() and quality == 0 and map_quality(inside) == 0


def test_bad_input_is_refused() -> None:
    flow = np.zeros((4, 4, 2), np.float32)
    flow[1, 1] = np.nan
    with pytest.raises(DataError, match="2 values that are NaN"):
        inside_outside_map(flow)
    with pytest.raises(DataError, match="bool"):
        inside_outside(np.zeros((4, 4), np.uint8))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"\(H, W, 2\)"):
        gradient_norm(np.zeros((4, 4), np.float32))
