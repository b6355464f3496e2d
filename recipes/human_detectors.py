"""The detector that the configuration names (Liang et al. 2017, Sec. 3.2 and 4.4)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from omegaconf import DictConfig

from datamodules.records import VideoRecord, VideoSource
from datamodules.transforms import fit_longest_side, resize
from datamodules.video import VideoReader
from modules.checkpoints import to_plain
from modules.detectors import make_detector
from modules.encoder2d import Encoder2D
from pseudolabel.boxes import largest_box
from pseudolabel.detect import CsvDetector, Detector
from pseudolabel.detect_boxes import Boxes, scale_of
from pseudolabel.motion import stream_motion
from pseudolabel.types import DataError, UInt8Array, nearest_name

_log = logging.getLogger(__name__)


class MotionDetector:
    """No detector at all: the box of what moves most, in every frame where something does (Sec. 4.4's third way).

    The paper finds boxes by image co-localisation (Tang et al. 2014) there; what moves in video is ours.

    Args:
        records: the videos by name.
        max_side: longer side of the frames in pixels; None = as decoded.
    """

    def __init__(self, records: Mapping[str, VideoRecord], *, max_side: int | None) -> None:
        self.records, self.max_side = records, max_side

    def __call__(self, frames: UInt8Array, *, video: str, indices: npt.NDArray[np.int64]) -> list[Boxes]:
        """Return at most one box per frame, of score 1."""
        record = self.records[video]
        if not record.tags:
            return [Boxes.none() for _ in frames]
        reader = VideoReader(record.path)
        size = fit_longest_side(reader.size, self.max_side)
        wanted = set(map(int, indices))
        found: dict[int, Boxes] = {}
        for number, segment in enumerate(stream_motion(resize(frame, size) for frame in reader)):
            if number in wanted:
                box = largest_box(segment.labels > 0)
                found[number] = Boxes.none() if np.isnan(box).any() else Boxes(box[None], np.ones(1, np.float32))
        return [found.get(int(index), Boxes.none()) for index in indices]


class TableDetector:
    """Boxes of a table in pixels of the video, brought to the size at which its frames are looked at.

    Args:
        detector: reads the table.
        source: knows the videos' sizes.

    Raises:
        DataError: the table names none of the videos.
    """

    def __init__(self, detector: CsvDetector, source: VideoSource) -> None:
        self.detector, self.source, self.path = detector, source, detector.path
        self.digest = hashlib.sha256(self.path.read_bytes()).hexdigest()  # a run tells by it that the table has changed
        self.records = {record.name: record for record in source.records}
        known = {*self.records, *(name for name, _ in source.skipped)}
        unknown = [name for name in detector.videos if name not in known]
        if unknown:
            told = f"{detector.path} names {len(unknown)} videos that the data does not have, the first '{unknown[0]}'"
            told += nearest_name(unknown[0], self.records) or "."
            if len(unknown) == len(detector.videos):
                raise DataError(f"{told} It names no other. Give the videos' names as in tags.csv.")
            _log.warning("%s Their boxes are not used.", told)

    def __call__(self, frames: UInt8Array, *, video: str, indices: npt.NDArray[np.int64]) -> list[Boxes]:
        """See :class:`pseudolabel.detect.Detector`."""
        height, width = self.source.video_size(self.records[video])
        whole = np.broadcast_to(np.uint8(0), (len(frames), height, width, 3))  # the table needs its size alone
        scale = scale_of((height, width), (frames.shape[1], frames.shape[2]))
        return [
            Boxes(boxes.boxes * scale, boxes.scores) for boxes in self.detector(whole, video=video, indices=indices)
        ]


def detector_of(
    cfg: DictConfig,
    source: VideoSource,
    encoder: Callable[[], Encoder2D],
    device: torch.device,
    *,
    trained: Path | None = None,
) -> Detector:
    """Return the detector of ``cfg.detector`` for ``cfg.target``.

    Args:
        cfg: the configuration.
        source: the videos.
        encoder: loads the classifier of tags, for ``cam``.
        device: where networks run.
        trained: checkpoint of the detector that the run has trained, for ``trained``.

    Raises:
        DataError: a file of the detector cannot be read, or the detector does not know the class.
    """
    chosen = cfg.detector
    if chosen.name == "motion":
        return MotionDetector({record.name: record for record in source.records}, max_side=cfg.data.max_side)
    options: dict[str, Any] = {"most": chosen.most}
    if chosen.threshold is not None:
        options["threshold"] = chosen.threshold
    if chosen.name == "csv":
        table = CsvDetector(chosen.path, missing="empty", **options)
        _check_scores(cfg, table)
        return TableDetector(table, source)
    if chosen.name == "torchvision":
        label = cfg.target if chosen.label is None else chosen.label
        options |= {"model": chosen.model, "weights": chosen.path, "label": label, "device": str(device)}
    elif chosen.name == "trained":
        options |= {"detector": trained, "device": str(device)}
    elif chosen.name == "cam":
        options |= {"encoder": encoder(), "label": cfg.target, "share": chosen.share}
        options |= {"scales": tuple(to_plain(chosen.scales)), "flip": chosen.flip}
    return make_detector(chosen.name, **options)


def _check_scores(cfg: DictConfig, table: CsvDetector) -> None:
    """Refuse scores that are no probabilities before hours of work, where they must be some."""
    wrong = table.scores[(table.scores < 0) | (table.scores > 1)]
    if cfg.energy.quality != "probability" and not cfg.detector.margins and len(wrong):
        raise DataError(
            f"{table.path}: energy.quality={cfg.energy.quality} needs probabilities, got {len(wrong)} scores outside "
            f"of [0, 1], the first {wrong[0]:.4g}. If they are margins give detector.margins=true, else rescale them, "
            "or take energy.quality=probability."
        )
