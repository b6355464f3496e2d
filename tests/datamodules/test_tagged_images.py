from __future__ import annotations

import numpy as np
import pytest

from datamodules.tagged_images import TaggedImages
from pseudolabel.types import DataError

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
LABELS = np.array([[1, 0, 1]], np.float32)


def test_crops_depend_on_seed_and_epoch_alone() -> None:
    def first(**options: int) -> np.ndarray:
        sample = TaggedImages([lambda: IMAGE], LABELS, size=16, **options)[0]
        assert sample["image"].shape == (3, 16, 16) and sample["label"].tolist() == [1, 0, 1]
        return np.asarray(sample["image"])

    assert np.array_equal(first(seed=1), first(seed=1))
    assert not np.array_equal(first(seed=1), first(seed=2)) and not np.array_equal(first(), first(epoch=1))


def test_without_training_the_whole_image_is_shown() -> None:
    image = TaggedImages([lambda: IMAGE[:16, :16]], LABELS, size=16, train=False)[0]["image"]
    np.testing.assert_array_equal(np.asarray(image), IMAGE[:16, :16].transpose(2, 0, 1))


def test_one_row_of_labels_per_image() -> None:
    with pytest.raises(DataError, match="2 images but 1 rows"):
        TaggedImages([lambda: IMAGE] * 2, LABELS, size=16)
