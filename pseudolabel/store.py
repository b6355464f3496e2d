"""The versions of pseudo-annotations (PAs) on disk.

``root/v0/<video>/<frame>.png`` holds the masks and ``root/v0/index.csv`` their quality and selection. A version is made
in ``root/.v0.partial`` and renamed when it is whole, so a half-made version is never read, and making it can go on
after a crash with the videos that are missing.
"""

from __future__ import annotations

import csv
import math
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path

import numpy as np

from pseudolabel.palette import read_mask, write_atomically, write_mask
from pseudolabel.types import Annotation, Clip, DataError, UInt8Array, is_object

_INDEX = "index.csv"
_ROWS = "rows.csv"
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no")


@dataclass
class PARow:
    """One annotated frame: a line of ``index.csv``.

    Attributes:
        video: the video's name.
        frame: the frame's 0-based number in the source video.
        quality: omega in [0, 1], what the annotator thinks of this PA.
        selected: whether the frame trains the next network.
        weight: how much the frame counts in the loss, >= 0.
        area: share of the frame that is labelled foreground, in [0, 1].
    """

    video: str
    frame: int
    quality: float
    selected: bool = True
    weight: float = 1.0
    area: float = 0.0


Index = list[PARow]


def _to_csv(rows: Iterable[PARow]) -> bytes:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(PARow))
    for row in rows:
        numbers = (float(row.weight), float(row.area))
        writer.writerow((row.video, int(row.frame), float(row.quality), int(row.selected), *numbers))
    return text.getvalue().encode()


