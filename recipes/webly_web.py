"""The web of ``recipe=webly``: which one, what is retrieved from it, and, where it is known, how well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import DictConfig

from datamodules.synthetic_web import SyntheticWeb, generate_web
from datamodules.video import VideoReader
from datamodules.web.catalogue import Catalogue
from datamodules.web.manifest import MANIFEST, read_manifest
from datamodules.web.quality import Quality, key_frame_quality, retrieval_quality
from datamodules.web.retrieve import retrieve
from datamodules.web.settings import RetrieveSettings
from datamodules.web.sources import WebVideoSource
from datamodules.web.youtube import YouTube
from modules.checkpoints import to_plain
from modules.encoder2d import Encoder2D
from pseudolabel.palette import write_mask
from pseudolabel.types import DataError, LabelSpace, Tag


class Web(NamedTuple):
    """Where videos are searched, and the truth about them: None unless they are generated."""

    source: WebVideoSource
    truth: SyntheticWeb | None


def is_web(data: DictConfig) -> bool:
    """Whether the videos are to be retrieved; else they are a data set's."""
    return data.name in WEBS


def web_space(data: DictConfig) -> LabelSpace:
    """Return the classes that are searched.

    Raises:
        DataError: none are named.
    """
    names = [str(name) for name in data.classes or ()]
    if not names:
        raise DataError(f"data={data.name} needs the classes to search for. Give data.classes=[cat,dog].")
    return LabelSpace.from_tags(map(Tag, names))


def open_web(data: DictConfig) -> Web:
    """Open the web that the configuration names; a synthetic one is written first, unless it is there."""
    return WEBS[data.name](data)


def retrieve_videos(cfg: DictConfig, web: Web, space: LabelSpace, encoder: Encoder2D, folder: Path) -> dict[str, Any]:
    """Retrieve clips of the classes; true masks, where they are known, are laid beside them for scoring.

    Args:
        cfg: the whole configuration.
        web: where to search.
        space: the classes.
        encoder: scores thumbnails and key frames.
        folder: gets the clips, ``tags.csv`` and ``manifest.csv``.

    Returns:
        the summary as plain numbers, and ``quality`` where the truth is known.
    """
    classes = list(space.names[1:])
    order = [encoder.classes.index(name) for name in classes]
    keywords = to_plain(cfg.data.keywords) if cfg.data.keywords else None
    summary = retrieve(
        web.source,
        classes,
        lambda images: encoder.predict_probabilities(images)[:, order],
        folder,
        settings=RetrieveSettings(**to_plain(cfg.retrieval)),
        keywords=keywords,
    )
    found = {name: value for name, value in asdict(summary).items() if name not in ("folder", "seconds")}
    found["clip_seconds"] = summary.seconds  # a stage's own "seconds" is the time it took
    if web.truth is None:
        return found
    tables = folder / MANIFEST, web.truth.root / "truth" / "intervals.csv"
    quality = retrieval_quality(*tables)
    _write_truth(web.truth, folder)
    each = {name: _rates(of) for name, of in quality.classes.items()}
    key_frames = _rates(key_frame_quality(*tables))
    return {**found, "quality": {**_rates(quality.overall), "key_frames": key_frames, "classes": each}}


def retrieval_problems(cfg: DictConfig, found: Mapping[str, Any] | None, folder: Path) -> list[tuple[str, str]]:
    """Return what could not be read, and each class of which no clip was kept, both with the reason.

    Args:
        cfg: the whole configuration.
        found: what :func:`retrieve_videos` returned; None if nothing was retrieved.
        folder: of the clips.
    """
    if not found:
        return []
    limits, lines = cfg.retrieval, [(name, reason) for name, reason in found["skipped"]]
    for name in (name for name, clips in found["clips"].items() if not clips):
        scored, best = found["thumbnails"][name]
        if name in found["without_hit"]:
            reason = "its search word finds nothing; give another: data.keywords={" + name + ": …}"
        elif best <= limits.thumbnail:
            reason = (
                f"none of {scored} thumbnails scores above retrieval.thumbnail={limits.thumbnail} (best: {best:.2f}); "
                "lower it, or train the classifier longer (encoder2d.epochs)"
            )
        else:
            reason = f"no key frame scores above retrieval.key_frame={limits.key_frame}, or no video could be read"
        lines.append((name, f"no clip was found: {reason}. Every decision is in {folder / MANIFEST}"))
    return lines


def _rates(quality: Quality) -> dict[str, float | None]:
    shown = {"precision": quality.precision, "recall": quality.recall}
    return {name: None if np.isnan(rate) else round(rate, 4) for name, rate in shown.items()}


def _write_truth(truth: SyntheticWeb, folder: Path) -> None:
    """Write the true masks of the clips' frames, 0 and 255 as a video of one tag may have them; for scoring only."""
    for row in read_manifest(folder / MANIFEST):
        if row.step != "window" or not row.kept:
            continue
        fps = VideoReader(folder / row.file).fps
        first, last = round((row.start or 0.0) * fps), round((row.stop or 0.0) * fps)
        label = truth.label_space.index(Tag(row.name))
        target = folder / "masks" / Path(row.file).stem
        target.mkdir(parents=True, exist_ok=True)
        for frame in truth.annotated(row.id):
            mask = truth.mask(row.id, frame) if first <= frame < last else None
            if mask is not None:
                write_mask(target / f"{frame - first:05d}.png", ((mask == label) * np.uint8(255)).astype(np.uint8))


def _synthetic(data: DictConfig) -> Web:
    options = {**to_plain(data.source), "classes": list(web_space(data).names[1:])}
    root = generate_web(data.root, **options)
    return Web(Catalogue(root), SyntheticWeb(root))


WEBS: Mapping[str, Any] = {
    "synthetic_web": _synthetic,
    "catalogue": lambda data: Web(Catalogue(data.root), None),
    "youtube": lambda data: Web(YouTube(**to_plain(data.source)), None),
}
