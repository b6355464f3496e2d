"""A2D, the Actor-Action Dataset (Xu et al., CVPR 2015), in its own layout on disk."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from datamodules.records import VideoRecord, VideoSource, read_tags, stratified_split
from pseudolabel.types import DataError, LabelSpace, Tag, UInt8Array, nearest_name

A2D_ACTORS = ("adult", "baby", "ball", "bird", "car", "cat", "dog")
A2D_ACTIONS = ("climbing", "crawling", "eating", "flying", "jumping", "rolling", "running", "walking", "none")

# fmt: off
A2D_VALID_IDS = (
    11, 12, 13, 15, 16, 17, 18, 19,
    21, 22, 26, 28, 29,
    34, 35, 36, 39,
    41, 43, 44, 45, 46, 48, 49,
    54, 55, 56, 57, 59,
    61, 63, 65, 66, 67, 68, 69,
    72, 73, 75, 76, 77, 78, 79,
)
# fmt: on
"""The 43 pairs that occur, as 10 * actor + action, both counted from 1 in the order above (SPEC A-X)."""

MASK_KEY = "reS_id"

TRAIN_VIDEOS = 3036
"""Videos that A2D marks for training; Chen et al. 2020 hold 288 of them out for validation (SPEC S9)."""

_LAYOUTS = ("", "Release", "A2D_main_1_0/Release", "A2D/Release")
_USAGES = {"0": "train", "1": "test"}


def a2d_label_space(pairs: Sequence[str] | None = None) -> LabelSpace:
    """Return the 43 valid actor-action pairs in the order of their raw ids, or the subset named like ``"cat-walking"``.

    Raises:
        DataError: a pair is unknown (names the nearest) or none is given.
    """
    tag_of = {raw: Tag(A2D_ACTORS[raw // 10 - 1], A2D_ACTIONS[raw % 10 - 1]) for raw in A2D_VALID_IDS}
    names = [str(tag) for tag in tag_of.values()]
    for pair in pairs or ():
        if pair not in names:
            raise DataError(
                f"'{pair}' is no valid actor-action pair of A2D{nearest_name(pair, names) or '.'} "
                f"Expected some of {', '.join(names)}."
            )
    kept = {raw: tag for raw, tag in tag_of.items() if pairs is None or str(tag) in pairs}
    return LabelSpace(tuple(kept.values()), (0, *kept))


@dataclass(frozen=True)
class _Row:
    """One line of ``videoset.csv``."""

    name: str
    usage: str


class A2DSource(VideoSource):
    """A2D in its own layout: ``videoset.csv``, ``clips320H/<video>.mp4``, ``Annotations/mat/<video>/<frame>.mat``.

    ``root`` is the folder of ``videoset.csv``, or one above it with ``Release``, ``A2D_main_1_0/Release`` or
    ``A2D/Release``. Video-level tags come from ``tags.csv`` beside ``videoset.csv`` (``video,class,action``) if it is
    there, else they are the set of valid labels of the video's masks; nothing is written into the folder. Pixels of
    any other value, or of a pair outside ``pairs``, are void.

    Videos marked for test are test; of the others, ``val_videos`` are drawn by :func:`stratified_split` for validation.
    When there are fewer than three times as many, 288 of 3036 are the proportion, and at least one.

    Args:
        root: folder of the data set.
        val_videos: how many of the training videos validate.
        split_seed: seed of that draw.
        pairs: names such as ``"cat-walking"`` of the pairs to keep, None for all 43. Videos without any are dropped.
        actions: whether classes are actor-action pairs; else they are the actors that occur in ``pairs``, and tags and
            masks are projected onto them.

    Raises:
        DataError: the data set is not there, ``videoset.csv`` is malformed, a pair is unknown, or no video is usable.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        val_videos: int = 288,
        split_seed: int = 0,
        pairs: Sequence[str] | None = None,
        actions: bool = True,
    ) -> None:
        self._pairs = a2d_label_space(pairs)
        # Ids of the projection: LabelSpace.project(..., "actor") numbers actors in this order.
        super().__init__(self._pairs if actions else LabelSpace(tuple(map(Tag, self._pairs.actors[1:]))))
        self.root = _find_release(Path(root))
        rows = self._present(_read_videoset(self.root / "videoset.csv"))
        annotated, tags_of = self._annotations([row.name for row in rows])
        records = []
        for row in rows:
            if not tags_of[row.name]:
                self.skipped.append((row.name, "has no valid actor-action tag"))
            elif tags := self._classes(tags_of[row.name]):
                split = _USAGES[row.usage]
                records.append(VideoRecord(row.name, self._clip(row.name), tags, split, annotated[row.name]))
        if not records:
            raise DataError(
                f"A2D in `root={self.root}` holds no usable video with a tag of the label space: {len(rows)} clips "
                f"found, {len(self.skipped)} items skipped (first: {self.skipped[:3]}). Check `pairs`, the clips and "
                "the masks."
            )
        self.records = _with_validation(records, val_videos, split_seed)

    def mask(self, record: VideoRecord, index: int) -> UInt8Array | None:
        """Return the true mask of one frame, **for scoring only** (see :meth:`VideoSource.mask`).

        Values that are no pair of the label space become void (255).
        """
        if index not in record.annotated:
            return None
        file = self._mask_folder(record.name) / f"{index + 1:05d}.mat"
        try:
            raw = read_mask(file)
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"{file} is no A2D mask: {_reason(error)}. Copy it again or remove it.") from error
        self.check_mask_size(record, raw.shape, file)
        labels = self._pairs.from_raw(raw)
        return labels if self.label_space.has_actions else self._pairs.project(labels, "actor")

    def _classes(self, pairs: set[Tag]) -> tuple[Tag, ...]:
        """Return the classes that a video with these pairs is tagged with, in the order of their ids."""
        kept = [tag for tag in self._pairs.tags if tag in pairs]
        if self.label_space.has_actions:
            return tuple(kept)
        return tuple(dict.fromkeys(Tag(tag.actor) for tag in kept))

    def _clip(self, name: str) -> Path:
        return self.root / "clips320H" / f"{name}.mp4"

    def _mask_folder(self, name: str) -> Path:
        return self.root / "Annotations" / "mat" / name

    def _present(self, rows: list[_Row]) -> list[_Row]:
        """Keep the first row of each video whose clip is there and not empty."""
        kept: dict[str, _Row] = {}
        for row in rows:
            clip = self._clip(row.name)
            if row.name in kept:
                self.skipped.append((row.name, "is listed twice in videoset.csv; the first line counts"))
            elif not clip.is_file():
                self.skipped.append((row.name, f"clip not found: expected {clip}"))
            elif clip.stat().st_size == 0:
                self.skipped.append((row.name, f"clip {clip} is empty (0 bytes)"))
            else:
                kept[row.name] = row
        return list(kept.values())

    def _annotations(self, names: list[str]) -> tuple[dict[str, tuple[int, ...]], dict[str, set[Tag]]]:
        """Return the annotated frames (0-based) and the tags of each video; list masks that cannot be read."""
        tags_csv = self.root / "tags.csv"
        tags_of: dict[str, set[Tag]] = {name: set() for name in names}
        every_pair = a2d_label_space()
        if from_table := tags_csv.is_file():
            for row in read_tags(tags_csv):
                every_pair.index(row.tag)
                tags_of.setdefault(row.video, set()).add(row.tag)
        files = [(name, file) for name in names for file in sorted(self._mask_folder(name).glob("*.mat"))]
        workers = min(8, os.cpu_count() or 1)
        # Tags given in a table: the values of masks are not looked at.
        scans = Parallel(n_jobs=workers, prefer="threads")(delayed(_scan)(file, not from_table) for _, file in files)
        tag_of = dict(zip(every_pair.raw_ids[1:], every_pair.tags, strict=True))
        frames: dict[str, list[int]] = {name: [] for name in names}
        for (name, file), (problem, values) in zip(files, scans, strict=True):
            if problem:
                self.skipped.append((str(file), problem))
                continue
            frames[name].append(int(file.stem) - 1)
            tags_of[name].update(tag_of[value] for value in values & tag_of.keys())
        return {name: tuple(sorted(numbers)) for name, numbers in frames.items()}, tags_of


