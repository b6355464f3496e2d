"""What labels and what selects in recipe human, as the configuration names it (Liang et al. 2017, Sec. 3.2 and 4.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from omegaconf import DictConfig

from callbacks.rounds import Selector
from datamodules.key_frame_store import KeyFrameStore
from modules.distributed import rank
from modules.segmenter import Segmenter
from pseudolabel.store import Index, PAStore
from pseudolabel.target_annotators import TARGET, ImageLevelAnnotator, TaggedOnly
from pseudolabel.types import Annotator
from pseudolabel.video_context_annotator import VideoContextAnnotator
from recipes.context_store import ContextStore
from recipes.human_settings import energy_settings
from recipes.human_videos import shots_by_frame
from recipes.key_frame_weights import KeyFrameSelector, surviving_frames
from recipes.workspace import Workspace


def annotator_of(cfg: DictConfig, contexts: ContextStore, untrained: Callable[[], Segmenter]) -> Annotator:
    """Return the annotator of ``cfg.labels``.

    Args:
        cfg: the whole configuration.
        contexts: of the videos that carry the tag.
        untrained: builds the network as it is before any training, for ``image_level`` and ``em``.
    """
    if cfg.labels == "context":
        return TaggedOnly(VideoContextAnnotator(contexts.load, label=TARGET, settings=energy_settings(cfg)))
    return TaggedOnly(ImageLevelAnnotator(untrained().eval().predict_scores))


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
    others = [name for name in videos if name not in shown]
    if cfg.selection.negatives and others and not any(undetected[name] for name in others) and rank() == 0:
        print(
            f"no frame without {cfg.target} teaches: the detector found it in all frames that are looked at of videos "
            "without that tag. Raise selection.negative_score (boxes up to it do not count) or detector.threshold."
        )
    shots = shots_by_frame(key_frames, shown)
    return KeyFrameSelector(training, store, shots, undetected, cfg.selection, cfg.seed)
