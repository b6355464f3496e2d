"""One class of a data set against all the rest: videos tagged with it may show it, the others do not (Liang et al.)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from datamodules.records import VideoRecord, VideoSource
from pseudolabel.types import VOID, DataError, LabelSpace, Tag, UInt8Array, nearest_name


class TargetSource(VideoSource):
    """Another source seen as two classes: background and the target.

    Args:
        source: the data set; its plain classes, or the actors of its actor-action classes.
        target: one of them.

    Attributes:
        records: all videos of ``source``; the tag of a video is the target, or it has none.

    Raises:
        DataError: no video is tagged with the target.
    """

    def __init__(self, source: VideoSource, target: str) -> None:
        actors = source.label_space.actors[1:]
        if target not in actors:
            raise DataError(
                f"target={target}: no video is tagged with it{nearest_name(target, actors) or '.'} Known: "
                f"{', '.join(actors)}. Give one of these, or tag videos with '{target}'."
            )
        tag = Tag(target)
        super().__init__(LabelSpace((tag,)))
        self.source, self.skipped = source, source.skipped
        self._of_source = {record.name: record for record in source.records}
        self.records = [
            replace(record, tags=(tag,) if any(t.actor == target for t in record.tags) else ())
            for record in source.records
        ]
        self._values = np.zeros(VOID + 1, np.uint8)  # id of the source -> 0, 1 or void
        self._values[VOID] = VOID
        ids = [number for number, shown in enumerate(source.label_space.tags, 1) if shown.actor == target]
        self._values[ids] = 1

    def mask(self, record: VideoRecord, index: int) -> UInt8Array | None:
        """Return the true mask of one frame, 1 = target, **for scoring only**."""
        mask = self.source.mask(self._of_source[record.name], index)
        return None if mask is None else self._values[mask]

    def video_size(self, record: VideoRecord) -> tuple[int, int]:
        """Return (H, W) of a record's frames."""
        return self.source.video_size(self._of_source[record.name])


def tagged(records: Sequence[VideoRecord]) -> list[VideoRecord]:
    """Return the videos that are tagged with the target."""
    return [record for record in records if record.tags]
