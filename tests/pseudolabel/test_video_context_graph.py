from __future__ import annotations

import itertools

import numpy as np

from pseudolabel.bags_of_words import BagOfWordsSettings, learn_vocabulary, region_features
from pseudolabel.video_context_graph import colour_variance, find_edges, find_nodes, group_nodes

MAPS = np.array([[[5, 5, 8], [5, 2, 8]], [[8, 5, 8], [8, 8, 8]], [[5, 5, 2], [5, 5, 2]]], np.int32)  # 3 frames of 2 x 3
SHOTS = np.array([4, 4, 6], np.int32)


def test_nodes_by_hand() -> None:
    found = find_nodes(MAPS)
    expected = [[[1, 1, 2], [1, 0, 2]], [[4, 3, 4], [4, 4, 4]], [[6, 6, 5], [6, 6, 5]]]
    np.testing.assert_array_equal(found.nodes, expected)
    assert found.frame.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert found.supervoxel.tolist() == [
        2,
        5,
        8,
        5,
        8,
        2,
        5,
    ]  # in frame 1, 8 is one node though in two parts
    assert found.area.tolist() == [1, 3, 2, 1, 5, 2, 4]
    assert found.nodes.dtype == found.frame.dtype == found.supervoxel.dtype == np.int32


def test_groups_are_supervoxels_within_shots() -> None:
    members, starts = group_nodes(find_nodes(MAPS), SHOTS)
    groups = [members[a:b].tolist() for a, b in itertools.pairwise(starts)]
    assert groups == [[0], [1, 3], [2, 4], [5], [6]]  # 2, 5, 8 in the first shot; 2, 5 in the second


def test_edges_and_distances() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (*MAPS.shape, 3)).astype(np.uint8)
    found, vocabulary = find_nodes(MAPS), learn_vocabulary(frames, BagOfWordsSettings(words=4))
    edges, distances = find_edges(frames, found, vocabulary)
    assert edges.tolist() == [[0, 1], [0, 2], [1, 2], [3, 4], [5, 6]] and edges.dtype == np.int32
    first = region_features(frames[0], found.nodes[0], vocabulary, count=3)
    np.testing.assert_allclose(distances[1], np.linalg.norm(first[0] - first[2]), rtol=1e-5)
    assert distances.dtype == np.float32 and (distances > 0).all()


def test_a_frame_of_one_region_has_no_edge() -> None:
    frames, maps = np.zeros((2, 3, 4, 3), np.uint8), np.zeros((2, 3, 4), np.int32)
    edges, distances = find_edges(frames, find_nodes(maps), learn_vocabulary(frames))
    assert edges.shape == (0, 2) and distances.shape == (0,)


def test_variance_equals_numpy() -> None:
    frames = np.random.default_rng(1).integers(0, 255, (*MAPS.shape, 3)).astype(np.uint8)
    found = find_nodes(MAPS)
    members, starts = group_nodes(found, SHOTS)
    variance = colour_variance(frames, found, members, starts)
    shot = np.broadcast_to(SHOTS[:, None, None], MAPS.shape)
    for value, (one, supervoxel) in zip(variance, [(4, 2), (4, 5), (4, 8), (6, 2), (6, 5)], strict=True):
        pixels = frames[(shot == one) & (supervoxel == MAPS)]
        np.testing.assert_allclose(value, pixels.astype(float).var(axis=0).sum(), rtol=1e-5)
    assert variance[0] == 0  # one pixel
