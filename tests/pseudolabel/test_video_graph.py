from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pseudolabel.types import DataError
from pseudolabel.video_graph import segment_video, stream_video_segments, stream_video_ways
from pseudolabel.video_graph_settings import VideoGraphSettings

SIZE = (96, 128)
SETTINGS = VideoGraphSettings(num_superpixels=400)


def texture(seed: int, colour: tuple[int, int, int], *, margin: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (SIZE[0] + margin, SIZE[1] + margin, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip(np.array(colour) + 20 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def disc(x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def clip(frames: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A red disc (the tag's) and a blue one that both move, over a panned background; attention on the red's centre.

    Returns:
        frames, masks of the red disc, attention.
    """
    rng = np.random.default_rng(0)
    ground = texture(1, (110, 120, 115), margin=60)
    skins = texture(2, (200, 60, 50)), texture(3, (50, 60, 200))
    images, masks, maps = [], [], []
    for t in range(frames):
        image = ground[20 : 20 + SIZE[0], 20 + t : 20 + t + SIZE[1]].copy()
        red, blue = disc(88 - 2 * t, 40 + t, 18), disc(30 + 2 * t, 70 - t, 14)
        for mask, skin in ((blue, skins[1]), (red, skins[0])):
            image[mask] = np.roll(skin, (t, 2 * t), (0, 1))[mask]
        images.append(np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8))
        masks.append(red)
        maps.append(cv2.GaussianBlur(disc(88 - 2 * t, 38 + t, 10).astype(np.float32), (0, 0), 5.0) * 7)
    return np.stack(images), np.stack(masks), np.stack(maps)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / max((first | second).sum(), 1))


@pytest.fixture(scope="module")
def two_discs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return clip()


@pytest.mark.parametrize("changes", [{}, {"seeds": "both"}, {"motion": "accumulate"}, {"motion_preset": "papazoglou"}])
def test_attention_motion_and_colour_beat_their_parts(
    two_discs: tuple[np.ndarray, np.ndarray, np.ndarray], changes: dict[str, str]
) -> None:
    frames, masks, attention = two_discs
    settings = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    found = segment_video(frames, attention, settings=settings)
    assert found.dtype == bool and found.shape == masks.shape
    alone = segment_video(frames, attention, settings=replace(settings, lambda_m=0.0, lambda_c=0.0))
    moving = segment_video(frames, None, settings=settings)
    assert iou(found, masks) > 0.85
    assert iou(alone, masks) < iou(found, masks) - 0.1  # the centre only
    assert iou(moving, masks) < iou(found, masks) - 0.1  # the blue one as well


def test_motion_only_is_what_attention_of_no_weight_gives(
    two_discs: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    frames, masks, attention = two_discs
    without = segment_video(frames, None, settings=SETTINGS)
    np.testing.assert_array_equal(segment_video(frames, attention, settings=replace(SETTINGS, lambda_a=0)), without)
    assert (without & masks).sum() > 0.8 * masks.sum()


def test_given_flow_is_used(two_discs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    frames, masks, _ = two_discs
    flow = np.full((len(frames) - 1, *SIZE, 2), (-1.0, 0.0), np.float32)
    flow[masks[:-1]] = (-2.0, 1.0)  # the blue disc goes with the camera
    assert iou(segment_video(frames, None, flow=flow, settings=SETTINGS), masks) > 0.8


def test_any_scale_of_attention_gives_the_same(two_discs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    frames, _, attention = two_discs
    found = segment_video(frames, attention, settings=SETTINGS)
    np.testing.assert_array_equal(segment_video(frames, attention * 8, settings=SETTINGS), found)
    np.testing.assert_array_equal(segment_video(list(frames), list(attention), settings=SETTINGS), found)


def test_a_stream_of_one_window_is_the_whole(two_discs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    frames, _, attention = two_discs
    streamed = list(
        stream_video_segments(iter(frames), iter(attention), settings=replace(SETTINGS, window=8, overlap=2))
    )
    np.testing.assert_array_equal(np.stack(streamed), segment_video(frames, attention, settings=SETTINGS))


def test_windows_bound_what_is_held_and_hardly_change_the_result() -> None:
    frames, masks, attention = clip(19)
    held = most = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal held
        for frame in frames:
            held += 1
            yield frame

    whole, streamed = segment_video(frames, attention, settings=SETTINGS), []
    for number, mask in enumerate(
        stream_video_segments(counted(), attention, settings=replace(SETTINGS, window=6, overlap=3))
    ):
        most = max(most, held - number)
        streamed.append(mask)
    assert len(streamed) == 19 and most <= 8
    assert iou(np.stack(streamed), whole) > 0.95 and iou(np.stack(streamed), masks) > 0.85


@pytest.mark.parametrize("count", range(1, 10))
def test_every_frame_comes_once_whatever_the_window(count: int) -> None:
    frames, _, attention = clip(count)
    small = replace(SETTINGS, num_superpixels=40, em_iters=0)
    for window, overlap in ((1, 0), (2, 0), (2, 1), (3, 2), (5, 4)):
        settings = replace(small, window=window, overlap=overlap)
        found = list(stream_video_segments(frames[:, ::4, ::4], attention[:, ::4, ::4], settings=settings))
        assert len(found) == count and found[0].shape == (24, 32)


def test_large_frames_are_worked_on_small_and_come_back_large(
    two_discs: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    frames, masks, attention = two_discs
    found = segment_video(frames, attention, settings=replace(SETTINGS, max_edge=100))
    assert found.shape == masks.shape and iou(found, masks) > 0.8


def test_one_frame_is_cut_by_attention_and_colour(two_discs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    frames, masks, attention = two_discs
    assert iou(segment_video(frames[:1], attention[:1], settings=SETTINGS), masks[:1]) > 0.8
    assert not segment_video(frames[:1], None, settings=SETTINGS).any()


def test_a_frame_without_attention_is_filled_from_its_neighbours(
    two_discs: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    frames, masks, attention = two_discs
    holes = attention.copy()
    holes[[0, 3, 4]] = 0.0
    assert iou(segment_video(frames, holes, settings=SETTINGS)[[0, 3, 4]], masks[[0, 3, 4]]) > 0.8


def test_nothing_attended_and_nothing_moving_is_no_object(
    two_discs: tuple[np.ndarray, np.ndarray, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    frames, masks, attention = two_discs
    still = np.repeat(frames[:1], 4, axis=0)
    for images, maps in ((frames, np.zeros_like(attention)), (still, None)):
        with caplog.at_level(logging.INFO):
            assert not segment_video(images, maps, settings=SETTINGS).any()
        assert "no object" in caplog.text
        caplog.clear()
    maps = np.repeat(attention[:1], 4, axis=0)
    one_gaussian = replace(SETTINGS, foreground_components=1)  # four copies of seven seeds are no more than seven
    assert iou(segment_video(still, maps, settings=one_gaussian), np.repeat(masks[:1], 4, axis=0)) > 0.8


def test_constant_colour_leaves_attention_to_decide() -> None:
    grey = np.full((3, *SIZE, 3), 90, np.uint8)
    attention = np.repeat(disc(60, 50, 25)[None].astype(np.float32), 3, axis=0)
    weak = replace(SETTINGS, spatial_weight=1.0, temporal_weight=1.0)
    assert iou(segment_video(grey, attention, settings=weak), attention > 0) > 0.8
    assert not segment_video(np.zeros_like(grey), None, settings=SETTINGS).any()


def test_bad_input_is_refused(two_discs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    frames, _, attention = two_discs
    hurt = attention.copy()
    hurt[2, 5, 5] = np.nan
    with pytest.raises(DataError, match="not finite"):
        segment_video(frames, hurt, settings=SETTINGS)
    with pytest.raises(DataError, match="negative"):
        segment_video(frames, attention - 1, settings=SETTINGS)
    with pytest.raises(DataError, match="8 frames but 7 attention maps"):
        segment_video(frames, attention[:-1], settings=SETTINGS)
    with pytest.raises(DataError, match="attention ends before frame 3"):
        list(stream_video_segments(frames, attention[:3], settings=SETTINGS))
    with pytest.raises(DataError, match="more attention maps than frames"):
        list(stream_video_segments(frames[:3], attention, settings=SETTINGS))
    with pytest.raises(DataError, match=r"expected float \(96, 128\)"):
        segment_video(frames, attention[:, :, 1:], settings=SETTINGS)
    with pytest.raises(DataError, match="no frames"):
        segment_video([], None, settings=SETTINGS)
    with pytest.raises(DataError, match="frame 3 is 100x96"):
        segment_video([*frames[:3], frames[3][:, :100]], attention[:4], settings=SETTINGS)
    with pytest.raises(DataError, match="no attention is given and lambda_m is 0"):
        segment_video(frames, None, settings=replace(SETTINGS, lambda_m=0.0))
    with pytest.raises(DataError, match="flow of frame 0"):
        segment_video(frames, attention, flow=np.zeros((7, 96, 100, 2), np.float32), settings=SETTINGS)


def test_several_ways_at_once_are_what_each_is_alone(two_discs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    frames, _, attention = two_discs
    small = replace(SETTINGS, window=4, overlap=2)
    ways = {"all": small, "motion": replace(small, lambda_a=0.0), "attention": replace(small, lambda_m=0.0)}
    found = list(stream_video_ways(iter(frames), iter(attention), ways=ways))
    assert len(found) == len(frames)
    for name, of in ways.items():
        alone = stream_video_segments(frames, attention if of.lambda_a else None, settings=of)
        np.testing.assert_array_equal([masks[name] for masks in found], list(alone))
    assert any((masks["motion"] != masks["all"]).any() for masks in found)


def test_ways_must_observe_frames_alike(two_discs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    frames, _, attention = two_discs
    other = replace(SETTINGS, num_superpixels=SETTINGS.num_superpixels + 1)
    with pytest.raises(ValueError, match="observe frames alike"):
        next(stream_video_ways(frames, attention, ways={"one": SETTINGS, "other": other}))
    with pytest.raises(DataError, match="lambda_m is 0"):
        next(stream_video_ways(frames, None, ways={"one": SETTINGS, "none": replace(SETTINGS, lambda_m=0.0)}))
