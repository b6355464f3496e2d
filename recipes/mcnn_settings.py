"""What the settings of ``recipe=mcnn`` may be, and the objects that are made of them, before any work begins."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from omegaconf import DictConfig, OmegaConf

from callbacks.online_labels import OnlineLabels
from modules.checkpoints import to_plain
from modules.crf_predictor import check_crf
from modules.losses import CLASS_UNITS
from modules.segmenter import check_scales
from pseudolabel.colocalise import ColocaliseSettings
from pseudolabel.decision import Decision
from pseudolabel.labellers import EmAdaptLabeller, make_labeller
from pseudolabel.motion_settings import motion_settings
from pseudolabel.types import DataError

SWITCHES: dict[str, tuple[str | None, ...]] = {
    "labels.name": ("motion", "hard", "em_adapt"),
    "labels.mode": ("online", "epoch"),
    "with_images.labels": ("network", "em_adapt"),
    "train_on": ("videos", "images"),
    "segmenter.init": (None, "encoder2d"),
    "segmenter.class_weights": CLASS_UNITS,
    "segmenter.model.decision": get_args(Decision),
}
"""The settings of the tables and what each may be."""

LEAST = {
    **dict.fromkeys(("shots.least_frames", "shots.count", "shots.longest"), 1),
    **dict.fromkeys(("stage_a.steps", "finetune.steps", "with_images.steps"), 1),
    **dict.fromkeys(("segmenter.crop", "colocalise.num_superpixels"), 1),
    **dict.fromkeys(("labels.alpha", "finetune.alpha"), 0),
}
"""Numbers and the least that each may be."""


def check_mcnn(cfg: DictConfig) -> None:
    """Refuse values that a later stage would stumble over, hours later.

    Raises:
        DataError: a value is out of its range or unknown; names the setting.
    """
    for key, known in SWITCHES.items():
        if OmegaConf.select(cfg, key) not in known:
            expected = " or ".join("null" if name is None else name for name in known)
            raise DataError(f"{key}={OmegaConf.select(cfg, key)}: expected {expected}.")
    for key, least in LEAST.items():
        if not OmegaConf.select(cfg, key) >= least:
            raise DataError(f"{key}={OmegaConf.select(cfg, key)}: expected at least {least}.")
    if cfg.score_frames is not None and not cfg.score_frames >= 1:
        raise DataError(f"score_frames={cfg.score_frames}: expected null (all) or at least 1.")
    check_crf(cfg.crf)
    check_scales(to_plain(cfg.segmenter.model.test_scales))
    shots = cfg.shots
    if not 0 <= shots.least_share <= shots.most_share <= 1:
        raise DataError(
            f"shots.least_share={shots.least_share} and shots.most_share={shots.most_share}: expected shares of a "
            "frame in [0, 1], the least first."
        )
    if shots.longest < shots.least_frames:
        raise DataError(
            f"shots.longest={shots.longest} is shorter than shots.least_frames={shots.least_frames}: every shot would "
            "be dropped. Use a larger shots.longest."
        )
    motion_settings(**to_plain(cfg.motion))
    colocalise_options(cfg)
    for alpha in (cfg.labels.alpha, cfg.finetune.alpha):
        for labeller in online_labels(cfg, alpha=alpha).labellers.values():
            if isinstance(labeller, EmAdaptLabeller):  # it looks at its settings when it labels: one blank pixel
                blank = np.zeros((1, 1, 1), np.uint8)
                likely = np.full((1, 2, 1, 1), 0.5, np.float32)
                labeller(blank[..., None].repeat(3, -1), np.ones((1, 2), bool), likely, None, blank == 0)


def online_labels(cfg: DictConfig, *, alpha: float) -> OnlineLabels:
    """Return the callback that labels the batches of shots and of images.

    Args:
        cfg: the whole configuration.
        alpha: weight of the network's scores in the energy.

    Raises:
        DataError: a setting of the labels is unknown or out of its range.
    """
    name = cfg.labels.name
    still = name if name == "em_adapt" else cfg.with_images.labels
    energy, portions = {**to_plain(cfg.energy), "alpha": alpha}, to_plain(cfg.em_adapt)
    options: dict[str, dict[str, Any]] = {"motion": energy, "network": energy, "em_adapt": portions, "hard": {}}
    labellers = {
        "shot": make_labeller(name, **options[name]),
        "image": make_labeller(still, **options[still]),
    }
    modes = {key: cfg.labels[key] for key in ("mode", "lag", "workers")}
    return OnlineLabels(labellers, **modes)


def colocalise_options(cfg: DictConfig) -> dict[str, Any]:
    """Return the arguments of :func:`recipes.corloc.score_colocalisation` that are settings.

    Raises:
        DataError: a value is out of its range.
    """
    plain = {key: value for key, value in to_plain(cfg.colocalise).items() if key != "enabled"}
    superpixels = {key: plain.pop(key) for key in ("num_superpixels", "compactness")}
    return {**superpixels, "settings": ColocaliseSettings(**plain)}
