from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from pseudolabel.flow import FlowSettings
from pseudolabel.motion import segment_motion, segment_motion_soft, stream_motion
from pseudolabel.motion_cut import build_graph, gather_location
from pseudolabel.motion_evidence import moving_share, observe, shrink
from pseudolabel.motion_settings import MotionSettings, motion_settings
from pseudolabel.superpixels import segment_superpixels
from pseudolabel.types import DataError

SIZE = (96, 128)


def texture(seed: int, height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (height, width, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip(np.array(colour) + 25 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def clip(
    frames: int = 8, camera: tuple[int, int] = (1, 0), object_speed: tuple[int, int] = (-3, 1), *, noise: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """A red disc that moves over a moving grey background, and its masks."""
    rng = np.random.default_rng(0)
    wide = texture(1, SIZE[0] + 60, SIZE[1] + 60, (110, 120, 115))
    skin = texture(2, *SIZE, (200, 60, 50))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    images, masks = [], []
    for t in range(frames):
        j, i = 30 - t * camera[1], 30 - t * camera[0]
        image = wide[j : j + SIZE[0], i : i + SIZE[1]].copy()
        dx, dy = t * object_speed[0], t * object_speed[1]
        mask = (y - 44 - dy) ** 2 + (x - 74 - dx) ** 2 < 18**2
        image[mask] = np.roll(skin, (dy, dx), (0, 1))[mask]
        images.append(np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8))
        masks.append(mask)
    return np.stack(images), np.stack(masks)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


@pytest.fixture(scope="module")
def moving() -> tuple[np.ndarray, np.ndarray]:
    return clip()


@pytest.mark.parametrize("preset", ["robust", "papazoglou"])
def test_finds_what_moves_on_its_own(moving: tuple[np.ndarray, np.ndarray], preset: str) -> None:
    frames, masks = moving
    annotation, soft = segment_motion_soft(frames, preset=preset, superpixels=None)
    assert annotation.labels.shape == masks.shape and annotation.labels.max() == 1
    assert iou(annotation.labels > 0, masks) > 0.85
    assert (annotation.quality > 0.5).all() and (annotation.quality <= 1).all()
    assert soft is not None and soft.dtype == np.float32 and soft.min() >= 0 and soft.max() <= 1
    assert ((soft > 0.5) == (annotation.labels > 0)).mean() > 0.999


def test_is_deterministic_and_takes_any_iterable(moving: tuple[np.ndarray, np.ndarray]) -> None:
    frames, _ = moving
    whole = segment_motion(frames)
    again = segment_motion(frame for frame in frames)
    np.testing.assert_array_equal(whole.labels, again.labels)
    np.testing.assert_array_equal(whole.quality, again.quality)


def test_given_flow_and_superpixels_are_used(moving: tuple[np.ndarray, np.ndarray]) -> None:
    frames, masks = moving
    flow = np.full((len(frames) - 1, *SIZE, 2), (1.0, 0.0), np.float32)
    flow[masks[:-1]] = (-3.0, 1.0)
    superpixels = np.stack([segment_superpixels(frame, n=300) for frame in frames]) * 2 + 7  # gaps, not from 0
    for preset in ("papazoglou", "robust"):
        found = segment_motion(frames, preset=preset, flow=flow, superpixels=superpixels).labels
        assert iou(found > 0, masks) > 0.85
        for labels, regions in zip(found, superpixels, strict=True):
            assert all(len(np.unique(labels[regions == k])) == 1 for k in np.unique(regions)[::7])


@pytest.mark.parametrize("preset", ["robust", "papazoglou"])
def test_still_pictures_single_frames_and_pans_have_no_motion(preset: str, caplog: pytest.LogCaptureFixture) -> None:
    still = np.repeat(clip(1)[0], 5, axis=0)
    noisy, _ = clip(5, (0, 0), (0, 0), noise=3.0)
    pan = np.stack([np.roll(texture(3, *SIZE, (100, 110, 90)), 2 * t, axis=1) for t in range(5)])
    for frames in (still, noisy, still[:1], pan):
        with caplog.at_level(logging.WARNING):
            annotation = segment_motion(frames, preset=preset)
        assert not annotation.labels.any() and not annotation.quality.any()
        assert annotation.labels.shape == frames.shape[:3]
        assert "no motion" in caplog.text
        caplog.clear()


def test_windows_bound_what_is_held_and_hardly_change_the_result() -> None:
    frames, masks = clip(21, object_speed=(-2, 1))
    held = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal held
        for frame in frames:
            held += 1
            yield frame

    most, out = 0, []
    for number, segment in enumerate(stream_motion(counted(), window=6, overlap=3)):
        most = max(most, held - number)
        out.append(segment.labels)
    assert len(out) == 21 and most <= 8
    assert iou(np.stack(out) > 0, masks) > 0.8


@pytest.mark.parametrize("count", range(1, 12))
def test_every_frame_comes_once_whatever_the_window(count: int) -> None:
    frames = clip(count)[0][:, ::4, ::4]
    for window, overlap in ((2, 0), (3, 1), (4, 2), (5, 4)):
        assert len(list(stream_motion(frames, window=window, overlap=overlap, superpixels=None))) == count


def test_large_frames_are_worked_on_small_and_come_back_large(moving: tuple[np.ndarray, np.ndarray]) -> None:
    frames, masks = moving
    first = frames[0]
    assert shrink(first, 64).shape == (48, 64, 3) and shrink(first, None) is first
    found = segment_motion(frames, max_edge=100).labels
    assert found.shape == masks.shape and iou(found > 0, masks) > 0.75


def test_share_of_a_moving_square_by_hand() -> None:
    labels = (np.arange(64)[:, None] // 32 * 2 + np.arange(64) // 32).astype(np.int32)
    flow = np.zeros((64, 64, 2), np.float32)
    flow[8:24, 8:24] = 4.0
    settings = motion_settings("robust", residual_share=1.0, camera="translation", least_motion=0.0)
    np.testing.assert_allclose(moving_share(flow, labels, settings), [0.25, 0, 0, 0], atol=1e-6)
    inside = moving_share(flow, labels, motion_settings("papazoglou", border=0, partials="all"))
    assert 0.15 < inside[0] < 0.25 and not inside[1:].any()


@pytest.mark.parametrize(("look_back", "expected"), [("none", "01"), ("last", "012"), ("all", "012")])
def test_the_last_frame_has_evidence_only_when_it_looks_back(look_back: str, expected: str) -> None:
    settings = motion_settings("robust", look_back=look_back)
    run = list(observe(clip(3)[0], settings))
    assert "".join(str(t) for t, frame in enumerate(run) if frame.inside is not None) == expected
    assert [frame.links is None for frame in run] == [False, False, True]


def test_graph_and_location_by_hand() -> None:
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    frames[:, :, 4:] = 10
    halves = np.tile((np.arange(8) // 4).astype(np.int32), (2, 8, 1))
    settings = motion_settings("papazoglou")
    run = list(observe(frames, settings, flow=np.zeros((1, 8, 8, 2)), superpixels=halves))
    graph = build_graph(run, settings)
    assert graph.edges.tolist() == [[0, 1], [2, 3], [0, 2], [1, 3]]
    # Between the halves d^2 / distance is the same everywhere, so that the exponent is -0.5 distance; in time d = 0.
    np.testing.assert_allclose(graph.weights[:2], 500 * np.exp(-0.5 * 4) / 4)
    np.testing.assert_allclose(graph.weights[2:], 400)
    run[0].inside = np.array([1.0, 0.0], np.float32)
    np.testing.assert_allclose(gather_location(run, settings), [0.999, 0.001, 0.999, 0.001], rtol=1e-5)


def test_bad_input_is_refused(moving: tuple[np.ndarray, np.ndarray]) -> None:
    frames, _ = moving
    flow = np.zeros((len(frames) - 1, *SIZE, 2), np.float32)
    regions = np.zeros((len(frames), *SIZE), np.int32)
    with pytest.raises(DataError, match="frame 3 is 100x96"):
        segment_motion([*frames[:3], frames[3][:, :100]])
    with pytest.raises(DataError, match="no frames"):
        segment_motion([])
    with pytest.raises(DataError, match="float64"):
        segment_motion(frames.astype(float))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="NaN"):
        segment_motion(frames, flow=np.full_like(flow, np.nan))
    with pytest.raises(DataError, match="flow of frame 0 is"):
        segment_motion(frames, flow=flow[:, :-1])
    with pytest.raises(DataError, match="flow ends before frame 2"):
        segment_motion(frames, flow=flow[:2])
    with pytest.raises(DataError, match="superpixels of frame 0"):
        segment_motion(frames, superpixels=regions[:, :, :-1])
    with pytest.raises(DataError, match="superpixels end before frame 4"):
        segment_motion(frames, superpixels=regions[:4])
    with pytest.raises(DataError, match="did you mean 'decay'"):
        segment_motion(frames, decey=0.2)
    with pytest.raises(DataError, match="did you mean 'robust'"):
        segment_motion(frames, preset="robus")
    with pytest.raises(DataError, match="overlap"):
        segment_motion(frames, window=3, overlap=3)


def test_a_picture_that_moves_as_a_whole_is_no_motion() -> None:
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.normal(0, 1, (140, 300, 3)), (0, 0), 2)
    ground = np.clip(120 + 30 * ground / ground.std(), 0, 255).astype(np.uint8)
    found = segment_motion(np.stack([ground[10:130, 10 * t : 10 * t + 160] for t in range(5)]))
    assert not found.labels.any() and not found.quality.any()


def test_every_setting_can_be_changed_by_its_name(moving: tuple[np.ndarray, np.ndarray]) -> None:
    parameters = inspect.signature(segment_motion).parameters
    taken = {name for name, item in parameters.items() if item.kind != item.VAR_KEYWORD}
    assert not taken & set(MotionSettings.__dataclass_fields__)
    assert segment_motion(moving[0], num_superpixels=60, flow_settings=FlowSettings(method="farneback")).labels.any()


def test_a_small_moving_object_is_found() -> None:
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.normal(0, 1, (120, 214, 3)), (0, 0), 2)
    ground = np.clip(120 + 30 * ground / ground.std(), 0, 255).astype(np.uint8)
    skin = np.clip(np.array([190, 60, 60]) + 20 * rng.normal(0, 1, (16, 16, 3)), 0, 255).astype(np.uint8)
    frames = np.stack([ground] * 6)
    for t, frame in enumerate(frames):
        frame[50:66, 40 + 3 * t : 56 + 3 * t] = skin  # 1 % of the frame
    found = segment_motion(frames).labels[3] > 0
    true = np.zeros_like(found)
    true[50:66, 49:65] = True
    assert (found & true).sum() / (found | true).sum() > 0.5
