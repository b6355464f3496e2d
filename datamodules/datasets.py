"""Torch datasets over the frame cache; a sample is a plain dict. No dataset knows a network.

Randomness depends on (seed, epoch, item) alone, so that one rank or many, no or many workers, see the same crops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.frame_cache import FrameCache
from datamodules.records import VideoRecord
from datamodules.transforms import crop_and_pad, jitter_colour, random_resized_box, resize
from pseudolabel.sampling import clip_indices
from pseudolabel.store import PARow, PAStore
from pseudolabel.types import VOID, FloatArray, UInt8Array

Sample = dict[str, Any]


def to_channels_first(images: UInt8Array) -> torch.Tensor:
    """(..., H, W, 3) uint8 array -> (..., 3, H, W) uint8 tensor."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, -3)))


def tag_crop(
    image: UInt8Array,
    *,
    size: int,
    seed: tuple[int, ...] | None = None,
    area: tuple[float, float] = (1.0, 1.0),
    jitter: float = 0.0,
) -> torch.Tensor:
    """Return what a classifier of tags sees of an image uint8 (H, W, 3): uint8 (3, size, size).

    With a ``seed``, a random resized crop of a share of ``area``, colour jitter and perhaps a mirror image; else all of
    the image.
    """
    if seed is None:
        return to_channels_first(resize(image, (size, size)))
    rng = np.random.default_rng(seed)
    image = random_resized_box((image.shape[0], image.shape[1]), rng, area=area).cut(image)
    image = jitter_colour(resize(image, (size, size)), rng, strength=jitter)
    return to_channels_first(image[:, ::-1] if rng.random() < 0.5 else image)


class TagFrames(Dataset[Sample]):
    """Single frames with the class of their video, for the 2-D encoder.

    Args:
        cache: decoded frames.
        records: the videos.
        labels: float32 (len(records), classes), 1 for the classes that the video is tagged with.
        size: side of the square crops in pixels.
        positions: which of a record's cached frames belong to this set; None = all.
        seed: seed of the augmentation.
        epoch: number of the epoch; another epoch draws other crops.
        train: random resized crop, mirror, colour jitter; else the whole frame resized to ``size`` x ``size``.
        area: smallest and largest share of the frame in a crop.
        jitter: strength of the colour jitter.
    """

    def __init__(
        self,
        cache: FrameCache,
        records: Sequence[VideoRecord],
        labels: FloatArray,
        *,
        size: int,
        positions: Callable[[VideoRecord], Sequence[int]] | None = None,
        seed: int = 0,
        epoch: int = 0,
        train: bool = True,
        area: tuple[float, float] = (0.4, 1.0),
        jitter: float = 0.2,
    ) -> None:
        self.cache, self.records, self.labels = cache, records, labels
        self.size, self.seed, self.epoch, self.train = size, seed, epoch, train
        self.area, self.jitter = area, jitter
        self.items = [
            (video, position)
            for video, record in enumerate(records)
            for position in (range(len(cache.indices(record))) if positions is None else positions(record))
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item: int) -> Sample:
        video, position = self.items[item]
        frame = np.asarray(self.cache.frames(self.records[video])[position])
        seed = (self.seed, self.epoch, item) if self.train else None
        pixels = tag_crop(frame, size=self.size, seed=seed, area=self.area, jitter=self.jitter)
        return {"image": pixels, "label": self.labels[video]}


class TagClips(Dataset[Sample]):
    """Clips with the action of their video, for the 3-D encoder (one clip per video and epoch).

    Args:
        cache: gives the frames (decoding anew what it does not hold).
        records: the videos.
        labels: float32 (len(records), classes), 1 for the classes that the video is tagged with.
        size: side of the square crops in pixels.
        length: frames per clip (t of Fig. 6).
        stride: distance of neighbouring frames in source frames.
        repeat: clips per video in one epoch.
        seed: seed of the augmentation.
        epoch: number of the epoch.
        train: random start, crop, mirror and jitter; else the middle clip, whole frames.
        area: smallest and largest share of the frame in a crop.
        jitter: strength of the colour jitter.
    """

    def __init__(
        self,
        cache: FrameCache,
        records: Sequence[VideoRecord],
        labels: FloatArray,
        *,
        size: int,
        length: int,
        stride: int = 1,
        repeat: int = 1,
        seed: int = 0,
        epoch: int = 0,
        train: bool = True,
        area: tuple[float, float] = (0.5, 1.0),
        jitter: float = 0.2,
    ) -> None:
        self.cache, self.records, self.labels = cache, records, labels
        self.size, self.length, self.stride, self.repeat = size, length, stride, repeat
        self.seed, self.epoch, self.train = seed, epoch, train
        self.area, self.jitter = area, jitter

    def __len__(self) -> int:
        return len(self.records) * self.repeat

    def __getitem__(self, item: int) -> Sample:
        record = self.records[item % len(self.records)]
        num_frames = self.cache.length(record)
        spare = max(0, num_frames - (self.length - 1) * self.stride - 1)
        rng = np.random.default_rng((self.seed, self.epoch, item))
        start = int(rng.integers(spare + 1)) if self.train else spare // 2
        frames = self.cache.read(record, clip_indices(num_frames, self.length, self.stride, start))
        if self.train:
            frames = random_resized_box(frames.shape[1:3], rng, area=self.area).cut(frames)
        frames = np.stack([resize(np.ascontiguousarray(frame), (self.size, self.size)) for frame in frames])
        if self.train:
            frames = jitter_colour(frames, rng, strength=self.jitter)
            if rng.random() < 0.5:
                frames = frames[:, :, ::-1]
        clip = to_channels_first(frames).movedim(0, 1)  # (T, 3, H, W) -> (3, T, H, W)
        return {"clip": clip.contiguous(), "label": self.labels[item % len(self.records)]}


