"""The whole recipe `webly` in seconds, on the moving squares of `tests.recipes.moving`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from PIL import Image

from datamodules.video import VideoWriter
from recipes.configuration import load_config
from tests.datamodules.fakes import write_table
from tests.recipes.moving import COLOURS, draw_shot

WEBLY = [
    *["recipe=webly", "logger=csv", "workers=1", "trainer.accelerator=cpu", "trainer.precision=32-true", "name=tiny"],
    *["images=folder", "data.frames_per_video=6", "data.val_every=3"],
    *["encoder2d.epochs=40", "encoder2d.batch_size=4", "encoder2d.model.backbone=resnet18"],
    *["encoder2d.model.backbone_args={channels:[8,8,16,16]}", "encoder2d.model.output_stride=8"],
    *["encoder2d.model.image_size=48", "encoder2d.model.extra_conv=16", "encoder2d.model.lr=1.0e-2"],
    *["attention.scales=[1.0,1.5]", "relevance.threshold=0.3", "graph.num_superpixels=60", "graph.seeds=both"],
    *["decoder.steps=6", "decoder.end_to_end_steps=2", "decoder.batch_size=4", "decoder.crop=48"],
    *["decoder.model.width=0.05", "adapt.steps=2"],
]
"""Settings of the command line."""


def webly_config(data: Path, stills: Path, folder: Path, more: Sequence[str] = ()) -> DictConfig:
    given = ["data=videos", f"data.root={data}"]
    return load_config("train", [*WEBLY, *given, f"images.root={stills}", f"root={folder}/runs", *more])


def catalogue_folder(root: Path, *, videos: int = 4, frames: int = 24) -> Path:
    """A catalogue of mp4 files in which a square moves, found by its colour; the last has no thumbnail."""
    rows = [["id", "title", "keywords", "video", "thumbnail"]]
    root.mkdir(parents=True)
    for number in range(videos):
        name = sorted(COLOURS)[number % 2]
        shot, _ = draw_shot(name, frames=frames, seed=40 + number)
        with VideoWriter(root / f"clip{number}.mp4", fps=8.0, size=(48, 64)) as writer:
            for frame in shot:
                writer.write(frame)
        if number < videos - 1:
            Image.fromarray(shot[frames // 2]).save(root / f"clip{number}.jpg", quality=95)
        rows.append([f"clip{number}", f"a {name}, moving / turning", name, f"clip{number}.mp4", f"clip{number}.jpg"])
    write_table(root / "catalogue.csv", rows)
    return root
