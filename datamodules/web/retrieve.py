"""Retrieve from a noisy web what shows the classes, without looking at whole videos (Hong et al. 2017, section 4).

Search by the class's name; score the thumbnails; download only videos whose thumbnail passes; score their key frames,
the only frames decoded; keep two seconds around the best of those that pass.

A video that is found for two classes gives one set of clips for each: the gates look at the searched class only, so
the windows differ, and the paper's labels are one-hot "since a single keyword is used to retrieve each video". Two tags
on one set would claim of every window what was seen in some of them only.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path

from datamodules.progress import follow
from datamodules.web.job import Job
from datamodules.web.manifest import MANIFEST, Decision, ManifestWriter, Progress, one_line
from datamodules.web.settings import RetrieveSettings, Scorer
from datamodules.web.sources import WebVideoSource
from datamodules.web.summary import RetrievalSummary, Tally
from pseudolabel.palette import write_atomically
from pseudolabel.types import BACKGROUND, DataError, nearest_name

__all__ = ["RetrievalSummary", "RetrieveSettings", "Scorer", "retrieve"]

TAGS = "tags.csv"
PAPER = RetrieveSettings()


def retrieve(
    source: WebVideoSource,
    classes: Sequence[str],
    score: Scorer,
    folder: Path | str,
    *,
    settings: RetrieveSettings = PAPER,
    keywords: Mapping[str, str] | None = None,
    scorer: str = "",
) -> RetrievalSummary:
    """Fill a folder with clips that show the classes; ``data=videos data.root=<folder>`` reads it.

    Every clip is an H.264 mp4 with one row in ``tags.csv`` (video,class). ``manifest.csv`` has a row for every
    decision: what was kept and why. Stopped at any instant and started again with the same settings, it goes on: no
    search, batch of thumbnails or video that was finished is done again, and the result is the same.

    Args:
        source: where to search.
        classes: names of the classes; the label of a clip is the class that was searched.
        score: gives the scores, columns in the order of ``classes``.
        folder: where the result goes; made if it is not there.
        settings: thresholds and caps.
        keywords: class -> search word; a class without one is searched by its name.
        scorer: names what scores; a folder begun with another is refused.

    Raises:
        DataError: bad classes, keywords or scores; the folder holds a retrieval with other settings; no class has a
            hit; or nothing at all was kept (the manifest tells why).
        SourceUnavailable: the source does not answer, or no longer: call again to go on.
    """
    words = _search_words(classes, keywords)
    folder = Path(folder)
    options = {**asdict(settings), "classes": list(classes), "keywords": words, "source": source.name, "scorer": scorer}
    job = Job(source, classes, score, folder, settings, Progress(folder, options))
    hits = {name: job.search(name, words[name]) for name in classes}
    without = tuple(name for name in classes if not hits[name][0])
    if len(without) == len(classes):
        raise DataError(
            f"No video found in the {source.name} for any of {', '.join(map(repr, words.values()))}. "
            f"{len(source.skipped)} were skipped there (first: {source.skipped[:3]}). Give other `keywords`."
        )
    tally, tags = Tally(), list[tuple[str, str]]()
    with ManifestWriter(folder) as manifest:
        unusable = [Decision("", name, "", "search", False, reason) for name, reason in source.skipped]
        for decisions in [unusable, *(rows for _, rows in hits.values())]:
            manifest.write(decisions)
            tally.add(decisions)
        for place, name in enumerate(classes):
            later = {hit.id for other in classes[place + 1 :] for hit in hits[other][0]}
            found = hits[name][0]
            steps = job.collect(name, found, later)
            bar = follow(steps, f"retrieving {name}", total=len(found))
            for decisions in bar:
                manifest.write(decisions)
                tally.add(decisions)
                tags += [(row.file, name) for row in decisions if row.step == "window" and row.kept]
    shutil.rmtree(job.progress.downloads, ignore_errors=True)
    summary = tally.summary(folder, classes, without_hit=without, skipped=tuple(source.skipped))
    if not tags:
        raise DataError(
            f"Nothing was retrieved: of (kept, looked at) {summary.counts}. See {folder / MANIFEST} for every reason; "
            "lower the thresholds, search by other words, or train the scorer longer."
        )
    write_atomically(folder / TAGS, _tags(tags))
    return summary


def _search_words(classes: Sequence[str], keywords: Mapping[str, str] | None) -> dict[str, str]:
    """Check the classes and return the search word of each."""
    for name in classes:
        if not name or name != one_line(name) or name.lower() == BACKGROUND or classes.count(name) > 1:
            raise DataError(
                f"Retrieval: class {name!r} of {list(classes)}: expected names that differ, on one line, none of them "
                f"empty or '{BACKGROUND}'. Correct the classes."
            )
    if not classes:
        raise DataError("Retrieval: no classes. Name at least one.")
    for name, word in (keywords or {}).items():
        if name not in classes or not word.strip():
            raise DataError(
                f"Retrieval: the search word {word!r} is for '{name}'{nearest_name(name, classes) or '.'} Expected a "
                f"word for one of {', '.join(classes)}. Correct `keywords`."
            )
    return {name: (keywords or {}).get(name, name) for name in classes}


def _tags(rows: Sequence[tuple[str, str]]) -> bytes:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows([("video", "class"), *rows])
    return text.getvalue().encode()
