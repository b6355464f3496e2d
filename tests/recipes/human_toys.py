"""The whole recipe `human` in seconds, on the moving squares of `tests.recipes.moving`, with boxes from a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig
from PIL import Image

from recipes.configuration import load_config
from tests.datamodules.fakes import write_table

HUMAN = [
    *["recipe=human", "data=videos", "logger=csv", "workers=1", "trainer.accelerator=cpu", "trainer.precision=32-true"],
    *["name=tiny", "images=none", "target=red", "data.frames_per_video=4", "data.val_every=3", "negative_frames=3"],
    *["supervoxels.level=2", "supervoxels.min_size=60", "key_frames.changes=1", "key_frames.most=4"],
    *["proposals.number=200", "proposals.superpixels=60", "proposals.regions=30", "bow.words=4", "slic.n=20"],
    *["detector.name=csv", "detector.threshold=0.3", "energy.pairwise=0.05", "energy.fill=0.5"],
    *["segmenter.init=null", "segmenter.batch_size=4", "segmenter.crop=32", "segmenter.model.backbone=resnet18"],
    *["segmenter.model.backbone_args={channels:[16,16,32,32]}", "segmenter.model.head=aspp"],
    *["segmenter.model.optimizer=adamw", "segmenter.model.lr=1.0e-2", "segmenter.model.head_multiplier=1.0"],
    *["segmenter.model.freeze_bn=false", "rounds.max_epochs=30", "rounds.max_versions=2"],
    *[
        "crf.iterations=2",
        "crf.bilateral_weight=0.5",
        "crf.bilateral_xy=5.0",
        "crf.smooth_weight=0.5",
        "crf.smooth_xy=1.0",
    ],
]
"""Settings of the command line."""


def boxes_table(data: Path, *, colour: int = 2) -> Path:
    """Write the tight boxes of the squares whose masks hold ``colour``, all but every fifth, as a detector's table."""
    rows: list[list[object]] = [["video", "frame", "x0", "y0", "x1", "y1", "score"]]
    for folder in sorted((data / "masks").iterdir()):
        for number, file in enumerate(sorted(folder.glob("*.png"))):
            ys, xs = np.nonzero(np.asarray(Image.open(file)) == colour)
            if len(ys) and number % 5:
                rows.append([folder.name, int(file.stem), xs.min(), ys.min(), xs.max() + 1, ys.max() + 1, 0.9])
    return write_table(data / "boxes.csv", rows) or data / "boxes.csv"


def human_config(data: Path, folder: Path, more: Sequence[str] = ()) -> DictConfig:
    given = [f"data.root={data}", f"root={folder}/runs", f"detector.path={data}/boxes.csv"]
    return load_config("train", [*HUMAN, *given, *more])
