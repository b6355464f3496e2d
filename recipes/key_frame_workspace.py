"""The videos of recipe human, their key frames in place of uniform samples (Liang et al. 2017, Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig

from datamodules.key_frame_store import KeyFrameStore
from datamodules.records import VideoRecord
from datamodules.target import TargetSource, tagged
from datamodules.video import VideoReader
from pseudolabel.sampling import sample_uniformly
from pseudolabel.types import DataError
from recipes.workspace import Workspace


class KeyFrameWorkspace(Workspace):
    """A workspace in which only frames of videos that carry the tag validate.

    Videos of split ``val`` validate if one of them carries the tag. Else every ``data.val_every``-th key frame does,
    counted over all videos that carry it: a video may have a single one. Of fewer than that, at least one does.
    """

    sampled = "key frames of the videos with the tag"
    cure = "Lower key_frames.changes, which makes more of them (under another name=), or tag more videos"

    @cached_property
    def _first(self) -> dict[str, int]:
        """Number of the first key frame of every video, counted over those that carry the tag."""
        first, count = {}, 0
        for name in sorted(record.name for record in tagged(list(self.by_name.values()))):
            first[name] = count
            count += len(self.cache.indices(self.by_name[name]))
        return first

    @cached_property
    def _total(self) -> int:
        return sum(len(self.cache.indices(self.by_name[name])) for name in self._first)

    @cached_property
    def _validates(self) -> set[str]:
        return {record.name for record in self.val} if tagged(self.val) else set()

    def positions(self, record: VideoRecord, *, validation: bool) -> list[int]:
        """Positions of a record's cached frames that belong to training or to validation."""
        count = len(self.cache.indices(record))
        if self._validates:
            return list(range(count)) if (record.name in self._validates) == validation else []
        if record.name not in self._first:
            return [] if validation else list(range(count))
        every, first = max(2, min(self.cfg.data.val_every, self._total)), self._first[record.name]
        return [p for p in range(count) if ((first + p) % every == every // 2) == validation]


def open_key_frames(
    cfg: DictConfig, folder: Path, source: TargetSource, key_frames: KeyFrameStore, lost: Sequence[tuple[str, str]]
) -> KeyFrameWorkspace:
    """Open the videos with their key frames; a few frames stand for each video without the tag.

    Args:
        cfg: the whole configuration.
        folder: of the run.
        source: the data; videos that cannot be used are taken out of it.
        key_frames: of the videos that carry the tag.
        lost: (video, reason) of those that could not be segmented.
    """
    reasons = dict(lost)
    chosen: dict[str, Sequence[int]] = {}
    for record in source.records:
        if record.split == "test":
            chosen[record.name] = record.annotated[:1] or [0]
        elif record.tags and record.name not in reasons:
            chosen[record.name] = key_frames.note(record.name)["indices"]
        elif not record.tags and cfg.negative_frames:
            try:
                length = len(VideoReader(record.path))
            except (DataError, OSError) as error:
                reasons[record.name] = str(error)
            else:
                chosen[record.name] = sample_uniformly(length, cfg.negative_frames).tolist()
    source.records = [record for record in source.records if record.name in chosen]
    source.skipped.extend(pair for pair in reasons.items() if pair not in source.skipped)
    return KeyFrameWorkspace(cfg, folder, source, frames=chosen, least_classes=1)