def read_mask(file: Path) -> npt.NDArray[np.int64]:
    """Read the raw values of one mask: MATLAB v7.3 (HDF5), stored column by column and so transposed by h5py.

    Returns:
        int64 (H, W), raw ids (10 * actor + action, 0 = background).

    Raises:
        OSError: the file is no HDF5 file or damaged.
        KeyError: it holds no ``reS_id``.
        ValueError: ``reS_id`` is not a matrix of numbers.
    """
    with h5py.File(file, "r") as content:
        return _dataset(content)[()].T.astype(np.int64)


def _dataset(content: h5py.File) -> h5py.Dataset:
    data = content[MASK_KEY]
    if not isinstance(data, h5py.Dataset) or data.ndim != 2 or data.dtype.kind not in "uif":
        raise ValueError(f"'{MASK_KEY}' is no matrix of numbers")
    return data


def _scan(file: Path, values: bool) -> tuple[str, frozenset[int]]:
    """Return (what is wrong or "", the values that occur if asked for)."""
    try:
        state = file.stat()
        return "", _values(file, state.st_mtime_ns, state.st_size, values)
    except (OSError, KeyError, ValueError) as error:
        return f"is no A2D mask: {_reason(error)}", frozenset()


@lru_cache(maxsize=1 << 16)
def _values(file: Path, changed: int, size: int, values: bool) -> frozenset[int]:
    """Return the values of a mask, or none where it need only be readable; ``changed`` and ``size`` key the cache."""
    if not file.stem.isdecimal() or int(file.stem) < 1:
        raise ValueError("expected a frame number from 00001 as its name")
    if values:
        return frozenset(np.unique(read_mask(file)).tolist())
    with h5py.File(file, "r") as content:
        _dataset(content)
    return frozenset()


