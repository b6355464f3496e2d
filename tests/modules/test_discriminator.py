from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from modules import discriminator
from modules.discriminator import cross_fitted_realness, realness, train_discriminator
from pseudolabel.types import UInt8Array

TINY: dict[str, Any] = {"width": 4, "batch_size": 16, "lr": 5e-3, "seed": 0}


def patches(count: int, *, seam: bool, seed: int) -> UInt8Array:
    """Smooth patches; pasted ones have a hard bright seam."""
    rng = np.random.default_rng(seed)
    images = np.broadcast_to(rng.integers(60, 120, (count, 1, 1, 3)), (count, 32, 32, 3)).astype(np.uint8).copy()
    if seam:
        images[:, 12:20, 12:20] = 255
    return images


def videos(count: int, *, size: int = 4) -> tuple[list[UInt8Array], list[UInt8Array]]:
    original = [patches(size, seam=False, seed=number) for number in range(count)]
    return original, [patches(size, seam=True, seed=100 + number) for number in range(count)]


def test_it_learns_to_tell_pasted_from_original() -> None:
    original, pasted = videos(4)
    network = train_discriminator(original, pasted, steps=60, **TINY)
    assert not network.training
    unseen, unseen_pasted = patches(8, seam=False, seed=50), patches(8, seam=True, seed=51)
    real, fake = realness(network, unseen), realness(network, unseen_pasted, batch_size=3)
    assert real.dtype == np.float32 and real.shape == (8,)
    assert (real > 0.7).all() and (fake < 0.3).all()


def test_what_cannot_be_told_apart_stays_in_doubt() -> None:
    original, _ = videos(4)
    network = train_discriminator(original, original, steps=60, **TINY)
    assert np.abs(realness(network, original[0]) - 0.5).max() < 0.2


def test_the_seed_decides_the_network_and_nothing_else_does() -> None:
    original, pasted = videos(2)
    torch.manual_seed(1)
    first = realness(train_discriminator(original, pasted, steps=3, **TINY), pasted[0])
    state = torch.get_rng_state()
    second = realness(train_discriminator(original, pasted, steps=3, **TINY), pasted[0])
    assert np.array_equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    other = realness(train_discriminator(original, pasted, steps=3, **{**TINY, "seed": 1}), pasted[0])
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("folds", [2, 3])
def test_no_video_is_judged_by_a_network_that_saw_it(monkeypatch: pytest.MonkeyPatch, folds: int) -> None:
    original = [np.full((2, 16, 16, 3), number, np.uint8) for number in range(7)]
    pasted = [np.full((2, 16, 16, 3), 100 + number, np.uint8) for number in range(7)]
    trained: list[set[int]] = []
    judged: list[int] = []

    def train(real: Sequence[UInt8Array], fake: Sequence[UInt8Array], **options: Any) -> set[int]:
        seen = {int(video[0, 0, 0, 0]) for video in real}
        assert {int(video[0, 0, 0, 0]) - 100 for video in fake} == seen
        trained.append(seen)
        return seen

    def judge(network: set[int], video: UInt8Array) -> np.ndarray:
        number = int(video[0, 0, 0, 0]) - 100
        assert number not in network
        judged.append(number)
        return np.full(len(video), number / 10, np.float32)

    monkeypatch.setattr(discriminator, "train_discriminator", train)
    monkeypatch.setattr(discriminator, "realness", judge)
    answers = cross_fitted_realness(original, pasted, folds=folds)
    assert sorted(judged) == list(range(7)) and len(trained) == folds
    assert all(len(seen) >= 3 for seen in trained)
    assert [float(answer[0]) for answer in answers] == pytest.approx([number / 10 for number in range(7)])


def test_cross_fitting_finds_the_seam_and_skips_empty_videos() -> None:
    original, pasted = videos(6)
    original[2], pasted[2] = original[2][:0], pasted[2][:0]
    answers = cross_fitted_realness(original, pasted, folds=2, steps=60, **TINY)
    assert [len(answer) for answer in answers] == [4, 4, 0, 4, 4, 4]
    assert max(answer.max() for answer in answers if len(answer)) < 0.3


def test_too_few_videos_for_a_cross_fit_all_pass() -> None:
    original, pasted = videos(3)
    answers = cross_fitted_realness(original, pasted, folds=2, steps=1, **TINY)
    assert all((answer == 1).all() for answer in answers)
