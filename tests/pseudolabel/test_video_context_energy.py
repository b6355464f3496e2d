from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pseudolabel.detect_boxes import Boxes
from pseudolabel.energy import energy_of
from pseudolabel.proposals import Proposals
from pseudolabel.types import DataError
from pseudolabel.video_context import VideoContext
from pseudolabel.video_context_energy import (
    VideoContextSettings,
    infer_masks,
    labelling_quality,
    node_probability,
    pairwise_weights,
    predicted_overlap,
    proposal_masks,
    shot_energies,
    unary_costs,
)
from tests.pseudolabel.contexts import random_context, two_shots

SETTINGS = VideoContextSettings()


def literal_energy(
    context: VideoContext, probability: np.ndarray, labels: np.ndarray, settings: VideoContextSettings
) -> float:
    """Eq. 2 with Eq. 5 to 7 as they stand in the paper."""
    energy = 0.0
    for node, label in enumerate(labels):
        p = min(max(float(probability[node]), settings.epsilon), 1 - settings.epsilon)
        energy += -np.log(p) if label else -np.log(1 - p)
    mean = np.mean(context.distances.astype(float)) if len(context.distances) else 1.0
    for (one, other), distance in zip(context.edges, context.distances, strict=True):
        if labels[one] != labels[other]:
            energy += settings.pairwise * np.exp(-float(distance) / mean)
    beta = 1 / np.mean(context.variance.astype(float))
    for clique, sigma in enumerate(context.variance):
        start, stop = context.clique_starts[clique : clique + 2]
        members = labels[context.clique_members[start:stop]]
        size, disagreeing = len(members), min((members == 0).sum(), (members == 1).sum())
        most = settings.higher * size * np.exp(-beta * float(sigma))
        truncation = settings.q * size
        energy += disagreeing * most / truncation if disagreeing <= truncation else most
    return float(energy)


def all_labellings(nodes: int) -> np.ndarray:
    return (np.arange(2**nodes)[:, None] >> np.arange(nodes)) & 1


CASES: list[tuple[dict[str, Any], dict[str, float]]] = [
    ({"frames": 4, "size": (1, 2), "supervoxels": 2}, {}),  # cliques of up to 4: Q < 1
    ({"frames": 5, "size": (1, 2), "supervoxels": 3, "shots": 2}, {"q": 0.5, "epsilon": 0.2}),
    ({"frames": 3, "size": (2, 2), "supervoxels": 3}, {"pairwise": 3.0, "higher": 0.0}),
    ({"frames": 3, "size": (2, 2), "supervoxels": 3}, {"pairwise": 0.0, "higher": 2.0, "q": 0.3}),
    ({"frames": 10, "size": (1, 1), "supervoxels": 1}, {"epsilon": 0.1}),  # one clique of 10: Q = 1
]


