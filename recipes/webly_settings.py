"""What the settings of ``recipe=webly`` may be, before any work begins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from datamodules.web.settings import RetrieveSettings
from modules.checkpoints import to_plain
from pseudolabel.types import DataError
from pseudolabel.video_graph_settings import VideoGraphSettings

SWITCHES: dict[str, tuple[str, ...]] = {
    "training": ("separate", "end_to_end"),
    "adapt.train": ("decoder", "all"),
}
"""The settings of the tables and what each may be."""

PARTS = ("motion", "attention", "attention_motion", "attention_colour")
"""What the segmentation of videos is compared with: the same cut with fewer terms."""

LEAST = {
    **dict.fromkeys(("encoder2d.epochs", "encoder2d.batch_size", "decoder.steps", "decoder.batch_size"), 1),
    **dict.fromkeys(("decoder.crop", "adapt.steps", "data.frames_per_video"), 1),
    **dict.fromkeys(("decoder.end_to_end_steps", "relevance.more_than"), 0),
}
"""Numbers and the least that each may be."""


def check_webly(cfg: DictConfig) -> None:
    """Refuse values that a later stage would stumble over, hours later.

    Raises:
        DataError: a value is out of its range or unknown; names the setting.
    """
    for key, known in SWITCHES.items():
        if OmegaConf.select(cfg, key) not in known:
            raise DataError(f"{key}={OmegaConf.select(cfg, key)}: expected {' or '.join(known)}.")
    for key, least in LEAST.items():
        value = OmegaConf.select(cfg, key)
        if value is None or not value >= least:
            raise DataError(f"{key}={value}: expected at least {least}.")
    if not 0 <= cfg.relevance.threshold <= 1:
        raise DataError(f"relevance.threshold={cfg.relevance.threshold}: expected a probability in [0, 1].")
    if not 0 < cfg.adapt.foreground < 1:
        raise DataError(f"adapt.foreground={cfg.adapt.foreground}: expected a probability between 0 and 1.")
    if not 0 <= cfg.adapt.margin < 1:
        raise DataError(f"adapt.margin={cfg.adapt.margin}: expected a difference of probabilities in [0, 1).")
    if not 0 <= cfg.relevance.least_area < 1:
        raise DataError(f"relevance.least_area={cfg.relevance.least_area}: expected a share of the frame in [0, 1).")
    if not cfg.attention.scales or min(cfg.attention.scales) <= 0:
        raise DataError(f"attention.scales={list(cfg.attention.scales)}: expected positive factors, one at least.")
    if cfg.compare_videos is not None and not cfg.compare_videos >= 1:
        raise DataError(f"compare_videos={cfg.compare_videos}: expected null or at least 1.")
    for part in cfg.compare:
        if part not in PARTS:
            raise DataError(f"compare: unknown '{part}'. Expected some of {', '.join(PARTS)}.")
    RetrieveSettings(**to_plain(cfg.retrieval))
    graph_settings(cfg)


def graph_settings(cfg: DictConfig) -> VideoGraphSettings:
    """Return the settings of the segmentation of videos.

    Raises:
        DataError: a value is out of its range.
    """
    return VideoGraphSettings(**to_plain(cfg.graph))


def part_of(settings: VideoGraphSettings, part: str) -> VideoGraphSettings:
    """Return the settings with the terms of ``part`` alone (:data:`PARTS`).

    ``motion`` keeps its colours, which then start from motion: that is a motion segmentation (Papazoglou and Ferrari).
    """
    off = {
        "motion": ("lambda_a",),
        "attention": ("lambda_m", "lambda_c"),
        "attention_motion": ("lambda_c",),
        "attention_colour": ("lambda_m",),
    }
    weights: dict[str, Any] = dict.fromkeys(off[part], 0.0)
    if part == "attention":
        weights["attention_floor"] = 0.0  # with nothing beside it, it must speak against as well
    return replace(settings, **weights)
