from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from datamodules.studio.actors import BODIES
from datamodules.studio.coats import Coat, wear_of
from datamodules.studio.scenery import texture


@pytest.mark.parametrize("pattern", range(4))
def test_a_coat_is_made_of_its_two_colours(pattern: int) -> None:
    rng = np.random.default_rng(pattern)
    coat = replace(Coat.draw(rng), pattern=pattern)
    assert coat.colours.shape == (2, 3) and coat.colours.min() >= 0 and coat.colours.max() <= 255
    piece = coat(rng, (64, 96))
    assert piece.shape == (64, 96, 3) and piece.dtype == np.uint8
    ratios = piece.reshape(-1, 3).astype(float) + 1
    ratios /= ratios.sum(axis=1, keepdims=True)
    own = coat.colours / coat.colours.sum(axis=1, keepdims=True)
    nearest = np.abs(ratios[:, None] - own).sum(axis=2).min(axis=1)
    assert np.median(nearest) < 0.06, "brightness varies along the hairs, the hue does not"
    assert piece[48:].mean() > piece[:16].mean() * 0.9


def test_hairs_lie_along_the_width() -> None:
    rng = np.random.default_rng(0)
    piece = replace(Coat.draw(rng), pattern=0)(rng, (64, 96)).astype(float).mean(axis=2)
    assert np.abs(np.diff(piece, axis=0)).mean() > 1.5 * np.abs(np.diff(piece, axis=1)).mean()


def test_without_coats_nothing_is_drawn() -> None:
    rng = np.random.default_rng(4)
    assert wear_of(rng, 0.0) is texture
    assert rng.random() == np.random.default_rng(4).random()
    worn = [wear_of(rng, 0.5) for _ in range(60)]
    assert 15 < sum(isinstance(wear, Coat) for wear in worn) < 45
    assert isinstance(wear_of(rng, 1.0), Coat)


@pytest.mark.parametrize("actor", sorted(BODIES))
def test_every_actor_may_wear_one_and_keeps_its_head(actor: str) -> None:
    plain, coated = (
        BODIES[actor](np.random.default_rng(1), wear) for wear in (texture, Coat.draw(np.random.default_rng(2)))
    )
    assert [part.name for part in plain.parts] == [part.name for part in coated.parts]
    assert (plain.parts[0].sprite.pixels != coated.parts[0].sprite.pixels).any()
