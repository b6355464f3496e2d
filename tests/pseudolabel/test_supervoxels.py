from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest

from pseudolabel.supervoxel_regions import RegionGraph, contract, edge_weights, merge_regions, region_graph
from pseudolabel.supervoxel_shots import find_shots_and_key_frames
from pseudolabel.supervoxel_voxels import merge_voxels
from pseudolabel.supervoxels import (
    SupervoxelSettings,
    segment_hierarchy,
    segment_supervoxels,
    stream_pairs,
    stream_supervoxels,
)
from pseudolabel.types import DataError

SMALL = SupervoxelSettings(min_size=20, part_size=20, window=4, overlap=1, levels=6)
Edge = tuple[float, int, int]


def scene(frames: int, *, seed: int = 0, size: tuple[int, int] = (32, 40)) -> np.ndarray:
    """A red square that moves over smooth noise."""
    rng = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(rng.uniform(0, 255, (*size, 3)).astype(np.float32), (0, 0), 3)
    ground = (ground - ground.mean()) / ground.std() * 25 + rng.uniform(70, 180, 3)
    clip = np.repeat(ground[None], frames, axis=0)
    for t in range(frames):
        clip[t, 10:22, 5 + t : 17 + t] = (230, 20, 30)
    return np.clip(clip + rng.normal(0, 1.5, clip.shape), 0, 255).astype(np.uint8)


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
    graph = region_graph(labels, 7, colours, colours.astype(np.uint8), motion, settings=SMALL)
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


def test_hidden_levels_are_levels_without_a_number() -> None:
    shown = replace(SMALL, hidden_levels=0, c_reg=50.0, c_reg_growth=2.0, min_size_growth=1.0)
    hidden = replace(shown, hidden_levels=2, c_reg=200.0)
    frames = scene(6)
    for level in (1, 3):
        numbered = segment_supervoxels(frames, level=level + 2, settings=shown)
        np.testing.assert_array_equal(segment_supervoxels(frames, level=level, settings=hidden), numbered)
    assert numbered.max() > 0


def test_levels_are_a_tree_and_the_object_keeps_its_id() -> None:
    frames = scene(11)
    tree = segment_hierarchy(frames, SMALL)
    maps = [tree.project(level) for level in range(tree.levels + 1)]
    assert tree.levels == 6 and maps[0].shape == frames.shape[:3] and maps[0].dtype == np.int32
    for lower, upper in pairwise(maps):
        np.testing.assert_array_equal(np.unique(upper), np.arange(upper.max() + 1))
        for window in (slice(0, 4), slice(4, 8), slice(8, 11)):
            pairs = np.unique(np.stack([lower[window].ravel(), upper[window].ravel()]), axis=1)
            assert len(np.unique(pairs[0])) == len(pairs[0]), "each lies in one"
    assert maps[6].max() < maps[0].max()
    ids = [np.bincount(maps[6][t, 12:20, 7 + t : 15 + t].ravel()).argmax() for t in range(11)]
    assert len(set(ids)) == 1, "over three windows"
    square = np.zeros((11, 32, 40), bool)
    for t in range(11):
        square[t, 10:22, 5 + t : 17 + t] = True
    joint = ((maps[6] == ids[0]) & square).sum() / ((maps[6] == ids[0]) | square).sum()
    assert joint > 0.9


def test_a_window_as_long_as_the_clip_makes_one_tree() -> None:
    tree = segment_hierarchy(scene(11), replace(SMALL, window=11))
    for level in range(tree.levels):
        pairs = np.unique(np.stack([tree.project(level).ravel(), tree.project(level + 1).ravel()]), axis=1)
        np.testing.assert_array_equal(pairs[0], np.arange(len(pairs[0])), "each lies in one, and there are no gaps")


def test_later_windows_fit_the_object_as_well_as_the_first() -> None:
    frames = scene(24, size=(32, 48))
    labels = segment_supervoxels(frames, level=4, settings=SMALL)
    wrong = []
    for t in range(24):
        square = np.zeros((32, 48), bool)
        square[10:22, 5 + t : 17 + t] = True
        whole = np.bincount(labels[t].ravel())
        inside = np.bincount(labels[t].ravel(), square.ravel(), len(whole))
        wrong.append(np.minimum(inside, whole - inside).sum() / square.sum())
    assert max(wrong[4:]) < max(wrong[:4]) + 0.05


