from __future__ import annotations

import torch
from torch import Tensor

from modules.image_inference import combine_foregrounds, present_classes, segment_images, stretch


def test_maps_are_stretched_each_by_itself() -> None:
    maps = torch.tensor([[[2.0, 4.0], [3.0, 2.0]], [[-1.0, 0.0], [7.0, 1.0]], [[5.0, 5.0], [5.0, 5.0]]])
    expected = [[[0, 1], [0.5, 0]], [[0, 0.125], [1, 0.25]], [[0, 0], [0, 0]]]
    assert stretch(maps).tolist() == expected


def test_classes_above_the_threshold_or_else_the_best() -> None:
    probabilities = torch.tensor([[0.7, 0.1, 0.6], [0.2, 0.5, 0.4], [0.59, 0.9, 0.1]])
    assert present_classes(probabilities).tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 0]]
    assert present_classes(probabilities, threshold=0.95).tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]


def test_only_allowed_classes_are_present() -> None:
    probabilities = torch.tensor([[0.7, 0.1, 0.6], [0.9, 0.5, 0.4], [0.9, 0.9, 0.9]])
    allowed = torch.tensor([[0, 1, 1], [0, 1, 1], [0, 0, 0]], dtype=torch.bool)
    assert present_classes(probabilities, allowed=allowed).tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
    every = present_classes(probabilities, threshold=0, allowed=allowed)
    assert torch.equal(every, allowed)


def test_the_argmax_is_the_pixelwise_maximum() -> None:
    # four pixels: class 3 wins, class 1 wins, the best is below 1/2, one class alone
    foregrounds = torch.tensor([[[0.6, 0.9, 0.4, 0.0]], [[0.8, 0.7, 0.3, 0.75]]])
    scores = combine_foregrounds(foregrounds, torch.tensor([1, 3]), num_classes=4)
    assert scores.shape == (4, 1, 4)
    assert scores.argmax(0).tolist() == [[3, 1, 0, 3]]
    torch.testing.assert_close(scores.sum(0), torch.ones(1, 4))
    torch.testing.assert_close(scores[:, 0, 0], torch.tensor([0.2, 0.6, 0.0, 0.8]) / 1.6)
    torch.testing.assert_close(scores[:, 0, 2], torch.tensor([0.6, 0.4, 0.0, 0.3]) / 1.3)


def test_without_a_class_all_is_background() -> None:
    scores = combine_foregrounds(torch.zeros(0, 2, 2), torch.zeros(0, dtype=torch.long), num_classes=3)
    assert (scores[0] == 1).all() and (scores[1:] == 0).all()


def test_every_image_gets_the_maps_of_its_own_classes() -> None:
    # attention = class / 10 + image, and the decoder takes the image off: the foreground of class k is k / 10 + 0.5
    probabilities = torch.tensor([[0.9, 0.2, 0.8, 0.1], [0.1, 0.1, 0.1, 0.3], [0.9, 0.1, 0.1, 0.1]])
    asked: list[list[int]] = []
    decoded: list[int] = []

    def attend(classes: Tensor) -> Tensor:
        asked.append(classes.tolist())
        maps = classes[None].float() / 10 + torch.arange(3.0)[:, None]
        return maps[..., None, None].expand(-1, -1, 2, 3)

    def decode(images: Tensor, attention: Tensor) -> Tensor:
        decoded.append(len(images))
        return attention[:, 0] - images[:, None, None] + 0.5

    scores = segment_images(probabilities, attend, decode, size=(2, 3), maps_at_once=3)
    assert asked == [[0, 2, 3]]
    assert decoded == [3, 1]
    assert scores.shape == (3, 5, 2, 3)
    expected = torch.tensor([[0.3, 0.5, 0, 0.7, 0], [0.2, 0, 0, 0, 0.8], [0.5, 0.5, 0, 0, 0]])
    expected /= expected.sum(1, keepdim=True)
    torch.testing.assert_close(scores[..., 0, 0], expected)
    assert (scores == scores[..., :1, :1]).all()


def test_nothing_is_decoded_where_nothing_is_allowed() -> None:
    def never(*arguments: Tensor) -> Tensor:
        raise AssertionError("called")

    scores = segment_images(
        torch.full((2, 3), 0.9), never, never, size=(2, 2), allowed=torch.zeros(2, 3, dtype=torch.bool)
    )
    assert (scores.argmax(1) == 0).all()
