"""The whole recipe in seconds: settings of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from recipes.configuration import load_config
from tests.datamodules.fakes import write_mask_png, write_tags
from tests.toys import SPACE, make_toy

TINY = [
    *["logger=csv", "workers=1", "trainer.accelerator=cpu", "trainer.precision=32-true", "slic.n=20"],
    *["encoder2d.epochs=1", "encoder2d.batch_size=8"],
    *["encoder2d.model.backbone_args.channels=[4,8,8,8]", "encoder2d.model.image_size=32"],
    *["encoder3d.epochs=1", "encoder3d.batch_size=8"],
    *["encoder3d.model.width=0.0625", "encoder3d.model.clip_size=32", "encoder3d.model.clip_frames=4"],
    *["encoder3d.model.output_stride=16", "encoder3d.model.temporal_stride=2", "encoder3d.model.dropout=0.0"],
    *["selector.patch_size=32", "selector.discriminator.steps=2"],
    *["selector.discriminator.width=4", "selector.discriminator.batch_size=8"],
    *["segmenter.batch_size=4", "segmenter.crop=32"],
    *["segmenter.model.backbone_args.channels=[4,8,8,8]", "segmenter.model.rates=[1,2]"],
    *["segmenter.model.output_stride=8"],
    *["segmenter.model.optimizer=adamw", "segmenter.model.lr=2.0e-4", "segmenter.model.head_multiplier=1.0"],
    *["segmenter.model.freeze_bn=true", "segmenter.init=encoder2d", "segmenter.scales=[1.0,1.0]"],
    *["rounds.max_epochs=1", "rounds.max_versions=2", "rounds.min_delta=-10", "rounds.patience=9"],
    *["rounds.reinit=false", "rounds.decision=argmax"],
]
"""The learning rate is low so that masks do not become empty: a network that has learnt nothing says "object"."""

SYNTHETIC = [
    *["data.source.train_videos=16", "data.source.test_videos=4", "data.source.val_videos=4"],
    *["data.source.frames=4", "data.source.size=[32,48]", "data.source.annotated=2", "data.frames_per_video=2"],
]


def synthetic_arguments(folder: Path, *more: str) -> list[str]:
    """Command line for the embedded data: 16 videos of 4 frames of 32 x 48 pixels."""
    return [*TINY, *SYNTHETIC, f"root={folder}/runs", f"data.root={folder}/data", "name=tiny", *more]


def videos_arguments(data: Path, folder: Path, *more: str) -> list[str]:
    """Command line for a user's folder."""
    held = ["data.val_every=3", "data.frames_per_video=4"]
    return [*TINY, "data=videos", *held, f"root={folder}/runs", f"data.root={data}", "name=tiny", *more]


def tiny_config(arguments: Sequence[str]) -> DictConfig:
    return load_config("train", list(arguments))


def user_folder(root: Path, *, videos: int = 6, masks: bool) -> Path:
    """A user's folder: the toy's videos as folders of frames, their tags and, if asked, their masks."""
    toy = make_toy(root, videos=videos)
    for stray in ("pa", "cache"):
        (root / stray).rename(root.with_name(f"{root.name}-{stray}"))
    write_tags(root, [[record.name, record.tags[0].actor, ""] for record in toy.records])
    if masks:  # ids of the classes sorted by name: green, red
        for name, labels in toy.truth.items():
            for t, mask in enumerate(labels):
                swapped = mask.copy()
                swapped[mask > 0] = len(SPACE.tags) + 1 - mask[mask > 0]
                write_mask_png(root / "masks" / name / f"{t:05d}.png", swapped)
    return root