@pytest.mark.parametrize(("shape", "changes"), CASES)
@pytest.mark.parametrize("seed", range(3))
def test_the_cut_is_the_minimum_of_the_papers_energy(
    shape: dict[str, Any], changes: dict[str, float], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    context, settings = random_context(rng, **shape), replace(SETTINGS, **changes)
    if context.variance.max() == 0:  # one pixel per supervoxel and shot
        context = replace(context, variance=np.ones_like(context.variance))
    probability = rng.random(context.num_nodes).astype(np.float32)
    energies = shot_energies(context, probability, settings)
    found = np.zeros(context.num_nodes, int)
    for energy in energies:
        found[energy.nodes] = energy.minimum()
    ours = sum(
        energy_of(found[energy.nodes], energy.unary, energy.edges, energy.weights, energy.cliques)
        for energy in energies
    )
    assert ours == pytest.approx(literal_energy(context, probability, found, settings))
    least = min(literal_energy(context, probability, labels, settings) for labels in all_labellings(context.num_nodes))
    assert ours == pytest.approx(least)


def clique_of(nodes: int) -> VideoContext:
    """One supervoxel of one colour in so many frames of one pixel, beside another one that varies."""
    context = random_context(np.random.default_rng(0), frames=nodes, size=(1, 1), supervoxels=1)
    return replace(context, variance=np.ones(1, np.float32))


@pytest.mark.parametrize(("nodes", "disagreeing"), [(1, 0), (2, 1), (9, 1), (10, 1), (20, 1), (20, 2), (20, 3)])
def test_one_clique_costs_what_eq_7_says(nodes: int, disagreeing: int) -> None:
    """lambda_max = n exp(-1); a tenth of the nodes may disagree in part, of fewer than ten not even one."""
    (energy,) = shot_energies(clique_of(nodes), np.full(nodes, 0.5, np.float32), replace(SETTINGS, higher=2.0))
    labels = np.arange(nodes) < disagreeing
    cost = energy_of(labels.astype(int), energy.unary, energy.edges, energy.weights, energy.cliques)
    rest = nodes * np.log(2)
    most = 2 * nodes * np.exp(-1)
    expected = most * min(1, disagreeing / (0.1 * nodes))
    assert cost - rest == pytest.approx(expected)


def test_single_node_cliques_change_nothing() -> None:
    context = random_context(np.random.default_rng(3), frames=1, size=(3, 4), supervoxels=6)
    probability = np.random.default_rng(3).random(context.num_nodes).astype(np.float32)
    (energy,) = shot_energies(context, probability, replace(SETTINGS, higher=100.0))
    assert len(energy.cliques) == 0
    (without,) = shot_energies(context, probability, replace(SETTINGS, higher=0.0))
    np.testing.assert_array_equal(energy.minimum(), without.minimum())


def test_betas_are_of_the_whole_video() -> None:
    context = random_context(np.random.default_rng(5), frames=6, size=(3, 3), supervoxels=3, shots=3)
    assert len(np.unique(context.shots)) == 3
    mean = context.distances.astype(float).mean()
    np.testing.assert_allclose(pairwise_weights(context, strength=2), 2 * np.exp(-context.distances / mean), rtol=1e-6)
    energies = shot_energies(context, np.zeros(context.num_nodes, np.float32), SETTINGS)
    beta = 1 / context.variance.astype(float).mean()
    sizes = np.diff(context.clique_starts)
    expected = (sizes * np.exp(-beta * context.variance))[sizes > 1]
    np.testing.assert_allclose(np.concatenate([energy.cliques.cost for energy in energies]), expected, rtol=1e-5)
    np.testing.assert_allclose(
        np.concatenate([energy.weights for energy in energies]), pairwise_weights(context, strength=1)
    )


def test_where_nothing_differs_all_weigh_alike() -> None:
    context = random_context(np.random.default_rng(5), frames=2, size=(3, 3), supervoxels=2)
    flat = replace(context, distances=np.zeros_like(context.distances), variance=np.zeros_like(context.variance))
    (energy,) = shot_energies(flat, np.zeros(flat.num_nodes, np.float32), SETTINGS)
    np.testing.assert_array_equal(energy.weights, 1)
    np.testing.assert_array_equal(energy.cliques.cost, 2)


def test_probability_by_hand() -> None:
    _, masks, context = two_shots()
    shifted = np.roll(masks, 5, axis=2)  # half of the square's columns, and 50 pixels of the ground
    scores = np.where(masks, 0.8, 0.2).astype(np.float32)
    ground = 24 * 32 - 100
    eta = np.array([0.5, 50 / ground] * 6)
    np.testing.assert_allclose(node_probability(context, shifted, None, SETTINGS), eta, rtol=1e-6)
    expected = 0.5 * eta + 0.5 * np.array([0.8, 0.2] * 6)
    np.testing.assert_allclose(node_probability(context, shifted, scores, SETTINGS), expected, rtol=1e-6)
    trusting = replace(SETTINGS, lambda_r=0.0, lambda_e=1.0)
    np.testing.assert_allclose(node_probability(context, shifted, scores, trusting), [0.8, 0.2] * 6, rtol=1e-6)
    np.testing.assert_allclose(node_probability(context, shifted, None, trusting), eta, rtol=1e-6)


def test_unary_costs_by_hand() -> None:
    costs = unary_costs(np.array([0.0, 0.25, 1.0], np.float32), epsilon=0.1)
    np.testing.assert_allclose(costs, -np.log([[0.9, 0.1], [0.75, 0.25], [0.1, 0.9]]))


def test_the_only_box_brings_the_object_to_its_whole_shot() -> None:
    _, masks, context = two_shots()
    found = infer_masks(context, None, SETTINGS, label=7)
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.labels[1], 7 * masks[1])
    np.testing.assert_array_equal(infer_masks(context, None).labels, found.labels > 0)  # the paper's settings
    strong = infer_masks(context, None, replace(SETTINGS, higher=30.0, epsilon=0.1))
    assert not strong.labels.any()  # two frames against one
    sure = [context.boxes[1]] * 2 + [Boxes.none()] * 4
    moved = replace(context, boxes=sure, proposals=[context.proposals[0], context.proposals[1], *context.proposals[2:]])
    spread = infer_masks(moved, None, replace(SETTINGS, higher=30.0, epsilon=0.1))
    np.testing.assert_array_equal(spread.labels[:3] > 0, masks[:3])  # the third frame has no box
    assert not spread.labels[3:].any()  # the same supervoxel in another shot
    np.testing.assert_allclose(spread.quality, [1, 1, 0, 0, 0, 0])
    alone = infer_masks(moved, None, replace(SETTINGS, higher=30.0).unary_only())
    np.testing.assert_array_equal(alone.labels[:2] > 0, masks[:2])
    assert not alone.labels[2:].any()


