"""The rows of M-CNN's tables: which settings each changes, and what it has in common with the complete method."""

from __future__ import annotations

from benchmarks.variants import Changes

_NO_MORE = {"finetune.enabled": False, "twin": False, "colocalise.enabled": False}
"""What only the complete method does."""

ITERATIONS = (1, 2, 3, 4, 5)

ALPHAS = (0.5, 1.0, 2.0, 3.0, 10.0)

IMAGES = {"em_adapt": "images-em", "network": "images-network"}
"""The variant for each value of ``with_images.labels``; ``m-cnn`` is one of the two."""

VARIANTS: dict[str, Changes] = {
    "m-cnn": {},
    "hard": {"labels.name": "hard", **_NO_MORE},
    "em-large": {"labels.name": "em_adapt", **_NO_MORE},
    "em-small": {"labels.name": "em_adapt", "segmenter.model.head": "small_fov", **_NO_MORE},
    "small": {"segmenter.model.head": "small_fov", **_NO_MORE},
    "per-epoch": {"labels.mode": "epoch", **_NO_MORE},
    "em-images": {"train_on": "images", "labels.name": "em_adapt", **_NO_MORE},
    "em-images-small": {
        "train_on": "images",
        "labels.name": "em_adapt",
        "segmenter.model.head": "small_fov",
        **_NO_MORE,
    },
    **{
        name: {"with_images.labels": labels, "twin": False, "colocalise.enabled": False}
        for labels, name in IMAGES.items()
    },
    **{f"iterations-{n}": {"energy.iterations": n, **_NO_MORE} for n in ITERATIONS},
    **{f"alpha-{a:g}": {"labels.alpha": a, **_NO_MORE} for a in ALPHAS},
    **{
        f"tune-alpha-{a:g}": {
            "finetune.alpha": a,
            "with_images.enabled": False,
            "twin": False,
            "colocalise.enabled": False,
        }
        for a in ALPHAS
    },
}
"""The settings that each row changes; everything else is as given."""

_LATER = {"twin", "colocalise.enabled", "finetune.enabled"}

_ENCODER = (
    "encoder2d.",
    "segmenter.init",
    *(f"segmenter.model.{key}" for key in ("backbone", "weights", "mean", "std")),
)
"""Beginnings of the keys on which the tag classifier depends whose backbone starts the segmenters."""

_FIRST_STAGE = (
    "labels.",
    "energy.",
    "em_adapt.",
    "segmenter.",
    "encoder2d.",
    "train_on",
    "stage_a.",
    "motion.",
    "shots.",
)
"""Beginnings of the keys on which stage A depends."""


def shared_stages(changes: Changes) -> dict[str, str]:
    """Return the stages that a variant has in common with ``m-cnn``, and their folders."""
    stages = {"motion": "pa/v0"}
    mine = set(changes) - _LATER
    if not any(key.startswith(_ENCODER) for key in mine):
        stages["encoder2d"] = "encoder2d"
    if not any(key.startswith(_FIRST_STAGE) for key in mine):
        stages["stage_a"] = "stage_a"
        if not any(key.startswith("finetune.") for key in mine):
            stages["stage_b"] = "stage_b"
    return stages
