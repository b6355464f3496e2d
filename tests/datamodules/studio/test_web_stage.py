from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from datamodules.studio.actors import BODIES
from datamodules.studio.difficulty import Difficulty
from datamodules.studio.folders import folder_name
from datamodules.studio.still_life import poses_of
from datamodules.studio.web_stage import WebOptions
from pseudolabel.types import DataError

CLASSES = ("bird", "cat", "dog")


def options(**changed: Any) -> WebOptions:
    return WebOptions(
        **{
            "classes": CLASSES,
            "videos_per_class": 40,
            "size": (96, 128),
            "fps": 10.0,
            "seconds": (8.0, 16.0),
            "shot_seconds": (2.5, 5.0),
            "key_frame_seconds": 1.5,
            "mask_every": 5,
            "irrelevant_videos": 0.25,
            "irrelevant_intervals": 0.3,
            "wrong_keywords": 0.2,
            "wrong_thumbnails": 0.1,
            "idle": 0.2,
            "missing_thumbnails": 0,
            "cut_short": 0,
            "duplicate_ids": 0,
            "seed": 0,
            "difficulty": Difficulty(several=0.0),
            **changed,
        }
    )


def test_every_class_has_its_share_of_every_fault() -> None:
    videos = options().videos()
    assert Counter(video.found_by for video in videos) == dict.fromkeys(CLASSES, 40)
    assert len({video.id for video in videos}) == len({video.seed for video in videos}) == 120
    for name in CLASSES:
        results = [video for video in videos if video.found_by == name]
        relevant = [video for video in results if video.relevant]
        irrelevant = [video for video in results if not video.relevant]
        # Shares of 40 and 30 videos that come out whole, so no rounding at random.
        assert len(irrelevant) == 10
        assert sum(set(video.keywords) & set(CLASSES) != {name} for video in relevant) == 6
        assert all(set(video.keywords) & set(CLASSES) == {name} for video in irrelevant)
        assert sum(video.poster is not None for video in relevant) == 3
        assert sum(video.poster is not None for video in irrelevant) == 1


def test_what_is_wrong_is_really_wrong() -> None:
    videos = options(wrong_thumbnails=0.5).videos()
    for video in videos:
        assert video.found_by in video.keywords and video.found_by in video.title.lower()
        assert any(shot.actor == video.subject for shot in video.shots)
        if video.relevant:
            assert video.poster is None or video.pictured != video.found_by
        else:
            assert all(shot.actor != video.found_by for shot in video.shots)
            assert video.pictured == (video.found_by if video.poster else video.subject)
        assert video.poster is None or video.poster.frames == 1
    subjects = {video.subject for video in videos if not video.relevant}
    assert subjects == {"", *BODIES}  # scenery, other classes, and actors that are no class
    assert {video.pictured for video in videos if video.relevant and video.poster} >= {"", "ball"}


def test_shots_fill_the_video_and_keep_to_their_lengths() -> None:
    lengths = []
    for video in options().videos():
        assert 80 <= video.frames <= 160 and len(video.shots) >= 2
        lengths += [shot.frames for shot in video.shots]
        for shot in video.shots:
            assert shot.tag is None or shot.tag.action in poses_of(shot.tag.actor)
    assert min(lengths) >= 17 and max(lengths) <= 60
    assert np.mean(lengths) == pytest.approx(37.5, rel=0.1)


def test_shares_of_shots() -> None:
    relevant = [video for video in options(videos_per_class=200).videos() if video.relevant]
    shots = [shot for video in relevant for shot in video.shots]
    beside = sum(shot.actor != video.subject for video in relevant for shot in video.shots)
    assert beside / len(shots) == pytest.approx(0.3, abs=0.04)
    acted = [shot for shot in shots if shot.tag]
    assert sum(shot.idle for shot in acted) / len(acted) == pytest.approx(0.2, abs=0.04)
    assert not any(shot.idle for shot in shots if shot.tag is None)
    nothing_else = options(irrelevant_intervals=1.0).videos()
    # One shot of each video shows its subject even then; scenery beside scenery cannot be told apart.
    assert all(sum(shot.actor == video.subject for shot in video.shots) == 1 for video in nothing_else if video.subject)


def test_small_shares_hold_on_average_and_one_video_is_relevant() -> None:
    found = [
        sum(not video.relevant for video in options(videos_per_class=3, seed=seed, irrelevant_videos=0.1).videos())
        for seed in range(60)
    ]
    assert sum(found) / (60 * 9) == pytest.approx(0.1, abs=0.05)
    assert Counter(
        video.found_by for video in options(videos_per_class=3, irrelevant_videos=1.0).videos() if video.relevant
    ) == dict.fromkeys(CLASSES, 1)


def test_file_faults_hit_as_many_videos_as_asked_and_none_twice() -> None:
    videos = options(missing_thumbnails=3, cut_short=2, duplicate_ids=1).videos()
    faults = [(video.thumbnail_missing, video.cut_short, video.listed_twice) for video in videos]
    assert np.sum(faults, axis=0).tolist() == [3, 2, 1]
    assert max(map(sum, faults)) == 1
    plain = options().videos()
    assert [video.id for video in videos] == [video.id for video in plain]
    assert [video.shots for video in videos] == [video.shots for video in plain]


def test_order_is_not_that_of_the_classes_and_the_seed_decides() -> None:
    order = [video.found_by for video in options().videos()]
    assert order != sorted(order)
    assert options().videos() == options().videos()
    assert {video.id for video in options().videos()}.isdisjoint(video.id for video in options(seed=1).videos())
    assert folder_name(options().fingerprint) != folder_name(options(seed=1).fingerprint)


def test_video_does_not_depend_on_how_many_are_found_for_other_classes() -> None:
    both = {video.id: video for video in options(wrong_keywords=0.0).videos()}
    alone = options(classes=("bird",), wrong_keywords=0.0).videos()
    assert all(both[video.id] == video for video in alone)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": ("cat", "brid")}, "'brid'; did you mean 'bird'"),
        ({"classes": ("cat", "cat")}, "each once"),
        ({"classes": ()}, "one class or more"),
        ({"classes": ("cat",)}, "Add a class"),
        ({"size": (95, 128)}, "even and at least 16"),
        ({"size": (96,)}, "even and at least 16"),
        ({"videos_per_class": 0}, "at least 1"),
        ({"mask_every": 0}, "at least 1"),
        ({"seed": -1}, "seed at least 0"),
        ({"fps": 0.0}, "must be positive"),
        ({"key_frame_seconds": 0.0}, "must be positive"),
        ({"seconds": (9.0, 8.0)}, r"seconds must be \(shortest, longest\)"),
        ({"shot_seconds": (0.1, 5.0)}, r"two frames at least \(0.2 s\)"),
        ({"seconds": (8.0,)}, "shortest, longest"),
        ({"irrelevant_videos": 1.1}, "irrelevant_videos is a share"),
        ({"idle": -0.1}, "idle is a share"),
        ({"missing_thumbnails": 100, "cut_short": 21}, "at most 120 in all"),
        ({"duplicate_ids": -1}, "at least 0"),
    ],
)
def test_bad_options_are_data_errors(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        options(**changed)
