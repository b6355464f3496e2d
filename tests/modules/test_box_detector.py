from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.resnet import ResNet

from modules.box_detector import BoxDetector
from modules.checkpoints import save_weights
from modules.detectors import TrainedDetector, make_detector
from pseudolabel.boxes import box_iou
from pseudolabel.types import DataError, FloatArray, UInt8Array

TINY: dict[str, Any] = {
    "backbone": "resnet18",
    "backbone_args": {"channels": [8, 8, 16, 16]},
    "channels": 32,
    "crop": 64,
    "lr": 5e-3,
}


def scene(rng: np.random.Generator, *, shown: bool = True) -> tuple[UInt8Array, FloatArray]:
    """A noisy picture with a red rectangle and a blue one, and the box of the red one."""
    image = rng.integers(60, 140, (64, 64, 3)).astype(np.uint8)
    boxes = []
    for colour in ((220, 30, 30), (30, 30, 220))[0 if shown else 1 :]:
        (height, width), (y, x) = rng.integers(14, 30, 2), rng.integers(0, 34, 2)
        image[y : y + height, x : x + width] = colour
        boxes.append((x, y, x + width, y + height))
    return image, np.array(boxes[:1] if shown else [], np.float32).reshape(-1, 4)


def batch(rng: np.random.Generator, size: int = 8) -> dict[str, torch.Tensor]:
    scenes = [scene(rng, shown=number % 4 != 0) for number in range(size)]
    boxes = torch.zeros(size, 4, 4)
    for number, (_, own) in enumerate(scenes):
        boxes[number, : len(own)] = torch.from_numpy(own)
    images = torch.from_numpy(np.stack([image for image, _ in scenes])).permute(0, 3, 1, 2)
    return {"image": images, "boxes": boxes, "count": torch.tensor([len(own) for _, own in scenes])}


@pytest.fixture(scope="module")
def trained() -> BoxDetector:
    torch.manual_seed(0)
    detector = BoxDetector(**TINY)
    detector.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    detector.start_schedule(0, 60)
    made = detector.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    rng = np.random.default_rng(0)
    detector.train()
    for _ in range(60):
        optimizer.zero_grad()
        detector.training_step(batch(rng), 0).backward()  # type: ignore[no-untyped-call]
        detector.on_before_optimizer_step(optimizer)
        optimizer.step()
        schedule.step()
    return detector.eval()


def test_it_learns_to_box_what_it_was_shown(trained: BoxDetector) -> None:
    rng = np.random.default_rng(9)
    found, sure, empty = [], [], []
    for number in range(16):
        image, boxes = scene(rng, shown=number % 2 == 0)
        one = trained.detect(image[None])[0]
        if len(boxes):
            found.append(float(box_iou(one.boxes[:1], boxes).max()) if len(one) else 0.0)
        (sure if len(boxes) else empty).append(float(one.scores.max()) if len(one) else 0.0)
    assert np.mean(found) > 0.5
    assert np.mean(empty) + 0.05 < np.mean(sure), "the blue rectangle is a counter-example"


def test_its_checkpoint_is_a_detector_of_videos(trained: BoxDetector, tmp_path: Path) -> None:
    save_weights(trained, tmp_path / "best.ckpt")
    rng = np.random.default_rng(3)
    frames = np.stack([scene(rng)[0] for _ in range(5)])
    detector = make_detector("trained", detector=tmp_path / "best.ckpt", threshold=0.2, most=1, batch_size=2)
    found = detector(frames, video="rex", indices=np.arange(5))
    assert len(found) == 5 and sum(map(len, found)) >= 3 and max(map(len, found)) == 1
    for one, whole in zip(found, trained.detect(frames), strict=True):
        if len(one):
            np.testing.assert_allclose(one.boxes[0], whole.boxes[0], atol=1e-3)
            assert one.scores[0] > 0.2
    with pytest.raises(DataError, match="batch_size must be >= 1"):
        TrainedDetector(trained, batch_size=0)
    strict = TrainedDetector(trained, threshold=1.0)(frames, video="rex", indices=np.arange(5))
    assert sum(map(len, strict)) == 0


def test_frames_may_be_looked_at_smaller(trained: BoxDetector) -> None:
    frames = scene(np.random.default_rng(3))[0][None]
    twice = frames.repeat(2, axis=1).repeat(2, axis=2)
    trained.hparams["image_size"] = 64
    try:
        small, large = trained.detect(frames)[0], trained.detect(twice)[0]
    finally:
        trained.hparams["image_size"] = None
    np.testing.assert_allclose(large.boxes[0], 2 * small.boxes[0], atol=2.0)


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv2_100"])
def test_every_parameter_learns(backbone: str) -> None:
    narrow = TINY["backbone_args"] if backbone == "resnet18" else None
    detector = BoxDetector(**{**TINY, "backbone": backbone, "backbone_args": narrow}).train()
    detector.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    detector.training_step(batch(np.random.default_rng(0), size=4), 0).backward()  # type: ignore[no-untyped-call]
    assert [name for name, weights in detector.named_parameters() if weights.grad is None] == []


def test_building_and_detecting_leave_it_as_it_was() -> None:
    detector = BoxDetector(**TINY).train()
    counts = [int(value) for name, value in detector.state_dict().items() if name.endswith("num_batches_tracked")]
    detector.detect(scene(np.random.default_rng(0))[0][None])
    assert counts and not any(counts) and detector.training and detector.network.backbone.training


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="Unknown backbone 'resnet1'"):
        BoxDetector(**{**TINY, "backbone": "resnet1"})
    monkeypatch.delattr(ResNet, "forward_intermediates")
    with pytest.raises(DataError, match="no features of several sizes"):
        BoxDetector(**TINY)
    with pytest.raises(DataError, match=r"channels=40: .* expected 32, 64"):
        BoxDetector(**{**TINY, "channels": 40})
    for changed in ({"crop": 0}, {"clip": 0.0}):
        with pytest.raises(DataError, match="needs crop >= 1 and clip > 0"):
            BoxDetector(**{**TINY, **changed})