def test_scores_bring_what_boxes_miss() -> None:
    _, masks, context = two_shots()
    scores = np.zeros((6, 3, 24, 32), np.float32)
    scores[:, 2] = np.where(masks, 0.9, 0.1)
    scores[:, 0] = 1 - scores[:, 2]
    trusting = replace(SETTINGS, lambda_r=0.2, lambda_e=0.8)
    found = infer_masks(context, scores, trusting, label=2)
    np.testing.assert_array_equal(found.labels, 2 * masks)
    expected = np.full(6, 0.8 * 0.9)
    expected[1] += 0.2
    np.testing.assert_allclose(found.quality, expected, rtol=1e-5)
    assert not infer_masks(context, scores, trusting, label=1).labels.any()  # another class


def test_quality_of_predictions_tells_a_wrong_box_and_probability_hardly_does() -> None:
    _, masks, context = two_shots()
    scores = np.zeros((6, 2, 24, 32), np.float32)
    scores[:, 1] = 0.2  # the network doubts frame 1's box
    scores[:, 0] = 0.8
    settings = replace(SETTINGS, pairwise=0.0, higher=0.0)
    predicted = replace(settings, quality="prediction")
    by_box, by_network = (infer_masks(context, scores, each) for each in (settings, predicted))
    np.testing.assert_array_equal(by_box.labels, by_network.labels)
    np.testing.assert_array_equal(by_box.labels[1] > 0, masks[1])
    np.testing.assert_allclose([by_box.quality[1], by_network.quality[1]], [0.6, 0.2], rtol=1e-5)
    assert not by_network.quality[[0, 2, 3, 4, 5]].any(), "no mask, no quality"


@pytest.mark.parametrize(
    ("score", "margins", "quality"), [(0.3, False, 0.3), (1.0, False, 1.0), (-1.0, True, 0.26894), (0.5, True, 0.62246)]
)
def test_before_there_is_a_network_the_detector_predicts(score: float, margins: bool, quality: float) -> None:
    context = two_shots()[2]
    boxes = [replace(each, scores=np.full(len(each), score, np.float32)) for each in context.boxes]
    settings = replace(SETTINGS, pairwise=0.0, higher=0.0, quality="prediction", margins=margins)
    found = infer_masks(replace(context, boxes=boxes), None, settings)
    np.testing.assert_allclose(found.quality, [0, quality, 0, 0, 0, 0], rtol=1e-4)


