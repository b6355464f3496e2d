from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from datamodules.rendering import Layer, line_kernel, render_video
from datamodules.studio.actors import BODIES, MOTIONS
from datamodules.studio.difficulty import Difficulty
from datamodules.studio.scenery import background, distractor, occluder, texture, value_noise
from datamodules.studio.sprites import Body, Part, Sprite, affine, draw_sprite, sprite_to_part
from datamodules.studio.staging import Thing, pose, set_scene
from pseudolabel.types import DataError, Tag

TIME = np.arange(24.0)


def render(seed: int, pairs: list[tuple[str, str, int]], frames: int = 6, **knobs: Any) -> Any:
    return render_video(
        [seed],
        [Tag(actor, action) for actor, action, _ in pairs],
        [label for *_, label in pairs],
        frames=frames,
        size=(48, 64),
        annotated=range(frames),
        difficulty=Difficulty(**knobs),
    )


def test_same_seed_same_bytes_other_seed_other_video() -> None:
    first, again, other = (render(seed, [("cat", "walking", 68)]) for seed in (3, 3, 4))
    assert first.frames.tobytes() == again.frames.tobytes()
    assert first.masks.tobytes() == again.masks.tobytes()
    assert (first.frames != other.frames).mean() > 0.5
    assert (first.masks != other.masks).any()


@pytest.mark.parametrize("action", sorted(MOTIONS))
@pytest.mark.parametrize("actor", sorted(BODIES))
def test_every_actor_does_every_action(actor: str, action: str) -> None:
    video = render(0, [(actor, action, 9)], absent=0.0)
    assert video.frames.shape == (6, 48, 64, 3)
    assert video.frames.dtype == video.masks.dtype == np.uint8
    assert set(np.unique(video.masks)) == {0, 9}
    share = (video.masks == 9).mean(axis=(1, 2))
    assert 0.01 < share.max() < 0.5


def test_labels_are_those_of_the_cast() -> None:
    video = render(1, [("dog", "jumping", 75), ("bird", "none", 49)], absent=0.0)
    assert set(np.unique(video.masks)) == {0, 75, 49}


def test_camera_leaves_the_actor() -> None:
    video = render(0, [("dog", "walking", 78)], frames=16, absent=1.0)
    seen = video.masks.any(axis=(1, 2))
    assert seen.any()
    assert not seen.all()
    assert seen[0] != seen[-1]


def test_occluders_take_labels_away_and_never_add() -> None:
    lost = 0
    for seed in range(4):
        knobs = {"absent": 0.0, "distractors": 0}
        free = render(seed, [("ball", "none", 39)], frames=3, occlusion=0.0, **knobs).masks > 0
        hidden = render(seed, [("ball", "none", 39)], frames=3, occlusion=1.0, **knobs).masks > 0
        assert not (hidden & ~free).any()
        lost += int((free & ~hidden).sum())
    assert lost > 0


@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_label_is_where_half_the_pixel_is_covered(blur: float) -> None:
    rng, tags = np.random.default_rng(0), [Tag("dog", "walking")]
    knobs = Difficulty(occlusion=0.0, distractors=0, absent=0.0)
    scene = set_scene(rng, tags, [78], frames=4, size=(64, 64), difficulty=knobs)
    layer = Layer(scene.things[0], scene)
    black, white = np.zeros((64, 64, 3), np.float32), np.full((64, 64, 3), 255, np.float32)
    sharp, masks = black.copy(), np.zeros((3, 64, 64), np.uint8)
    for frame, mask, shutter in zip((black, white, sharp), masks, (blur, blur, 0.0), strict=True):
        layer.paint(1, frame, mask, blur=shutter, longest=9.0)
    covered = 1 - (white - black)[..., 0] / 255
    assert covered.min() >= -1e-3
    np.testing.assert_array_equal(masks[0], masks[2])
    assert 0.05 < (masks[0] == 78).mean() < 0.5
    if blur:
        assert ((masks[0] == 78) != (covered > 0.501)).any()
    else:
        np.testing.assert_array_equal(masks[0] == 78, covered > 0.501)


def test_hopeless_scene_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datamodules.rendering.MIN_VISIBLE", 1.1)
    monkeypatch.setattr("datamodules.rendering.ATTEMPTS", 2)
    with pytest.raises(DataError, match=r"none in 2 .* raise `min_area`"):
        render(0, [("cat", "none", 69)], frames=2)


def test_line_kernel() -> None:
    assert line_kernel(np.array([1.0, 0.5]), longest=9.0) is None
    kernel = line_kernel(np.array([4.0, 0.0]), longest=9.0)
    assert kernel is not None
    assert kernel.shape == (5, 5)
    assert kernel.sum() == pytest.approx(1.0)
    assert (kernel[2] > 0).all()
    assert kernel[[0, 1, 3, 4]].sum() == 0
    slanted = line_kernel(np.array([30.0, 30.0]), longest=4.0)
    assert slanted is not None
    assert slanted.shape == (5, 5)
    assert np.count_nonzero(slanted - np.diag(np.diag(slanted))) == 0


