"""Crops for the attention decoder: an image, the class to look for, and where it is, if anybody knows.

A sample is a dict; a loader makes batches of them:

* ``image``: uint8 (3, crop, crop), RGB;
* ``target``: int64, the class id (1..C - 1) whose attention is to be decoded;
* ``labels``: int64 (crop, crop), 1 on that class, 0 elsewhere, 255 = void: all of it where there is no mask;
* ``weight``: float32, trust in the labels;
* ``attention``: float32 (1, crop, crop), where the items bring it;
* ``tags``: float32 (C - 1,), 1 for every class that the image shows, where ``num_classes`` is given.

Randomness depends on (seed, epoch, item) alone, so that one rank or many, no or many workers, see the same crops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.datasets import Sample, to_channels_first
from datamodules.shot_batches import Placement
from datamodules.transforms import CropBox, jitter_colour, resize
from pseudolabel.types import VOID, DataError, FloatArray, UInt8Array


@dataclass(frozen=True)
class AttentionItem:
    """One class in one image.

    Attributes:
        frame: loads the image uint8 (H, W, 3).
        target: class id, 1..C - 1.
        mask: loads uint8 (H, W): 1 on the class, 0 elsewhere, 255 = void; None = nobody knows, and the item teaches the
            encoder only.
        attention: loads float32 (H, W) in [0, 1], the class's attention on the whole image; None = made while training.
        tags: all class ids that the image shows; () = the target alone.
        weight: trust in the mask, >= 0.
        name: says which item, in messages.
    """

    frame: Callable[[], UInt8Array]
    target: int
    mask: Callable[[], UInt8Array] | None = None
    attention: Callable[[], FloatArray] | None = None
    tags: tuple[int, ...] = ()
    weight: float = 1.0
    name: str = ""


class AttentionFrames(Dataset[Sample]):
    """Square crops of images with the labels of one class each (Hong et al. 2017, Eq. 6).

    Args:
        items: all of them with attention, or none.
        crop: side of the crops in pixels (TransferNet: 320).
        num_classes: C, background included; given, samples have ``tags``.
        scales: smallest and largest factor of the size before cropping.
        jitter: strength of the colour jitter; 0 = none.
        mirror: flip left-right half of the time.
        seed: seed of the augmentation.
        epoch: number of the epoch; another epoch draws other crops.
        train: random crops; else whole images resized to ``crop`` x ``crop``.

    Raises:
        DataError: some items have attention and some have not, or a target or tag is no object class. When an item is
            read: frame, mask and attention differ in size, or a mask has other values than 0, 1 and 255.
    """

    def __init__(
        self,
        items: Sequence[AttentionItem],
        *,
        crop: int,
        num_classes: int | None = None,
        scales: tuple[float, float] = (1.0, 1.0),
        jitter: float = 0.0,
        mirror: bool = True,
        seed: int = 0,
        epoch: int = 0,
        train: bool = True,
    ) -> None:
        with_attention = sum(item.attention is not None for item in items)
        if 0 < with_attention < len(items):
            raise DataError(
                f"{with_attention} of {len(items)} items bring their attention. Give it for all of them, or for none."
            )
        for item in items:
            for found in (item.target, *item.tags):
                if found < 1 or (num_classes is not None and found >= num_classes):
                    last = "" if num_classes is None else f"..{num_classes - 1}"
                    raise DataError(f"Item '{item.name}' has class id {found}, expected an object class, 1{last}.")
        self.items, self.crop, self.num_classes = list(items), crop, num_classes
        self.scales, self.jitter, self.mirror = scales, jitter, mirror
        self.seed, self.epoch, self.train = seed, epoch, train

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Sample:
        item = self.items[number]
        frame = item.frame()
        size = (frame.shape[0], frame.shape[1])
        rng = np.random.default_rng((self.seed, self.epoch, number))
        if self.train:
            place = Placement.draw(size, rng, crop=self.crop, scales=self.scales, mirror=self.mirror)
        else:
            place = Placement((self.crop, self.crop), CropBox(0, 0, self.crop, self.crop), mirrored=False)
        image = place.apply(frame[None])[0]
        labels = np.full((self.crop, self.crop), VOID, np.uint8)
        if item.mask is not None:
            mask = _checked_mask(item, item.mask(), size)
            placed = place.apply(resize(mask, place.size, nearest=True)[None])[
                0
            ]  # it has its size: no values are mixed
            labels = np.where(place.valid(), placed, labels)
        sample: dict[str, Any] = {
            "image": to_channels_first(jitter_colour(image, rng, strength=self.jitter if self.train else 0)),
            "target": np.int64(item.target),
            "labels": torch.from_numpy(labels.astype(np.int64)),
            "weight": np.float32(item.weight),
        }
        if item.attention is not None:
            attention = np.asarray(item.attention(), np.float32)
            _check_size(item, "attention", attention.shape, size)
            sample["attention"] = torch.from_numpy(np.clip(place.apply(attention[None]), 0, 1))
        if self.num_classes is not None:
            tags = np.zeros(self.num_classes - 1, np.float32)
            tags[[tag - 1 for tag in item.tags or (item.target,)]] = 1
            sample["tags"] = tags
        return sample


def _checked_mask(item: AttentionItem, mask: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    _check_size(item, "mask", mask.shape, size)
    found = np.unique(mask).tolist()
    if not set(found) <= {0, 1, VOID}:
        raise DataError(
            f"Mask of item '{item.name}' holds the values {found}, expected 0 (elsewhere), 1 (the class) and "
            f"{VOID} (void). Compare the labels with the class id first."
        )
    return mask.astype(np.uint8)


def _check_size(item: AttentionItem, what: str, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    if shape != size:
        raise DataError(
            f"Item '{item.name}': its {what} has shape {shape}, its frame {size}. Make it from the same frame, "
            "or resize it to the frame."
        )
