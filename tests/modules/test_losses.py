from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from modules.losses import (
    class_balance,
    class_weighted_cross_entropy,
    poly_decay,
    step_decay,
    weighted_cross_entropy,
)

torch.set_num_threads(1)


def test_liang_equation_1_by_hand() -> None:
    logits = torch.zeros(2, 2, 1, 2)
    logits[0, 1, 0, 0] = math.log(3.0)  # p = (1/4, 3/4)
    labels = torch.tensor([[[1, 0]], [[0, 255]]])
    weights = torch.tensor([0.5, 2.0])
    first = (math.log(4 / 3) + math.log(2)) / 2
    second = math.log(2)  # the void pixel is not in its mean
    expected = (0.5 * first + 2.0 * second) / 2
    assert weighted_cross_entropy(logits, labels, weights).item() == pytest.approx(expected, rel=1e-6)


def test_weights_scale_the_loss_and_are_not_divided_out() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 4, 5, 6), torch.randint(0, 4, (3, 5, 6))
    plain = F.cross_entropy(logits, labels)
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, torch.ones(3)), plain)
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, torch.full((3,), 0.2)), 0.2 * plain)


def test_an_image_of_void_contributes_nothing_and_no_gradient() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    labels = torch.full((2, 4, 4), 255)
    labels[1] = 2
    loss = weighted_cross_entropy(logits, labels, torch.ones(2))
    torch.testing.assert_close(loss, F.cross_entropy(logits[1:], labels[1:]) / 2)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[0] == 0).all() and logits.grad[1].abs().sum() > 0
    nothing = weighted_cross_entropy(logits, torch.full((2, 4, 4), 255), torch.ones(2))
    assert nothing.item() == 0.0


def test_half_precision_logits_give_a_float_loss() -> None:
    logits = torch.randn(1, 3, 4, 4)
    labels = torch.randint(0, 3, (1, 4, 4))
    loss = weighted_cross_entropy(logits.bfloat16(), labels, torch.ones(1, dtype=torch.float64))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels), atol=0.02, rtol=0.02)


@pytest.mark.parametrize(("labels", "weights"), [((2, 4, 5), (2,)), ((1, 4, 4), (2,)), ((2, 4, 4), (1,))])
def test_refuses_shapes_that_do_not_fit(labels: tuple[int, ...], weights: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="labels"):
        weighted_cross_entropy(torch.zeros(2, 3, 4, 4), torch.zeros(labels, dtype=torch.long), torch.ones(weights))


def test_poly_decay() -> None:
    assert poly_decay(0, 100) == 1.0
    assert poly_decay(50, 100) == pytest.approx(0.5**0.9)
    assert poly_decay(75, 100, power=2.0) == pytest.approx(0.0625)
    assert poly_decay(100, 100) == poly_decay(130, 100) == 0.0
    with pytest.raises(ValueError, match="total"):
        poly_decay(0, 0)


# --- Tokmakov et al. 2016, Eq. 1


def test_tokmakov_equation_1_by_hand() -> None:
    logits = torch.zeros(2, 2, 1, 2)
    logits[0, 1, 0, 0] = math.log(3.0)  # p = (1/4, 3/4)
    labels = torch.tensor([[[1, 0]], [[0, 255]]])
    terms = 0.5 * math.log(4 / 3) + 1.0 * math.log(2) + 1.0 * math.log(2)
    found = class_weighted_cross_entropy(logits, labels, torch.tensor([1.0, 0.5]))
    assert found.item() == pytest.approx(terms / 3, rel=1e-6)
    trusted = 3.0 * (0.5 * math.log(4 / 3) + math.log(2)) + 0.25 * math.log(2)
    found = class_weighted_cross_entropy(logits, labels, torch.tensor([1.0, 0.5]), torch.tensor([3.0, 0.25]))
    assert found.item() == pytest.approx(trusted / 3, rel=1e-6)


def test_class_weights_do_not_cancel_out_in_a_batch_of_one_class() -> None:
    logits, labels = torch.randn(2, 3, 4, 4), torch.full((2, 4, 4), 2)
    plain = F.cross_entropy(logits, labels)
    torch.testing.assert_close(class_weighted_cross_entropy(logits, labels, torch.tensor([1, 1, 0.2])), 0.2 * plain)
    torch.testing.assert_close(class_weighted_cross_entropy(logits, labels, torch.ones(3)), plain)


def test_a_batch_of_void_gives_no_loss_and_no_gradient() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = class_weighted_cross_entropy(logits, torch.full((2, 4, 4), 255), torch.ones(3))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize(("labels", "classes", "weights"), [((2, 4, 5), 3, 2), ((2, 4, 4), 2, 2), ((2, 4, 4), 3, 1)])
def test_class_weighted_loss_refuses_shapes_that_do_not_fit(labels: tuple, classes: int, weights: int) -> None:
    target = torch.zeros(labels, dtype=torch.long)
    with pytest.raises(ValueError, match="class_weights"):
        class_weighted_cross_entropy(torch.zeros(2, 3, 4, 4), target, torch.ones(classes), torch.ones(weights))


def test_class_balance() -> None:
    assert class_balance(torch.tensor([90, 20, 50, 10])).tolist() == pytest.approx([1, 0.5, 0.2, 1])
    assert class_balance(np.array([0, 8, 0, 4])).tolist() == pytest.approx([1, 0.5, 1, 1])
    assert class_balance([90, 20, 50, 10], unit="mean").tolist() == pytest.approx([1, 80 / 60, 80 / 150, 80 / 30])
    assert class_balance([0, 8, 0, 4], unit="mean").tolist() == pytest.approx([1, 0.75, 1, 1.5])
    assert class_balance([0, 8, 0, 4], unit="all").tolist() == [1, 1, 1, 1]
    for counts in (torch.tensor([9, 0, 0]), torch.tensor([9, 2, -1]), torch.ones(2, 2), torch.tensor([1])):
        with pytest.raises(ValueError, match="samples of some object class"):
            class_balance(counts)


def test_step_decay() -> None:
    assert [step_decay(step, 3) for step in range(8)] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])
    assert step_decay(-5, 3) == 1
    assert step_decay(4000, 2000, gamma=0.5) == 0.25
    with pytest.raises(ValueError, match="size"):
        step_decay(1, 0)
