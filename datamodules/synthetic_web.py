"""A small web of videos that writes itself: a local catalogue with the real one's faults, and the truth about it.

Hong et al. 2017 search the web by the names of classes (section 4). What they must cope with is here: videos that never
show the class, intervals that do not, wrong search words and wrong thumbnails. The pictures are made as those of
:mod:`datamodules.synthetic`. The same options and seed always give the same web, whatever the number of workers.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed

from datamodules.progress import follow
from datamodules.studio.difficulty import Difficulty
from datamodules.studio.folders import write_once
from datamodules.studio.web_film import film_video
from datamodules.studio.web_stage import WebOptions
from pseudolabel.palette import read_mask
from pseudolabel.types import BACKGROUND, BoolArray, DataError, LabelSpace, Tag, UInt8Array, nearest_name

INTERVALS = "truth/intervals.csv"
VIDEOS = "truth/videos.csv"


class Interval(NamedTuple):
    """A time in which a class is really seen: seconds from ``start`` up to ``stop`` of a video."""

    id: str
    start: float
    stop: float
    name: str


class WebVideoTruth(NamedTuple):
    """What is true of a video.

    Attributes:
        id: its name in the catalogue.
        found_by: the class by whose name it is found.
        subject: the actor it is about, ``""`` for scenery; relevant if it is ``found_by``.
        thumbnail: the actor on its thumbnail, ``""`` for none.
    """

    id: str
    found_by: str
    subject: str
    thumbnail: str


def generate_web(
    root: Path | str,
    *,
    classes: Sequence[str],
    videos_per_class: int = 16,
    size: Sequence[int] = (96, 128),
    fps: float = 10.0,
    seconds: Sequence[float] = (10.0, 18.0),
    shot_seconds: Sequence[float] = (4.0, 8.0),
    key_frame_seconds: float = 1.5,
    mask_every: int = 5,
    irrelevant_videos: float = 0.3,
    irrelevant_intervals: float = 0.25,
    wrong_keywords: float = 0.15,
    wrong_thumbnails: float = 0.15,
    idle: float = 0.15,
    missing_thumbnails: int = 0,
    cut_short: int = 0,
    duplicate_ids: int = 0,
    seed: int = 0,
    workers: int = 2,
    **difficulty: float,
) -> Path:
    """Write the web, unless it is there already.

    The folder holds ``catalogue.csv`` (id, title, keywords joined by ``;``, video, thumbnail, duration in seconds;
    paths are relative to the folder) with ``videos/<id>.mp4`` and ``thumbnails/<id>.jpg``, and, for scoring only, what
    :class:`SyntheticWeb` reads. Its name is a hash of all options but ``workers``; see
    :func:`datamodules.studio.folders.write_once`.

    A video is about one subject: the class by whose name it is found, or, if it is irrelevant, another actor or no
    actor at all. All of it but the irrelevant intervals shows that subject, one actor at a time.

    Args:
        root: where the folder is made.
        classes: actors, names of :data:`datamodules.studio.actors.BODIES`; what else is seen is no class.
        videos_per_class: videos found by the name of each class.
        size: (H, W) in pixels, even.
        fps: frames per second.
        seconds: shortest and longest video.
        shot_seconds: about the shortest and longest shot; a video has two at least. A window around a key frame reaches
            over the cuts beside it, so the shorter the shots, the more of what even a perfect classifier keeps is
            irrelevant.
        key_frame_seconds: longest time between two key frames; there is one at every cut as well.
        mask_every: every so many frames of a video, from the first, have a true mask.
        irrelevant_videos: share of a class's videos that never show it; one at least does.
        irrelevant_intervals: share of the shots that do not show their video's subject, but scenery or another actor;
            one at least does.
        wrong_keywords: share of the relevant videos that are found by the name of another class as well.
        wrong_thumbnails: share of the relevant videos whose thumbnail shows scenery or another actor, and of the
            irrelevant ones whose thumbnail shows the class.
        idle: share of the shots with an actor in which it stands still before a still camera.
        missing_thumbnails: videos whose thumbnail is not there.
        cut_short: videos whose file ends in the middle.
        duplicate_ids: videos that the catalogue lists twice.
        seed: other seeds give another web.
        workers: processes that render.
        **difficulty: see :class:`datamodules.studio.difficulty.Difficulty`, all but ``several``.

    Returns:
        The folder of ``catalogue.csv``.

    Raises:
        DataError: an option is unknown or out of range, or the folder holds something else.
    """
    if "several" in difficulty:
        raise DataError("Synthetic web: a shot shows one actor at most, so there is no option `several`. Leave it out.")
    options = WebOptions(
        classes=tuple(classes),
        videos_per_class=videos_per_class,
        size=tuple(map(int, size)),  # type: ignore[arg-type]
        fps=float(fps),
        seconds=tuple(map(float, seconds)),  # type: ignore[arg-type]
        shot_seconds=tuple(map(float, shot_seconds)),  # type: ignore[arg-type]
        key_frame_seconds=float(key_frame_seconds),
        mask_every=mask_every,
        irrelevant_videos=float(irrelevant_videos),
        irrelevant_intervals=float(irrelevant_intervals),
        wrong_keywords=float(wrong_keywords),
        wrong_thumbnails=float(wrong_thumbnails),
        idle=float(idle),
        missing_thumbnails=missing_thumbnails,
        cut_short=cut_short,
        duplicate_ids=duplicate_ids,
        seed=seed,
        difficulty=replace(Difficulty.from_options(difficulty), several=0.0),
    )
    return write_once(root, options.fingerprint, lambda folder: _write(folder, options, workers), what="synthetic web")


def seen_intervals(seen: BoolArray, names: Sequence[str], *, fps: float, video: str) -> list[Interval]:
    """Return the runs of frames in which a class is seen, in the order of time.

    Args:
        seen: (T, C), whether a class is seen in a frame.
        names: of the C classes.
        fps: frames per second.
        video: id of the video.
    """
    intervals = []
    for name, column in zip(names, seen.T, strict=True):
        turns = np.flatnonzero(np.diff(np.concatenate([[False], column, [False]]).astype(np.int8)))
        intervals += [Interval(video, float(a) / fps, float(b) / fps, name) for a, b in turns.reshape(-1, 2)]
    return sorted(intervals)


def _write(folder: Path, options: WebOptions, workers: int) -> None:
    """Render all videos and write the tables."""
    videos = options.videos()
    for name in ("videos", "thumbnails", "masks", "truth"):
        (folder / name).mkdir()
    jobs = Parallel(n_jobs=workers, return_as="generator")(
        delayed(film_video)(folder, video, options) for video in videos
    )
    seen = list(follow(jobs, "writing a synthetic web", total=len(videos)))
    listed = [*videos, *(video for video in videos if video.listed_twice)]
    _write_table(
        folder / "catalogue.csv",
        ["id", "title", "keywords", "video", "thumbnail", "duration"],
        (
            [
                video.id,
                video.title,
                ";".join(video.keywords),
                f"videos/{video.id}.mp4",
                f"thumbnails/{video.id}.jpg",
                f"{video.frames / options.fps:.3f}",
            ]
            for video in listed
        ),
    )
    _write_table(
        folder / INTERVALS,
        ["id", "start", "stop", "class"],
        (
            [row.id, f"{row.start:.3f}", f"{row.stop:.3f}", row.name]
            for video, columns in zip(videos, seen, strict=True)
            for row in seen_intervals(columns, options.classes, fps=options.fps, video=video.id)
        ),
    )
    _write_table(
        folder / VIDEOS,
        ["id", "found_by", "subject", "thumbnail"],
        ([video.id, video.found_by, video.subject, video.pictured] for video in videos),
    )
    (folder / "classes.txt").write_text("\n".join((BACKGROUND, *options.classes)) + "\n", encoding="utf-8")


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)


class SyntheticWeb:
    """The truth about a synthetic web. For scoring only: nothing here may be used to train or to choose.

    Args:
        root: the folder of :func:`generate_web`.

    Attributes:
        root: the folder.
        label_space: its classes.
        videos: id -> what the video is about.

    Raises:
        DataError: the folder holds no synthetic web.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        names = self._lines("classes.txt")[1:]
        self.label_space = LabelSpace(tuple(map(Tag, names)))
        self.videos = {row[0]: WebVideoTruth(*row) for row in csv.reader(self._lines(VIDEOS)[1:])}
        rows = csv.reader(self._lines(INTERVALS)[1:])
        self._intervals = [Interval(video, float(start), float(stop), name) for video, start, stop, name in rows]

    def _lines(self, name: str) -> list[str]:
        try:
            return (self.root / name).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise DataError(
                f"{self.root} holds no synthetic web: expected the file {name}, got: {error}. Give the folder that "
                "`generate_web` returns."
            ) from error

    def intervals(self, video: str | None = None, *, name: str | None = None) -> list[Interval]:
        """Return when classes are seen, in the order of the catalogue.

        Args:
            video: id of the only video asked about, None = all.
            name: the only class asked about, None = all.

        Raises:
            DataError: no such video or class.
        """
        if video is not None:
            self._check(video)
        if name is not None:
            self.label_space.index(Tag(name))
        return [row for row in self._intervals if video in (None, row.id) and name in (None, row.name)]

    def annotated(self, video: str) -> tuple[int, ...]:
        """Return the 0-based numbers of a video's frames with a mask, rising.

        Raises:
            DataError: no such video.
        """
        self._check(video)
        return tuple(sorted(int(file.stem) for file in (self.root / "masks" / video).glob("*.png")))

    def mask(self, video: str, frame: int) -> UInt8Array | None:
        """Return the true mask of a frame, uint8 (H, W), places in ``label_space``; None if it was not annotated.

        Raises:
            DataError: no such video, or the file is broken.
        """
        self._check(video)
        path = self.root / "masks" / video / f"{frame:05d}.png"
        return read_mask(path) if path.exists() else None

    def _check(self, video: str) -> None:
        if video not in self.videos:
            raise DataError(
                f"{self.root} has no video '{video}'{nearest_name(video, self.videos) or '.'} See {VIDEOS}."
            )
