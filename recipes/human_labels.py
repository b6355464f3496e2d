"""What labels and what selects in recipe human, as the configuration names it (Liang et al. 2017, Sec. 3.2 and 4.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from callbacks.rounds import Selector
from datamodules.key_frame_store import KeyFrameStore
from datamodules.target import TargetSource
from datamodules.video import VideoReader
from modules.segmenter import Segmenter
from pseudolabel.sampling import sample_uniformly
from pseudolabel.store import Index, PAStore
from pseudolabel.target_annotators import TARGET, ImageLevelAnnotator, TaggedOnly
from pseudolabel.types import Annotator
from pseudolabel.video_context_annotator import VideoContextAnnotator
from recipes.human_settings import energy_settings
from recipes.human_videos import ContextStore, shots_by_frame
from recipes.key_frame_weights import KeyFrameSelector, surviving_frames
from recipes.workspace import Workspace


def key_frame_workspace(
    cfg: DictConfig, folder: Path, source: TargetSource, key_frames: KeyFrameStore, lost: Sequence[tuple[str, str]]
) -> Workspace:
    """Open the videos with their key frames; a few frames stand for each video without the tag.

    Args:
        cfg: the whole configuration.
        folder: of the run.
        source: the data; videos that cannot be used are taken out of it.
        key_frames: of the videos that carry the tag.
        lost: (video, reason) of those that could not be segmented.
    """
    reasons = dict(lost)
    chosen: dict[str, Sequence[int]] = {}
    for record in source.records:
        if record.split == "test":
            chosen[record.name] = record.annotated[:1] or [0]
        elif record.tags and record.name not in reasons:
            chosen[record.name] = key_frames.note(record.name)["indices"]
        elif not record.tags and cfg.negative_frames:
            chosen[record.name] = sample_uniformly(len(VideoReader(record.path)), cfg.negative_frames).tolist()
    source.records = [record for record in source.records if record.name in chosen]
    source.skipped.extend(pair for pair in reasons.items() if pair not in source.skipped)
    return Workspace(cfg, folder, source, frames=chosen, least_classes=1)


def annotator_of(cfg: DictConfig, contexts: ContextStore, untrained: Callable[[], Segmenter]) -> Annotator:
    """Return the annotator of ``cfg.labels``.

    Args:
        cfg: the whole configuration.
        contexts: of the videos that carry the tag.
        untrained: builds the network as it is before any training, for ``image_level`` and ``em``.
    """
    if cfg.labels == "context":
        return TaggedOnly(VideoContextAnnotator(contexts.load, label=TARGET, settings=energy_settings(cfg)))
    return TaggedOnly(ImageLevelAnnotator(untrained().predict_scores))


def selector_of(
    cfg: DictConfig,
    workspace: Workspace,
    videos: Sequence[str],
    store: PAStore,
    key_frames: KeyFrameStore,
    contexts: ContextStore,
) -> Selector:
    """Return the selector of ``cfg.labels``.

    Args:
        cfg: the whole configuration.
        workspace: the data.
        videos: those that are annotated.
        store: the versions.
        key_frames: have the shots.
        contexts: have the detections.
    """

    def training(index: Index) -> Index:
        return workspace.split_index(index, validation=False)

    if cfg.labels != "context":
        return surviving_frames(training, least=cfg.selection.least_share if cfg.labels == "em" else 0.0)
    shown = [name for name in videos if workspace.by_name[name].tags]
    least = -math.inf if cfg.selection.negative_score is None else cfg.selection.negative_score
    undetected = {
        name: {frame for frame, boxes in contexts.detections(name).items() if not (boxes.scores > least).any()}
        for name in videos
    }
    shots = shots_by_frame(key_frames, shown)
    return KeyFrameSelector(training, store, shots, undetected, cfg.selection, cfg.seed)
