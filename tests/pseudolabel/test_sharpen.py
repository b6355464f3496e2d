from __future__ import annotations

import numpy as np
import pytest

from pseudolabel import sharpen
from pseudolabel.sharpen import Sharpener, check_colours
from pseudolabel.types import DataError

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


@pytest.fixture
def _dense_crf() -> None:
    pytest.importorskip("pydensecrf")


needs_crf = pytest.mark.usefixtures("_dense_crf")


@needs_crf
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


@needs_crf
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_colours_of_the_video_find_the_body_of_which_the_head_is_known(seed: int) -> None:
    frames, truth, foreground = beast(seed=seed)
    decided = foreground > 0.5
    alone = Sharpener(CRF)(frames, foreground, decided)
    coloured = Sharpener(CRF, weight=2.0, steps=1)(frames, foreground, decided)
    assert overlap(decided, truth) < 0.5
    assert overlap(coloured, truth) > 0.9
    assert overlap(coloured, truth) > overlap(alone, truth) + 0.1


@needs_crf
@pytest.mark.parametrize("missed", [False, True])
def test_frames_that_are_not_parted_teach_no_colours(*, missed: bool) -> None:
    frames, truth, foreground = beast(frames=4)
    good = foreground > 0.5
    decided = good.copy()
    decided[1] = not missed  # nothing, or all of the frame
    found = Sharpener(CRF, weight=2.0)(frames, foreground, decided)
    rest = [0, 2, 3]
    assert np.array_equal(found[1], decided[1])
    assert np.array_equal(found[rest], Sharpener(CRF, weight=2.0)(frames[rest], foreground[rest], good[rest]))
    assert overlap(found[rest], truth[rest]) > 0.9


@needs_crf
def test_every_step_fits_the_mixtures_to_what_the_last_one_found() -> None:
    frames, truth, foreground = beast()
    decided = foreground > 0.5
    foreground = np.where(decided, 0.55, 0.45).astype(np.float32)
    one, four = (overlap(Sharpener(CRF, weight=0.5, steps=n)(frames, foreground, decided), truth) for n in (1, 4))
    assert four > one > overlap(decided, truth)


@needs_crf
def test_mixtures_have_the_components_of_their_side(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, _, foreground = beast()
    seen = []

    def fit(points: np.ndarray, *, weights: np.ndarray, components: int, regularisation: float) -> object:
        seen.append((components, float(weights.sum())))
        return original(points, weights=weights, components=components, regularisation=regularisation)

    original = sharpen.fit_mixture
    monkeypatch.setattr(sharpen, "fit_mixture", fit)
    objects = foreground > 0.5
    Sharpener(CRF, weight=1.0, steps=1, components=(3, 2))(frames, foreground, objects)
    assert seen == [(3, float((~objects).sum())), (2, float(objects.sum()))]


@needs_crf
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_what_is_decided_stays_decided_where_nothing_speaks_against_it(weight: float) -> None:
    off = {"bilateral_weight": 0.0, "smooth_weight": 0.0}
    frames = np.full((1, 20, 30, 3), 128, np.uint8)  # one colour tells nothing
    foreground = np.full((1, 20, 30), 0.2, np.float32)
    foreground[0, 5:10, 5:10] = 0.4  # decided below one half, as the expected area may
    objects = foreground > 0.3
    assert np.array_equal(Sharpener(off, weight=weight)(frames, foreground, objects), objects)


@needs_crf
def test_a_side_of_hardly_a_pixel_leaves_colours_out() -> None:
    frames, _, foreground = beast(frames=1)
    frames, foreground = np.tile(frames, (1, 3, 3, 1)), np.tile(foreground, (1, 3, 3))
    speck = np.zeros(foreground.shape, bool)
    speck[0, 40, 60] = True  # 1 of 27,648 pixels
    with_it, without = (Sharpener(CRF, weight=w)(frames, foreground, speck) for w in (5.0, 0.0))
    assert np.array_equal(with_it, without)


@needs_crf
def test_no_object_vanishes_or_fills_its_frame_and_none_or_all_are_left_alone() -> None:
    frames, _, foreground = beast()
    speck = np.zeros_like(foreground, bool)
    speck[0, 40, 60] = True
    speck[2] = True
    smooth = Sharpener({"smooth_weight": 50.0})
    sharp = smooth(frames, np.where(speck, 0.51, 0.49).astype(np.float32), speck)
    assert np.array_equal(sharp, speck)
    most = np.ones((1, 48, 64), bool)
    most[0, :4] = False
    flat = np.full((1, 48, 64, 3), 90, np.uint8)
    assert np.array_equal(smooth(flat, np.where(most, 0.51, 0.49).astype(np.float32), most), most)
    nothing = np.zeros_like(speck)
    assert not Sharpener(CRF, weight=1.0)(frames, foreground, nothing).any()


def test_shapes_that_do_not_fit_are_told() -> None:
    frames, _, foreground = beast()
    with pytest.raises(DataError, match="Resize the scores to the frames"):
        Sharpener(CRF)(frames[:, ::2], foreground, foreground > 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, r"colours.weight must be a number >= 0 .* got -1.0"),
        ({"weight": float("nan")}, "got nan"),
        ({"weight": None}, "got None"),
        ({"steps": 0}, "colours.steps must be a whole number >= 1 .* got 0"),
        ({"steps": None}, "got None"),
        ({"components": (8, 0)}, r"two whole numbers >= 1, .* got \(8, 0\)"),
        ({"components": (8,)}, "two whole numbers >= 1"),
        ({"components": [8.5, 5]}, "two whole numbers >= 1"),
        ({"components": [8, True]}, "two whole numbers >= 1"),
        ({"components": "85"}, "two whole numbers >= 1"),
    ],
)
def test_options_out_of_range_are_told(options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Sharpener(CRF, **options)


def test_unknown_and_missing_options_are_told() -> None:
    with pytest.raises(DataError, match=r"rounds.colours has no option 'step'.*steps"):
        check_colours({"step": 1}, "rounds.colours")
    with pytest.raises(DataError, match="colours is missing"):
        check_colours(None, "rounds.colours")