def test_affine_scales_then_turns_then_shifts() -> None:
    matrix = affine(10.0, 20.0, angle=np.pi / 2, scale_x=2.0, scale_y=3.0)
    np.testing.assert_allclose(matrix @ [1, 0, 1], [10, 22, 1], atol=1e-12)
    np.testing.assert_allclose(matrix @ [0, 1, 1], [7, 20, 1], atol=1e-12)
    assert affine(np.zeros(5), 1.0).shape == (5, 3, 3)


def test_sprite_corners_lie_where_the_part_says() -> None:
    sprite = Sprite(np.zeros((5, 9, 4), np.uint8), (1.0, 2.0), (0.5, 0.25))
    np.testing.assert_allclose(sprite_to_part(sprite) @ [0, 0, 1], [0.5, 1.75, 1])
    np.testing.assert_allclose(sprite_to_part(sprite) @ [8, 4, 1], [1.5, 2.25, 1])


def test_draw_sprite_at_a_whole_shift_copies_it() -> None:
    pixels = np.full((3, 4, 4), (10, 20, 30, 255), np.uint8)
    pixels[0, 0, 3] = 0
    layer = np.zeros((8, 8, 4), np.uint8)
    draw_sprite(layer, Sprite(pixels, (0, 0), (1, 1)), affine(2.0, 5.0))
    expected = np.zeros((8, 8), bool)
    expected[5:8, 2:6] = True
    expected[5, 2] = False
    np.testing.assert_array_equal(layer[..., 3], np.where(expected, 255, 0))
    np.testing.assert_array_equal(layer[expected], np.full((11, 4), (10, 20, 30, 255)))


def test_bent_sprite_curves() -> None:
    pixels = np.full((9, 31, 4), 255, np.uint8)
    straight, bent = np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64, 4), np.uint8)
    sprite = Sprite(pixels, (0, 0), (1, 1))
    draw_sprite(straight, sprite, affine(16.0, 28.0))
    draw_sprite(bent, sprite, affine(16.0, 28.0), bend=1.5)

    def middles(layer: np.ndarray) -> list[float]:
        return [float(np.nonzero(layer[:, column, 3])[0].mean()) for column in (18, 31, 44)]

    assert np.ptp(middles(straight)) == 0
    left, middle, right = middles(bent)
    assert abs(left - right) <= 1
    assert middle - left > 3
    outside = np.zeros((8, 8, 4), np.uint8)
    draw_sprite(outside, sprite, affine(100.0, 100.0), bend=1.5)
    assert not outside.any()


def test_pose_chains_joints() -> None:
    sprite = Sprite(np.zeros((2, 2, 4), np.uint8), (0, 0), (1, 1))
    body = Body((Part("root", -1, (0, 0), sprite), Part("arm", 0, (1.0, 0.0), sprite)))
    still = np.zeros(1)
    motion = MOTIONS["none"](np.random.default_rng(0), body, still)
    motion.angle, motion.squash = np.array([np.pi / 2]), still
    motion.joints, motion.bend = {"arm": np.array([np.pi / 2])}, {"arm": np.array([0.3])}
    world, bends = pose(body, motion, x=np.array([5.0]), y=still, scale=2.0, facing=1)
    np.testing.assert_allclose(world[0, 1] @ [0, 0, 1], [5, 2, 1], atol=1e-12)
    np.testing.assert_allclose(world[0, 1] @ [1, 0, 1], [3, 2, 1], atol=1e-12)
    mirrored, _ = pose(body, motion, x=np.array([5.0]), y=still, scale=2.0, facing=-1)
    np.testing.assert_allclose(mirrored[0, 1] @ [1, 0, 1], [7, 2, 1], atol=1e-12)
    np.testing.assert_array_equal(bends, [[0.0, 0.3]])