class PseudoFrames(Dataset[Sample]):
    """Crops of the selected frames with the labels of one version, for the segmenter.

    Args:
        cache: decoded frames.
        records: the training videos by name.
        store: where the versions are.
        version: which one to read.
        rows: the selected frames with their weights.
        crop: side of the crops in pixels.
        seed: seed of the augmentation.
        epoch: number of the epoch.
        scales: random scaling before the crop.
        jitter: strength of the colour jitter.
        void_as: class id that the labels' void teaches; 255 = it teaches nothing.
    """

    def __init__(
        self,
        cache: FrameCache,
        records: dict[str, VideoRecord],
        store: PAStore,
        version: int,
        rows: Sequence[PARow],
        *,
        crop: int,
        seed: int = 0,
        epoch: int = 0,
        scales: tuple[float, float] = (1.0, 1.0),
        jitter: float = 0.0,
        void_as: int = VOID,
    ) -> None:
        self.cache, self.records, self.store, self.version = cache, records, store, version
        self.rows = [row for row in rows if row.selected and row.weight > 0]
        self.crop, self.seed, self.epoch, self.scales, self.jitter = crop, seed, epoch, scales, jitter
        self.void_as = void_as
        self._positions = {
            name: {int(index): position for position, index in enumerate(cache.indices(records[name]))}
            for name in {row.video for row in self.rows}
        }

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> Sample:
        row = self.rows[item]
        frame = np.asarray(self.cache.frames(self.records[row.video])[self._positions[row.video][row.frame]])
        labels = _without_void(self.store.read(self.version, row.video, row.frame), self.void_as)
        rng = np.random.default_rng((self.seed, self.epoch, item))
        image, labels = crop_and_pad(frame, labels, self.crop, rng, scales=self.scales)
        image = jitter_colour(image, rng, strength=self.jitter)
        return {
            "image": to_channels_first(image),
            "labels": torch.from_numpy(labels.astype(np.int64)),
            "weight": np.float32(row.weight),
        }


class PseudoVideos(Dataset[Sample]):
    """Whole frames of the validation videos with their pseudo-annotations and superpixels: one video per item.

    Args:
        cache: decoded frames.
        records: the validation videos by name.
        store: where the versions are.
        version: which one to read.
        rows: the validation frames.
        superpixels: number of superpixels per frame.
        compactness: SLIC's compactness.
    """

    def __init__(
        self,
        cache: FrameCache,
        records: dict[str, VideoRecord],
        store: PAStore,
        version: int,
        rows: Sequence[PARow],
        *,
        superpixels: int,
        compactness: float,
    ) -> None:
        self.cache, self.records, self.store, self.version = cache, records, store, version
        self.superpixels, self.compactness = superpixels, compactness
        self.frames: dict[str, list[int]] = {}
        for row in rows:
            self.frames.setdefault(row.video, []).append(row.frame)
        self.names = sorted(self.frames)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, item: int) -> Sample:
        name = self.names[item]
        record, wanted = self.records[name], self.frames[name]
        position = {int(index): p for p, index in enumerate(self.cache.indices(record))}
        positions = [position[frame] for frame in wanted]
        slic = self.cache.superpixels(record, n=self.superpixels, compactness=self.compactness)
        labels = np.stack([self.store.read(self.version, name, frame) for frame in wanted])
        return {
            "frames": to_channels_first(np.asarray(self.cache.frames(record)[positions])),
            "superpixels": torch.from_numpy(slic[positions]),
            "labels": torch.from_numpy(labels),
        }


class TrueFrames(Dataset[Sample]):
    """Crops of pictures with their true masks, for the supervised twin alone.

    Args:
        pairs: give an image uint8 (H, W, 3) and its mask uint8 (H, W), class ids, 255 = void, when called.
        crop: side of the crops in pixels.
        seed: seed of the augmentation.
        epoch: number of the epoch.
        scales: random scaling before the crop.
        jitter: strength of the colour jitter.
    """

    def __init__(
        self,
        pairs: Sequence[Callable[[], tuple[UInt8Array, UInt8Array]]],
        *,
        crop: int,
        scales: tuple[float, float] = (1.0, 1.0),
        jitter: float = 0.0,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        self.pairs, self.crop, self.scales, self.jitter = pairs, crop, scales, jitter
        self.seed, self.epoch = seed, epoch

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, item: int) -> Sample:
        image, mask = self.pairs[item]()
        rng = np.random.default_rng((self.seed, self.epoch, item))
        image, mask = crop_and_pad(image, mask, self.crop, rng, scales=self.scales)
        return {
            "image": to_channels_first(jitter_colour(image, rng, strength=self.jitter)),
            "labels": torch.from_numpy(mask.astype(np.int64)),
            "weight": np.float32(1),
        }


def _without_void(labels: UInt8Array, label: int) -> UInt8Array:
    """Return labels uint8 of any shape with ``label`` in the place of void."""
    return labels if label == VOID else np.where(labels == VOID, np.uint8(label), labels)
