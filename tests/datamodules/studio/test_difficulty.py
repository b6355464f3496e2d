from __future__ import annotations

import numpy as np
import pytest

from datamodules.studio.casting import Options
from datamodules.studio.difficulty import Difficulty
from datamodules.studio.staging import Stage
from pseudolabel.types import DataError, Tag


def test_data_sets_from_before_keep_their_names() -> None:
    def fingerprint(**knobs: float) -> dict[str, object]:
        return Options.build(4, 2, 8, (32, 48), 2, None, 0, knobs).fingerprint

    for later in ("heights", "coats"):
        assert fingerprint() == fingerprint(**{later: 0.0})
        assert later not in fingerprint()["difficulty"]  # type: ignore[operator]
        assert fingerprint(**{later: 0.5}) != fingerprint()


@pytest.mark.parametrize("name", ["heights", "coats"])
def test_a_share_is_at_most_one(name: str) -> None:
    with pytest.raises(DataError, match=f"{name} is a share"):
        Difficulty.from_options({name: 1.5})


def _mean_height(action: str, heights: float, *, actors: int = 60) -> float:
    """Mean height of birds in the frame, -1 = upper edge, 1 = lower edge."""
    knobs, ways = Difficulty(camera=0.0, heights=heights), []
    for seed in range(actors):
        stage = Stage(np.random.default_rng(seed), frames=8, size=(48, 64), difficulty=knobs)
        _, way = stage.actor(Tag("bird", action), 1, place=0.0, share=0.15)
        ways.append(way[1].mean() / stage.half[1])
    return float(np.mean(ways))


def test_heights_tell_the_action_unless_they_are_any() -> None:
    assert _mean_height("flying", 0.0) < _mean_height("walking", 0.0) - 0.25
    assert abs(_mean_height("flying", 1.0) - _mean_height("walking", 1.0)) < 0.1
