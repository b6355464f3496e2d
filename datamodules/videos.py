"""A user's own videos: a folder with ``tags.csv`` and video files or folders of frames."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.records import SPLITS, TagRow, VideoRecord, VideoSource, read_tags, stratified_split
from datamodules.video import VIDEO_SUFFIXES, VideoReader
from datamodules.video_frames import frame_files
from pseudolabel.palette import read_mask
from pseudolabel.types import VOID, DataError, LabelSpace, Tag, UInt8Array, nearest_name

MASK_FOLDERS = frozenset({"masks", "Annotations", "GroundTruth"})
"""Folders that hold masks and never frames."""

NO_ACTION = "none"
"""Action of a row without one, in a data set where others have one."""

_DEPTH = 4
_MIN_VIDEOS_PER_CLASS = 10


class VideosSource(VideoSource):
    """Videos of one's own, in a folder with ``tags.csv``.

    ``tags.csv`` has the header ``video,class,action``, one row per object, and an optional column ``split`` (train,
    val or test; empty = train); other columns are ignored. Each video is ``<root>/<video>.mp4`` (or mov, mkv, webm,
    avi), the same in ``<root>/videos``, or a folder of frames ``<video>`` down to depth 4, as DAVIS has it.

    The label space is made of all tags in the file, sorted by name, whether their videos are usable or not, so the ids
    of masks stay. With ``actions``, as soon as one row has an action, classes are actor-action pairs and rows without
    an action get ``"none"``; else, actions are ignored and the classes are plain.

    Without a split, each set of tags gives ``val_share`` of its videos for validation when every class has at least 10
    videos; with fewer, all of them train. Only a given split makes test videos.

    Masks are used for scoring only: ``masks/<video>/<frame>.png``, else ``Annotations/**/<video>/<frame>.png``, where
    ``<frame>`` is the stem of the frame's file or, for video files, 5 digits from 00000. They hold class ids and 255 =
    void, read as palette indices or grey values. When a video has exactly one tag and its masks hold only 0 and 1, or
    only 0 and 255, what is not 0 is that tag's class (the convention of DAVIS).

    Args:
        root: the folder.
        val_share: share of the videos that validate, in [0, 1).
        split_seed: seed of that draw.
        actions: whether actions make classes.
        classes: the classes (or actor-action pairs) that may occur, None for any.
        label_space: the classes; None = all tags of the file. Tags that are none of them are left out (their pixels are
            background), and videos without any other are listed in ``skipped``. Masks still hold ids of all tags.

    Raises:
        DataError: ``tags.csv`` is missing or malformed (see :func:`read_tags`), a class is not one of ``classes``, or
            no video is usable. Single videos and masks that cannot be used are listed in ``skipped``.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        val_share: float = 0.1,
        split_seed: int = 0,
        actions: bool = True,
        classes: Sequence[str] | None = None,
        label_space: LabelSpace | None = None,
    ) -> None:
        self.root = Path(root)
        if not 0 <= val_share < 1:
            raise DataError(f"val_share must be in [0, 1), got {val_share}.")
        if not self.root.is_dir():
            raise DataError(f"Videos not found in `root={root}`: no such folder. Specify a different `root`.")
        rows = read_tags(self.root / "tags.csv")
        if classes is not None:
            _check_classes(self.root / "tags.csv", rows, classes)
        tags_of = _tags_of(rows, actions=actions)
        self._of_masks = LabelSpace.from_tags(tag for tags in tags_of.values() for tag in tags)
        super().__init__(label_space or self._of_masks)
        if label_space is not None:
            tags_of = self._known_tags(tags_of)
        self._mask_files: dict[str, dict[int, Path]] = {}
        self._mask_values: dict[str, frozenset[int]] = {}
        paths = self._find(set(tags_of))
        split_of = {row.video: row.split or "train" for row in rows}
        for name, tags in tags_of.items():
            if name in paths and (record := self._record(name, paths[name], tags, split_of[name])):
                self.records.append(record)
        if not self.records:
            raise DataError(
                f"No usable video in `root={root}`: {len(tags_of)} are tagged in tags.csv, {len(self.skipped)} items "
                f"were skipped (first: {self.skipped[:3]}). Expected `<video>.mp4`, `videos/<video>.mp4` or a folder "
                "of frames named `<video>`. Put the videos there or correct their names in tags.csv."
            )
        if not any(row.split for row in rows):
            self._draw_validation(val_share, split_seed)

    def mask(self, record: VideoRecord, index: int) -> UInt8Array | None:
        """Return the true mask of one frame, **for scoring only** (see :meth:`VideoSource.mask`).

        Raises:
            DataError: the mask is damaged, in colour, of another size than the video, or has values that are no class.
        """
        file = self._mask_files.get(record.name, {}).get(index)
        if file is None:
            return None
        values = read_mask(file)
        self.check_mask_size(record, values.shape, file)
        found = self._values(record.name)
        if found <= {0, 1} or found <= {0, VOID}:
            if len(record.tags) == 1:
                return np.where(values > 0, self.label_space.index(record.tags[0]), 0).astype(np.uint8)
            if VOID in found:
                raise DataError(
                    f"{file}: the masks of video '{record.name}' hold only 0 and 255, but it has {len(record.tags)} "
                    f"tags ({', '.join(map(str, record.tags))}): which one is 255? {self._expected()}"
                )
        unknown = np.setdiff1d(values, [*range(self._of_masks.num_classes), VOID])
        if unknown.size:
            raise DataError(f"{file} has the unknown values {_some(unknown)}. {self._expected()}")
        return values if self._of_masks == self.label_space else self._ids()[values]

    def _ids(self) -> UInt8Array:
        """Return the id in the label space of every id in masks; classes that are left out are background."""
        ids = np.zeros(VOID + 1, np.uint8)
        ids[VOID] = VOID
        known = set(self.label_space.tags)
        for number, tag in enumerate(self._of_masks.tags, 1):
            ids[number] = self.label_space.index(tag) if tag in known else 0
        return ids

    def _known_tags(self, tags_of: dict[str, tuple[Tag, ...]]) -> dict[str, tuple[Tag, ...]]:
        """Return the tags that are classes; list the videos without one."""
        known, kept = set(self.label_space.tags), {}
        for name, tags in tags_of.items():
            if chosen := tuple(tag for tag in tags if tag in known):
                kept[name] = chosen
            else:
                self.skipped.append((name, f"shows {', '.join(map(str, tags))}, which is none of the classes here"))
        return kept

    def _expected(self) -> str:
        names = ", ".join(f"{number} {name}" for number, name in enumerate(self._of_masks.names))
        return (
            f"Expected class ids ({names}) and 255 = void; or, for videos with one tag, 0 and 255 or 0 and 1. Save "
            "masks as palette or grey PNG without anti-aliasing."
        )

    def _values(self, name: str) -> frozenset[int]:
        """Return the values that occur in any mask of a video; damaged masks are reported when they are asked for."""
        if name not in self._mask_values:
            values: set[int] = set()
            for file in self._mask_files[name].values():
                try:
                    values.update(np.unique(read_mask(file)).tolist())
                except DataError:
                    continue
            self._mask_values[name] = frozenset(values)
        return self._mask_values[name]

    def _find(self, tagged: set[str]) -> dict[str, Path]:
        """Locate the tagged videos; list the missing ones and those without a tag."""
        found: dict[str, Path] = {}
        for folder in (self.root, self.root / "videos"):
            for file in sorted(folder.iterdir()) if folder.is_dir() else ():
                if file.suffix.lower() in VIDEO_SUFFIXES and file.name[0] != "." and file.is_file():
                    found.setdefault(file.stem, file)
        empty: dict[str, Path] = {}
        for folder in _folders(self.root, _DEPTH):
            if frame_files(folder):
                found.setdefault(folder.name, folder)
            else:
                empty.setdefault(folder.name, folder)
        for name in sorted(tagged - found.keys()):
            hint = nearest_name(name, found.keys() - tagged)
            self.skipped.append(
                (
                    name,
                    f"{empty[name]} holds no frame" if name in empty else f"tagged, but there is no such video{hint}",
                )
            )
        listed = {name for name, _ in self.skipped}
        for name in sorted(found.keys() - tagged - listed):
            self.skipped.append((name, f"{found[name]} has no row in tags.csv"))
        return found

    def _record(self, name: str, path: Path, tags: tuple[Tag, ...], split: str) -> VideoRecord | None:
        """Open a video and find its masks; None when it is broken."""
        try:
            reader = VideoReader(path)
            reader.check()
        except DataError as error:
            self.skipped.append((name, str(error)))
            return None
        self._sizes[name] = reader.size
        self._mask_files[name] = self._find_masks(name, path, reader)
        return VideoRecord(name, path, tags, split, tuple(sorted(self._mask_files[name])))

    def _find_masks(self, name: str, path: Path, reader: VideoReader) -> dict[int, Path]:
        """Return the mask file of each annotated frame; list those of no frame and those that are no image."""
        folders = [self.root / "masks" / name, *sorted((self.root / "Annotations").glob(f"**/{_literal(name)}"))]
        # Of several resolutions, take the one named like that of the frames: JPEGImages/240p, Annotations/240p.
        candidates = sorted(
            (folder for folder in folders if folder.is_dir()),
            key=lambda folder: (folder != folders[0], folder.parent.name != path.parent.name),
        )
        if not candidates:
            return {}
        number_of = {stem: number for number, stem in enumerate(reader.stems)}
        masks: dict[int, Path] = {}
        for file in sorted(candidates[0].glob("*.png")):
            if file.name[0] == ".":
                continue
            if file.stem not in number_of:
                first, last = reader.stems[0], reader.stems[-1]
                self.skipped.append((str(file), f"mask of no frame: '{name}' has frames {first} to {last}"))
                continue
            try:
                Image.open(file).close()
            except OSError as error:
                self.skipped.append((str(file), f"mask cannot be read: {error}"))
                continue
            masks[number_of[file.stem]] = file
        return masks

    def _draw_validation(self, share: float, seed: int) -> None:
        videos_of = Counter(tag for record in self.records for tag in record.tags)
        if any(videos_of[tag] < _MIN_VIDEOS_PER_CLASS for tag in self.label_space.tags):
            return
        count = round(share * len(self.records))
        for index in stratified_split([record.tags for record in self.records], count, seed):
            old = self.records[index]
            self.records[index] = VideoRecord(old.name, old.path, old.tags, SPLITS[1], old.annotated)


