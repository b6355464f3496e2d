"""A problem that is learnt in seconds: bright squares on a dark noisy ground, whose colour is their class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from datamodules.frame_cache import FrameCache
from datamodules.records import VideoRecord
from modules.segmenter import Segmenter
from pseudolabel.store import PAStore
from pseudolabel.types import Annotation, Clip, LabelSpace, Tag, UInt8Array
from tests.datamodules.fakes import write_frames

COLOURS = {"red": (220, 40, 40), "green": (40, 220, 40)}
SPACE = LabelSpace((Tag("red"), Tag("green")))
TINY_SEGMENTER: dict[str, Any] = {
    "backbone": "resnet18",
    "backbone_args": {"channels": [4, 8, 8, 8]},
    "rates": [1, 2],
    "optimizer": "adamw",
    "lr": 1e-2,
    "weight_decay": 0.0,
    "head_multiplier": 1.0,
}


def draw_video(
    number: int, colour: str, *, frames: int = 4, size: tuple[int, int] = (32, 48)
) -> tuple[UInt8Array, UInt8Array]:
    """Return frames uint8 (T, H, W, 3) and the square's mask uint8 (T, H, W) in {0, 1}; it moves right."""
    rng = np.random.default_rng(number)
    side, top = 12, int(rng.integers(size[0] - 12))
    images = rng.integers(0, 60, (frames, *size, 3)).astype(np.uint8)
    masks = np.zeros((frames, *size), np.uint8)
    for t in range(frames):
        left = int(rng.integers(4)) + 8 * t % (size[1] - side - 4)
        images[t, top : top + side, left : left + side] = COLOURS[colour]
        masks[t, top : top + side, left : left + side] = 1
    return images, masks


@dataclass
class Toy:
    """The toy on disk: videos as folders of frames, their true masks, and PA.v0 = the truth with a bitten corner."""

    root: Path
    records: list[VideoRecord]
    cache: FrameCache
    truth: dict[str, UInt8Array]
    store: PAStore

    @property
    def by_name(self) -> dict[str, VideoRecord]:
        return {record.name: record for record in self.records}

    def clip(self, name: str) -> Clip:
        record = self.by_name[name]
        return Clip(np.array(self.cache.frames(record)), self.cache.indices(record), name, 25.0, record.tags)

    def rows(self, version: int, names: Sequence[str]) -> list[Any]:
        return [row for row in self.store.index(version) if row.video in names]


def open_toy(root: Path, *, videos: int = 6, frames: int = 4, size: tuple[int, int] = (32, 48)) -> Toy:
    """Open a toy that is there."""
    records, truth = [], {}
    for number in range(videos):
        colour = list(COLOURS)[number % 2]
        tag, name = Tag(colour), f"{colour}{number}"
        records.append(VideoRecord(name, root / name, (tag,), "train", tuple(range(frames))))
        truth[name] = draw_video(number, colour, frames=frames, size=size)[1] * np.uint8(SPACE.index(tag))
    return Toy(root, records, FrameCache(root / "cache", frames_per_video=None), truth, PAStore(root / "pa"))


def make_toy(root: Path, *, videos: int = 6, frames: int = 4, size: tuple[int, int] = (32, 48)) -> Toy:
    """Write the toy below ``root``."""
    toy = open_toy(root, videos=videos, frames=frames, size=size)
    for number, record in enumerate(toy.records):
        write_frames(record.path, draw_video(number, record.tags[0].actor, frames=frames, size=size)[0])
    toy.store.begin(0)
    for name, masks in toy.truth.items():
        bitten = masks.copy()
        bitten[:, :8] = 0
        toy.store.write(0, toy.clip(name), Annotation(bitten, np.ones(frames, np.float32)))
    toy.store.publish(0)
    return toy


def tiny_segmenter(**changes: Any) -> Segmenter:
    """A segmenter of the toy's classes whose batch norms learn (they start at random)."""
    return Segmenter(SPACE.to_dict(), **{**TINY_SEGMENTER, "freeze_bn": False, **changes})


def quiet_trainer(**options: Any) -> pl.Trainer:
    """A trainer on one CPU that writes nothing."""
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "reload_dataloaders_every_n_epochs": 1,
    }
    return pl.Trainer(**{**defaults, **options})
