from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pseudolabel import flow_cache as cache_module
from pseudolabel.flow import FlowSettings, compute_flow, consistency, flow_of_clip, warp
from pseudolabel.flow_cache import FlowCache
from pseudolabel.types import DataError


def shifted(dx: int = 3, dy: int = -2, size: tuple[int, int] = (72, 96)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (size[0] + 40, size[1] + 40, 3), dtype=np.uint8)
    wide = cv2.normalize(cv2.GaussianBlur(wide, (0, 0), 3.0), None, 0, 255, cv2.NORM_MINMAX)
    cut = [wide[20 + j : 20 + j + size[0], 20 + i : 20 + i + size[1]] for j, i in ((0, 0), (-dy, -dx))]
    return cut[0], cut[1]


@pytest.mark.parametrize("method", ["dis", "farneback"])
@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
def test_a_shift_is_found(method: str, preset: str) -> None:
    first, second = shifted()
    flow = compute_flow(first, second, method=method, preset=preset)  # type: ignore[arg-type]
    assert flow.shape == (72, 96, 2) and flow.dtype == np.float32
    np.testing.assert_allclose(np.median(flow[12:-12, 12:-12].reshape(-1, 2), axis=0), [3, -2], atol=0.15)
    grey = cv2.cvtColor(first, cv2.COLOR_RGB2GRAY).astype(np.float32)
    back = warp(cv2.cvtColor(second, cv2.COLOR_RGB2GRAY).astype(np.float32), flow)
    assert np.abs(back - grey)[12:-12, 12:-12].mean() < 4


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (17, 9)])
def test_tiny_frames(size: tuple[int, int]) -> None:
    frame = np.zeros((*size, 3), np.uint8)
    assert compute_flow(frame, frame).shape == (*size, 2)


def test_clip_and_consistency() -> None:
    first, second = shifted()
    forward, backward = flow_of_clip([first, second, first])
    assert backward is not None and forward.shape == backward.shape == (2, 72, 96, 2)
    agrees = consistency(forward[0], backward[0])
    assert agrees[12:-12, 12:-12].mean() > 0.95
    assert not agrees[:, -1].any()  # leaves the picture
    assert consistency(forward[0], -backward[0])[12:-12, 12:-12].mean() < 0.05
    assert flow_of_clip([first, second], backward=False)[1] is None


def test_bad_input_is_refused() -> None:
    first, second = shifted()
    with pytest.raises(DataError, match="differ in size"):
        compute_flow(first, second[:-1])
    with pytest.raises(DataError, match="float32"):
        compute_flow(first.astype(np.float32), second)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="two frames"):
        flow_of_clip([first])
    with pytest.raises(DataError, match="did you mean 'farneback'"):
        compute_flow(first, second, method="farnebeck")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="needs the path"):
        compute_flow(first, second, method="raft")
    with pytest.raises(DataError, match="of one size"):
        consistency(np.zeros((4, 4, 2), np.float32), np.zeros((4, 5, 2), np.float32))


def test_raft_takes_weights_by_path(tmp_path: Path) -> None:
    import torch
    from torchvision.models.optical_flow import raft_small

    torch.manual_seed(0)
    path = tmp_path / "raft_small.pth"
    torch.save(raft_small(weights=None).state_dict(), path)
    flow = compute_flow(*shifted(size=(50, 70)), method="raft", weights=str(path))
    assert flow.shape == (50, 70, 2) and np.isfinite(flow).all()
    broken = tmp_path / "broken_small.pth"
    broken.write_bytes(b"none")
    for weights in (broken, tmp_path / "missing_small.pth"):
        with pytest.raises(DataError, match="cannot be loaded"):
            compute_flow(*shifted(), method="raft", weights=str(weights))


def test_cache_computes_once_per_video_frames_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = shifted()
    calls = []
    compute = cache_module.flow_with

    def counted(settings: FlowSettings, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        calls.append(settings)
        return compute(settings, a, b)

    monkeypatch.setattr(cache_module, "flow_with", counted)
    cache = FlowCache(tmp_path)
    fresh = cache.get("dog", 0, 1, first, second)
    np.testing.assert_array_equal(cache.get("dog", 0, 1, first, second), fresh)
    np.testing.assert_array_equal(FlowCache(tmp_path).get("dog", 0, 1, first, second), fresh)
    assert len(calls) == 1
    FlowCache(tmp_path, settings=FlowSettings(preset="fast")).get("dog", 0, 1, first, second)
    cache.get("cat", 0, 1, first, second)
    cache.get("dog", 0, 1, second, first)  # another video under the same name
    assert len(calls) == 4
    for path in tmp_path.rglob("*.npy"):
        path.write_bytes(path.read_bytes()[:100])
    np.testing.assert_array_equal(FlowCache(tmp_path).get("dog", 0, 1, first, second), fresh)
    assert len(calls) == 5


def test_cache_in_memory_is_bounded() -> None:
    first, second = shifted()
    cache = FlowCache(memory_mib=0.1)  # three fields of 72 x 96
    for number in range(9):
        cache.get("dog", number, number + 1, first, second)
    assert len(cache) == 3
    assert len(FlowCache(memory_mib=0.0)) == 0
