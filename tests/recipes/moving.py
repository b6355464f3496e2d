"""A user's folder in which coloured squares move over still scenery, and tagged still images of such squares."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from pseudolabel.types import UInt8Array
from recipes.configuration import load_config
from tests.datamodules.fakes import write_frames, write_mask_png, write_table, write_tags

COLOURS = {"green": (30, 200, 40), "red": (210, 30, 30)}
SIZE = (48, 64)
SIDE = 16

MCNN = [
    *["recipe=mcnn", "data=videos", "logger=csv", "workers=1", "trainer.accelerator=cpu", "trainer.precision=32-true"],
    *["data.val_every=3", "data.frames_per_video=6", "images=none", "name=tiny"],
    *["motion.preset=robust", "motion.num_superpixels=120", "shots.least_frames=6", "shots.count=4"],
    *["segmenter.crop=32", "segmenter.model.backbone=resnet18", "segmenter.model.backbone_args.channels=[8,8,16,16]"],
    *["segmenter.model.head_channels=8", "segmenter.model.optimizer=adamw", "segmenter.model.head_multiplier=1.0"],
    *["segmenter.model.freeze_bn=false", "labels.workers=0", "labels.lag=1"],
    *["stage_a.steps=12", "stage_a.lr=3.0e-3", "with_images.steps=4", "finetune.steps=4", "finetune.least_overlap=0.0"],
]
"""The whole recipe in seconds: settings of the command line."""


def _scenery(rng: np.random.Generator, size: tuple[int, int]) -> UInt8Array:
    """Blocks of a random hue: two scenes differ enough in colour for a cut between them to be found."""
    hue = rng.integers(20, 160, 3)
    coarse = rng.integers(0, 90, (size[0] // 4, size[1] // 4, 1))
    return (coarse.repeat(4, axis=0).repeat(4, axis=1) + hue).astype(np.uint8)


def _paint(frame: UInt8Array, name: str, top: int, left: int, rng: np.random.Generator) -> None:
    grain = rng.integers(-25, 25, (SIDE, SIDE, 1))
    frame[top : top + SIDE, left : left + SIDE] = np.clip(np.array(COLOURS[name]) + grain, 0, 255).astype(np.uint8)


def draw_shot(name: str, *, frames: int, seed: int, size: tuple[int, int] = SIZE) -> tuple[UInt8Array, UInt8Array]:
    """A textured square goes from left to right: frames uint8 (T, H, W, 3) and masks uint8 (T, H, W), 1 = square."""
    rng = np.random.default_rng(seed)
    still = _scenery(rng, size)
    top = int(rng.integers(4, size[0] - SIDE - 4))
    video, masks = [], np.zeros((frames, *size), np.uint8)
    for t in range(frames):
        left = 4 + round(t * (size[1] - SIDE - 8) / max(1, frames - 1))
        frame = still.copy()
        _paint(frame, name, top, left, np.random.default_rng(seed))
        masks[t, top : top + SIDE, left : left + SIDE] = 1
        video.append(frame)
    return np.stack(video), masks


def moving_folder(root: Path, *, videos: int = 4, frames: int = 8, masks: bool = True) -> Path:
    """Videos of two shots each, with masks of the classes sorted by name (green, red)."""
    rows = []
    for number in range(videos):
        name = sorted(COLOURS)[number % 2]
        shots = [draw_shot(name, frames=frames, seed=10 * number + part) for part in range(2)]
        write_frames(root / f"video{number}", np.concatenate([shot[0] for shot in shots]))
        rows.append([f"video{number}", name, ""])
        if masks:
            for t, mask in enumerate(np.concatenate([shot[1] for shot in shots])):
                write_mask_png(root / f"masks/video{number}/{t:05d}.png", mask * np.uint8(1 + number % 2))
    write_tags(root, rows)
    return root


def stills_folder(root: Path, *, train: int = 4, val: int = 2) -> Path:
    """Images of squares in MSRC's layout: classes.txt, labels.csv, images/ and masks/."""
    rows = [["image", "split", "classes"]]
    (root / "images").mkdir(parents=True)
    for number in range(train + val):
        rng = np.random.default_rng(100 + number)
        name = sorted(COLOURS)[number % 2]
        image, mask = _scenery(rng, SIZE), np.zeros(SIZE, np.uint8)
        top, left = int(rng.integers(0, SIZE[0] - SIDE)), int(rng.integers(0, SIZE[1] - SIDE))
        _paint(image, name, top, left, rng)
        mask[top : top + SIDE, left : left + SIDE] = 1 + number % 2
        write_frames(root / "images", image[None], pattern=f"still{number}.png")
        write_mask_png(root / f"masks/still{number}.png", mask)
        rows.append([f"still{number}", "train" if number < train else "val", name])
    write_table(root / "labels.csv", rows)
    (root / "classes.txt").write_text("background\ngreen\nred\n")
    return root


def mcnn_config(data: Path, folder: Path, more: Sequence[str] = ()) -> DictConfig:
    return load_config("train", [*MCNN, f"data.root={data}", f"root={folder}/runs", *more])