def _tags_of(rows: list[TagRow], *, actions: bool) -> dict[str, tuple[Tag, ...]]:
    """Return the sorted tags of each video, as pairs or as plain classes."""
    pairs = actions and any(row.tag.action for row in rows)
    tags: dict[str, set[Tag]] = defaultdict(set)
    for row in rows:
        tags[row.video].add(Tag(row.tag.actor, (row.tag.action or NO_ACTION) if pairs else ""))
    return {name: tuple(sorted(found)) for name, found in tags.items()}


def _check_classes(path: Path, rows: list[TagRow], classes: Sequence[str]) -> None:
    for row in rows:
        if row.tag.actor not in classes and str(row.tag) not in classes:
            raise DataError(
                f"{path}: video '{row.video}' has the unknown class '{row.tag.actor}'"
                f"{nearest_name(row.tag.actor, classes) or '.'} Expected one of {', '.join(classes)}. "
                "Correct the row, or add the class."
            )


def _folders(root: Path, depth: int) -> Iterator[Path]:
    """Yield the folders below ``root``, upper ones first, without those of masks and hidden ones."""
    level = [root]
    for _ in range(depth):
        level = [
            item
            for folder in level
            for item in sorted(folder.iterdir())
            if item.is_dir() and item.name not in MASK_FOLDERS and item.name[0] != "."
        ]
        yield from level


def _literal(name: str) -> str:
    """Escape a video's name for ``glob``."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _some(values: np.ndarray) -> str:
    """Write out the first few of some values."""
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
