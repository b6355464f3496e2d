from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from modules.checkpoints import save_weights
from modules.detectors import CamDetector, TorchvisionDetector, make_detector
from modules.encoder2d import Encoder2D
from pseudolabel.detect import HogDetector
from pseudolabel.types import DataError

NAME = "ssdlite320_mobilenet_v3_large"
FRAMES = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), dtype=np.uint8)
NUMBERS = np.arange(3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of three classes and background with random weights, on disk."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "ssd.pth"
    state = build(4).state_dict()
    for name, values in state.items():
        if name.startswith("head.classification_head") and name.endswith("bias"):
            values.normal_()  # or all boxes have the same score
    torch.save(state, path)
    return path


def build(classes: int) -> torch.nn.Module:
    return torchvision.models.get_model(NAME, weights=None, weights_backbone=None, num_classes=classes)


def detector(path: Path, **options: Any) -> TorchvisionDetector:
    return TorchvisionDetector(NAME, path, **{"num_classes": 4, "label": 2, "threshold": 0.0, **options})


def test_the_file_gives_the_boxes_of_its_class(weights: Path) -> None:
    network = build(4)
    network.load_state_dict(torch.load(weights, weights_only=True))
    images = [torch.from_numpy(frame).permute(2, 0, 1) / 255 for frame in FRAMES]
    with torch.no_grad():
        expected = network.eval()(images)
    found = detector(weights, most=1000, batch_size=2)(FRAMES, video="rex", indices=NUMBERS)
    for one, answer in zip(found, expected, strict=True):
        chosen = answer["labels"] == 2
        boxes, scores = answer["boxes"][chosen].numpy(), answer["scores"][chosen].numpy()
        whole = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        assert whole.any()
        np.testing.assert_allclose(one.scores, np.sort(scores[whole])[::-1], atol=1e-5)
    above = float(np.median(found[0].scores))
    surer = detector(weights, threshold=above)(FRAMES, video="rex", indices=NUMBERS)
    assert 0 < len(surer[0]) < len(found[0]) and surer[0].scores.min() > above


def test_weights_that_do_not_fit_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"do not fit the network.*of another shape"):
        detector(weights, num_classes=5)
    with pytest.raises(DataError, match="never downloaded"):
        detector(tmp_path / "none.pth")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"missing.*unexpected"):
        detector(tmp_path / "other.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "code.pth")  # a pickled object could run code
    with pytest.raises(DataError, match="cannot be read"):
        detector(tmp_path / "code.pth")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "fasterrcnn_resnet50"}, "Unknown detector.*did you mean 'fasterrcnn_resnet50_fpn"),
        ({"label": 0}, "1..3"),
        ({"label": 4}, "1..3"),
        ({"label": "person"}, "classes of its own"),
        ({"num_classes": None, "label": "persn"}, "did you mean 'person'"),
        ({"num_classes": None, "label": "__background__"}, "knows no class"),
        ({"args": {"weights_backbone": None}}, "cannot be built"),
        ({"device": "abacus"}, "device 'abacus'"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_bad_options_are_refused(weights: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        make_detector("torchvision", **{"model": NAME, "weights": weights, "num_classes": 4, "label": 2, **options})


def test_classes_of_coco_have_names(tmp_path: Path) -> None:
    torch.save(build(91).state_dict(), tmp_path / "coco.pth")
    assert TorchvisionDetector(NAME, tmp_path / "coco.pth", label="person").label == 1
    assert TorchvisionDetector(NAME, tmp_path / "coco.pth", label="car").label == 3


def encoder() -> Encoder2D:
    torch.manual_seed(0)
    return Encoder2D(
        ["red", "green"], backbone="resnet18", backbone_args={"channels": [4, 8, 8, 8]}, output_stride=8, image_size=32
    ).eval()


def test_boxes_from_a_classifier(tmp_path: Path) -> None:
    module = encoder()
    maps, probabilities = module.look(FRAMES, [1], method="cam")
    found = CamDetector(module, label="green", threshold=0.0)(FRAMES, video="rex", indices=NUMBERS)
    assert sum(map(len, found)) > 0
    for one, score, shown in zip(found, probabilities[:, 1], maps[0], strict=True):
        np.testing.assert_allclose(one.scores, score)
        for x0, y0, x1, y1 in one.boxes.astype(int):
            assert shown[y0:y1, x0:x1].max() > 0.2 * shown.max()
    save_weights(module, tmp_path / "encoder.ckpt")
    again = make_detector("cam", encoder=tmp_path / "encoder.ckpt", label=1, threshold=0.0)
    for one, other in zip(again(FRAMES, video="rex", indices=NUMBERS), found, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes)
    sure = CamDetector(module, label="green", threshold=1.0)(FRAMES, video="rex", indices=NUMBERS)
    assert [len(one) for one in sure] == [0, 0, 0]
    with pytest.raises(DataError, match="did you mean 'green'"):
        CamDetector(module, label="gren")
    with pytest.raises(DataError, match=r"0\.\.1"):
        CamDetector(module, label=2)


def test_detectors_are_made_by_name(tmp_path: Path) -> None:
    made = make_detector("hog", threshold=0.25)
    assert isinstance(made, HogDetector) and made.threshold == 0.25
    (tmp_path / "boxes.csv").write_text("video,frame,x0,y0,x1,y1,score\nrex,1,2,3,9,9,1\n")
    found = make_detector("csv", path=tmp_path / "boxes.csv")(FRAMES, video="rex", indices=NUMBERS)
    assert [len(one) for one in found] == [0, 1, 0]
    with pytest.raises(DataError, match="did you mean 'hog'"):
        make_detector("hogg")
    with pytest.raises(DataError, match="did you mean 'threshold'"):
        make_detector("hog", treshold=1)
    with pytest.raises(DataError, match="needs path"):
        make_detector("csv")