def _reason(error: Exception) -> str:
    return f"it holds no '{MASK_KEY}'" if isinstance(error, KeyError) else str(error)


def _find_release(root: Path) -> Path:
    for layout in _LAYOUTS:
        if (root / layout / "videoset.csv").is_file():
            return root / layout
    raise DataError(
        f"A2D not found in `root={root}`; expected `videoset.csv`, `clips320H/` and `Annotations/mat/` there or in "
        f"{', '.join(f'`{layout}/`' for layout in _LAYOUTS[1:])}. Either specify a different `root`, or download A2D "
        "from https://web.eecs.umich.edu/~jjcorso/r/a2d/ and unpack it there."
    )


def _read_videoset(path: Path) -> list[_Row]:
    rows = []
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for number, cells in enumerate(csv.reader(stream), 1):
            if not any(cells):
                continue
            if len(cells) != 9 or cells[8].strip() not in _USAGES or not cells[0].strip():
                raise DataError(
                    f"{path}, line {number}: expected 9 columns without header (video, label, start, end, height, "
                    f"width, frames, annotated frames, usage 0 = train or 1 = test), got '{','.join(cells)}'. "
                    "Restore the file as published."
                )
            rows.append(_Row(cells[0].strip(), cells[8].strip()))
    return rows


def _with_validation(records: list[VideoRecord], val_videos: int, seed: int) -> list[VideoRecord]:
    """Move the validation videos out of training."""
    train = [index for index, record in enumerate(records) if record.split == "train"]
    if val_videos and len(train) < 3 * val_videos:
        val_videos = max(1, round(len(train) * 288 / TRAIN_VIDEOS))
    chosen = {train[index] for index in stratified_split([records[i].tags for i in train], val_videos, seed)}
    if val_videos and not chosen and len(train) > 1:
        # A tiny set in which no two videos have the same tags: validation needs one all the same.
        chosen = {train[int(np.random.default_rng(seed).integers(len(train)))]}
    return [
        VideoRecord(record.name, record.path, record.tags, "val", record.annotated) if index in chosen else record
        for index, record in enumerate(records)
    ]
