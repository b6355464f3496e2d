from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from pseudolabel.annotators import (
    AttentionAnnotator,
    PredictionAnnotator,
    SlicRefiner,
    expected_foreground,
    sure_foreground,
)
from pseudolabel.sharpen import Sharpener
from pseudolabel.store import PAStore
from pseudolabel.types import VOID, Annotation, Clip, DataError, LabelSpace, Tag
from recipes import wise_selection, ws2
from recipes.configuration import load_config
from recipes.encoders import pick_videos
from recipes.run_folder import RunFolder
from recipes.wise_selection import WiseSelector
from recipes.workspace import Workspace
from recipes.ws2 import WS2
from tests.recipes.tiny import tiny_config, user_folder, videos_arguments
from tests.toys import SPACE, draw_video

REFINE = {"alpha": 0.5, "beta": 0.6, "overlap": "share"}
SLIC = {"n": 60, "compactness": 10.0}


def refiner(*, enabled: bool = True, space: LabelSpace = SPACE) -> SlicRefiner:
    return SlicRefiner(space, SLIC, REFINE, enabled=enabled)


def clip(*tags: str, frames: int = 2) -> tuple[Clip, np.ndarray]:
    images, masks = draw_video(0, "red", frames=frames)
    return Clip(images, np.arange(frames), "v", 25.0, tuple(Tag(tag) for tag in tags)), masks


# --- annotators


def test_refinement_snaps_a_bitten_mask_to_the_object() -> None:
    video, masks = clip("red")
    bitten = masks.copy()
    for one in bitten:
        rows = np.flatnonzero(one.any(axis=1))
        one[rows[:3]] = 0
    refined = refiner()(video.frames, bitten)

    def iou(a: np.ndarray, b: np.ndarray) -> float:
        return float(((a > 0) & (b > 0)).sum() / ((a > 0) | (b > 0)).sum())

    assert iou(refined, masks) > iou(bitten, masks)
    assert refiner(enabled=False)(video.frames, bitten) is bitten


def test_a_mask_that_refinement_would_delete_stays() -> None:
    video, _ = clip("red")
    speck = np.zeros((2, 32, 48), np.uint8)
    speck[0, 5, 5] = 2
    assert np.array_equal(refiner()(video.frames, speck), speck)


def test_attention_becomes_the_union_of_the_cues() -> None:
    video, _ = clip("green")
    actor, action = np.zeros((1, 2, 32, 48), np.float32), np.zeros((1, 2, 32, 48), np.float32)
    actor[..., 2:6, 2:6] = 5.0
    action[..., 10:14, 10:14] = 0.25
    annotate = AttentionAnnotator(SPACE, refiner(enabled=False))
    video.evidence = {"actor": actor, "action": action}
    both = annotate(video, None)
    expected = np.zeros((2, 32, 48), np.uint8)
    expected[:, 2:6, 2:6] = expected[:, 10:14, 10:14] = SPACE.index(Tag("green"))
    assert np.array_equal(both.labels, expected)
    assert both.quality == pytest.approx([0.5, 0.5])  # each pixel is seen by one of two normalised cues
    video.evidence = {"actor": actor}
    alone = annotate(video, None)
    expected[:, 10:14, 10:14] = 0
    assert np.array_equal(alone.labels, expected) and alone.quality == pytest.approx([1.0, 1.0])


def test_several_tags_share_the_frame_by_the_larger_attention() -> None:
    video, _ = clip("red", "green", frames=1)
    maps = np.zeros((2, 1, 32, 48), np.float32)
    maps[0, 0, :16, :24], maps[1, 0, :16, 12:36] = 1.0, 2.0
    maps[1, 0, :16, 12:24] = 1.6  # normalised: 0.8 < 1
    video.evidence = {"actor": maps}
    labels = AttentionAnnotator(SPACE, refiner(enabled=False))(video, None).labels[0]
    assert (labels[:16, :24] == 1).all() and (labels[:16, 24:36] == 2).all() and not labels[16:].any()


def test_coarse_attention_is_resized_and_no_attention_is_background() -> None:
    video, _ = clip("red")
    maps = np.zeros((1, 2, 4, 6), np.float32)
    maps[0, 0, 1, 1] = 1.0
    video.evidence = {"actor": maps}
    found = AttentionAnnotator(SPACE, refiner(enabled=False))(video, None)
    assert found.labels[0, 12, 12] == 1 and found.labels[0, 28, 40] == 0
    assert not found.labels[1].any() and found.quality[1] == 0


