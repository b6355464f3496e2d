from __future__ import annotations

import cv2
import numpy as np
import pytest
from fast_slic import Slic

from pseudolabel import superpixels as module
from pseudolabel.superpixels import segment_superpixels
from pseudolabel.types import DataError


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2.0) if min(height, width) > 1 else noise


@pytest.mark.parametrize("size", [(96, 128), (33, 31), (32, 32), (7, 50), (1, 64), (64, 1), (4, 4), (3, 2), (1, 1)])
@pytest.mark.parametrize("n", [1, 20, 10_000])
def test_ids_have_no_gaps_at_any_size(size: tuple[int, int], n: int) -> None:
    labels = segment_superpixels(scene(*size), n=n)
    assert labels.shape == size and labels.dtype == np.int32 and labels.flags["C_CONTIGUOUS"]
    ids = np.unique(labels)
    np.testing.assert_array_equal(ids, np.arange(len(ids)))
    assert len(ids) <= max(1, min(n, size[0] * size[1] // 16))


def test_makes_about_as_many_as_wanted() -> None:
    labels = segment_superpixels(scene(96, 128), n=60)
    assert 40 <= labels.max() + 1 <= 60


def test_keeps_to_a_strong_edge() -> None:
    frame = np.zeros((48, 48, 3), np.uint8)
    frame[:, 21:] = (250, 200, 30)
    labels = segment_superpixels(frame, n=16)
    assert not set(np.unique(labels[:, :21])) & set(np.unique(labels[:, 21:]))


def test_the_same_frame_gives_the_same_superpixels_whatever_came_before() -> None:
    frame = scene(64, 64)
    first = segment_superpixels(frame, n=50)
    segment_superpixels(scene(64, 64, seed=1), n=50)
    np.testing.assert_array_equal(segment_superpixels(frame, n=50), first)


def test_takes_read_only_and_strided_frames() -> None:
    frame = scene(64, 64)
    expected = segment_superpixels(np.ascontiguousarray(frame[:, ::-1]), n=50)
    np.testing.assert_array_equal(segment_superpixels(frame[:, ::-1], n=50), expected)
    frame.flags.writeable = False
    segment_superpixels(frame)


def test_falls_back_on_a_cpu_without_avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.cv2, "checkHardwareSupport", lambda _: False)
    assert module._slic_class() is Slic
    assert segment_superpixels(scene(32, 32), n=20).max() > 5


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (0, 8, 3)])
def test_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="uint8"):
        segment_superpixels(np.zeros(shape, np.uint8))
    with pytest.raises(DataError, match="float32"):
        segment_superpixels(np.zeros((8, 8, 3), np.float32))  # type: ignore[arg-type]
