from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pseudolabel.supervoxel_regions import RegionGraph, contract, edge_weights, merge_regions, region_graph
from pseudolabel.supervoxel_voxels import merge_voxels
from pseudolabel.supervoxels import SupervoxelSettings

Edge = tuple[float, int, int]


def plain_merge(edges: Sequence[Edge], sizes: Sequence[int], c: float, least: float) -> list[set[int]]:
    """Felzenszwalb and Huttenlocher with sets, edges given from light to heavy."""
    of = {i: {i} for i in range(len(sizes))}
    within = {id(part): 0.0 for part in of.values()}
    for turn in range(2):
        for weight, i, j in edges:
            a, b = of[i], of[j]
            if a is b:
                continue
            count = [sum(sizes[k] for k in part) for part in (a, b)]
            if turn == 0:
                join = all(weight <= within[id(p)] + c / n for p, n in zip((a, b), count, strict=True))
            else:
                join = min(count) < least
            if join:
                within[id(a)] = max(weight, within[id(a)], within[id(b)])
                a |= b
                of.update(dict.fromkeys(b, a))
    return [set(part) for part in {id(part): part for part in of.values()}.values()]


def as_sets(labels: np.ndarray) -> list[set[int]]:
    return [set(np.flatnonzero(labels == label).tolist()) for label in range(labels.max() + 1)]


