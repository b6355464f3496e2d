"""Detectors that need a network: torchvision's from a local file, one of our own, or a classifier's attention."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torchvision

from modules.box_detector import BoxDetector
from modules.encoder2d import Encoder2D
from modules.nets.backbones import load_weights
from pseudolabel.detect import (
    PROBABILITY_THRESHOLD,
    CsvDetector,
    Detector,
    HogDetector,
    boxes_from_attention,
    check_frames,
)
from pseudolabel.detect_boxes import MOST_BOXES, Boxes, clean_video_boxes
from pseudolabel.types import DataError, UInt8Array, nearest_name


class TorchvisionDetector:
    """Any detector of torchvision with weights from a local file; nothing is ever downloaded.

    Args:
        model: torchvision's name, e.g. ``"fasterrcnn_resnet50_fpn"``.
        weights: local state dict (``.pth``, ``.pt``, ``.safetensors``); names and shapes must match.
        label: the class: its number, or its COCO name, e.g. ``"person"``.
        threshold: boxes of a higher probability are kept. The model drops those below its own threshold (about 0.05;
            FCOS 0.2) before.
        num_classes: outputs of the model, background included; None = those of torchvision's own weights.
        args: further plain arguments of the model, e.g. ``{"min_size": 480}``.
        device: ``"cpu"`` or ``"cuda"``.
        batch_size: frames at a time, >= 1.
        most: boxes kept per frame, >= 1.

    Raises:
        DataError: an unknown model, argument, label or device, or weights that do not fit.
    """

    def __init__(
        self,
        model: str,
        weights: str | Path,
        *,
        label: int | str = "person",
        threshold: float = PROBABILITY_THRESHOLD,
        num_classes: int | None = None,
        args: Mapping[str, Any] | None = None,
        device: str = "cpu",
        batch_size: int = 4,
        most: int = MOST_BOXES,
    ) -> None:
        names = torchvision.models.list_models(module=torchvision.models.detection)
        if model not in names:
            raise DataError(
                f"Unknown detector '{model}'{nearest_name(model, names) or '.'} Expected a torchvision detection "
                f"model: {', '.join(names)}."
            )
        categories = torchvision.models.get_model_weights(model).DEFAULT.meta["categories"]
        classes = len(categories) if num_classes is None else num_classes
        self.label = _class_number(label, categories if classes == len(categories) else None, classes, model)
        self.threshold, self.batch_size, self.most = threshold, batch_size, most
        if batch_size < 1:
            raise DataError(f"Detector '{model}': batch_size must be >= 1, got {batch_size}.")
        try:
            network = torchvision.models.get_model(
                model, weights=None, weights_backbone=None, num_classes=classes, **dict(args or {})
            )
        except (TypeError, ValueError, AssertionError) as error:
            raise DataError(
                f"Detector '{model}' cannot be built with {classes} classes and args={dict(args or {})} ({error}). Use "
                "the arguments that torchvision lists for it."
            ) from error
        load_weights(network, weights)
        try:
            self.device = torch.device(device)
            self.network = network.to(self.device).eval()
        except (RuntimeError, AssertionError) as error:
            raise DataError(
                f"Detector '{model}': device '{device}' cannot be used ({str(error).splitlines()[0]}). Expected 'cpu', "
                "or 'cuda' on a machine that has it."
            ) from error

    def __call__(self, frames: UInt8Array, *, video: str, indices: npt.NDArray[np.int64]) -> list[Boxes]:
        """See :class:`pseudolabel.detect.Detector`."""
        size = check_frames(frames, indices, video)
        found: list[Boxes] = []
        for start in range(0, len(frames), self.batch_size):
            found += self._detect(frames[start : start + self.batch_size])
        return clean_video_boxes(found, size, video=video, threshold=self.threshold, most=self.most)

    @torch.no_grad()
    def _detect(self, frames: UInt8Array) -> list[Boxes]:
        images = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device)
        answers = self.network(list(images.permute(0, 3, 1, 2).float() / 255))  # (T, H, W, 3) -> T of (3, H, W)
        found = []
        for answer in answers:
            chosen = answer["labels"] == self.label
            boxes, scores = answer["boxes"][chosen].float(), answer["scores"][chosen].float()
            found.append(Boxes(boxes.cpu().numpy(), scores.cpu().numpy()))
        return found


def _class_number(label: int | str, categories: list[str] | None, classes: int, model: str) -> int:
    """Return the output that stands for ``label``, 1..classes - 1 (0 is background)."""
    if isinstance(label, str) and not label.isdecimal():
        if categories is None:
            raise DataError(
                f"Detector '{model}' has {classes} classes of its own, so '{label}' has no number. Give label=1.."
                f"{classes - 1}."
            )
        if label not in categories[1:]:
            known = sorted(set(categories[1:]) - {"N/A"})
            raise DataError(
                f"Detector '{model}' knows no class '{label}'{nearest_name(label, known) or '.'} Known: "
                f"{', '.join(known)}."
            )
        return categories.index(label)
    if not 0 < int(label) < classes:
        raise DataError(f"Detector '{model}': label must be in 1..{classes - 1} (0 is background), got {label}.")
    return int(label)


class CamDetector:
    """Boxes around what a classifier of tags attends to: a detector of any class, without a single box to learn from.

    Args:
        encoder: the classifier, or its checkpoint.
        label: the class, by name or by index among the encoder's classes.
        threshold: frames of a higher class probability get boxes.
        method: ``"cam"`` or ``"gradcam"``.
        scales: the frame is resized by each factor.
        flip: the mirrored frame is looked at as well.
        share: of the map's maximum that belongs to an object, in [0, 1).
        least_area: of a box's component, as share of the frame in [0, 1].
        device: where the encoder runs; None = where it is.
        batch_size: frames at a time, >= 1.
        most: boxes kept per frame, >= 1.

    Raises:
        DataError: the class is unknown, the checkpoint cannot be read.
    """

    def __init__(
        self,
        encoder: Encoder2D | str | Path,
        *,
        label: int | str,
        threshold: float = PROBABILITY_THRESHOLD,
        method: str = "cam",
        scales: tuple[float, ...] = (1.0,),
        flip: bool = False,
        share: float = 0.2,
        least_area: float = 0.005,
        device: str | None = None,
        batch_size: int = 16,
        most: int = MOST_BOXES,
    ) -> None:
        loaded = encoder if isinstance(encoder, Encoder2D) else Encoder2D.load(encoder)
        self.encoder = loaded if device is None else loaded.to(device)
        names = list(loaded.classes)
        if isinstance(label, str) and label not in names:
            raise DataError(
                f"The classifier knows no class '{label}'{nearest_name(label, names) or '.'} Known: {', '.join(names)}."
            )
        self.label = names.index(label) if isinstance(label, str) else label
        if not 0 <= self.label < len(names):
            raise DataError(f"The classifier has classes 0..{len(names) - 1}, got label {label}.")
        self.threshold, self.method, self.scales, self.flip = threshold, method, tuple(scales), flip
        self.share, self.least_area, self.batch_size, self.most = share, least_area, batch_size, most

    def __call__(self, frames: UInt8Array, *, video: str, indices: npt.NDArray[np.int64]) -> list[Boxes]:
        """See :class:`pseudolabel.detect.Detector`."""
        check_frames(frames, indices, video)
        maps, probabilities = self.encoder.look(
            frames, [self.label], scales=self.scales, flip=self.flip, method=self.method, batch_size=self.batch_size
        )
        return boxes_from_attention(
            maps[0],
            probabilities[:, self.label],
            threshold=self.threshold,
            share=self.share,
            least_area=self.least_area,
            most=self.most,
            video=video,
        )


class TrainedDetector:
    """A :class:`BoxDetector` as a detector of videos.

    Args:
        detector: the network, or its checkpoint.
        threshold: boxes of a higher probability are kept; those up to 0.05 are never seen.
        device: where it runs; None = where it is.
        batch_size: frames at a time, >= 1.
        most: boxes kept per frame, >= 1.

    Raises:
        DataError: the checkpoint cannot be read, or ``batch_size`` is below 1.
    """

    def __init__(
        self,
        detector: BoxDetector | str | Path,
        *,
        threshold: float = PROBABILITY_THRESHOLD,
        device: str | None = None,
        batch_size: int = 8,
        most: int = MOST_BOXES,
    ) -> None:
        if batch_size < 1:
            raise DataError(f"Trained detector: batch_size must be >= 1, got {batch_size}.")
        loaded = detector if isinstance(detector, BoxDetector) else BoxDetector.load(detector)
        self.detector = loaded if device is None else loaded.to(device)
        self.threshold, self.batch_size, self.most = threshold, batch_size, most

    def __call__(self, frames: UInt8Array, *, video: str, indices: npt.NDArray[np.int64]) -> list[Boxes]:
        """See :class:`pseudolabel.detect.Detector`."""
        size = check_frames(frames, indices, video)
        found: list[Boxes] = []
        for start in range(0, len(frames), self.batch_size):
            found += self.detector.detect(frames[start : start + self.batch_size])
        return clean_video_boxes(found, size, video=video, threshold=self.threshold, most=self.most)


DETECTORS: dict[str, Callable[..., Detector]] = {
    "hog": HogDetector,
    "csv": CsvDetector,
    "torchvision": TorchvisionDetector,
    "trained": TrainedDetector,
    "cam": CamDetector,
}
"""Detectors by their name in a configuration."""


def make_detector(name: str, **options: Any) -> Detector:
    """Build a detector by its name, one of :data:`DETECTORS`; options are its arguments.

    Raises:
        DataError: the name or an option is unknown, one is missing, or the detector refuses a value.
    """
    if name not in DETECTORS:
        raise DataError(
            f"Unknown detector '{name}'{nearest_name(name, DETECTORS) or '.'} Expected one of {', '.join(DETECTORS)}."
        )
    build = DETECTORS[name]
    signature = inspect.signature(build)
    known = list(signature.parameters)
    for option in options:
        if option not in known:
            raise DataError(
                f"Detector '{name}' has no option '{option}'{nearest_name(option, known) or '.'} Known: "
                f"{', '.join(known)}."
            )
    missing = [key for key, item in signature.parameters.items() if item.default is item.empty and key not in options]
    if missing:
        raise DataError(f"Detector '{name}' needs {' and '.join(missing)}. Set it in the configuration.")
    return build(**options)
