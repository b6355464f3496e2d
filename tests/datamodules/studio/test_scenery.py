from __future__ import annotations

import numpy as np
import pytest

from datamodules.studio import scenery
from datamodules.studio.casting import Options
from datamodules.studio.difficulty import Difficulty
from datamodules.studio.scenery import background, ground, texture
from pseudolabel.types import DataError


def chromaticity(picture: np.ndarray) -> np.ndarray:
    """Mean share of each channel: it does not change with brightness."""
    mean = picture.reshape(-1, 3).mean(axis=0)
    return mean / mean.sum()


def spread(pictures: list[np.ndarray]) -> float:
    return float(np.stack([chromaticity(picture) for picture in pictures]).std(axis=0).max())


def test_without_kinds_every_ground_is_a_texture_of_its_own() -> None:
    one, other = (ground(np.random.default_rng(seed), (40, 60)) for seed in (1, 2))
    np.testing.assert_array_equal(one, texture(np.random.default_rng(1), (40, 60), detail=3))
    assert (one != other).mean() > 0.9


def test_grounds_of_one_kind_look_alike_but_are_not_the_same() -> None:
    alike = [ground(np.random.default_rng(seed), (40, 60), kinds=1) for seed in range(8)]
    assert all(piece.shape == (40, 60, 3) and piece.dtype == np.uint8 for piece in alike)
    assert spread(alike) < 0.3 * spread([ground(np.random.default_rng(seed), (40, 60)) for seed in range(8)])
    assert all((piece != alike[0]).mean() > 0.5 for piece in alike[1:])


def test_as_many_kinds_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = set()

    def plain(number: int, shape: tuple[int, int]) -> np.ndarray:
        asked.add(number)
        return np.full((2 * shape[0], 2 * shape[1], 3), 100, np.uint8)

    monkeypatch.setattr(scenery, "_kind_of_ground", plain)
    for seed in range(60):
        ground(np.random.default_rng(seed), (20, 20), kinds=3)
    assert asked == {0, 1, 2}


def test_backgrounds_consist_of_them() -> None:
    def pictures(kinds: int) -> list[np.ndarray]:
        return [background(np.random.default_rng(seed), (48, 64), clutter=1.0, kinds=kinds) for seed in range(8)]

    assert spread(pictures(1)) < spread(pictures(0))
    np.testing.assert_array_equal(pictures(1)[0], pictures(1)[0])


def test_folders_of_data_without_kinds_keep_their_names() -> None:
    def options(**difficulty: float) -> Options:
        return Options.build(2, 1, 4, (16, 16), 2, None, 0, difficulty)

    assert "grounds" not in options(clutter=0.5).fingerprint["difficulty"]
    assert options(grounds=12).fingerprint["difficulty"]["grounds"] == 12
    for wrong in (-1, 2.5):
        with pytest.raises(DataError, match="grounds"):
            options(grounds=wrong)


def test_webs_without_kinds_keep_their_names() -> None:
    plain, few = (Difficulty.from_options({"grounds": kinds}).fingerprint for kinds in (0, 3))
    assert "grounds" not in plain and few["grounds"] == 3
