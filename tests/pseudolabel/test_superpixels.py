from __future__ import annotations

import cv2
import numpy as np
import pytest
from fast_slic import Slic

from pseudolabel import superpixels as module
from pseudolabel.superpixels import adjacency, centres, region_means, segment_superpixels, temporal_links
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


def blocks() -> np.ndarray:
    return np.array([[0, 0, 1], [0, 2, 1], [2, 2, 1]], np.int32)


def test_adjacency_by_hand() -> None:
    edges, length = adjacency(blocks())
    assert edges.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert length.tolist() == [1, 3, 2]


def test_adjacency_equals_a_plain_count() -> None:
    labels = np.random.default_rng(0).integers(0, 9, (13, 17)).astype(np.int32)
    counted: dict[tuple[int, int], int] = {}
    for y in range(13):
        for x in range(17):
            for j, i in ((y + 1, x), (y, x + 1)):
                if j < 13 and i < 17 and labels[y, x] != labels[j, i]:
                    pair = (min(labels[y, x], labels[j, i]), max(labels[y, x], labels[j, i]))
                    counted[pair] = counted.get(pair, 0) + 1
    edges, length = adjacency(labels)
    assert {tuple(edge): n for edge, n in zip(edges.tolist(), length.tolist(), strict=True)} == counted


def test_one_superpixel_has_no_neighbour() -> None:
    edges, length = adjacency(np.zeros((4, 5), np.int32))
    assert edges.shape == (0, 2) and length.shape == (0,)


def test_centres_and_means_by_hand() -> None:
    np.testing.assert_allclose(centres(blocks()), [[1 / 3, 1 / 3], [2, 1], [2 / 3, 5 / 3]], rtol=1e-6)
    values = np.arange(9.0).reshape(3, 3)
    np.testing.assert_allclose(region_means(blocks(), values), [[4 / 3], [5], [17 / 3]], rtol=1e-6)
    both = region_means(blocks(), np.stack([values, values > 2], axis=-1), count=4)
    np.testing.assert_allclose(both, [[4 / 3, 1 / 3], [5, 2 / 3], [17 / 3, 1], [0, 0]], rtol=1e-6)


def test_links_follow_the_flow() -> None:
    first = np.array([[0, 0, 1, 1]], np.int32)
    second = np.array([[0, 1, 1, 2]], np.int32)
    flow = np.zeros((1, 4, 2), np.float32)
    flow[..., 0] = 1.2  # one pixel to the right; the last one leaves the picture
    edges, overlap = temporal_links(first, second, flow)
    assert edges.tolist() == [[0, 1], [1, 2]]
    assert overlap.tolist() == [1.0, 0.5]


def test_without_flow_links_are_overlaps() -> None:
    labels = segment_superpixels(scene(48, 64), n=40)
    edges, overlap = temporal_links(labels, labels, np.zeros((48, 64, 2), np.float32))
    np.testing.assert_array_equal(edges[:, 0], edges[:, 1])
    np.testing.assert_array_equal(overlap, 1)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="whole numbers"):
        adjacency(np.zeros((3, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="do not fit"):
        region_means(blocks(), np.zeros((3, 4)))
    with pytest.raises(DataError, match="of one size"):
        temporal_links(blocks(), blocks(), np.zeros((3, 4, 2), np.float32))