def _flag(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError(f"selected is {text!r}")
    return word in _TRUE


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is not a finite number")
    return value


def _from_csv(path: Path) -> Index:
    expected = [field.name for field in fields(PARow)]
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not set(expected) <= set(reader.fieldnames or ()):
                raise ValueError(f"its columns are {reader.fieldnames}")
            rows = []
            for line in reader:
                flag = _flag(line["selected"])
                numbers = (_number(line["weight"]), _number(line["area"]))
                rows.append(PARow(line["video"], int(line["frame"]), _number(line["quality"]), flag, *numbers))
            return rows
    except (ValueError, TypeError, AttributeError, KeyError, csv.Error) as error:
        raise DataError(
            f"'{path}' cannot be read ({error}), expected the columns {','.join(expected)} with numbers and selected "
            "as 0 or 1. Correct the file, or delete the version's folder and make it again."
        ) from error


def _sorted(rows: Iterable[PARow]) -> Index:
    return sorted(rows, key=lambda row: (row.video, row.frame))


class PAStore:
    """The versions v0, v1, ... below one folder (``runs/<name>/pa``).

    Several processes, on one machine or on a shared file system, may write different videos of one version at the same
    time; one of them publishes when all have finished.

    Args:
        root: folder of the versions; made when the first version begins.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def _whole(self, version: int) -> Path:
        return self.root / f"v{version}"

    def _partial(self, version: int) -> Path:
        return self.root / f".v{version}.partial"

    def _published(self, version: int) -> bool:
        return (self._whole(version) / _INDEX).is_file()

    def _folder(self, version_folder: Path, video: str) -> Path:
        if not video or video.startswith(".") or any(char in video for char in "/\\\0") or video == _INDEX:
            raise DataError(
                f"Video name {video!r} cannot be a folder's name in '{version_folder}': expected a name that is not "
                "empty, has no '/' or '\\' and does not begin with '.'. Rename the video."
            )
        return version_folder / video

    def versions(self) -> list[int]:
        """Return the whole versions in rising order; [] when there is none."""
        if not self.root.is_dir():
            return []
        names = (re.fullmatch(r"v(0|[1-9]\d*)", path.name) for path in self.root.iterdir())
        return sorted(version for version in (int(name[1]) for name in names if name) if self._published(version))

    def current(self) -> int | None:
        """Return the newest whole version, None when there is none."""
        return max(self.versions(), default=None)

    def begin(self, version: int) -> Path:
        """Open a version for writing; what an earlier, interrupted job has finished in it is kept.

        Args:
            version: number of the version, >= 0.

        Returns:
            The folder ``.v<version>.partial``.

        Raises:
            DataError: the version is whole already.
        """
        if version < 0:
            raise ValueError(f"version must be >= 0, got {version}")
        self._refuse_published(version)
        partial = self._partial(version)
        partial.mkdir(parents=True, exist_ok=True)
        return partial

    def _refuse_published(self, version: int) -> None:
        if self._published(version):
            raise DataError(
                f"PA version v{version} in '{self.root}' is whole and is not written again. Write v{version + 1}, or "
                f"delete '{self._whole(version)}' to make it anew."
            )

    def write(self, version: int, clip: Clip, annotation: Annotation) -> None:
        """Write all annotated frames of one video into the unfinished version.

        The masks come first and the video's ``rows.csv`` last, so that its presence says "finished". Writing a video
        again replaces it whole.

        Args:
            version: number of the version.
            clip: the video's frames; ``clip.indices`` become the file names.
            annotation: labels uint8 (T, H, W) and quality (T,) of these frames.

        Raises:
            DataError: clip and annotation differ in length or size, a quality is not finite, the frames repeat, the
                video's name cannot be a folder's name, or the version is whole already.
        """
        self._check(clip, annotation)
        folder = self._folder(self.begin(version), clip.name)
        (folder / _ROWS).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for labels, index, quality in zip(annotation.labels, clip.indices, annotation.quality, strict=True):
            write_mask(folder / f"{int(index):05d}.png", labels)
            area = float(is_object(labels).mean())
            rows.append(PARow(clip.name, int(index), round(float(quality), 6), area=round(area, 6)))
        write_atomically(folder / _ROWS, _to_csv(_sorted(rows)))

    @staticmethod
    def _check(clip: Clip, annotation: Annotation) -> None:
        if annotation.labels.shape != clip.frames.shape[:3]:
            raise DataError(
                f"Video '{clip.name}': annotation (T, H, W) {tuple(annotation.labels.shape)} does not fit its frames "
                f"{tuple(clip.frames.shape[:3])}. The annotator must label every frame at its full size."
            )
        if not np.isfinite(annotation.quality).all():
            raise DataError(f"Video '{clip.name}': quality is not finite, expected [0, 1]. Check the annotator.")
        if len(np.unique(clip.indices)) != len(clip.indices):
            raise DataError(f"Video '{clip.name}': a frame stands twice in the clip. Pass each frame once.")

    def is_written(self, version: int, video: str) -> bool:
        """Return whether ``video`` is finished in ``version``, be the version whole or not."""
        if self._published(version):
            return self._folder(self._whole(version), video).is_dir()
        return (self._folder(self._partial(version), video) / _ROWS).is_file()

    def publish(self, version: int) -> Path:
        """Make a version whole: merge the videos' rows into ``index.csv`` and rename the folder.

        Call it once all writers have finished (under DDP: on rank 0, after a barrier). Half-written videos are dropped.
        Publishing a whole version again, also one whose publishing was interrupted, is harmless.

        Args:
            version: number of the version.

        Returns:
            The folder ``v<version>``.

        Raises:
            DataError: no video of the version is finished.
        """
        whole, partial = self._whole(version), self._partial(version)
        if not self._published(version):
            folders = [path for path in partial.iterdir() if path.is_dir()] if partial.is_dir() else []
            finished = [folder for folder in folders if (folder / _ROWS).is_file()]
            if not finished:
                raise DataError(
                    f"PA version v{version} has no finished video in '{partial}', expected at least one. See the "
                    "skipped videos for the reasons, and check the tags, the thresholds and the evidence."
                )
            for folder in set(folders) - set(finished):
                shutil.rmtree(folder)
            rows = _sorted(row for folder in finished for row in _from_csv(folder / _ROWS))
            write_atomically(partial / _INDEX, _to_csv(rows))
            os.rename(partial, whole)
        for rows_file in whole.glob(f"*/{_ROWS}"):
            rows_file.unlink(missing_ok=True)
        return whole

    def _require(self, version: int) -> Path:
        if not self._published(version):
            have = ", ".join(f"v{number}" for number in self.versions()) or "none"
            raise DataError(
                f"PA version v{version} is not in '{self.root}' (whole versions: {have}). Run the recipe until it is "
                "published, or ask for one that is there."
            )
        return self._whole(version)

    def index(self, version: int) -> Index:
        """Return the rows of a whole version, sorted by (video, frame).

        Raises:
            DataError: the version is not there, or its ``index.csv`` cannot be read.
        """
        return _sorted(_from_csv(self._require(version) / _INDEX))

    def update_index(self, version: int, rows: Iterable[PARow]) -> None:
        """Replace ``index.csv`` of a whole version, atomically; the rows are sorted by (video, frame).

        Raises:
            DataError: the version is not there.
        """
        write_atomically(self._require(version) / _INDEX, _to_csv(_sorted(rows)))

    def read(self, version: int, video: str, frame: int) -> UInt8Array:
        """Read one mask of a whole version, also one that a person has edited.

        Args:
            version: number of the version.
            video: the video's name.
            frame: the frame's 0-based number in the source video.

        Returns:
            uint8 (H, W) class ids, 255 = void.

        Raises:
            DataError: version or mask is missing, or the file is not an indexed image.
        """
        path = self._folder(self._require(version), video) / f"{frame:05d}.png"
        if not path.is_file():
            raise DataError(
                f"PA '{path}' does not exist. Expected the mask of frame {frame} of video '{video}': restore the file, "
                f"or remove its line from '{self._whole(version) / _INDEX}'."
            )
        return read_mask(path)