def predicted(decision: str, **options: Any) -> Annotation:
    """Of a green video's 32 rows, the upper 10 look green (0.6), 8 red (0.7), 4 unsure (0.5) and the others empty."""
    video, _ = clip("green", frames=1)
    scores = np.zeros((1, 3, 32, 48), np.float32)
    scores[0] = np.array([0.8, 0.1, 0.1])[:, None, None]
    scores[0, :, :10] = np.array([0.3, 0.1, 0.6])[:, None, None]
    scores[0, :, 10:18] = np.array([0.2, 0.7, 0.1])[:, None, None]
    scores[0, :, 18:22] = np.array([0.45, 0.3, 0.25])[:, None, None]
    return PredictionAnnotator(SPACE, refiner(enabled=False), decision=decision, **options)(video, scores)


def test_a_prediction_keeps_to_the_tags_of_its_video() -> None:
    sure = predicted("otsu")  # what is surely no background must be green
    assert (sure.labels[0, :18] == 2).all() and not sure.labels[0, 18:].any()
    assert sure.quality == pytest.approx([(10 * 0.7 + 8 * 0.8) / 18])
    argmax = predicted("argmax")  # green against background alone
    assert (argmax.labels[0, :10] == 2).all() and not argmax.labels[0, 10:].any()
    assert argmax.quality == pytest.approx([0.6])
    first = predicted("object_first")  # foreground as a whole against background, also where it is not sure
    assert (first.labels[0, :22] == 2).all() and not first.labels[0, 22:].any()
    assert first.quality == pytest.approx([(10 * 0.7 + 8 * 0.8 + 4 * 0.55) / 22])
    expected = predicted("expected")  # 17.6 rows are expected, and the likeliest 18 are 8 and 10 alike
    assert (expected.labels[0, :18] == 2).all() and not expected.labels[0, 18:].any()


def test_expected_foreground_keeps_the_area_of_what_was_learned() -> None:
    rng = np.random.default_rng(0)
    foreground = np.zeros((2, 4, 10), np.float32)
    foreground[0, :, :5] = rng.uniform(0.4, 0.6, (4, 5))
    foreground[1, :, 2:6] = rng.uniform(0.2, 0.3, (4, 4))
    chosen = expected_foreground(foreground)
    assert chosen.sum(axis=(1, 2)).tolist() == np.rint(foreground.sum(axis=(1, 2))).tolist()
    assert chosen[0, :, :5].sum() == chosen[0].sum() and chosen[1, :, 2:6].sum() == chosen[1].sum()
    for frame, taken in zip(foreground, chosen, strict=True):
        assert frame[taken].min() > frame[~taken].max()


def test_small_or_equal_scores_are_no_object_however_many_they_are() -> None:
    haze = np.random.default_rng(0).uniform(0.05, 0.15, (1, 30, 40)).astype(np.float32)
    assert not expected_foreground(haze).any()
    assert not expected_foreground(np.full((1, 30, 40), 0.3, np.float32)).any()
    haze[0, 3, 4] = 0.9
    assert expected_foreground(haze).sum() == 1


@pytest.mark.parametrize("decision", ["otsu", "object_first", "expected", "argmax"])
@pytest.mark.parametrize("unsure", ["background", "void"])
def test_a_dense_crf_without_weights_leaves_every_decision_as_it_is(decision: str, unsure: str) -> None:
    pytest.importorskip("pydensecrf")
    crf = {"bilateral_weight": 0.0, "smooth_weight": 0.0}
    without, with_it = (predicted(decision, unsure=unsure, sharpener=one) for one in (None, Sharpener(crf)))
    assert np.array_equal(without.labels, with_it.labels)


def test_what_the_dense_crf_drops_of_the_sure_may_be_void() -> None:
    pytest.importorskip("pydensecrf")
    video, _ = clip("green", frames=1)
    video.frames = np.full((1, 32, 48, 3), 40, np.uint8)
    scores = np.zeros((1, 3, 32, 48), np.float32)
    scores[0, 2, 10:22, 10:22], scores[0, 2, 28, 40] = 0.9, 0.8  # a pixel alone
    scores[0, 0] = 1 - scores[0, 2]
    annotate = PredictionAnnotator(
        SPACE, refiner(enabled=False), decision="otsu", unsure="void", sharpener=Sharpener({"smooth_weight": 9.0})
    )
    labels = annotate(video, scores).labels[0]
    assert (labels[14:18, 14:18] == 2).all() and labels[28, 40] == VOID and labels[2, 2] == 0


