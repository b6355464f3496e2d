from __future__ import annotations

import numpy as np
import pytest

from pseudolabel.appearance import fit_mixture
from pseudolabel.shot_colours import BACKGROUND, FOREGROUND, ColourModels, bin_colours, time_weights
from pseudolabel.types import DataError


def shot(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Frames (3, 12, 14, 3) of two colours of noise, and the mask of the brighter one."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((3, 12, 14), bool)
    mask[:, 3:9, 4:10] = True
    frames = np.where(mask[..., None], 180, 60) + rng.normal(0, 9, (3, 12, 14, 3))
    return frames.astype(np.uint8), mask


def test_time_weights_by_hand() -> None:
    np.testing.assert_allclose(time_weights(3), [[1, 1 / 2, 1 / 3], [1 / 2, 1, 1 / 2], [1 / 3, 1 / 2, 1]])
    np.testing.assert_allclose(time_weights(3, kind="exponential", fade=0.5)[0], np.exp([0, -0.5, -2]))


@pytest.mark.parametrize("width", [1, 8])
def test_bins_hold_means_and_counts(width: int) -> None:
    frames, mask = shot()
    valid = np.ones(mask.shape, bool)
    valid[:, :2] = False
    bins = bin_colours(frames, valid, width=width)
    held = bins.count(mask.astype(np.float32), valid)
    assert held.sum() == valid.sum()
    cells = {tuple(cell) for cell in (frames[valid] // width).tolist()}
    assert len(bins.colours) == len(cells)
    for code in range(0, len(bins.colours), 7):
        chosen = (bins.codes == code) & valid
        np.testing.assert_allclose(bins.colours[code], frames[chosen].mean(axis=0))
        assert held[1, FOREGROUND, code] == (chosen & mask)[1].sum()
        assert held[2, BACKGROUND, code] == (chosen & ~mask)[2].sum()
    assert all(set(used) == set(bins.codes[t][valid[t]]) for t, used in enumerate(bins.used))


def test_costs_are_those_of_mixtures_fitted_to_weighted_pixels() -> None:
    frames, mask = shot()
    soft = np.clip(mask + np.random.default_rng(1).normal(0, 0.2, mask.shape), 0, 1).astype(np.float32)
    valid = np.ones(mask.shape, bool)
    bins = bin_colours(frames, valid, width=1)
    models = ColourModels(bins, time_weights(3), (1, 1))  # one Gaussian: EM has one answer
    models.fit(bins.count(soft, valid))
    for t in range(3):
        fading = np.repeat(1 / (1 + np.abs(np.arange(3) - t)), mask[0].size)
        for weights, cost in zip((1 - soft, soft), models.costs(t), strict=True):
            plain = fit_mixture(
                frames.reshape(-1, 3), weights=weights.ravel() * fading, components=1, regularisation=bins.noise
            )
            expected = -plain.log_likelihood(frames[t].reshape(-1, 3)).reshape(mask[t].shape)
            np.testing.assert_allclose(cost, expected, rtol=1e-6)


def test_a_side_without_weight_keeps_its_mixtures() -> None:
    frames, mask = shot()
    valid = np.ones(mask.shape, bool)
    bins = bin_colours(frames, valid)
    models = ColourModels(bins, time_weights(3), (2, 2))
    models.fit(bins.count(np.zeros(mask.shape, np.float32), valid))
    assert not models.fitted
    models.fit(bins.count(mask.astype(np.float32), valid))
    assert models.fitted
    before = models.costs(0)[1]
    models.fit(bins.count(np.zeros(mask.shape, np.float32), valid))
    np.testing.assert_array_equal(models.costs(0)[1], before)


def test_a_uniform_share_bounds_the_costs() -> None:
    frames, mask = shot()
    frames[0, 0, 0] = 255
    valid = np.ones(mask.shape, bool)
    bins = bin_colours(frames, valid)
    held = bins.count(mask.astype(np.float32), valid)
    highest = []
    for outliers in (0.0, 1e-2):
        models = ColourModels(bins, time_weights(3), (1, 1), outliers=outliers)
        models.fit(held)
        highest.append(float(models.costs(0)[1].max()))
    assert highest[1] <= -np.log(1e-2) + 3 * np.log(256) + 1e-9 < highest[0]


def test_widths_out_of_range_are_refused() -> None:
    frames, mask = shot()
    with pytest.raises(DataError, match=r"1\.\.128"):
        bin_colours(frames, mask, width=0)
