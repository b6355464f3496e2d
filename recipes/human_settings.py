"""What the settings of ``recipe=human`` may be, before any work begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf

from datamodules.target import TargetSource, tagged
from modules.checkpoints import to_plain
from modules.crf_predictor import check_crf
from modules.distributed import rank
from pseudolabel.bags_of_words import BagOfWordsSettings
from pseudolabel.detect_csv import COLUMNS
from pseudolabel.matching import Confidence
from pseudolabel.proposals import ProposalSettings
from pseudolabel.supervoxels import SupervoxelSettings
from pseudolabel.types import DataError, nearest_name
from pseudolabel.video_context_energy import Quality, VideoContextSettings

SWITCHES: dict[str, tuple[str, ...]] = {
    "labels": ("context", "image_level", "em"),
    "energy.confidence": get_args(Confidence),
    "energy.quality": get_args(Quality),
    "detector.name": ("hog", "csv", "torchvision", "trained", "cam", "motion"),
    "selection.weighting": ("quality", "none"),
    "rounds.criterion": ("miou_pa", "ric"),
    "extra.supervision": ("none", "boxes", "masks"),
}
"""The settings of the tables and what each may be."""

LEAST = {
    **dict.fromkeys(("selection.most", "rounds.max_epochs", "rounds.max_versions", "segmenter.batch_size"), 1),
    **dict.fromkeys(("segmenter.crop", "encoder2d.epochs", "extra.epochs", "key_frames.changes"), 1),
    **dict.fromkeys(("key_frames.most", "detector.most", "box_detector.epochs", "box_detector.batch_size"), 1),
    "negative_frames": 0,
    "finish.epochs": 0,
    "finish.average": 1,
    "extra.fill": 0,
}
"""Numbers and the least that each may be."""


PEOPLE = ("person", "people", "human", "adult", "man", "woman", "child", "baby", "pedestrian")
"""Targets that OpenCV's people detector is for."""


def check_human(cfg: DictConfig) -> None:
    """Refuse values that a later stage would stumble over, hours later.

    Raises:
        DataError: a value is out of its range or unknown; names the setting.
    """
    for key, known in SWITCHES.items():
        value = str(OmegaConf.select(cfg, key))
        if value not in known:
            raise DataError(f"{key}={value}{nearest_name(value, known) or ''}: expected {' or '.join(known)}.")
    for key, least in LEAST.items():
        value = OmegaConf.select(cfg, key)
        if (value is None and key != "key_frames.most") or (value is not None and not value >= least):
            raise DataError(f"{key}={value}: expected at least {least}.")
    if cfg.selection.negatives is None or not 0 <= cfg.selection.negatives < 1:
        raise DataError(f"selection.negatives={cfg.selection.negatives}: expected a share in [0, 1).")
    if not 0 <= cfg.supervoxels.level <= cfg.supervoxels.levels:
        raise DataError(
            f"supervoxels.level={cfg.supervoxels.level}: expected one of the levels 0..{cfg.supervoxels.levels}."
        )
    if cfg.get("images") is None or cfg.images.name == "none":
        if cfg.extra.supervision != "none":
            raise DataError(
                f"extra.supervision={cfg.extra.supervision} needs images with boxes or masks. Give images=folder "
                "images.root=…, or extra.supervision=none."
            )
        if cfg.detector.name == "trained":
            raise DataError(
                "detector.name=trained needs images of which the boxes are known. Give images=folder images.root=…, "
                "or another detector.name."
            )
    path = cfg.detector.path
    if cfg.detector.name in ("csv", "torchvision") and (path is None or not Path(path).is_file()):
        what = f"a table of boxes ({','.join(COLUMNS)})" if cfg.detector.name == "csv" else "the model's weights"
        raise DataError(f"detector.name={cfg.detector.name} needs {what}, got detector.path={path}. Give the file.")
    if (
        cfg.detector.name == "hog"
        and str(cfg.target if cfg.detector.label is None else cfg.detector.label) not in PEOPLE
    ):
        raise DataError(
            f"detector.name=hog finds people, but the target is '{cfg.target}'. Give detector.name=cam (attention of a "
            "classifier of the tags), trained (on boxes of images), csv or torchvision; or detector.label=person if "
            "these are people."
        )
    if cfg.detector.name == "csv" and cfg.detector.threshold is None:
        raise DataError("detector.name=csv needs detector.threshold: a score above which a box counts, such as 0.3.")
    if not isinstance(cfg.detector.threshold, float | int | None) or isinstance(cfg.detector.threshold, bool):
        raise DataError(f"detector.threshold={cfg.detector.threshold}: expected a number, such as 0.3.")
    if cfg.detector.margins not in (None, True, False):
        raise DataError(f"detector.margins={cfg.detector.margins}: expected true, false or null.")
    if not 0 <= cfg.detector.share < 1:
        raise DataError(f"detector.share={cfg.detector.share}: expected a share of the highest attention in [0, 1).")
    if cfg.rounds.reinit and cfg.finish.epochs and cfg.finish.average > 1:
        raise DataError(
            f"finish.average={cfg.finish.average} with rounds.reinit=true: networks trained apart have no mean. "
            "Give finish.average=1, or rounds.reinit=false."
        )
    check_crf(cfg.crf)
    if cfg.proposals.path is not None and not Path(cfg.proposals.path).is_dir():
        raise DataError(f"proposals.path={cfg.proposals.path} is no folder. Give that of <video>/<frame>.npz.")
    if cfg.proposals.path is not None and not any(Path(cfg.proposals.path).iterdir()):
        raise DataError(f"proposals.path={cfg.proposals.path} is empty. Expected <video>/<frame>.npz in it.")
    for build in (supervoxel_settings, proposal_settings, word_settings, energy_settings):
        build(cfg)


def check_target(source: TargetSource, target: str) -> None:
    """Refuse data in which nothing shows the target, and tell where everything does.

    Raises:
        DataError: no training video is tagged with it.
    """
    if not tagged(source.select("train")):
        raise DataError(f"target={target}: no training video is tagged with it. Tag one, or change its split.")
    if all(record.tags for record in source.records) and rank() == 0:
        print(f"every video is tagged {target}: no frame is sure to lack it. Add videos without it if you can.")


def supervoxel_settings(cfg: DictConfig) -> SupervoxelSettings:
    """Return the settings of the supervoxels, without the level that is taken."""
    return SupervoxelSettings(**{key: value for key, value in to_plain(cfg.supervoxels).items() if key != "level"})


def proposal_settings(cfg: DictConfig) -> ProposalSettings:
    """Return the settings of the region tree."""
    options: dict[str, Any] = {key: value for key, value in to_plain(cfg.proposals).items() if key != "path"}
    return ProposalSettings(**options)


def word_settings(cfg: DictConfig) -> BagOfWordsSettings:
    """Return the settings of the bags of words."""
    return BagOfWordsSettings(**to_plain(cfg.bow))


def energy_settings(cfg: DictConfig) -> VideoContextSettings:
    """Return the settings of the energy."""
    margins = cfg.detector.name == "hog" if cfg.detector.margins is None else cfg.detector.margins
    return VideoContextSettings(**to_plain(cfg.energy), margins=margins)
