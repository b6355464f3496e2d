from __future__ import annotations

import numpy as np
import pytest

from datamodules.studio.actors import BODIES
from datamodules.studio.coats import hair, put_on_coat
from datamodules.studio.difficulty import Difficulty
from datamodules.studio.staging import Stage
from pseudolabel.types import Tag

RED, BLUE = np.array([200, 0, 0], np.float32), np.array([0, 0, 200], np.float32)


def test_hair_has_its_two_colours_and_strokes_down_the_part() -> None:
    piece = hair(np.random.default_rng(0), (48, 64), (RED, BLUE))
    assert piece.shape == (48, 64, 3) and piece.dtype == np.uint8
    assert piece[..., 0].max() > 150 and piece[..., 2].max() > 150 and not piece[..., 1].any()
    grey = hair(np.random.default_rng(0), (48, 64), (RED, RED))[..., 0].astype(float)
    assert np.abs(np.diff(grey, axis=1)).mean() > 2 * np.abs(np.diff(grey, axis=0)).mean()


@pytest.mark.parametrize("actor", sorted(BODIES))
def test_a_coat_covers_the_body_but_not_what_tells_the_actor(actor: str) -> None:
    body = BODIES[actor](np.random.default_rng(1))
    coated = put_on_coat(np.random.default_rng(2), body)
    assert [part.name for part in coated.parts] == [part.name for part in body.parts] and coated.limbs == body.limbs
    for before, after in zip(body.parts, coated.parts, strict=True):
        assert (after.sprite.pixels[..., 3] == before.sprite.pixels[..., 3]).all(), "outlines stay"
        assert after.joint == before.joint and after.sprite.half == before.sprite.half
        same = (after.sprite.pixels == before.sprite.pixels).all()
        assert same == (before.name in ("head", "emblem")), before.name


def test_a_coat_is_of_natural_colours() -> None:
    for seed in range(8):
        body = put_on_coat(np.random.default_rng(seed), BODIES["cat"](np.random.default_rng(seed)))
        red, green, blue = next(part for part in body.parts if part.name == "root").sprite.pixels[..., :3].T.astype(int)
        assert (red >= green).mean() > 0.99 and (green >= blue).mean() > 0.99


def _cast(coats: float, seed: int) -> np.ndarray:
    stage = Stage(np.random.default_rng(seed), frames=4, size=(48, 64), difficulty=Difficulty(coats=coats))
    thing, _ = stage.actor(Tag("dog", "walking"), 1, place=0.0, share=0.15)
    return next(part for part in thing.body.parts if part.name == "root").sprite.pixels


def test_a_share_of_the_actors_wears_one() -> None:
    changed = [not np.array_equal(_cast(0.0, seed), _cast(0.5, seed)) for seed in range(40)]
    assert 10 <= sum(changed) <= 30
    assert all(not np.array_equal(_cast(0.0, seed), _cast(1.0, seed)) for seed in range(5))