def test_unsure_pixels_may_be_void() -> None:
    labels = predicted("otsu", unsure="void").labels[0]
    assert (labels[:18] == 2).all() and (labels[18:22] == VOID).all() and not labels[22:].any()


def test_a_frame_without_a_sure_pixel_keeps_its_likely_ones() -> None:
    foreground = np.zeros((2, 4, 10), np.float32)
    foreground[0, :, :5], foreground[1, :, :2], foreground[1, :, 2:3] = 0.95, 0.6, 0.3
    likely, sure = sure_foreground(foreground)
    assert sure[0, :, :5].all() and sure[1, :, :2].all() and sure.sum() == 4 * 5 + 4 * 2
    assert (likely >= sure).all()
    _, faint = sure_foreground(0.3 * foreground)  # nowhere likelier than background: the tag says that it is there
    assert faint[0, :, :5].all() and faint.sum() == 4 * 5


def test_a_prediction_of_nothing_has_no_quality() -> None:
    video, _ = clip("green")
    scores = np.zeros((2, 3, 32, 48), np.float32)
    scores[:, 0] = 1.0
    found = PredictionAnnotator(SPACE, refiner())(video, scores)
    assert not found.labels.any() and found.quality.tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="got None"):
        PredictionAnnotator(SPACE, refiner())(video, None)


# --- selection


class Judge:
    """A classifier that calls everything red, and notes what it has seen."""

    device = "cpu"

    def __init__(self) -> None:
        self.seen = 0

    def classify(self, patches: np.ndarray) -> np.ndarray:
        self.seen += len(patches)
        return np.full(len(patches), SPACE_OF_USER.index(Tag("red")) - 1)


SPACE_OF_USER = LabelSpace.from_tags(SPACE.tags)  # green 1, red 2


