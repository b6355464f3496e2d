from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from modules.metrics import RegionIntegrity, SegmentationScores, SequenceJaccard, confusion_matrix
from pseudolabel.types import LabelSpace, Tag

torch.set_num_threads(1)

SPACE = LabelSpace((Tag("cat", "running"), Tag("cat", "walking"), Tag("dog", "running"), Tag("dog", "eating")))
#  0 background | 1 cat-running | 2 cat-walking | 3 dog-running | 4 dog-eating
TARGET = torch.tensor([[[0, 0, 0, 0], [1, 1, 2, 2], [3, 3, 255, 255]]])
PREDICTED = torch.tensor([[[0, 0, 0, 1], [1, 2, 2, 3], [3, 4, 1, 0]]])


def test_confusion_matrix_counts_target_by_predicted() -> None:
    matrix = confusion_matrix(PREDICTED, TARGET, 5)
    assert matrix.tolist() == [[3, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 0]]


def test_scores_by_hand() -> None:
    scores = SegmentationScores(SPACE)
    scores.update(PREDICTED, TARGET)
    result = {name: value.item() for name, value in scores.compute().items()}
    expected = {
        # IoU: 3/4, 1/3, 1/3, 1/3; dog-eating has no target pixels
        "miou": (3 / 4 + 1 / 3 + 1 / 3 + 1 / 3) / 4,
        "cls_acc": (3 / 4 + 1 / 2 + 1 / 2 + 1 / 2) / 4,
        "glo_acc": 6 / 10,
        # actors: background 3 of 4; cat 3 hits of 4, union 5; dog 2 hits of 2, union 3
        "actor_miou": (3 / 4 + 3 / 5 + 2 / 3) / 3,
        "actor_cls_acc": (3 / 4 + 3 / 4 + 2 / 2) / 3,
        "actor_glo_acc": 8 / 10,
        # actions: background 3/4; running (1 and 3): target 4, hits 2, predicted 4, union 6; walking 1/3
        "action_miou": (3 / 4 + 2 / 6 + 1 / 3) / 3,
        "action_cls_acc": (3 / 4 + 2 / 4 + 1 / 2) / 3,
        "action_glo_acc": 6 / 10,
    }
    assert result == pytest.approx(expected)
    iou = scores.iou_per_class()
    torch.testing.assert_close(iou, torch.tensor([3 / 4, 1 / 3, 1 / 3, 1 / 3, math.nan]), equal_nan=True)


def test_projections_equal_scores_of_projected_masks() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 5, (3, 16, 16), generator=generator)
    predicted = torch.randint(0, 5, (3, 16, 16), generator=generator)
    joint = SegmentationScores(SPACE)
    joint.update(predicted, target)
    for onto, names in (("actor", SPACE.actors), ("action", SPACE.actions)):
        table = torch.as_tensor(SPACE.actor_of if onto == "actor" else SPACE.action_of).long()
        plain = SegmentationScores(LabelSpace(tuple(Tag(name) for name in names[1:])))
        plain.update(table[predicted], table[target])
        for key in ("miou", "cls_acc", "glo_acc"):
            torch.testing.assert_close(joint.compute()[f"{onto}_{key}"], plain.compute()[key])


def test_predicted_void_is_background_and_target_void_is_ignored() -> None:
    scores = SegmentationScores(LabelSpace((Tag("cat"),)))
    scores.update(torch.tensor([[255, 255, 1, 0]]), torch.tensor([[0, 1, 1, 255]]))
    assert scores.confusion.tolist() == [[1, 0], [1, 1]]


def test_plain_classes_have_no_action_scores() -> None:
    scores = SegmentationScores(LabelSpace((Tag("cat"), Tag("dog"))))
    scores.update(torch.tensor([[0, 1, 2]]), torch.tensor([[0, 1, 2]]))
    assert set(scores.compute()) == {f"{p}{k}" for p in ("", "actor_") for k in ("miou", "cls_acc", "glo_acc")}
    assert all(value == 1 for value in scores.compute().values())


def test_nothing_scored_is_nan_not_zero() -> None:
    scores = SegmentationScores(LabelSpace((Tag("cat"),)))
    scores.update(torch.zeros(2, 2, dtype=torch.long), torch.full((2, 2), 255))
    assert all(value.isnan() for value in scores.compute().values())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.long])
def test_any_integer_type_and_any_leading_shape(dtype: torch.dtype) -> None:
    scores = SegmentationScores(SPACE)
    scores.update(PREDICTED.to(dtype), TARGET.to(dtype))
    scores.update(PREDICTED[None].to(dtype), TARGET[None].to(dtype))
    assert scores.compute()["glo_acc"].item() == pytest.approx(0.6)
    assert scores.confusion.sum() == 20


def test_refuses_wrong_values_and_shapes() -> None:
    scores = SegmentationScores(SPACE)
    for dtype in (torch.uint8, torch.long):
        with pytest.raises(ValueError, match=r"target holds the values \[5, 9\], expected class ids 0\.\.4"):
            scores.update(torch.tensor([[0, 0]], dtype=dtype), torch.tensor([[5, 9]], dtype=dtype))
        with pytest.raises(ValueError, match=r"predicted holds the values \[7\]"):
            scores.update(torch.tensor([[7]], dtype=dtype), torch.tensor([[0]], dtype=dtype))
    with pytest.raises(ValueError, match=r"predicted holds the values \[-1\]"):
        scores.update(torch.tensor([[-1]]), torch.tensor([[0]]))
    with pytest.raises(ValueError, match=r"target holds the values \[256\]"):
        scores.update(torch.tensor([[0]]), torch.tensor([[256]]))
    with pytest.raises(ValueError, match="one shape"):
        scores.update(torch.zeros(2, 2), torch.zeros(2, 3))
    assert scores.confusion.sum() == 0


