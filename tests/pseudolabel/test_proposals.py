from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest

from pseudolabel.palette import write_mask
from pseudolabel.proposal_graph import describe_regions, observe_colours
from pseudolabel.proposal_pool import pool_members, unite_nodes
from pseudolabel.proposal_tree import RegionTree, TreeWeights, build_tree, merge_regions
from pseudolabel.proposals import Proposals, ProposalSettings, propose_regions, read_proposals
from pseudolabel.types import DataError


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A frame uint8 (48, 64, 3) and its object (48, 64): a head, a body and a belt of three colours on noisy grass."""
    rng = np.random.default_rng(0)
    frame = np.full((48, 64, 3), (60, 140, 60), np.uint8)
    cv2.rectangle(frame, (24, 18), (37, 40), (200, 40, 40), -1)
    cv2.rectangle(frame, (24, 28), (37, 30), (20, 20, 20), -1)
    cv2.circle(frame, (30, 12), 6, (230, 190, 160), -1)
    truth = (frame != (60, 140, 60)).any(axis=2)
    return np.clip(frame + rng.normal(0, 4, frame.shape), 0, 255).astype(np.uint8), truth


def strip() -> tuple[np.ndarray, np.ndarray]:
    """A frame of five columns of width 4 in greys 0, 10, 100, 101, 200 and its regions, one per column."""
    regions = np.repeat(np.arange(5), 4)[None].repeat(6, axis=0).astype(np.int32)
    greys = np.array([0, 10, 100, 101, 200], np.uint8)
    return greys[regions][..., None].repeat(3, axis=2), regions


def chain_tree() -> RegionTree:
    frame, regions = strip()
    graph = describe_regions(observe_colours(frame), regions)
    return RegionTree(graph, np.array([[0, 1], [2, 3], [6, 4], [5, 7]]))


def test_regions_are_measured_by_hand() -> None:
    frame, regions = strip()
    graph = describe_regions(observe_colours(frame), regions)
    assert graph.areas.tolist() == [24] * 5
    assert graph.rim.tolist() == [8 + 6, 8, 8, 8, 8 + 6]
    expected = np.zeros((5, 5))
    for i in range(4):
        expected[i, i + 1] = expected[i + 1, i] = 6
    np.testing.assert_array_equal(graph.length, expected)
    assert graph.boxes[1].tolist() == [4, 0, 8, 6]
    np.testing.assert_array_equal(graph.contrast > 0, expected > 0)
    np.testing.assert_array_equal(graph.contrast, graph.contrast.T)
    assert graph.contrast[1, 2] > 4 * graph.contrast[0, 1]
    np.testing.assert_array_equal(graph.histograms.sum(axis=1), 4 * 24)


def plain_mergings(regions: np.ndarray, values: np.ndarray) -> list[set[int]]:
    """Merge the neighbours whose histograms of three channels differ least, with nothing kept between steps."""
    parts = [{int(i)} for i in np.unique(regions)]
    made = []
    while len(parts) > 1:
        best = (np.inf, 0, 0)
        for a, b in itertools.combinations(range(len(parts)), 2):
            one, two = np.isin(regions, list(parts[a])), np.isin(regions, list(parts[b]))
            if not (
                cv2.dilate(one.astype(np.uint8), np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)) & two
            ).any():
                continue
            cost = 0.0
            for c in range(3):
                p, q = (np.bincount(values[mask][:, c] * 16 // 256, minlength=16) / mask.sum() for mask in (one, two))
                cost += float(((p - q) ** 2 / np.maximum(p + q, 1e-9)).sum()) / 6
            cost = (cost + 1e-9) * (min(one.sum(), two.sum()) / regions.size) ** 0.5
            best = min(best, (cost, a, b))
        _, a, b = best
        made.append(parts[a] | parts[b])
        parts = [part for k, part in enumerate(parts) if k not in (a, b)] + [made[-1]]
    return made


def test_the_tree_equals_plain_greedy_merging() -> None:
    rng = np.random.default_rng(3)
    regions = cv2.resize(np.arange(20, dtype=np.uint8).reshape(4, 5), (40, 32), interpolation=cv2.INTER_NEAREST)
    frame = rng.integers(0, 256, (20, 3))[regions] + rng.integers(-40, 40, (32, 40, 3))
    colours = observe_colours(np.clip(frame, 0, 255).astype(np.uint8))
    tree = build_tree(describe_regions(colours, regions.astype(np.int32)), TreeWeights(channels=1, cells=0, area=0.5))
    made = [set(np.flatnonzero(row).tolist()) for row in tree.members()[20:]]
    assert made == plain_mergings(regions, colours.lab.astype(np.int64))


def test_merging_stops_at_the_wanted_number() -> None:
    frame, regions = strip()
    graph = describe_regions(observe_colours(frame), regions)
    weights = TreeWeights(channels=1, cells=0)
    first, second, third, fourth, fifth = merge_regions(graph, weights, 3).tolist()
    assert (
        first == second and third == fourth and {first, third, fifth} == {0, 1, 2}
    )  # neighbours that share their bins
    assert merge_regions(graph, weights, 99).tolist() == [0, 1, 2, 3, 4]
    assert merge_regions(graph, weights, 1).tolist() == [0] * 5


def test_each_weight_does_what_it_says() -> None:
    regions = np.zeros((12, 12), np.int32)
    regions[:, 6:] = 1
    regions[4:8, 1:5] = 2  # inside 0
    frame = np.full((12, 12, 3), 100, np.uint8)
    frame[regions == 1] = 130  # closer to 0 than 2 is
    frame[regions == 2] = 160
    graph = describe_regions(observe_colours(frame), regions)
    joined = {
        name: set(build_tree(graph, TreeWeights(**weights)).children[0].tolist())
        for name, weights in {
            "area": {"cells": 1.0, "area": 1.0},
            "enclosure": {"cells": 1.0, "area": 0.0, "enclosure": 1.0},
            "fill": {"cells": 0.0, "area": 0.0, "fill": 1.0},
        }.items()
    }
    assert joined == {"area": {0, 2}, "enclosure": {0, 2}, "fill": {0, 2}}
    with pytest.raises(DataError, match="weights must be >= 0"):
        TreeWeights(fill=-1)


def connected(columns: set[int]) -> bool:
    return max(columns) - min(columns) == len(columns) - 1


def test_all_connected_sets_of_tree_nodes_are_listed() -> None:
    tree = chain_tree()
    found = unite_nodes(tree, (100, 100, 100), (1, 1e9))
    below = [set(np.flatnonzero(row).tolist()) for row in tree.members()]
    sets = [set().union(*(below[n] for n in nodes if n >= 0)) for nodes in found.nodes]
    every = {frozenset(range(a, b)) for a in range(5) for b in range(a + 1, 6)}
    assert {frozenset(one) for one in sets} == every  # in a chain: all runs of columns
    for nodes, columns, area, outline, box in zip(
        found.nodes, sets, found.areas, found.outlines, found.boxes, strict=True
    ):
        assert connected(columns) and sum(len(below[n]) for n in nodes if n >= 0) == len(columns)
        assert area == 24 * len(columns) and outline == 2 * (4 * len(columns) + 6)
        assert box.tolist() == [4 * min(columns), 0, 4 * max(columns) + 4, 6]
    contrast = tree.graph.contrast
    for columns, sum_ in zip(sets, found.contrast, strict=True):
        inside = sorted(columns)
        outside = [k for k in range(5) if k not in columns]
        np.testing.assert_allclose(sum_, contrast[np.ix_(inside, outside)].sum(), atol=1e-3)


def test_quotas_and_sizes_hold() -> None:
    tree = chain_tree()
    found = unite_nodes(tree, (2, 1, 0), (1, 1e9))
    assert np.bincount((found.nodes >= 0).sum(axis=1)).tolist() == [0, 9, 2, 1]
    assert set(unite_nodes(tree, (100, 100, 100), (48, 72)).areas) == {48, 72}


def test_the_pool_is_distinct_and_sorted() -> None:
    tree = chain_tree()
    members = pool_members([tree, tree], quotas=(100, 100, 100), sizes=(1, 1e9), number=100)
    assert len(members) == len(np.unique(members, axis=0)) == 15
    contrast, rim = tree.graph.contrast, tree.graph.length.sum(axis=1) + tree.graph.rim
    values = []
    for row in members:
        outline = rim[row].sum() - tree.graph.length[np.ix_(row, row)].sum()
        shape = np.sqrt(np.sqrt(24 * row.sum()) / outline)  # every run of columns fills its box
        values.append(contrast[np.ix_(row, ~row)].sum() / outline * shape)
    np.testing.assert_allclose(values, sorted(values, reverse=True))
    best = pool_members([tree, tree], quotas=(100, 100, 100), sizes=(1, 1e9), number=4)
    np.testing.assert_array_equal(best, members[:4])


def test_the_object_of_several_parts_is_proposed() -> None:
    frame, truth = scene()
    proposals = propose_regions(frame)
    overlap = [(proposals.mask(n) & truth).sum() / (proposals.mask(n) | truth).sum() for n in range(len(proposals))]
    assert max(overlap) > 0.85
    assert len(np.unique(proposals.members, axis=0)) == len(proposals) <= 2000
    assert proposals.areas.min() >= 0.001 * truth.size and proposals.areas.max() <= 0.8 * truth.size
    again = propose_regions(frame)
    np.testing.assert_array_equal(again.members, proposals.members)
    for number in range(0, len(proposals), 50):
        rows, columns = np.nonzero(proposals.mask(number))
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert proposals.boxes[number].tolist() == expected and proposals.areas[number] == len(rows)


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (20, 20)])
def test_frames_of_one_colour_or_few_pixels(shape: tuple[int, int]) -> None:
    proposals = propose_regions(np.full((*shape, 3), 90, np.uint8))
    assert proposals.regions.shape == shape and proposals.members.shape[0] == len(proposals)
    if shape == (1, 1):
        assert len(proposals) == 0  # the only region is larger than most_area


def test_masks_become_regions_and_back() -> None:
    masks = np.random.default_rng(0).random((12, 9, 11)) > 0.6
    proposals = Proposals.from_masks(masks)
    for number, mask in enumerate(masks):
        np.testing.assert_array_equal(proposals.mask(number), mask)
    np.testing.assert_array_equal(proposals.areas, masks.sum(axis=(1, 2)))
    back = Proposals.from_arrays(proposals.to_arrays())
    np.testing.assert_array_equal(back.members, proposals.members)
    np.testing.assert_array_equal(back.boxes, proposals.boxes)
    empty = Proposals.from_arrays(Proposals.from_masks(np.zeros((0, 9, 11), bool)).to_arrays())
    assert len(empty) == 0 and empty.regions.shape == (9, 11) and empty.boxes.shape == (0, 4)
    assert np.isnan(Proposals.from_masks(np.zeros((1, 9, 11), bool)).boxes).all()


def test_proposals_are_read(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((3, 9, 11)) > 0.6
    own = Proposals.from_masks(masks)
    np.savez(tmp_path / "masks.npz", masks=masks.astype(np.uint8) * 255)
    np.savez(tmp_path / "regions.npz", regions=own.regions, members=own.members)
    np.savez(tmp_path / "own.npz", **own.to_arrays())
    (tmp_path / "folder").mkdir()
    for number, mask in enumerate(masks):
        write_mask(tmp_path / "folder" / f"{number:05d}.png", mask.astype(np.uint8) * 255)
    for name in ("masks.npz", "regions.npz", "own.npz", "folder"):
        read = read_proposals(tmp_path / name)
        np.testing.assert_array_equal([read.mask(number) for number in range(3)], masks)


def test_unusable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="do not exist"):
        read_proposals(tmp_path / "none.npz")
    (tmp_path / "broken.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match="cannot be read"):
        read_proposals(tmp_path / "broken.npz")
    np.savez(tmp_path / "other.npz", boxes=np.zeros(4))
    with pytest.raises(DataError, match="hold boxes"):
        read_proposals(tmp_path / "other.npz")
    np.savez(tmp_path / "bad.npz", regions=np.full((3, 3), 5), members=np.ones((2, 3)))
    with pytest.raises(DataError, match=r"bad.npz.*column for each of 6"):
        read_proposals(tmp_path / "bad.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.png"):
        read_proposals(tmp_path / "empty")
    (tmp_path / "two").mkdir()
    write_mask(tmp_path / "two" / "0.png", np.zeros((3, 4), np.uint8))
    write_mask(tmp_path / "two" / "1.png", np.zeros((3, 5), np.uint8))
    with pytest.raises(DataError, match="one size"):
        read_proposals(tmp_path / "two")


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="uint8"):
        propose_regions(np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match="masks must be bool"):
        Proposals.from_masks(np.zeros((2, 3, 3)))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="regions must be"):
        Proposals.from_members(np.full((2, 2), -1, np.int32), np.ones((1, 1), bool))
    for changes in ({"number": 0}, {"least_area": 0.9}, {"trees": ()}, {"pairs": -1}):
        with pytest.raises(DataError, match="Proposals"):
            ProposalSettings(**changes)  # type: ignore[arg-type]