@pytest.mark.parametrize(("least", "void"), [(None, True), (0.3, True), (0.5, False)])
def test_sure_boxes_leave_out_what_is_beside_their_mask(least: float | None, void: bool) -> None:
    _, masks, context = two_shots()
    whole = np.array([[0, 0, 32, 24]], np.float32)
    pool = Proposals.from_masks(masks[1:2])
    context = replace(context, boxes=[Boxes.none(), Boxes(whole, np.array([0.5], np.float32)), *context.boxes[2:]])
    context = replace(context, proposals=[pool] * 6)
    settings = replace(SETTINGS, pairwise=0.0, higher=0.0, void_in_boxes=True, void_score=least)
    labels = infer_masks(context, None, settings).labels
    np.testing.assert_array_equal(labels[1] == 1, masks[1])
    assert (labels[1][~masks[1]] == (255 if void else 0)).all()
    assert not labels[[0, 2, 3, 4, 5]].any()


@pytest.mark.parametrize("quality", ["prediction", "overlap"])
@pytest.mark.parametrize("score", [-0.1, 1.1, np.nan])
def test_scores_that_are_no_probabilities_are_told(score: float, quality: Any) -> None:
    context = two_shots()[2]
    boxes = [replace(each, scores=np.full(len(each), score, np.float32)) for each in context.boxes]
    with pytest.raises(DataError, match=r"needs boxes with probabilities, got scores from .*detector.margins=true"):
        infer_masks(replace(context, boxes=boxes), None, replace(SETTINGS, quality=quality))


def test_overlap_tells_a_mask_that_misses_most_of_what_is_predicted() -> None:
    masks = np.zeros((5, 4, 5), bool)
    masks[:3, :, :2] = True  # 8 pixels
    predicted = np.zeros((5, 4, 5), np.float32)
    predicted[0, :, :2] = 0.75
    predicted[1] = 0.75
    predicted[2] = np.where(masks[2], 0.75, 0.5)  # beside it nothing is likelier object than not
    predicted[3] = 1.0
    found = predicted_overlap(masks, predicted)
    np.testing.assert_allclose(found, [6 / 8, 6 / (8 + 9), 6 / 8, 0, 0], rtol=1e-6)
    assert found.dtype == np.float32


def test_overlap_is_of_the_mask_without_its_void_and_the_networks_scores() -> None:
    _, masks, context = two_shots()
    beside = ~masks[1] & (np.arange(24)[:, None] < 12)
    scores = np.zeros((6, 2, 24, 32), np.float32)
    scores[1, 1] = np.where(masks[1], 0.8, np.where(beside, 0.6, 0.2))
    scores[:, 0] = 1 - scores[:, 1]
    trusting = {"lambda_r": 1.0, "lambda_e": 0.0, "pairwise": 0.0, "higher": 0.0}
    settings = replace(SETTINGS, quality="overlap", **trusting)
    found = infer_masks(context, scores, settings)
    area, missed = masks[1].sum(), beside.sum()
    np.testing.assert_array_equal(found.labels[1] == 1, masks[1])
    np.testing.assert_allclose(found.quality, [0, 0.8 * area / (area + 0.6 * missed), 0, 0, 0, 0], rtol=1e-5)
    wide = np.array([[0, 0, 32, 24]], np.float32)
    wider = [replace(each, boxes=wide) if len(each.boxes) else each for each in context.boxes]
    pools = [Proposals.from_masks(masks[1:2])] * 6
    void = infer_masks(replace(context, boxes=wider, proposals=pools), scores, replace(settings, void_in_boxes=True))
    assert (void.labels[1][~masks[1]] == 255).all()
    np.testing.assert_allclose(void.quality, found.quality, rtol=1e-6)


