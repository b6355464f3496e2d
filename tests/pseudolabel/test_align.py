from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest

from pseudolabel.align import ActionAligner, align_actions
from pseudolabel.types import DataError, LabelSpace, Tag

SPACE = LabelSpace(
    (Tag("cat", "running"), Tag("cat", "walking"), Tag("cat", "none"), Tag("dog", "walking"), Tag("dog", "running"))
)
RUN, WALK, NONE, DOG_WALK, DOG_RUN = 1, 2, 3, 4, 5


def video(ids: list[int], box: tuple[slice, slice] = (slice(4, 12), slice(4, 12))) -> np.ndarray:
    labels = np.zeros((len(ids), 32, 32), np.uint8)
    for frame, class_id in zip(labels, ids, strict=True):
        frame[box] = class_id
    return labels


def ids_of(labels: np.ndarray) -> list[int]:
    return labels[:, 8, 8].tolist()


def brute_force(labels: np.ndarray, radius: int) -> np.ndarray:
    """The rule of the docstring, with masks and dictionaries."""
    frames = []
    for frame in labels:
        instances = []
        for actor in range(1, len(SPACE.actors)):
            actor_mask = SPACE.project(frame, "actor") == actor
            count, found = cv2.connectedComponents(actor_mask.astype(np.uint8), connectivity=8)
            for i in range(1, count):
                actions = Counter(SPACE.action_of[frame[found == i]].tolist())
                best = min(actions, key=lambda action: (-actions[action], action))
                instances.append((found == i, actor, best))
        frames.append(instances)

    def partner(mask: np.ndarray, actor: int, others: list) -> int | None:
        overlaps = [(mask & m).sum() / (mask | m).sum() if a == actor else 0 for m, a, _ in others]
        return int(np.argmax(overlaps)) if overlaps and max(overlaps) > 0.1 else None

    result = labels.copy()
    for t, instances in enumerate(frames):
        for mask, actor, own in instances:
            votes = Counter([own])
            for step in (-1, 1):
                current = mask
                for distance in range(1, radius + 1):
                    position = t + step * distance
                    if not 0 <= position < len(frames):
                        break
                    index = partner(current, actor, frames[position])
                    if index is None:
                        break
                    current, _, vote = frames[position][index]
                    votes[vote] += 1
            most = [action for action in votes if votes[action] == max(votes.values())]
            action = most[0] if len(most) == 1 else own
            matching = (SPACE.actor_of == actor) & (SPACE.action_of == action)
            result[t][mask] = int(np.flatnonzero(matching)[0])
    return result


def test_the_majority_of_the_neighbours_wins() -> None:
    assert ids_of(align_actions(video([RUN, RUN, WALK, RUN, RUN]), SPACE, radius=2)) == [RUN] * 5


def test_only_frames_within_the_radius_vote() -> None:
    ids = [WALK, WALK, RUN, RUN, RUN, RUN]
    aligned = align_actions(video(ids), SPACE, radius=1)
    assert ids_of(aligned) == ids  # ties at both ends and two of three elsewhere
    assert ids_of(align_actions(video(ids), SPACE, radius=5)) == [RUN] * 6
    assert ids_of(align_actions(video(ids), SPACE, radius=0)) == ids


def test_ties_keep_the_own_action() -> None:
    assert ids_of(align_actions(video([RUN, WALK]), SPACE)) == [RUN, WALK]
    ids = [RUN, RUN, NONE, WALK, WALK]
    assert ids_of(align_actions(video(ids), SPACE, radius=2))[2] == NONE


def test_each_instance_has_its_own_vote() -> None:
    left = video([RUN, RUN, WALK])
    right = video([WALK, WALK, WALK], (slice(4, 12), slice(20, 28)))
    aligned = align_actions(left + right, SPACE, radius=2)
    assert ids_of(aligned) == [RUN] * 3
    assert aligned[:, 8, 24].tolist() == [WALK] * 3


def test_actors_do_not_vote_for_each_other() -> None:
    labels = video([RUN, RUN, DOG_WALK, RUN, RUN])
    np.testing.assert_array_equal(align_actions(labels, SPACE, radius=2), labels)


def test_an_instance_takes_one_action_and_void_stays() -> None:
    labels = video([RUN, RUN, RUN])
    labels[1, 4:7, 4:12] = WALK
    labels[1, 11, 4:12] = 255
    aligned = align_actions(labels, SPACE, radius=0)
    assert (aligned[1, 4:11, 4:12] == RUN).all(), "the action of most of its pixels"
    np.testing.assert_array_equal(aligned == 255, labels == 255)
    np.testing.assert_array_equal(aligned == 0, labels == 0)


