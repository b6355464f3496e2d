"""Single images with their image-level tags, for the encoder of Hong et al. 2017."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch.utils.data import Dataset

from datamodules.datasets import Sample, tag_crop
from pseudolabel.types import DataError, FloatArray, UInt8Array


class TaggedImages(Dataset[Sample]):
    """Square crops of images: ``image`` uint8 (3, size, size) and ``label`` float32 (classes,), 1 for every tag.

    Args:
        images: functions that load one, uint8 (H, W, 3).
        labels: float32 (N, classes).
        size: side of the crops in pixels.
        seed: seed of the augmentation.
        epoch: number of the epoch; another epoch draws other crops.
        train: random resized crop, mirror, colour jitter; else the whole image resized to ``size`` x ``size``.
        area: smallest and largest share of the image in a crop.
        jitter: strength of the colour jitter.

    Raises:
        DataError: not as many labels as images.
    """

    def __init__(
        self,
        images: Sequence[Callable[[], UInt8Array]],
        labels: FloatArray,
        *,
        size: int,
        seed: int = 0,
        epoch: int = 0,
        train: bool = True,
        area: tuple[float, float] = (0.4, 1.0),
        jitter: float = 0.2,
    ) -> None:
        if len(images) != len(labels):
            raise DataError(f"{len(images)} images but {len(labels)} rows of labels. Give one row per image.")
        self.images, self.labels, self.size, self.train = images, labels, size, train
        self.seed, self.epoch, self.area, self.jitter = seed, epoch, area, jitter

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: int) -> Sample:
        seed = (self.seed, self.epoch, item) if self.train else None
        pixels = tag_crop(self.images[item](), size=self.size, seed=seed, area=self.area, jitter=self.jitter)
        return {"image": pixels, "label": self.labels[item]}