def plain_edges(colours: np.ndarray, motion: np.ndarray, max_link: float) -> list[Edge]:
    """All pairs of neighbouring voxels in the order in which they are merged."""
    frames, height, width = colours.shape[:3]
    steps = [(0, 0, 1), (0, 1, -1), (0, 1, 0), (0, 1, 1)]
    steps += [(-1, dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    found = []
    for t, y, x in np.ndindex(frames, height, width):
        for back, dy, dx in steps:
            move = motion[t, y, x] if back else (0, 0)
            s, j, i = t + back, y + dy + move[0], x + dx + move[1]
            if s < 0 or not (0 <= j < height and 0 <= i < width):
                continue
            weight = round(float(np.linalg.norm(colours[t, y, x] - colours[s, j, i])) * 16) / 16
            if not back or weight <= max_link:
                found.append((weight, (t * height + y) * width + x, (s * height + j) * width + i))
    return sorted(found, key=lambda edge: edge[0])


@pytest.mark.parametrize("max_link", [12.0, np.inf])
def test_voxels_merge_as_by_hand(max_link: float) -> None:
    rng = np.random.default_rng(3)
    colours = rng.integers(0, 9, (3, 5, 6, 3)).astype(np.float32) * 3
    motion = rng.integers(-2, 3, (3, 5, 6, 2)).astype(np.int32)
    labels, count = merge_voxels(colours, motion, c=12, min_size=4, max_link=max_link)
    expected = plain_merge(plain_edges(colours, motion, max_link), [1] * 90, 12, 4)
    assert sorted(map(sorted, as_sets(labels))) == sorted(map(sorted, expected))
    assert 5 < len(expected) == count < 40


def random_graph(rng: np.random.Generator, regions: int = 14, bins: int = 4) -> RegionGraph:
    first, second = np.triu_indices(regions, 1)
    kept = rng.random(len(first)) < 0.3
    histograms = rng.integers(0, 9, (regions, 3, bins)).astype(np.float32)
    histograms[..., 0] += 40 - histograms.sum(axis=-1)
    return RegionGraph(
        np.full(regions, 40, np.int32),
        histograms.reshape(regions, -1),
        first[kept].astype(np.int32),
        second[kept].astype(np.int32),
        rng.integers(1, 9, kept.sum()).astype(np.float32),
        rng.uniform(50, 900, kept.sum()).astype(np.float32),
    )


def plain_weights(graph: RegionGraph, contrast: float) -> list[float]:
    """The weight of each edge, worked out one by one."""
    ends = list(zip(graph.first.tolist(), graph.second.tolist(), graph.contacts.tolist(), strict=True))
    weights = []
    for (i, j, contacts), step in zip(ends, graph.steps.tolist(), strict=True):
        p, q = (graph.histograms[region].astype(float) / graph.sizes[region] for region in (i, j))
        distance = sum((a - b) ** 2 / (a + b) for a, b in zip(p, q, strict=True) if a + b)
        border = min(sum(n for a, b, n in ends if region in (a, b)) for region in (i, j))
        weights.append(distance * (step / contacts) / contrast * border / contacts)
    return weights


@pytest.mark.parametrize("seed", [0, 2])
def test_regions_merge_as_by_hand(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed))
    weights = plain_weights(graph, 60.0)
    np.testing.assert_allclose(edge_weights(graph, contrast=60.0), weights, rtol=1e-5)
    edges = sorted(zip(weights, graph.first.tolist(), graph.second.tolist(), strict=True))
    labels, count = merge_regions(graph, c_reg=60.0, min_size=50, contrast=60.0)
    expected = plain_merge(edges, [40] * 14, 60.0, 50)
    assert sorted(map(sorted, as_sets(labels))) == sorted(map(sorted, expected))
    assert 1 < len(expected) == count < 10


def test_what_looks_alike_stays_apart_by_an_edge_between_or_a_short_border() -> None:
    """Four regions in a ring, each as far from its neighbours' histograms: 2 * (0.55 - 0.45)^2 / 1 = 0.02."""
    graph = RegionGraph(
        np.full(4, 40, np.int32),
        np.array([[22, 18, 40, 0, 40, 0], [18, 22, 40, 0, 40, 0]] * 2, np.float32),
        np.array([0, 0, 1, 2], np.int32),
        np.array([1, 3, 2, 3], np.int32),
        np.array([10, 10, 10, 2], np.float32),  # 2 and 3 meet in two pixels only
        np.array([50, 50, 500, 10], np.float32),  # 1 and 2 have an edge between
    )
    # borders of 20, 20, 12 and 12 contacts
    by_hand = [0.02 * 20 / 10, 0.02 * 12 / 10, 0.02 * 10 * 12 / 10, 0.02 * 12 / 2]
    np.testing.assert_allclose(edge_weights(graph, contrast=5.0), by_hand, rtol=1e-5)
    np.testing.assert_allclose(edge_weights(graph, contrast=None), [0.02] * 4, rtol=1e-5)  # GBH's


def test_contacts_are_counted_and_their_steps_summed_as_by_hand() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 7, (3, 5, 6)).astype(np.int32)
    motion = rng.integers(-1, 2, (3, 5, 6, 2)).astype(np.int32)
    colours = rng.uniform(0, 30, (3, 5, 6, 3)).astype(np.float32)
    found: dict[tuple[int, int], list[float]] = {}
    for t, y, x in np.ndindex(3, 5, 6):
        back = (t - 1, y + motion[t, y, x, 0], x + motion[t, y, x, 1])
        for s, j, i in ((t, y, x + 1), (t, y + 1, x), back):
            if s < 0 or not (0 <= j < 5 and 0 <= i < 6) or labels[s, j, i] == labels[t, y, x]:
                continue
            step = float(np.linalg.norm(colours[t, y, x] - colours[s, j, i]))
            if s == t or step <= 20:
                ends = sorted((int(labels[t, y, x]), int(labels[s, j, i])))
                found.setdefault((ends[0], ends[1]), []).append(step)
    graph = region_graph(labels, 7, colours, colours.astype(np.uint8), motion, settings=SupervoxelSettings())
    pairs = list(zip(graph.first.tolist(), graph.second.tolist(), strict=True))
    assert sorted(pairs) == sorted(found) and max(map(len, found.values())) > 3
    assert graph.contacts.tolist() == [len(found[pair]) for pair in pairs]
    np.testing.assert_allclose(graph.steps, [sum(found[pair]) for pair in pairs], rtol=1e-5)


def test_regions_above_hold_those_below() -> None:
    graph = RegionGraph(
        np.array([1, 2, 3, 4], np.int32),
        np.eye(4, 6, dtype=np.float32),
        np.array([0, 0, 1, 2], np.int32),
        np.array([1, 2, 3, 3], np.int32),
        np.array([1, 2, 3, 4], np.float32),
        np.array([10, 20, 30, 40], np.float32),
    )
    above = contract(graph, np.array([0, 1, 0, 1], np.int32), 2)
    assert above.sizes.tolist() == [4, 6]
    assert above.histograms.tolist() == [[1, 0, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0]]
    assert (above.first.tolist(), above.second.tolist()) == ([0], [1])
    assert (above.contacts.tolist(), above.steps.tolist()) == ([5], [50])