@pytest.fixture
def selecting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A workspace with a version in which green3 is empty; the discriminator calls the frames of green1 real."""
    workspace = Workspace(
        tiny_config(videos_arguments(user_folder(tmp_path / "videos", masks=True), tmp_path)), tmp_path
    )
    store = PAStore(tmp_path / "pa")
    store.begin(0)
    for name in workspace.annotated:
        video = workspace.clip(name)
        masks = [workspace.truth(workspace.by_name[name], t, (32, 48)) for t in range(4)]
        labels = np.stack(masks) * np.uint8(name != "green3")
        store.write(0, video, Annotation(labels, np.ones(4, np.float32)))
    store.publish(0)

    def realness(original: Any, pasted: Any, **options: Any) -> list[np.ndarray]:
        assert [len(one) for one in original] == [3, 0, 3, 3, 3, 3]
        assert options["steps"] == 2 and options["folds"] == 2
        return [np.full(len(one), 0.9 if number == 0 else 0.1, np.float32) for number, one in enumerate(pasted)]

    monkeypatch.setattr(wise_selection, "cross_fitted_realness", realness)

    def select(use: str) -> set[tuple[str, int]]:
        options = OmegaConf.create({"use": use, "patch_size": 16, "discriminator": {"folds": 2, "steps": 2}})
        judge = Judge()
        index = store.index(0)
        weights = WiseSelector(workspace, store, judge, options, 0)(index)  # type: ignore[arg-type]
        assert judge.seen == 15 and set(weights.tolist()) <= {0.0, 1.0}
        return {(row.video, row.frame) for row, weight in zip(index, weights, strict=True) if weight}

    return select


def test_frames_pass_by_the_discriminator_or_the_classifier(selecting: Any) -> None:
    training = (0, 2, 3)  # frame 1 of every video is held back
    real = {("green1", t) for t in training}
    recognised = {(f"red{n}", t) for n in (0, 2, 4) for t in training}
    assert selecting("discriminator") == real
    assert selecting("classifier") == recognised
    assert selecting("either") == real | recognised


# --- stages


def test_the_generated_actors_of_this_recipe_alone_wear_coats() -> None:
    assert load_config("train", []).data.source.coats == 1.0
    assert load_config("train", ["recipe=mcnn"]).data.source.coats == 0.0


def recipe(tmp_path: Path, *more: str, masks: bool = False) -> WS2:
    root = tmp_path / "videos"
    cfg = tiny_config(videos_arguments(root if root.exists() else user_folder(root, masks=masks), tmp_path, *more))
    run = RunFolder(cfg.run_dir, cfg)
    return WS2(cfg, run, Workspace(cfg, run.path), [])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("selection=some", "selection=some: expected wise or full"),
        ("criterion=loss", "criterion=loss: expected ric or miou_pa"),
        ("cues=none", "cues=none: expected both or actor or action"),
        ("selector.use=both", "selector.use=both: expected either or discriminator or classifier"),
        ("refine.overlap=dice", "refine.overlap=dice: expected share or iou"),
        ("segmenter.model.decision=object", "segmenter.model.decision=object: expected likeliest or object_first or"),
        ("rounds.decision=sure", "rounds.decision=sure: expected otsu or object_first or expected or argmax"),
        ("rounds.crf.bilateral_xy=0", "rounds.crf.bilateral_xy must be above 0, got 0"),
        ("rounds.colours.steps=0", "rounds.colours.steps must be a whole number >= 1"),
        ("cues=action", "cues=action needs tags with actions"),
    ],
)
def test_a_switch_that_is_unknown_is_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        recipe(tmp_path, override)


def test_colours_need_the_dense_crf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WS2, "_encoder2d", lambda _: None)
    made = recipe(tmp_path, "rounds.colours.weight=1", "rounds.crf.enabled=true", "rounds.crf.iterations=3")
    assert made.sharpener is not None and made.sharpener.weight == 1 and made.sharpener.components == (8, 5)
    assert made.sharpener.crf["iterations"] == 3 and "enabled" not in made.sharpener.crf
    annotator = made._rounds(tmp_path).annotator
    assert isinstance(annotator, PredictionAnnotator) and annotator.sharpener is made.sharpener
    with pytest.raises(DataError, match="needs the dense CRF, which is off"):
        recipe(tmp_path, "rounds.colours.weight=1", "rounds.crf.enabled=false")
    assert recipe(tmp_path, "rounds.colours.weight=0", "rounds.crf.enabled=false").sharpener is None


def test_plain_classes_have_no_motion_stage(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    assert made.use_actor and not made.use_action


def test_classes_that_never_stand_alone_are_learnt_as_several_tags() -> None:
    def record(*tags: str) -> SimpleNamespace:
        return SimpleNamespace(tags=tuple(Tag(tag) for tag in tags))

    pick = pick_videos
    space: Any = SimpleNamespace(
        single_tag_records=lambda records, of: [r for r in records if len({getattr(t, of) for t in r.tags}) == 1]
    )
    cat, dog, both = record("cat"), record("dog"), record("cat", "dog")
    assert pick(space, [cat, dog, both], ["cat", "dog"], of="actor") == ([cat, dog], False)
    assert pick(space, [cat, both], ["cat", "dog"], of="actor") == ([cat, both], True)
    assert pick(space, [both], ["cat", "dog"], of="actor", multi=False) == ([both], True)
    assert pick(space, [cat, both], ["cat", "dog"], of="actor", multi=True) == ([cat, both], True)


def test_the_segmenter_may_start_from_the_classifier(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    assert made.options.segmenter.init == "encoder2d"
    made.train_encoder2d(made.run.path / "encoder2d")
    encoder, segmenter = made._encoder2d(), made._new_segmenter()
    for name, value in encoder.backbone.state_dict().items():
        assert np.array_equal(value, segmenter.network.backbone.state_dict()[name]), name
    other = recipe(tmp_path, "segmenter.model.backbone=resnet34", "name=other")
    (other.run.path / "encoder2d").symlink_to(made.run.path / "encoder2d")
    with pytest.raises(DataError, match=r"the same backbone in both stages, got resnet18 and resnet34"):
        other._new_segmenter()


def test_the_twin_sees_true_masks_only(tmp_path: Path) -> None:
    made = recipe(tmp_path, masks=True)
    store = PAStore(tmp_path / "truth")
    store.begin(0)
    assert all(ws2._write_truth(made.workspace, store, name) for name in made.workspace.annotated)
    store.publish(0)
    for row in store.index(0):
        truth = made.workspace.truth(made.workspace.by_name[row.video], row.frame, (32, 48))
        assert np.array_equal(store.read(0, row.video, row.frame), truth)


def test_without_masks_there_is_no_twin(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    assert made.train_twin(made.run.path / "twin") == {}
