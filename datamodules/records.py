"""What every data set offers: videos with tags and a split, masks for scoring, and the ``tags.csv`` both kinds read."""

from __future__ import annotations

import csv
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.video import VIDEO_SUFFIXES, VideoReader
from pseudolabel.types import BACKGROUND, DataError, LabelSpace, Tag, UInt8Array, nearest_name

SPLITS = ("train", "val", "test")

TAGS_EXAMPLE = "video,class,action\nrex-in-the-park,dog,running\nrex-in-the-park,person,\ncat-on-sofa,cat,rolling"


@dataclass(frozen=True)
class VideoRecord:
    """One usable video of a data set.

    Attributes:
        name: the video's name, unique in its data set.
        path: a video file or a folder of frames.
        tags: its video-level tags, all of them classes of the source's label space.
        split: ``"train"``, ``"val"`` or ``"test"``.
        annotated: 0-based indices of the frames with a true mask, ascending. For scoring only.
    """

    name: str
    path: Path
    tags: tuple[Tag, ...]
    split: str
    annotated: tuple[int, ...] = ()


class VideoSource(ABC):
    """A data set of tagged videos.

    Attributes:
        label_space: the classes; masks hold its ids.
        records: the usable videos.
        skipped: what cannot be used, as (video or file, reason).
    """

    def __init__(self, label_space: LabelSpace) -> None:
        self.label_space = label_space
        self.records: list[VideoRecord] = []
        self.skipped: list[tuple[str, str]] = []
        self._sizes: dict[str, tuple[int, int]] = {}

    def select(self, split: str) -> list[VideoRecord]:
        """Return the records of ``"train"``, ``"val"`` or ``"test"`` in the order of :attr:`records`.

        Raises:
            DataError: there is no such split.
        """
        if split not in SPLITS:
            raise DataError(
                f"Unknown split '{split}'{nearest_name(split, SPLITS) or '.'} Expected one of {', '.join(SPLITS)}."
            )
        return [record for record in self.records if record.split == split]

    @abstractmethod
    def mask(self, record: VideoRecord, index: int) -> UInt8Array | None:
        """Return the true mask of one frame, **for scoring only**: training must never see it.

        Args:
            record: a record of this source.
            index: 0-based frame number.

        Returns:
            uint8 (H, W) class ids of :attr:`label_space`, 255 = void; None when the frame has no mask.

        Raises:
            DataError: the mask cannot be read or does not have the size of the video.
        """

    def video_size(self, record: VideoRecord) -> tuple[int, int]:
        """Return (H, W) of a record's frames; a video is opened once and its size remembered."""
        if record.name not in self._sizes:
            self._sizes[record.name] = VideoReader(record.path).size
        return self._sizes[record.name]

    def check_mask_size(self, record: VideoRecord, shape: tuple[int, ...], file: Path) -> None:
        """Raise :class:`DataError` unless a mask of ``shape`` lies on the frames of ``record``."""
        height, width = self.video_size(record)
        if tuple(shape) != (height, width):
            raise DataError(
                f"Mask and video differ in size: {file} is {'x'.join(map(str, shape))} (height x width), but the "
                f"frames of {record.path} are {height}x{width}. Save the mask at the size of the video "
                "(nearest neighbour)."
            )


def stratified_split(tags_per_video: Sequence[Iterable[Tag]], count: int, seed: int) -> list[int]:
    """Choose validation videos so that every set of tags gives its share.

    Videos with the same set of tags form a group. Shares are rounded by largest remainder so that their sum is
    ``count``. At least one video of each group stays in training, so a group of one never gives any, and fewer
    than ``count`` videos come back when the groups are too small. The order of the tags of a video does not matter.

    Args:
        tags_per_video: the tags of each video.
        count: how many videos to choose, >= 0.
        seed: of the draw inside groups and of ties between groups.

    Returns:
        Ascending indices into ``tags_per_video``. Resolves SPEC S-j.
    """
    groups: dict[tuple[Tag, ...], list[int]] = defaultdict(list)
    for index, tags in enumerate(tags_per_video):
        groups[tuple(sorted(set(tags)))].append(index)
    members = [groups[key] for key in sorted(groups) if len(groups[key]) > 1]
    room = np.array([len(group) - 1 for group in members], int)
    count = min(count, int(room.sum()))
    if count <= 0:
        return []
    rng = np.random.default_rng(seed)
    share = np.array([len(group) for group in members]) * (count / sum(map(len, members)))
    taken = np.minimum(np.floor(share).astype(int), room)
    tie = rng.random(len(members))
    while (missing := count - int(taken.sum())) > 0:
        wish = np.where(taken < room, share - taken, -math.inf)
        best = np.lexsort((tie, -wish))[: min(missing, int((taken < room).sum()))]
        taken[best] += 1
    chosen: list[int] = []
    for group, number in zip(members, taken, strict=True):
        chosen.extend(rng.permutation(group)[:number].tolist())
    return sorted(chosen)


