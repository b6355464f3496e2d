"""What a retrieval leaves behind: ``manifest.csv`` with every decision, and the finished steps to go on from."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, cast, get_args

from datamodules.web.tables import read_seconds, read_table
from pseudolabel.palette import write_atomically
from pseudolabel.types import DataError

MANIFEST = "manifest.csv"
SETTINGS = "retrieval.json"
COLUMNS = ("class", "id", "title", "step", "seconds", "score", "kept", "reason", "file", "start", "stop")
EXAMPLE = f"{','.join(COLUMNS)}\ndog,a1,Rex in the park,window,4.000,0.970000,1,2 key frames,dog.a1.mp4,2.000,8.000"

Step = Literal["search", "thumbnail", "download", "key_frame", "window"]


@dataclass(frozen=True)
class Decision:
    """One row of the manifest.

    Attributes:
        name: the class that was searched, ``""`` for what the source itself left out.
        id: of the video in its source.
        title: its caption, on one line.
        step: where it was decided.
        seconds: time of the key frame, or of a window's best one, from the video's beginning; None = of no frame.
        score: of the class in [0, 1]; None = none was computed.
        kept: what was decided.
        reason: why, in words.
        file: of the window, in the folder of the manifest.
        start: of the window's first frame, in seconds.
        stop: end of the window's last frame, in seconds.
        broken: the video or its thumbnail could not be read, or only in part. Not a column.
    """

    name: str
    id: str
    title: str
    step: Step
    kept: bool
    reason: str
    seconds: float | None = None
    score: float | None = None
    file: str = ""
    start: float | None = None
    stop: float | None = None
    broken: bool = False

    def cells(self) -> list[str]:
        """Return its cells in the order of :data:`COLUMNS`: times to 1 ms, scores to 1e-6."""
        seconds, start, stop = (_number(value, 3) for value in (self.seconds, self.start, self.stop))
        score, reason = _number(self.score, 6), one_line(self.reason)
        return [
            *(self.name, one_line(self.id), one_line(self.title), self.step, seconds, score, str(int(self.kept))),
            *(reason, self.file, start, stop),
        ]


def one_line(text: str) -> str:
    """Return a text without line breaks and other control characters."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


class ManifestWriter:
    """Writes ``manifest.csv`` row by row, to be used in a ``with``; it is renamed from ``manifest.partial.csv``.

    Args:
        folder: where it goes.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / MANIFEST
        self._partial = self.path.with_suffix(".partial.csv")

    def __enter__(self) -> ManifestWriter:
        self._stream = self._partial.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._stream, lineterminator="\n")
        self._rows.writerow(COLUMNS)
        return self

    def write(self, decisions: Sequence[Decision]) -> None:
        """Append rows."""
        self._rows.writerows(decision.cells() for decision in decisions)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if kind is None:
            self._partial.replace(self.path)


def read_manifest(path: Path | str) -> Iterator[Decision]:
    """Yield the rows of a ``manifest.csv`` one by one.

    Raises:
        DataError: it is missing, no such table, or a row has an unknown step or a bad number.
    """
    path = Path(path)
    for line, row in read_table(path, COLUMNS, example=EXAMPLE):
        if row["step"] not in get_args(Step) or row["kept"] not in ("0", "1"):
            raise DataError(
                f"{path}, line {line}: step is '{row['step']}' and kept '{row['kept']}', expected one of "
                f"{', '.join(get_args(Step))} and 0 or 1. Restore the file."
            )
        seconds, score, start, stop = (
            read_seconds(path, line, row, column) if row[column] else None
            for column in ("seconds", "score", "start", "stop")
        )
        step = cast(Step, row["step"])
        decided = (row["class"], row["id"], row["title"], step, row["kept"] == "1", row["reason"])
        yield Decision(*decided, seconds, score, row["file"], start, stop)


class Progress:
    """The finished steps of a retrieval, each a JSON file that appears only when whole.

    Args:
        folder: of the retrieval.
        settings: what decides its result, plain values; once begun, the folder refuses others.

    Raises:
        DataError: the folder holds a retrieval with other settings, or its settings cannot be read.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.steps, self.downloads = folder / ".steps", folder / ".downloads"
        self.steps.mkdir(parents=True, exist_ok=True)
        self.downloads.mkdir(exist_ok=True)
        settings = json.loads(json.dumps(settings))
        path = folder / SETTINGS
        if path.exists():
            _refuse_others(path, settings)
        else:
            write_atomically(path, (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode())

    def once(self, step: str, work: Callable[[], Any]) -> Any:
        """Return what ``work`` returns, plain values, and never do it again.

        Args:
            step: a name for a file.
            work: does the step; an error leaves it undone.

        Raises:
            DataError: the file of the finished step is damaged.
        """
        path = self.steps / f"{step}.json"
        if not path.exists():
            write_atomically(path, json.dumps(work(), ensure_ascii=False).encode())
        try:
            return json.loads(path.read_bytes())
        except ValueError as error:
            raise DataError(f"{path} is damaged ({error}). Delete it, and the step is done again.") from error


def _refuse_others(path: Path, settings: dict[str, Any]) -> None:
    try:
        before = json.loads(path.read_bytes())
        changed = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}). Restore it, or choose another folder.") from error
    if changed:
        shown = "; ".join(f"{key}: {before.get(key)!r} there, {settings.get(key)!r} now" for key in changed)
        raise DataError(
            f"{path.parent} holds a retrieval with other settings ({shown}). Give the same settings to go on with it, "
            "or another folder to start anew."
        )
