"""What every recipe works on: the videos of the configuration, decoded, with their labels' space and splits."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from datamodules.a2d import A2DSource
from datamodules.datasets import PseudoFrames, PseudoVideos
from datamodules.frame_cache import FrameCache
from datamodules.records import VideoRecord, VideoSource
from datamodules.synthetic import SyntheticSource
from datamodules.transforms import resize
from datamodules.videos import VideosSource
from modules.distributed import barrier, rank
from pseudolabel.store import Index, PARow, PAStore
from pseudolabel.types import VOID, Clip, DataError, FloatArray, LabelSpace

SOURCES: dict[str, type[VideoSource]] = {"a2d": A2DSource, "synthetic": SyntheticSource, "videos": VideosSource}


class Workspace:
    """Records by split, the frame cache, and the rules of which frames validate.

    Validation videos serve the criterion where the data has them. A small set of a user's own videos has none: then
    every ``data.val_every``-th sampled frame of the training videos is held back from training instead.

    Args:
        cfg: the whole configuration.
        run_dir: the run folder (``skipped.csv`` goes there).
        source: the data set, if it is open already; None = the one that the configuration names.
        frames: the frames that stand for some videos, by name, in place of uniform samples.
        least_classes: fewer classes in the training videos are an error.

    Raises:
        DataError: nothing usable, or fewer than two classes.
    """

    sampled = "sampled frames of a training video"
    cure = "Use another data.val_every (at least 2) or a larger data.frames_per_video"

    def __init__(
        self,
        cfg: DictConfig,
        run_dir: Path,
        source: VideoSource | None = None,
        *,
        frames: Mapping[str, Sequence[int]] | None = None,
        least_classes: int = 2,
    ) -> None:
        self.cfg = cfg
        self.source = open_source(cfg.data) if source is None else source
        self.space = self.source.label_space
        self.cache = FrameCache(
            cfg.data.cache_dir or run_dir / "cache",
            frames_per_video=cfg.data.frames_per_video,
            max_side=cfg.data.max_side,
            chosen=frames,
        )
        self._skipped_file = run_dir / "skipped.csv"
        if rank() == 0:
            failed = self.cache.prepare(self.source.records, workers=cfg.workers)
            skipped = sorted({*self.source.skipped, *failed})
            _write_skipped(self._skipped_file, skipped)
        barrier()
        self._bad_masks: set[tuple[str, int]] = set()
        broken = {name for name, _ in _read_skipped(self._skipped_file)}
        records = [record for record in self.source.records if record.name not in broken]
        self.train = [record for record in records if record.split == "train"]
        self.val = [record for record in records if record.split == "val"]
        self.test = [record for record in records if record.split == "test"]
        if not self.train:
            raise DataError(f"No training video is usable; {len(broken)} were skipped, see {self._skipped_file}.")
        self.by_name = {record.name: record for record in self.train + self.val}
        self._val_names = {record.name for record in self.val}
        if not self.val and cfg.data.val_every < 2:
            raise DataError(f"data.val_every={cfg.data.val_every}: expected 2 or more; one of so many validates.")
        for purpose, validation in (("training", False), ("validation", True)):
            if not any(self.positions(record, validation=validation) for record in self.by_name.values()):
                raise DataError(
                    f"No frame is left for {purpose}: without validation videos, one of every data.val_every="
                    f"{cfg.data.val_every} {self.sampled} validates and the others train. {self.cure}."
                )
        shown = sorted({tag.actor for record in self.train for tag in record.tags})
        if len(shown) < least_classes:
            raise DataError(
                f"The training videos show {'a single class' if shown else 'no class'} ({', '.join(shown) or '-'}); "
                f"class activation needs a contrast of at least {least_classes}. "
                "Add videos of another class to tags.csv."
            )

    @property
    def annotated(self) -> list[str]:
        """Names of the videos that get pseudo-annotations."""
        return sorted(self.by_name)

    def clip(self, name: str) -> Clip:
        """Return a training or validation video's sampled frames as a clip."""
        record = self.by_name[name]
        return Clip(
            np.array(self.cache.frames(record)),  # a copy: torch warns of the cache's read-only arrays
            self.cache.indices(record),
            name,
            self.cache.fps(record),
            record.tags,
        )

    def positions(self, record: VideoRecord, *, validation: bool) -> list[int]:
        """Positions of a record's cached frames that belong to training or to validation."""
        count = len(self.cache.indices(record))
        if self._val_names:
            return list(range(count)) if (record.name in self._val_names) == validation else []
        every = self.cfg.data.val_every
        held = {p for p in range(count) if p % every == every // 2} if count >= every else set()
        return [p for p in range(count) if (p in held) == validation]

    def split_index(self, index: Index, *, validation: bool) -> Index:
        """Rows of an index that belong to training or to validation."""
        chosen = {}
        for name in {row.video for row in index} & self.by_name.keys():
            record = self.by_name[name]
            frames = self.cache.indices(record)
            chosen[name] = {int(frames[p]) for p in self.positions(record, validation=validation)}
        return [row for row in index if row.frame in chosen.get(row.video, ())]

    def truth(self, record: VideoRecord, frame: int, size: tuple[int, int]) -> Any:
        """Return the true mask (H, W) resized to ``size``, or None. Scoring only.

        A mask that cannot be used is listed in ``skipped.csv``, once, and passed over.
        """
        try:
            mask = self.source.mask(record, frame)
        except DataError as error:
            if (record.name, frame) not in self._bad_masks and rank() == 0:
                _list_skipped(self._skipped_file, f"{record.name}/{frame:05d}", str(error))
            self._bad_masks.add((record.name, frame))
            return None
        return None if mask is None else resize(mask, size, nearest=True)

    def list_skipped(self, name: str, reason: str) -> None:
        """Add something that cannot be used to ``skipped.csv``, once."""
        if (name, reason) not in _read_skipped(self._skipped_file):
            _list_skipped(self._skipped_file, name, reason)

    def tag_labels(self, records: Sequence[VideoRecord], classes: Sequence[str], *, of: str) -> FloatArray:
        """float32 (len(records), len(classes)): the ``actor`` or ``action`` tags of each video."""
        table = np.zeros((len(records), len(classes)), np.float32)
        for row, record in zip(table, records, strict=True):
            for tag in record.tags:
                name = getattr(tag, of)
                if name in classes:
                    row[classes.index(name)] = 1
        return table

    def single_tag_records(self, records: Sequence[VideoRecord], *, of: str) -> list[VideoRecord]:
        """Records with exactly one actor (or one action)."""
        return [record for record in records if len({getattr(tag, of) for tag in record.tags}) == 1]

    def pseudo_frames(
        self, store: PAStore, version: int, options: DictConfig, *, seed: int, epoch: int, void_as: int = VOID
    ) -> PseudoFrames:
        """Return the training crops of a version; its void teaches ``void_as`` (255: nothing)."""
        rows = self.split_index(store.index(version), validation=False)
        return PseudoFrames(
            self.cache,
            self.by_name,
            store,
            version,
            rows,
            crop=options.crop,
            scales=tuple(options.scales),
            jitter=options.jitter,
            seed=seed,
            epoch=epoch,
            void_as=void_as,
        )

    def pseudo_videos(self, store: PAStore, version: int, slic: DictConfig) -> PseudoVideos:
        """Return the validation videos with a version's labels."""
        rows: list[PARow] = self.split_index(store.index(version), validation=True)
        return PseudoVideos(
            self.cache,
            self.by_name,
            store,
            version,
            rows,
            superpixels=slic.n,
            compactness=slic.compactness,
        )


def open_source(data: DictConfig, *, label_space: LabelSpace | None = None) -> VideoSource:
    """Open the data set that the configuration names, or the part of a user's own videos that shows ``label_space``."""
    options: Any = OmegaConf.to_container(data.source, resolve=True)
    if label_space is not None:
        if data.name != "videos":
            raise DataError(f"data={data.name} has classes of its own. Use data=videos.")
        options["label_space"] = label_space
    return SOURCES[data.name](**options)


def _write_skipped(path: Path, skipped: Sequence[tuple[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "reason"])
        writer.writerows(skipped)
    for name, reason in skipped:
        print(f"skipped: {name}: {reason}")


def _list_skipped(path: Path, name: str, reason: str) -> None:
    with path.open("a", newline="") as file:
        csv.writer(file).writerow([name, reason])
    print(f"skipped: {name}: {reason}")


def _read_skipped(path: Path) -> list[tuple[str, str]]:
    with path.open(newline="") as file:
        return [(row["video"], row["reason"]) for row in csv.DictReader(file)]
