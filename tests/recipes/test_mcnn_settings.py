from __future__ import annotations

from pathlib import Path

import pytest

from pseudolabel.labellers import EmAdaptLabeller, MotionLabeller, NetworkLabeller
from pseudolabel.types import DataError
from recipes.mcnn_settings import check_mcnn, online_labels
from tests.recipes.moving import mcnn_config

HERE = Path("unused")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("segmenter.init=imagenet", "segmenter.init=imagenet: expected null or encoder2d"),
        ("labels.mode=never", "labels.mode=never: expected online or epoch"),
        ("segmenter.model.decision=object", "segmenter.model.decision=object: expected likeliest or object_first"),
        ("segmenter.model.test_scales=[1.0,0.0]", "expected numbers above 0"),
        ("shots.longest=0", "shots.longest=0: expected at least 1"),
        ("shots.longest=5", "shots.longest=5 is shorter than shots.least_frames=6"),
        ("stage_a.steps=0", "stage_a.steps=0: expected at least 1"),
        ("finetune.alpha=-1.0", "finetune.alpha=-1.0: expected at least 0"),
        ("score_frames=0", r"score_frames=0: expected null \(all\) or at least 1"),
        ("shots.least_share=0.6", "shots.least_share=0.6 and shots.most_share=0.5"),
        ("labels.lag=-1", "lag >= 0"),
        ("energy.iterations=0", "iterations must be >= 1"),
        ("motion.preset=robbust", "unknown preset 'robbust'"),
        ("colocalise.high=1.5", "high must be in"),
    ],
)
def test_wrong_values_end_at_once(setting: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_mcnn(mcnn_config(HERE, HERE, [setting]))


def test_portions_of_em_adapt_are_looked_at() -> None:
    with pytest.raises(DataError, match="background"):
        check_mcnn(mcnn_config(HERE, HERE, ["labels.name=em_adapt", "em_adapt.background=1.5"]))


def test_what_labels_shots_and_images() -> None:
    cfg = mcnn_config(HERE, HERE, ["energy.iterations=3", "with_images.labels=network"])
    check_mcnn(cfg)
    labellers = online_labels(cfg, alpha=2.5).labellers
    shot, image = labellers["shot"], labellers["image"]
    assert isinstance(shot, MotionLabeller) and (shot.settings.alpha, shot.settings.iterations) == (2.5, 3)
    assert isinstance(image, NetworkLabeller) and image.settings == shot.settings
    other = online_labels(mcnn_config(HERE, HERE, ["with_images.labels=em_adapt"]), alpha=1.0).labellers
    assert isinstance(other["shot"], MotionLabeller) and isinstance(other["image"], EmAdaptLabeller)
    em = online_labels(mcnn_config(HERE, HERE, ["labels.name=em_adapt"]), alpha=1.0).labellers
    assert all(isinstance(labeller, EmAdaptLabeller) for labeller in em.values())
