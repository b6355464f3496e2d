"""A catalogue of videos on this machine, searched as the web is: a table, or a plain folder of videos."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datamodules.video_frames import VIDEO_SUFFIXES, natural_key
from datamodules.web.sources import VideoHit, WebVideoSource, decode_image
from datamodules.web.tables import read_seconds, read_table
from pseudolabel.types import DataError, UInt8Array

TABLE = "catalogue.csv"
COLUMNS = ("id", "title", "keywords", "video", "thumbnail")
EXAMPLE = (
    f"{','.join(COLUMNS)},duration\n"
    "a1,Rex in the park,dog;park,videos/a1.mp4,thumbnails/a1.jpg,61.5\n"
    "a2,My first flight,aeroplane;sky,videos/a2.mp4,thumbnails/a2.jpg,"
)
THUMBNAIL_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class _Entry:
    """A listed video, and the texts that a search word may stand in."""

    id: str
    title: str
    texts: tuple[str, ...]
    video: Path
    thumbnail: Path | None
    duration: float | None = None


class Catalogue(WebVideoSource):
    """Videos on this machine.

    ``catalogue.csv`` has the columns ``id,title,keywords,video,thumbnail`` and, if known, ``duration`` in seconds.
    ``keywords`` are search words joined by ``;``, the paths are relative to the folder. Without the table, every video
    of the folder with ``<name>.jpg`` (or png, webp) beside it is listed: its file name is its id and title; the words
    of the name and of the lines of ``<name>.txt``, if that is there, are its search words.

    A search finds, in the order of the catalogue, the videos one of whose keywords holds the search word as a whole
    word, or its words in a row: "dog" finds "Hot dog" and not "dogma". Upper and lower case are one, and ``_``, ``-``
    and other marks separate words as spaces do.

    Args:
        root: the folder.

    Attributes:
        skipped: rows without an id, with the id of an earlier row, without their video or thumbnail.

    Raises:
        DataError: no such folder, a malformed table, or no usable video.
    """

    name = "catalogue"

    def __init__(self, root: Path | str) -> None:
        super().__init__()
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"Catalogue not found: {root} is no folder. Give the folder of {TABLE}, or of the videos.")
        table = self.root / TABLE
        self._entries: dict[str, _Entry] = {}
        for entry in self._listed(table) if table.is_file() else self._found():
            if reason := self._problem(entry):
                self.skipped.append((entry.id, reason))
            else:
                self._entries[entry.id] = entry
        if not self._entries:
            raise DataError(
                f"No usable video in the catalogue {root}: {len(self.skipped)} were skipped (first: "
                f"{self.skipped[:3]}). Expected {TABLE} such as\n{EXAMPLE}\nor videos ({', '.join(VIDEO_SUFFIXES)}) "
                "with a thumbnail `<name>.jpg` beside each. Put the files there or correct their names."
            )

    def _listed(self, table: Path) -> Iterator[_Entry]:
        """Read the table."""
        for line, row in read_table(table, COLUMNS, example=EXAMPLE):
            try:
                if not row["id"] or not row["video"]:
                    raise DataError(f"{table}, line {line}: no {'video' if row['id'] else 'id'}. Fill in the cell.")
                duration = read_seconds(table, line, row, "duration") if row.get("duration") else None
            except DataError as error:
                self.skipped.append((row["id"] or f"line {line}", str(error)))
                continue
            thumbnail = self.root / row["thumbnail"] if row["thumbnail"] else None
            texts = tuple(row["keywords"].split(";"))
            yield _Entry(row["id"], row["title"], texts, self.root / row["video"], thumbnail, duration)

    def _found(self) -> Iterator[_Entry]:
        """Look into a folder without a table."""
        videos = (path for path in self.root.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES and path.name[0] != ".")
        for video in sorted(videos, key=natural_key):
            beside = (video.with_name(video.stem + suffix) for suffix in THUMBNAIL_SUFFIXES)
            thumbnail = next((path for path in beside if path.is_file()), None)
            words = video.with_name(f"{video.stem}.txt")
            lines = words.read_text(encoding="utf-8-sig", errors="replace").splitlines() if words.is_file() else []
            yield _Entry(video.stem, video.stem, (video.stem, *lines), video, thumbnail)

    def _problem(self, entry: _Entry) -> str:
        """Return why a video cannot be used, or ""."""
        if first := self._entries.get(entry.id):
            return f"duplicate id: '{entry.id}' is listed before as {first.video}; this row, {entry.video}, is left out"
        if not entry.video.is_file():
            return f"video missing: {entry.video} does not exist"
        if entry.thumbnail is None:
            return f"thumbnail missing: none is given or lies beside {entry.video}"
        if not entry.thumbnail.is_file():
            return f"thumbnail missing: {entry.thumbnail} does not exist"
        return ""

    def search(self, keyword: str, limit: int) -> list[VideoHit]:
        """Return the first ``limit`` videos with the search word, in the order of the catalogue."""
        wanted = f" {_words(keyword)} "
        hits = [
            VideoHit(entry.id, entry.title, keyword, str(entry.thumbnail), entry.duration)
            for entry in self._entries.values()
            if any(wanted in f" {_words(text)} " for text in entry.texts)
        ]
        return hits[:limit] if wanted.strip() else []

    def thumbnail(self, hit: VideoHit) -> UInt8Array:
        """Read the thumbnail's file.

        Raises:
            DataError: it is gone, or no image.
        """
        path = self._entry(hit).thumbnail
        try:
            content = path.read_bytes() if path else b""
        except OSError as error:
            raise DataError(f"Thumbnail {path} cannot be read ({error}). Put it back.") from error
        return decode_image(content, str(path))

    def download(self, hit: VideoHit, folder: Path) -> Path:
        """Return the video's own file: nothing is copied."""
        return self._entry(hit).video

    def _entry(self, hit: VideoHit) -> _Entry:
        if hit.id not in self._entries:
            raise DataError(f"Video '{hit.id}' is not in the catalogue {self.root}, or no longer. Put it back.")
        return self._entries[hit.id]


def _words(text: str) -> str:
    """Return the words of a text, lower case, with one space between."""
    return " ".join(re.split(r"[\W_]+", text.casefold())).strip()