def test_a_jump_breaks_the_chain() -> None:
    labels = video([RUN, RUN, WALK])
    labels[2] = np.roll(labels[2], 12, axis=1)  # no overlap with frame 1
    assert align_actions(labels, SPACE, radius=2)[2, 8, 20] == WALK


def test_overlap_must_exceed_a_tenth() -> None:
    labels = np.zeros((3, 32, 32), np.uint8)
    labels[0, 0, 0:11] = labels[1, 0, 0:11] = RUN
    labels[2, 0, 9:20] = WALK  # IoU 2 / 20 = 0.1 is not enough
    assert align_actions(labels, SPACE, radius=2)[2, 0, 15] == WALK
    labels[2, 0, 8] = WALK  # 3 / 20
    assert align_actions(labels, SPACE, radius=2)[2, 0, 15] == RUN


def test_a_moving_instance_is_followed_by_chaining() -> None:
    labels = np.zeros((5, 32, 32), np.uint8)
    for t, class_id in enumerate([RUN, RUN, RUN, RUN, WALK]):
        labels[t, 4:12, 4 * t : 4 * t + 8] = class_id  # frames 0 and 4 do not overlap
    assert set(np.unique(align_actions(labels, SPACE, radius=4))) == {0, RUN}


def random_video(seed: int, length: int = 9) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = np.zeros((length, 24, 24), np.uint8)
    for _ in range(4):
        y, x = rng.integers(0, 16, 2)
        ids = (RUN, WALK, NONE) if rng.random() < 0.6 else (DOG_WALK, DOG_RUN)
        for frame in labels:
            y, x = np.clip(np.array([y, x]) + rng.integers(-2, 3, 2), 0, 17)
            height, width = rng.integers(3, 8, 2)
            if rng.random() < 0.85:
                frame[y : y + height, x : x + width] = rng.choice(ids)
                frame[y : y + 2, x : x + 2] = rng.choice(ids)
    labels[rng.random(labels.shape) < 0.02] = 255
    return labels


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("radius", [0, 1, 3])
def test_equals_the_rule_by_brute_force(seed: int, radius: int) -> None:
    labels = random_video(seed)
    np.testing.assert_array_equal(align_actions(labels, SPACE, radius=radius), brute_force(labels, radius))


def test_the_random_videos_do_change() -> None:
    changed = [(align_actions(random_video(seed), SPACE, radius=3) != random_video(seed)).mean() for seed in range(8)]
    assert min(changed) > 0.01


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 20])
def test_streaming_gives_the_same_with_flat_memory(radius: int) -> None:
    labels = random_video(3, length=12)
    aligner = ActionAligner(SPACE, radius)
    for _ in range(2):  # flush makes it ready for another video
        done: list[np.ndarray] = []
        for count, frame in enumerate(labels, start=1):
            done += aligner.push(frame)
            assert len(done) == max(0, count - radius)
            assert len(aligner._frames) <= 2 * radius, "and one more while a frame is pushed"
        done += aligner.flush()
        np.testing.assert_array_equal(np.stack(done), align_actions(labels, SPACE, radius=radius))
        assert align_actions(labels, SPACE, radius=radius).dtype == np.uint8


def test_plain_classes_are_returned_unchanged() -> None:
    space = LabelSpace((Tag("cat"), Tag("dog")))
    labels = video([1, 2, 1])
    np.testing.assert_array_equal(align_actions(labels, space), labels)
    aligner = ActionAligner(space)
    assert len(aligner.push(labels[0])) == 1 and aligner.flush() == []


def test_an_empty_video_and_frames_without_instances() -> None:
    assert align_actions(np.zeros((0, 8, 8), np.uint8), SPACE).shape == (0, 8, 8)
    assert (align_actions(video([0, RUN, 0]), SPACE) == video([0, RUN, 0])).all()


def test_refuses_a_change_of_size_and_a_negative_radius() -> None:
    aligner = ActionAligner(SPACE, 1)
    aligner.push(np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"\(8, 9\) after \(8, 8\)"):
        aligner.push(np.zeros((8, 9), np.uint8))
    with pytest.raises(ValueError, match="radius"):
        ActionAligner(SPACE, -1)
