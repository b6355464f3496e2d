from __future__ import annotations

import numpy as np
import pytest

from pseudolabel.sharpen import Sharpener
from pseudolabel.types import DataError

pytest.importorskip("pydensecrf")

CRF = {"bilateral_weight": 8.0, "bilateral_xy": 40.0, "bilateral_rgb": 8.0, "smooth_weight": 1.0}


def beast(*, frames: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A brown body with a white head on green, and the scores of a network that knows hardly more than the head."""
    rng = np.random.default_rng(seed)
    images = np.empty((frames, 48, 64, 3), np.int64)
    images[:] = (60, 160, 60)
    truth = np.zeros(images.shape[:3], bool)
    foreground = np.full(truth.shape, 0.1, np.float32)
    for t in range(frames):
        left = 8 + 6 * t
        truth[t, 16:34, left : left + 34] = True
        images[t, 16:34, left : left + 34] = (130, 80, 30)
        images[t, 16:34, left : left + 10] = 230
        foreground[t, 12:38, left - 4 : left + 18] = 0.7  # the head, the part of the body next to it, and scenery
    noisy = images + rng.normal(0, 12, images.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), truth, foreground


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def test_the_dense_crf_fits_objects_to_colours() -> None:
    frames = np.full((2, 32, 48, 3), 40, np.uint8)
    frames[:, 8:24, 12:36] = (40, 200, 40)
    foreground = np.full((2, 32, 48), 0.1, np.float32)
    foreground[0, 6:22, 10:38] = 0.6  # too far up and too wide
    found = Sharpener(CRF)(frames, foreground, foreground > 0.5)
    truth = np.zeros((32, 48), bool)
    truth[8:24, 12:36] = True
    assert (found[0] == truth).mean() > 0.99
    assert not found[1].any(), "a frame without an object gets none"


def test_colours_of_the_video_find_the_body_of_which_the_head_is_known() -> None:
    frames, truth, foreground = beast()
    decided = foreground > 0.5
    alone = Sharpener(CRF)(frames, foreground, decided)
    coloured = Sharpener(CRF, weight=1.0)(frames, foreground, decided)
    assert overlap(decided, truth) < 0.5
    assert overlap(coloured, truth) > 0.95
    assert overlap(coloured, truth) > overlap(alone, truth) + 0.1


def test_every_step_fits_the_mixtures_to_what_the_last_one_found() -> None:
    frames, truth, foreground = beast()
    decided = foreground > 0.5
    foreground = np.where(decided, 0.55, 0.45).astype(np.float32)
    found = [overlap(Sharpener(CRF, weight=0.5, steps=n)(frames, foreground, decided), truth) for n in (1, 4)]
    assert found[1] >= found[0] > overlap(decided, truth)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_what_is_decided_stays_decided_where_nothing_speaks_against_it(weight: float) -> None:
    off = {"bilateral_weight": 0.0, "smooth_weight": 0.0}
    frames = np.full((1, 20, 30, 3), 128, np.uint8)  # one colour tells nothing
    foreground = np.full((1, 20, 30), 0.2, np.float32)
    foreground[0, 5:10, 5:10] = 0.4  # decided below one half, as the expected area may
    objects = foreground > 0.3
    assert np.array_equal(Sharpener(off, weight=weight)(frames, foreground, objects), objects)


def test_no_object_vanishes_and_none_or_all_are_left_alone() -> None:
    frames, _, foreground = beast()
    speck = np.zeros_like(foreground, bool)
    speck[0, 40, 60] = True
    speck[2] = True
    sharp = Sharpener({"smooth_weight": 50.0}, weight=1.0)(
        frames, np.where(speck, 0.51, 0.49).astype(np.float32), speck
    )
    assert sharp[0].any() and not sharp[1].any() and sharp[2].all()
    nothing = np.zeros_like(speck)
    assert not Sharpener(CRF, weight=1.0)(frames, foreground, nothing).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "weight must be a number >= 0, got -1.0"),
        ({"weight": float("nan")}, "weight must be a number >= 0, got nan"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"components": (8, 0)}, r"two numbers >= 1 .* got \(8, 0\)"),
        ({"components": (8,)}, "two numbers >= 1"),
    ],
)
def test_options_out_of_range_are_told(options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Sharpener(CRF, **options)