def test_what_changes_between_windows_is_told_from_what_changes_in_the_video() -> None:
    frames = np.repeat(scene(1), 12, axis=0)  # nothing moves
    rng = np.random.default_rng(1)
    noisy = np.clip(frames + rng.normal(0, 6, frames.shape), 0, 255).astype(np.uint8)
    pairs = list(stream_pairs(noisy, level=0, settings=SMALL))
    assert pairs[0].before is None and all(pair.before is not None for pair in pairs[1:])
    assert all(pair.labels.min() >= 0 for pair in pairs)
    for inside in (1, 2, 3, 5, 6, 7, 9, 10, 11):
        np.testing.assert_array_equal(pairs[inside].before, pairs[inside - 1].labels)
    borders = [(pairs[t].before, pairs[t - 1].labels, pairs[t].labels) for t in (4, 8)]
    for before, seen, labels in borders:
        assert len(np.setxor1d(before, labels)) < len(np.setxor1d(seen, labels))


def test_one_level_and_the_stream_equal_the_tree() -> None:
    frames = scene(9)
    tree = segment_hierarchy(frames, SMALL)
    for level in (0, 3, 6):
        np.testing.assert_array_equal(segment_supervoxels(frames, level=level, settings=SMALL), tree.project(level))
    streamed = list(stream_supervoxels(iter(frames), level=3, settings=SMALL))
    np.testing.assert_array_equal(streamed, tree.project(3))


def test_what_was_given_out_never_changes() -> None:
    frames = scene(12)
    for level in (0, 4):
        whole = segment_supervoxels(frames, level=level, settings=SMALL)
        np.testing.assert_array_equal(segment_supervoxels(frames[:8], level=level, settings=SMALL), whole[:8])


def test_a_cut_is_found_and_windows_are_none() -> None:
    frames = np.concatenate([scene(9), scene(7, seed=5)])
    shots = find_shots_and_key_frames(stream_pairs(frames, level=2, settings=SMALL))
    assert [(shot.start, shot.stop) for shot in shots] == [(0, 9), (9, 16)]


def test_memory_does_not_grow_with_length() -> None:
    def endless(count: int) -> Iterator[np.ndarray]:
        clip = scene(8)
        return (clip[t % 8] for t in range(count))

    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in stream_supervoxels(endless(count), level=6, settings=SMALL):
            pass
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    peak(8)
    assert peak(64) < 1.05 * peak(16) + 20_000


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (5, 6)])
def test_tiny_frames(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, *size, 3), dtype=np.uint8)
    labels = segment_supervoxels(frames, level=2, settings=SMALL)
    assert labels.shape == (5, *size)
    np.testing.assert_array_equal(np.unique(labels), np.arange(labels.max() + 1))


def test_one_frame_without_motion_and_smoothing() -> None:
    settings = replace(SMALL, follow_motion=False, sigma=0.0)
    frame = np.zeros((1, 16, 16, 3), np.uint8)
    frame[:, :, 8:] = 200
    labels = segment_supervoxels(frame, level=1, settings=settings)
    np.testing.assert_array_equal(labels[0], np.repeat([[0] * 8 + [1] * 8], 16, axis=0))


def test_bad_input_is_refused() -> None:
    good = scene(3)
    with pytest.raises(DataError, match="no frame"):
        segment_supervoxels([])
    with pytest.raises(DataError, match="frame 1 is 20x32, the first one 40x32"):
        segment_supervoxels([good[0], good[1][:, :20]])
    with pytest.raises(DataError, match="frame 0 must be uint8"):
        segment_supervoxels(good.astype(np.float32))
    with pytest.raises(DataError, match=r"0\.\.6, got 7"):
        segment_supervoxels(good, level=7, settings=SMALL)
    with pytest.raises(DataError, match="level must be"):
        segment_hierarchy(good, SMALL).project(7)
    with pytest.raises(DataError, match="overlap must be"):
        SupervoxelSettings(window=2, overlap=3)
    assert list(stream_supervoxels([])) == []
