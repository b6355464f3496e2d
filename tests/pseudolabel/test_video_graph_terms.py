from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from pseudolabel.energy import energy_of
from pseudolabel.motion_cut import Graph
from pseudolabel.motion_evidence import FrameEvidence
from pseudolabel.superpixels import adjacency
from pseudolabel.types import DataError
from pseudolabel.video_graph_settings import SEEDS, VideoGraphSettings
from pseudolabel.video_graph_terms import (
    Cue,
    VideoEnergy,
    attention_share,
    colour_costs,
    colour_seeds,
    cut,
    joint_cue,
    log_costs,
    motion_cue,
    video_energy,
)

SIZE = (4, 6)
BLOCKS = (np.arange(4)[:, None] // 2 * 3 + np.arange(6) // 2).astype(np.int32)  # 2 x 3 superpixels of 2 x 2 pixels
SETTINGS = VideoGraphSettings(foreground_components=1, background_components=1)


def frame(
    rng: np.random.Generator, *, last: bool = False, inside: np.ndarray | None = None, colours: np.ndarray | None = None
) -> FrameEvidence:
    """Six superpixels, each linked to its own place in the next frame (0.7) and to the next one (0.3)."""
    here, beside = np.arange(6), (np.arange(6) + 1) % 6
    links = (np.stack([np.tile(here, 2), np.concatenate([here, beside])], axis=1), np.repeat([0.7, 0.3], 6))
    y, x = np.divmod(here, 3)
    return FrameEvidence(
        size=SIZE,
        superpixels=BLOCKS,
        colours=(rng.integers(0, 255, (6, 3)) if colours is None else colours).astype(np.float32),
        centres=np.stack([2 * x + 0.5, 2 * y + 0.5], axis=1).astype(np.float32),
        edges=adjacency(BLOCKS)[0],
        inside=rng.random(6).astype(np.float32) if inside is None else inside.astype(np.float32),
        transfer=np.ones(6, np.float32),
        links=None if last else (links[0], links[1].astype(np.float32)),
    )


def best_of_all(energy: VideoEnergy, fixed: tuple[bool, ...] = ()) -> tuple[float, np.ndarray]:
    graph, found = energy.graph, []
    for rest in itertools.product((0, 1), repeat=len(energy.unary) - len(fixed)):
        labels = np.array([*fixed, *rest], int)
        found.append((energy_of(labels, energy.unary, graph.edges, graph.weights), labels))
    return min(found, key=lambda pair: pair[0])


@pytest.mark.parametrize("seed", range(4))
def test_the_cut_is_the_minimum_over_all_labellings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    settings = replace(SETTINGS, spatial_weight=5.0, temporal_weight=4.0)
    run = [frame(rng), frame(rng, last=True)]
    shares = [rng.choice([0.05, 0.1, 0.8, 1.0], 6).astype(np.float32) for _ in run]
    energy = video_energy(run, shares, settings)
    assert energy.unary.shape == (12, 2) and energy.found
    labels = cut(energy, np.zeros(0, bool))
    least, expected = best_of_all(energy)
    assert energy_of(labels, energy.unary, energy.graph.edges, energy.graph.weights) == pytest.approx(least)
    np.testing.assert_array_equal(labels, expected)
    for fixed in ((True,) * 6, (False, True) * 3):
        given = cut(energy, np.array(fixed))
        least, _ = best_of_all(energy, fixed)
        np.testing.assert_array_equal(given[:6], fixed)
        assert energy_of(given, energy.unary, energy.graph.edges, energy.graph.weights) == pytest.approx(least)


def test_unary_costs_by_hand() -> None:
    rng = np.random.default_rng(0)
    plain = replace(SETTINGS, lambda_c=0.0, motion_full_at=None)
    inside = np.array([1.0, 0.5, 0, 0, 0, 0.2])
    share = np.array([0.8, 0.0, 1.0, 0.5, 0.1, 0.2], np.float32)
    run = [frame(rng, last=True, inside=inside)]
    unary = video_energy(run, [share], plain).unary
    eps = 1e-3
    attended, moved = np.clip([share, inside], eps, 1 - eps)
    np.testing.assert_allclose(unary[:, 1], -2 * np.log(attended) - np.log(moved), rtol=1e-5)
    np.testing.assert_allclose(unary[:, 0], -2 * np.log(1 - attended) - np.log(1 - moved), rtol=1e-5)
    motion_only = video_energy(run, None, plain).unary
    np.testing.assert_allclose(motion_only[:, 1], -np.log(moved), rtol=1e-5)
    attention_only = video_energy(run, [share], replace(plain, lambda_m=0.0)).unary
    np.testing.assert_allclose(attention_only + motion_only, unary)


def test_motion_counts_against_the_highest_ratio_of_its_frame() -> None:
    rng = np.random.default_rng(0)
    run = [
        frame(rng, inside=np.array([0.4, 0.3, 0.15, 0, 0, 0])),
        frame(rng, inside=np.array([1, 0.5, 0, 0, 0, 0]), last=True),
    ]
    cue = motion_cue(run, SETTINGS)
    np.testing.assert_allclose(cue.share, [1, 1, 0.5, 0, 0, 0, 1, 0.5 / 0.75, 0, 0, 0, 0], rtol=1e-6)
    ratio = motion_cue(run, replace(SETTINGS, motion_full_at=None))
    np.testing.assert_allclose(ratio.share[:3], [0.4, 0.3, 0.15], rtol=1e-6)


def test_pairwise_weights_by_hand() -> None:
    rng = np.random.default_rng(0)
    colours = np.zeros((6, 3))
    later = colours.copy()
    later[:, 0] = 10.0  # every temporal link differs by 100, no spatial one
    settings = VideoGraphSettings(lambda_c=0.0)
    run = [frame(rng, colours=colours), frame(rng, colours=later, last=True)]
    graph = video_energy(run, None, settings).graph
    spatial, temporal = graph.edges[:14], graph.edges[14:]
    assert spatial.tolist()[:7] == [[0, 1], [0, 3], [1, 2], [1, 4], [2, 5], [3, 4], [4, 5]]
    np.testing.assert_allclose(graph.weights[:14], 500 / 2)  # centres are 2 pixels apart, colours are the same
    phi_t = {(i, j + 6): 0.7 if i == j else 0.3 for i in range(6) for j in (i, (i + 1) % 6)}
    assert {tuple(edge) for edge in temporal.tolist()} == set(phi_t)
    beta = 0.5 / np.mean([100 * share for share in phi_t.values()])
    expected = [400 * phi_t[i, j] * np.exp(-beta * 100) for i, j in temporal.tolist()]
    np.testing.assert_allclose(graph.weights[14:], expected, rtol=1e-6)


def test_attention_is_stretched_and_averaged_by_hand() -> None:
    one = frame(np.random.default_rng(0))
    attention = np.full(SIZE, 3.0, np.float32)
    attention[0, 0] = 7.0
    attention[2:, 4:] = 5.0
    np.testing.assert_allclose(attention_share(attention, one), [0.25, 0, 0, 0, 0, 0.5], atol=1e-6)
    np.testing.assert_array_equal(attention_share(np.full(SIZE, 9.0), one), np.zeros(6))
    large = replace(one, size=(40, 60))
    wide = np.kron(attention, np.ones((10, 10))).astype(np.float16)
    share = attention_share(wide, large)  # on superpixels of the frame at a tenth of its size
    np.testing.assert_allclose(share, [0.25, 0, 0, 0, 0, 0.5], atol=0.02)


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        (np.zeros((4, 5)), r"expected float \(4, 6\)"),
        (np.zeros(SIZE, np.uint8), "uint8"),
        (np.full(SIZE, -0.1), "24 values that are negative or not finite"),
        (np.full(SIZE, np.nan), "24 values that are negative or not finite"),
        (np.full(SIZE, np.inf), "24 values that are negative or not finite"),
    ],
)
def test_bad_attention_is_refused(attention: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        attention_share(attention, frame(np.random.default_rng(0)))


def test_seeds_and_their_weights_by_hand() -> None:
    cue = Cue(np.array([0.8, 0.4, 0.39, 0.17, 0.1, 0.5, 0.02, 0.0, 0.0]), np.array([True] * 7 + [False] * 2))
    foreground, background = colour_seeds(cue, np.array([0, 5, 7, 9]), VideoGraphSettings())
    np.testing.assert_allclose(foreground, [0.8, 0.4, 0, 0, 0, 0.5, 0, 0, 0])
    np.testing.assert_allclose(background, [0, 0, 0, 0, 0.9, 0, 0.98, 0, 0])  # 0.17 is not below 0.2 * 0.8


def test_silent_frames_say_nothing_unless_asked_to() -> None:
    rng = np.random.default_rng(0)
    run = [frame(rng, inside=np.zeros(6)), frame(rng, last=True)]
    share = [np.zeros(6, np.float32), np.linspace(0, 1, 6).astype(np.float32)]
    without_colour = replace(SETTINGS, lambda_c=0.0)
    unary = video_energy(run, share, without_colour).unary
    np.testing.assert_array_equal(unary[:6], 0)
    assert (unary[6:] > 0).all()
    heard = video_energy(run, share, replace(without_colour, skip_silent=False)).unary
    np.testing.assert_allclose(heard[:6, 1], -3 * np.log(1e-3))
    single = [replace(run[1], inside=None)]
    assert not motion_cue(single, replace(SETTINGS, skip_silent=False)).known.any()


def test_colours_pull_towards_the_mixture_they_belong_to() -> None:
    rng = np.random.default_rng(0)
    red, blue = np.array([200.0, 40, 40]), np.array([40.0, 40, 200])
    between = np.add([red, blue], [[-2, 1, -1], [2, -1, 1]])  # the last two are no seeds
    colours = np.concatenate([rng.normal(red, 3, (20, 3)), rng.normal(blue, 3, (20, 3)), between]).astype(np.float32)
    share = np.concatenate([np.full(20, 0.9), np.zeros(20), [0.3, 0.3]])
    graph = Graph(np.array([0, 42]), np.zeros(42, int), colours, np.zeros((0, 2), int), np.zeros(0))
    cost = colour_costs(Cue(share, np.ones(42, bool)), graph, VideoGraphSettings())
    assert cost[40, 1] + 10 < cost[40, 0] and cost[41, 0] + 10 < cost[41, 1]
    few = colour_costs(Cue(np.where(np.arange(42) < 4, share, 0), np.ones(42, bool)), graph, VideoGraphSettings())
    np.testing.assert_array_equal(few, 0)


def test_joint_seeds_by_hand() -> None:
    attention = Cue(np.array([0.8, 0.8, 0.0, 0.5, 0.0]), np.array([True, True, True, True, False]))
    motion = Cue(np.array([0.5, 0.0, 1.0, 0.0, 0.0]), np.array([True, True, True, False, False]))
    joint = joint_cue([attention, motion])
    np.testing.assert_allclose(joint.share, [0.4, 0, 0, 0.5, 0])
    assert joint.known.tolist() == [True, True, True, True, False]


def test_colours_start_where_attention_moves_if_asked_to() -> None:
    rng = np.random.default_rng(0)
    colours = np.repeat([[200.0, 30, 30], [30, 30, 200]], 3, axis=0)
    inside = np.array([1.0, 1, 1, 0, 0, 0])
    run = [frame(rng, colours=colours, inside=inside) for _ in range(3)] + [
        frame(rng, colours=colours, inside=inside, last=True)
    ]
    shares = [np.array([0.9, 0.9, 0.1, 0.9, 0.9, 0.1], np.float32) for _ in run]  # half of it beside the object
    settings = replace(SETTINGS, lambda_a=1e-9, lambda_m=1e-9)
    red_if = {seeds: video_energy(run, shares, replace(settings, seeds=seeds)).unary for seeds in SEEDS}
    for seeds in ("both", "motion"):
        assert (red_if[seeds][:3, 1] + 10 < red_if[seeds][:3, 0]).all()
    np.testing.assert_allclose(red_if["attention"][:3, 1], red_if["attention"][:3, 0], atol=1.0)


def test_attention_with_a_floor_speaks_for_the_object_only() -> None:
    rng = np.random.default_rng(0)
    run, shares = [frame(rng), frame(rng, last=True)], [rng.random(6).astype(np.float32) for _ in range(2)]
    settings = VideoGraphSettings(lambda_m=0.0, lambda_c=0.0, lambda_a=1.0)
    plain = video_energy(run, shares, settings).unary
    raised = video_energy(run, shares, replace(settings, attention_floor=0.3)).unary
    share = np.clip(0.3 + 0.7 * np.concatenate(shares).astype(float), 1e-3, 1 - 1e-3)
    np.testing.assert_allclose(raised, -np.log(np.stack([1 - share, share], axis=1)), rtol=1e-6)
    assert raised[:, 1].max() < 1.21 < plain[:, 1].max()


def test_log_costs_by_hand() -> None:
    cost = log_costs(Cue(np.array([0.0, 0.25, 1.0, 1.0]), np.array([True, True, True, False])), 0.01)
    expected = -np.log([[0.99, 0.01], [0.75, 0.25], [0.01, 0.99], [1, 1]])
    np.testing.assert_allclose(cost, expected, atol=1e-12)


def test_gathered_motion_reaches_frames_that_have_none() -> None:
    rng = np.random.default_rng(0)
    inside = np.array([1.0, 0, 0, 0, 0, 0])
    run = [frame(rng, inside=inside), frame(rng, inside=np.zeros(6), last=True)]
    ratio = motion_cue(run, SETTINGS)
    assert not ratio.known[6:].any()
    gathered = motion_cue(run, replace(SETTINGS, motion="accumulate"))
    assert gathered.known.all() and gathered.share[6] > 0.9 and gathered.share[9] < 0.01
    still = [frame(rng, inside=np.zeros(6), last=True)]
    assert not motion_cue(still, replace(SETTINGS, motion="accumulate")).known.any()
