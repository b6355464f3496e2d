from __future__ import annotations

from functools import partial

import numpy as np

from datamodules.boxed_images import BoxedImages, BoxedPair


def pair(number: int) -> BoxedPair:
    """A grey image with ``number`` white squares of rising size."""
    image = np.full((40, 60, 3), 90, np.uint8)
    boxes = np.array([[12 * n, 10, 12 * n + 3 + n, 13 + n] for n in range(number)], np.float32).reshape(-1, 4)
    for x0, y0, x1, y1 in boxes.astype(int):
        image[y0:y1, x0:x1] = 255
    return image, boxes


LOADERS = [partial(pair, number) for number in (2, 0, 4)]


def test_boxes_lie_on_what_they_are_of() -> None:
    data = BoxedImages(LOADERS, crop=64, scales=(1.0, 1.0))
    assert len(data) == 3
    for item, number in enumerate((2, 0, 4)):
        sample = data[item]
        assert sample["image"].shape == (3, 64, 64) and sample["boxes"].shape == (32, 4)
        assert sample["count"] == number
        white = sample["image"][0] == 255
        for x0, y0, x1, y1 in sample["boxes"][:number].int().tolist():
            assert white[y0:y1, x0:x1].all()
        assert not sample["boxes"][number:].any()


def test_the_largest_are_kept() -> None:
    sample = BoxedImages(LOADERS, crop=64, most=2)[2]
    assert sample["count"] == 2 and sample["boxes"].shape == (2, 4)
    assert sorted((sample["boxes"][:, 2] - sample["boxes"][:, 0]).tolist()) == [5.0, 6.0]


def test_epochs_differ_and_seeds_repeat() -> None:
    first, again, later = (
        BoxedImages(LOADERS, crop=32, scales=(0.6, 1.5), jitter=0.2, epoch=epoch)[2]["image"] for epoch in (0, 0, 1)
    )
    assert (first == again).all() and (first != later).any()