def test_actions_differ_in_time() -> None:
    """Each action has its own course, in every one of a few random performances."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        body = BODIES["dog"](rng)
        walk, jump, roll, none = (MOTIONS[a](rng, body, TIME) for a in ("walking", "jumping", "rolling", "none"))
        np.testing.assert_allclose(walk.joints["limb0"], -walk.joints["limb1"], atol=1e-9)
        assert walk.x[-1] - walk.x[0] > 0.5
        assert np.ptp(roll.angle) > 2 * np.pi * 0.7
        assert max(np.ptp(motion.angle) for motion in (walk, jump, none)) < 1.0
        assert np.ptp(jump.y) > 0.5
        assert max(np.ptp(motion.y) for motion in (walk, roll, none)) < 0.2
        assert max(np.ptp(none.x), *(np.ptp(none.joints[name]) for name, _ in body.limbs)) < 0.35
        bird = BODIES["bird"](rng)
        fly, perch = (MOTIONS[action](rng, bird, TIME) for action in ("flying", "none"))
        assert np.ptp(fly.stretch["wing0"]) > 1.0
        assert np.ptp(perch.stretch["wing0"]) < 0.1


def test_idle_poses_overlap_with_steps() -> None:
    spread = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        body = BODIES["cat"](rng)
        spread.append(abs(MOTIONS["none"](rng, body, TIME).joints["limb0"][0]))
    assert 8 <= sum(angle > 0.2 for angle in spread) <= 28


def test_torsos_are_shared_and_heads_are_not() -> None:
    cat, dog = (BODIES[actor](np.random.default_rng(5)) for actor in ("cat", "dog"))
    assert [part.name for part in cat.parts] == [part.name for part in dog.parts]
    heads = [next(part for part in body.parts if part.name == "head") for body in (cat, dog)]
    assert (heads[0].sprite.pixels != heads[1].sprite.pixels).any()
    again = next(part for part in BODIES["cat"](np.random.default_rng(6)).parts if part.name == "head")
    np.testing.assert_array_equal(again.sprite.pixels[..., 3], heads[0].sprite.pixels[..., 3])


def test_scenery_is_never_alike() -> None:
    rng = np.random.default_rng(0)
    canvases = [background(rng, (40, 60)) for _ in range(2)]
    assert canvases[0].shape == (40, 60, 3)
    assert (canvases[0] != canvases[1]).mean() > 0.5
    assert background(rng, (40, 60), clutter=0.0).std() > 0
    assert texture(rng, (20, 30)).shape == (20, 30, 3)
    noise = value_noise(rng, (20, 30))
    assert (noise.min(), noise.max()) == (0.0, pytest.approx(1.0))
    for _ in range(12):
        for body in (distractor(rng), occluder(rng, frame_half=(0.6, 0.4))):
            assert isinstance(Thing(body, np.zeros(0), np.zeros(0)).label, int)
            assert all((part.sprite.pixels[..., 3] > 0).any() for part in body.parts)


def test_fixed_camera_stays_and_moving_one_moves() -> None:
    def travel(**knobs: Any) -> float:
        rng = np.random.default_rng(1)
        pairs = [Tag("cat", "none")]
        scene = set_scene(rng, pairs, [69], frames=24, size=(48, 64), difficulty=Difficulty(absent=0.0, **knobs))
        assert scene.view(1.0).shape == (24, 3, 3)
        return float(np.ptp(scene.zoom))

    assert travel(camera=0.0) == 0.0
    assert travel(camera=1.0) > 0.0


def test_idle_actors_and_camera_stand_still_while_distractors_move() -> None:
    tags = [Tag("cat", "walking"), Tag("bird", "flying")]
    knobs = Difficulty(absent=0.0, camera=0.0, distractors=0, occlusion=0.0)
    scene = set_scene(np.random.default_rng(0), tags, [1, 2], frames=8, size=(48, 64), difficulty=knobs, idle=True)
    for thing in scene.things:
        np.testing.assert_array_equal(thing.world, np.broadcast_to(thing.world[:1], thing.world.shape))
        assert np.ptp(thing.bend, axis=0).max() == 0
    assert np.ptp(scene.view(1.0), axis=0).max() == 0
    still = render_video(
        [5],
        tags,
        [1, 2],
        frames=8,
        size=(48, 64),
        annotated=[0, 7],
        idle=True,
        difficulty=Difficulty(distractors=0, noise=0.0, light=0.0),
    )
    assert {0, 1, 2} == set(np.unique(still.masks).tolist())
    assert all((mask == still.masks[0]).all() for mask in still.masks)
    assert np.ptp(still.frames.astype(int), axis=0).max() == 0
    lively = render_video(
        [5], tags, [1, 2], frames=8, size=(48, 64), annotated=[0, 7], difficulty=Difficulty(distractors=0, absent=0.0)
    )
    assert (lively.masks[0] != lively.masks[-1]).any()


def test_shot_without_actors_has_an_empty_mask_and_something_that_moves() -> None:
    for seed in range(3):
        video = render_video(
            [seed],
            [],
            [],
            frames=8,
            size=(48, 64),
            annotated=[0],
            difficulty=Difficulty(distractors=0, camera=0.0, noise=0.0, light=0.0, occlusion=0.0),
        )
        assert not video.masks.any()
        moved = np.ptp(video.frames.astype(int), axis=0).max(axis=-1) > 10
        assert 0.01 < moved.mean() < 0.9