def test_overlap_before_there_is_a_network_is_that_with_the_detector() -> None:
    _, masks, context = two_shots()
    boxes = [replace(each, scores=np.full(len(each), 0.3, np.float32)) for each in context.boxes]
    settings = replace(SETTINGS, pairwise=0.0, higher=0.0, quality="overlap")
    found = infer_masks(replace(context, boxes=boxes), None, settings)
    np.testing.assert_array_equal(found.labels[1] == 1, masks[1])
    np.testing.assert_allclose(found.quality, [0, 0.3, 0, 0, 0, 0], rtol=1e-5)


def test_quality_is_a_mean_over_nodes_not_pixels() -> None:
    context = two_shots()[2]
    chosen = np.zeros(12, bool)
    chosen[[0, 1, 2, 5]] = True  # square and ground, square, ground
    quality = labelling_quality(context, chosen, np.linspace(0, 1.1, 12).astype(np.float32))
    np.testing.assert_allclose(quality, [0.05, 0.2, 0.5, 0, 0, 0], rtol=1e-6)
    assert quality.dtype == np.float32


def test_no_box_in_the_video_and_no_proposals_give_an_empty_labelling() -> None:
    context = two_shots()[2]
    empty = Proposals.from_masks(np.zeros((0, 24, 32), bool))
    for bare in (replace(context, boxes=[Boxes.none()] * 6), replace(context, proposals=[empty] * 6)):
        assert not proposal_masks(bare, None).any()
        found = infer_masks(bare, None)
        assert not found.labels.any() and not found.quality.any()


def test_a_shot_of_one_frame() -> None:
    context = random_context(np.random.default_rng(8), frames=1, size=(4, 6), supervoxels=3)
    assert infer_masks(context, None).labels.shape == (1, 4, 6)


def test_thousands_of_boxes() -> None:
    context = random_context(np.random.default_rng(9), frames=2, size=(8, 6), supervoxels=3)
    rng = np.random.default_rng(9)
    corners = rng.uniform(0, 5, (3000, 4)).astype(np.float32)
    corners[:, 2:] = corners[:, :2] + 1
    crowded = replace(context, boxes=[Boxes(corners, rng.random(3000).astype(np.float32))] * 2)
    assert (proposal_masks(crowded, None) >= proposal_masks(context, None)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lambda_r": -0.1}, "lambda_r"),
        ({"lambda_r": 0.6, "lambda_e": 0.6}, "no probability"),
        ({"lambda_r": 0.0, "lambda_e": 0.0}, "no probability"),
        ({"pairwise": np.inf}, "pairwise"),
        ({"higher": np.nan}, "higher"),
        ({"quality": "size"}, "quality must be one of probability, prediction, overlap, got 'size'"),
        ({"void_score": "abc"}, "void_score must be a number or none, got 'abc'"),
        ({"q": 0.6}, "not exact"),
        ({"q": 0.0}, "q must be"),
        ({"epsilon": 0.5}, "epsilon"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        VideoContextSettings(**change)


def test_bad_scores_are_refused() -> None:
    context = two_shots()[2]
    scores = np.full((6, 2, 24, 32), 0.5, np.float32)
    with pytest.raises(DataError, match=r"\(6, > 1, 24, 32\)"):
        infer_masks(context, scores[:, :, ::2])
    with pytest.raises(DataError, match=r"\(6, > 2, 24, 32\)"):
        infer_masks(context, scores, label=2)
    with pytest.raises(DataError, match="label must be"):
        infer_masks(context, None, label=0)
    scores[2, 1, 5, 5] = np.nan
    with pytest.raises(DataError, match=r"1 of the network's scores are NaN .* in frame 9"):
        infer_masks(context, scores)
    scores[2, 1, 5, 5] = 3.0
    with pytest.raises(DataError, match=r"outside of \[0, 1\]"):
        infer_masks(context, scores)
    with pytest.raises(DataError, match="masks must be"):
        node_probability(context, np.zeros((6, 2, 2), bool), None, SETTINGS)
