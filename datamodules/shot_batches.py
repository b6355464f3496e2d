"""Data sets whose item is a whole mini-batch: the frames of one shot, or tagged still images.

Use them with ``DataLoader(batch_size=None)``. A batch is a dict without labels, which are made while training runs
(see callbacks/online_labels.py):

* ``image``: uint8 (T, 3, h, w), RGB;
* ``motion``: float32 (T, h, w) in [0, 1], of shots only; 0 where ``valid`` is false;
* ``valid``: bool (T, h, w), false where a small frame was padded to the crop;
* ``allowed``: bool (T, C), background and the classes of the tags;
* ``weight``: float32 (T,), trust in each frame, here 1;
* ``kind``: ``"shot"`` or ``"image"``; ``name``: says which, in messages.

Randomness depends on (seed, epoch, item) alone, so that one rank or many, no or many workers, see the same crops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.datasets import to_channels_first
from datamodules.shot_store import ShotRecord, ShotStore
from datamodules.transforms import AnyArray, CropBox, jitter_colour, resize
from pseudolabel.types import BoolArray, DataError, LabelSpace, UInt8Array

Batch = dict[str, Any]
ImageLoader = Callable[[], UInt8Array]


@dataclass(frozen=True)
class Placement:
    """A scale, a square crop and perhaps a mirror image, drawn once and applied to all arrays of a size.

    Attributes:
        size: (height, width) to which frames are resized.
        box: the crop within the resized and padded frame.
        mirrored: whether left and right are swapped.
    """

    size: tuple[int, int]
    box: CropBox
    mirrored: bool

    @classmethod
    def draw(
        cls, size: tuple[int, int], rng: np.random.Generator, *, crop: int, scales: tuple[float, float], mirror: bool
    ) -> Placement:
        """Draw a placement for frames of ``size`` = (H, W); a frame smaller than ``crop`` is padded below and right."""
        factor = rng.uniform(*scales)
        height, width = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
        top = int(rng.integers(max(0, height - crop) + 1))
        left = int(rng.integers(max(0, width - crop) + 1))
        mirrored = bool(mirror and rng.random() < 0.5)
        return cls((height, width), CropBox(top, left, crop, crop), mirrored)

    def apply(self, frames: AnyArray, *, pad: str = "edge") -> AnyArray:
        """Resize, pad, cut and mirror.

        Args:
            frames: (T, H, W, 3) or (T, H, W), all of the size that the placement was drawn for.
            pad: of :func:`numpy.pad`: ``"edge"`` repeats the border, ``"constant"`` gives 0.

        Returns:
            (T, crop, crop[, 3]).
        """
        resized = np.stack([resize(frame, self.size) for frame in frames])
        cut = resized[:, self.box.top : self.box.top + self.box.height, self.box.left : self.box.left + self.box.width]
        below, right = self.box.height - cut.shape[1], self.box.width - cut.shape[2]
        if below or right:
            rest: Any = ((0, 0),) * (frames.ndim - 3)
            cut = np.pad(cut, ((0, 0), (0, below), (0, right), *rest), mode=cast(Any, pad))
        return np.ascontiguousarray(cut[:, :, ::-1] if self.mirrored else cut)

    def valid(self) -> BoolArray:
        """Return bool (crop, crop): true where the crop shows the frame, false where it was padded."""
        inside = np.zeros((self.box.height, self.box.width), bool)
        inside[: self.size[0] - self.box.top, : self.size[1] - self.box.left] = True
        return inside[:, ::-1] if self.mirrored else inside


class ShotBatches(Dataset[Batch]):
    """One shot per item: all its frames with one and the same scale, crop, mirror and jitter (Tokmakov 2016, Sec. 4.2).

    Args:
        store: gives the frames and their motion.
        records: the shots.
        space: the classes.
        crop: side of the square crops in pixels.
        scales: smallest and largest factor of the size before cropping.
        jitter: strength of the colour jitter; 0 = none.
        mirror: flip left-right half of the time.
        seed: seed of the augmentation.
        epoch: number of the epoch; another epoch draws other crops.
    """

    def __init__(
        self,
        store: ShotStore,
        records: Sequence[ShotRecord],
        space: LabelSpace,
        *,
        crop: int,
        scales: tuple[float, float] = (1.0, 1.0),
        jitter: float = 0.0,
        mirror: bool = True,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        self.store, self.records, self.space = store, records, space
        self.crop, self.scales, self.jitter, self.mirror = crop, scales, jitter, mirror
        self.seed, self.epoch = seed, epoch

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, item: int) -> Batch:
        record = self.records[item]
        frames, _, motion = self.store.read(record.name)
        rng = np.random.default_rng((self.seed, self.epoch, item))
        place = Placement.draw(frames.shape[1:3], rng, crop=self.crop, scales=self.scales, mirror=self.mirror)
        images = jitter_colour(place.apply(frames), rng, strength=self.jitter)
        count = len(frames)
        return {
            "image": to_channels_first(images),
            # area averaging of a mask of ones gives up to 1 + 2e-7, which label prediction refuses
            "motion": torch.from_numpy(np.clip(place.apply(motion, pad="constant"), 0, 1)),
            "valid": torch.from_numpy(np.repeat(place.valid()[None], count, axis=0)),
            "allowed": torch.from_numpy(np.repeat(self.space.allowed(record.tags)[None], count, axis=0)),
            "weight": torch.ones(count),
            "kind": "shot",
            "name": record.name,
        }


class ImageBatches(Dataset[Batch]):
    """Tagged still images in batches, dealt anew in every epoch, each image once and with a crop of its own.

    Args:
        images: uint8 (H, W, 3) arrays of any size, or functions that load one.
        allowed: bool (N, C), background and the classes of each image's tags.
        batch_size: images per batch; the last batch may be smaller.
        crop: side of the square crops in pixels.
        scales: smallest and largest factor of the size before cropping.
        jitter: strength of the colour jitter; 0 = none.
        mirror: flip left-right half of the time.
        seed: seed of the order and the augmentation.
        epoch: number of the epoch.

    Raises:
        DataError: not as many rows in ``allowed`` as images.
    """

    def __init__(
        self,
        images: Sequence[UInt8Array | ImageLoader],
        allowed: BoolArray,
        *,
        batch_size: int = 10,
        crop: int,
        scales: tuple[float, float] = (1.0, 1.0),
        jitter: float = 0.0,
        mirror: bool = True,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        if len(images) != len(allowed):
            raise DataError(
                f"{len(images)} images but tags of {len(allowed)}. Give one row of allowed classes per image."
            )
        self.images, self.allowed, self.batch_size = images, np.asarray(allowed, bool), batch_size
        self.crop, self.scales, self.jitter, self.mirror = crop, scales, jitter, mirror
        self.seed, self.epoch = seed, epoch
        self.order = np.random.default_rng((seed, epoch)).permutation(len(images))

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, item: int) -> Batch:
        if not 0 <= item < len(self):
            raise IndexError(item)
        chosen = self.order[item * self.batch_size : (item + 1) * self.batch_size]
        pixels, valid = zip(*(self._one(int(number)) for number in chosen), strict=True)
        return {
            "image": to_channels_first(np.stack(pixels)),
            "valid": torch.from_numpy(np.stack(valid)),
            "allowed": torch.from_numpy(self.allowed[chosen]),
            "weight": torch.ones(len(chosen)),
            "kind": "image",
            "name": f"images {', '.join(str(number) for number in chosen)}",
        }

    def _one(self, number: int) -> tuple[UInt8Array, BoolArray]:
        source = self.images[number]
        image = source() if callable(source) else source
        rng = np.random.default_rng((self.seed, self.epoch, number))
        place = Placement.draw(image.shape[:2], rng, crop=self.crop, scales=self.scales, mirror=self.mirror)
        return jitter_colour(place.apply(image[None])[0], rng, strength=self.jitter), place.valid()


class MixedBatches(Dataset[Batch]):
    """All batches of several data sets in one epoch, evenly mixed even where nobody shuffles.

    Args:
        parts: the data sets.
    """

    def __init__(self, parts: Sequence[Dataset[Batch]]) -> None:
        self.parts = list(parts)
        lengths = [len(cast(Any, part)) for part in self.parts]
        turns = sorted(((k + 0.5) / length, part, k) for part, length in enumerate(lengths) for k in range(length))
        self.turns = [(part, k) for _, part, k in turns]

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, item: int) -> Batch:
        part, k = self.turns[item]
        return self.parts[part][k]