@dataclass(frozen=True)
class TagRow:
    """One row of ``tags.csv``: ``split`` is empty unless the file gives train, val or test."""

    video: str
    tag: Tag
    split: str = ""


def read_tags(path: Path) -> list[TagRow]:
    """Read ``tags.csv``: header ``video,class,action``, one row per object, ``action`` may be empty or missing.

    Rows that repeat a (video, class, action) are read once. A file suffix of the video's name is dropped. A ``split``
    column counts when it speaks of train, val or test at all; other columns are ignored.

    Raises:
        DataError: the file is missing, empty or not a table; a column is missing; a row has no video or no class; a
            video name is a path; a split is misspelt; the rows of one video name different splits.
    """
    shape = f"Expected a comma-separated table such as\n{TAGS_EXAMPLE}"
    if not path.is_file():
        raise DataError(f"Tags not found: {path} is missing. {shape}\nWrite it, with one row per object of each video.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.reader(stream))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a text table in UTF-8 ({error}). {shape}\nSave it as CSV in UTF-8.") from error
    header = [column.strip().lower() for column in lines[0]] if lines else []
    table = [(number, row) for number, row in enumerate(lines[1:], 2) if any(cell.strip() for cell in row)]
    for column in ("video", "class"):
        if header and column not in header:
            raise DataError(
                f"{path} has no column '{column}'{nearest_name(column, header) or '.'} Got the header "
                f"'{','.join(lines[0])}'. {shape}\nGive it this header."
            )
    if not table:
        raise DataError(f"{path} is empty: it tags no video. {shape}\nAdd one row per object of each video.")
    return _check_rows(path, header, table)


def _check_rows(path: Path, header: list[str], table: list[tuple[int, list[str]]]) -> list[TagRow]:
    """Turn cells into rows, each (video, tag) once."""
    splits = _read_splits(path, header, table)
    rows: dict[tuple[str, Tag], TagRow] = {}
    split_of: dict[str, str] = {}
    for (number, cells), split in zip(table, splits, strict=True):
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        where = f"{path}, line {number} ('{','.join(cells)}')"
        video, name, action = row.get("video", ""), row.get("class", ""), row.get("action", "")
        if not video or not name:
            raise DataError(f"{where}: no {'class' if video else 'video'}. Fill in the cell or delete the row.")
        if name.lower() == BACKGROUND:
            raise DataError(f"{where}: '{name}' is the name of what is no object. Name the object or delete the row.")
        if "/" in video or "\\" in video or video in (".", ".."):
            raise DataError(f"{where}: expected a plain video name, got a path. Write the last part of it only.")
        video = Path(video).stem if Path(video).suffix.lower() in VIDEO_SUFFIXES else video
        if split_of.setdefault(video, split) != split:
            raise DataError(
                f"{where}: video '{video}' is in split '{split}' here and in '{split_of[video]}' above. "
                "Give all rows of a video the same split."
            )
        rows[video, Tag(name, action)] = TagRow(video, Tag(name, action), split)
    return list(rows.values())


def _read_splits(path: Path, header: list[str], table: list[tuple[int, list[str]]]) -> list[str]:
    """Return each row's split; all empty when the column is absent or does not speak of train, val or test."""
    column = header.index("split") if "split" in header else None
    cells = ["" if column is None or len(row) <= column else row[column].strip().lower() for _, row in table]
    if not set(cells) & set(SPLITS):
        return [""] * len(table)
    for cell, (number, _) in zip(cells, table, strict=True):
        if cell and cell not in SPLITS:
            raise DataError(
                f"{path}, line {number}: unknown split '{cell}'{nearest_name(cell, SPLITS) or '.'} "
                f"Expected one of {', '.join(SPLITS)}, or nothing (train)."
            )
    return cells