def test_iou_comes_from_one_matrix_over_the_data_set() -> None:
    space = LabelSpace((Tag("cat"),))
    scores = SegmentationScores(space)
    scores.update(torch.tensor([[1, 1, 1, 1]]), torch.tensor([[1, 1, 1, 1]]))
    scores.update(torch.tensor([[0, 0]]), torch.tensor([[1, 0]]))
    assert scores.iou_per_class()[1].item() == pytest.approx(4 / 5), "not the mean of 1 and 0"


def test_two_processes_equal_one() -> None:
    parts = [SegmentationScores(SPACE), SegmentationScores(SPACE)]
    parts[0].update(PREDICTED[:, :2], TARGET[:, :2])
    parts[1].update(PREDICTED[:, 2:], TARGET[:, 2:])
    whole = SegmentationScores(SPACE)
    whole.update(PREDICTED, TARGET)

    def gather(state: Tensor, group: object = None) -> list[Tensor]:
        return [state, parts[1].confusion]

    parts[0].distributed_available_fn = lambda: True
    parts[0].dist_sync_fn = gather
    torch.testing.assert_close(parts[0].iou_per_class(), whole.iou_per_class(), equal_nan=True)
    assert parts[0].confusion.sum() == 8, "its own state is back"
    assert parts[0].compute()["miou"] == whole.compute()["miou"]
    parts[0].sync(dist_sync_fn=gather)
    torch.testing.assert_close(parts[0].iou_per_class(), whole.iou_per_class(), equal_nan=True)
    assert parts[0]._is_synced
    parts[0].unsync()


def test_region_integrity_by_hand() -> None:
    prediction = torch.tensor([[0, 1, 1, 2]])
    refined = torch.tensor([[0, 1, 1, 1]])
    pa = torch.tensor([[0, 0, 1, 255]])
    metric = RegionIntegrity(num_classes=4)
    metric.update(prediction, refined, pa)
    result = {name: value.item() for name, value in metric.compute().items()}
    miou_pa = (1 / 2 + 1 / 2) / 2  # Eq. 1: refined 0 1 1, PA 0 0 1; classes 2 and 3 have an empty union
    rii = (1 + 2 / 3 + 0) / 3  # Eq. 2: class 2 is predicted and refined away
    assert result == pytest.approx({"ric": miou_pa + 0.5 * rii, "miou_pa": miou_pa, "rii": rii})


def test_region_integrity_weighs_by_alpha_and_counts_void_as_background() -> None:
    metric = RegionIntegrity(num_classes=2, alpha=2.0)
    metric.update(torch.tensor([[255, 1]]), torch.tensor([[0, 1]]), torch.tensor([[0, 1]]))
    assert metric.compute()["ric"].item() == pytest.approx(3.0)
    metric.reset()
    metric.update(torch.tensor([[1, 1]]), torch.tensor([[255, 1]]), torch.tensor([[0, 1]]))
    assert metric.compute()["miou_pa"].item() == 1.0
    assert metric.compute()["rii"].item() == pytest.approx((0 + 1 / 2) / 2)


def test_region_integrity_of_all_void_annotations() -> None:
    metric = RegionIntegrity(num_classes=2)
    metric.update(torch.tensor([[0, 1]]), torch.tensor([[0, 1]]), torch.tensor([[255, 255]]))
    assert {name: value.item() for name, value in metric.compute().items()} == {"ric": 0.5, "miou_pa": 0.0, "rii": 1.0}


def test_region_integrity_is_over_the_data_set_and_states_add() -> None:
    generator = torch.Generator().manual_seed(1)
    masks = torch.randint(0, 3, (3, 4, 8, 8), generator=generator)
    whole, first, second = RegionIntegrity(3), RegionIntegrity(3), RegionIntegrity(3)
    whole.update(*masks)
    first.update(*masks[:, :1])
    second.update(*masks[:, 1:])
    first.merge_state(second)
    for name, value in whole.compute().items():
        torch.testing.assert_close(first.compute()[name], value)


def test_sequence_jaccard_by_hand() -> None:
    metric = SequenceJaccard(num_videos=3)
    predicted = torch.tensor([[[1, 1, 0]], [[0, 0, 0]], [[2, 0, 1]], [[1, 1, 255]]])
    target = torch.tensor([[[1, 0, 0]], [[0, 0, 0]], [[1, 1, 255]], [[0, 1, 1]]])
    # video 0: 1/2 and, both empty, 1; video 2: 1/2 with the last pixel ignored, and 1/3; video 1 has no frames
    metric.update(predicted[:3], target[:3], [0, 0, 2])
    metric.update(predicted[3:], target[3:], [2])
    assert metric.compute().item() == pytest.approx((3 / 4 + (1 / 2 + 1 / 3) / 2) / 2)


def test_sequence_jaccard_refuses_what_does_not_fit() -> None:
    metric = SequenceJaccard(num_videos=2)
    frames = torch.zeros(2, 4, 4, dtype=torch.long)
    with pytest.raises(ValueError, match="N videos"):
        metric.update(frames, frames, [0])
    with pytest.raises(ValueError, match=r"0\.\.1"):
        metric.update(frames, frames, [0, 2])
    assert metric.compute().isnan()


def test_works_in_a_collection_and_keeps_out_of_checkpoints() -> None:
    collection = MetricCollection({"scores": SegmentationScores(SPACE)}, prefix="val/")
    collection["scores"].update(PREDICTED, TARGET)
    assert collection.compute()["val/miou"].item() == pytest.approx(0.4375)
    assert not SegmentationScores(SPACE).state_dict(), "a checkpoint is not burdened with counts"
