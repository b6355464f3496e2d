"""What the decoder of ``recipe=webly`` learns from: frames or images with the attention of one class and its mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from datamodules.attention_batches import AttentionItem
from datamodules.images import ImageRecord, ImageSource
from datamodules.progress import follow
from datamodules.shot_store import ShotRecord, ShotStore
from datamodules.transforms import resize
from modules.attention_decoder import AttentionDecoder
from modules.encoder2d import Encoder2D
from pseudolabel.attention import normalize
from pseudolabel.store import PAStore
from pseudolabel.types import VOID, Annotation, Clip, DataError, FloatArray, LabelSpace, UInt8Array
from recipes.images import read_image, read_with_truth, skip_image
from recipes.workspace import Workspace


def video_items(space: LabelSpace, shots: ShotStore, versions: PAStore) -> list[AttentionItem]:
    """Return the labelled frames of all videos."""
    items = []
    for shot in shots.records():
        label = space.index(shot.tags[0])
        for position, frame in enumerate(shots.read(shot.name)[1]):
            items.append(
                AttentionItem(
                    frame=partial(_part, shots, shot.name, position, 0),
                    target=label,
                    mask=partial(_stored_mask, versions, shot.video, int(frame), label),
                    attention=partial(_part, shots, shot.name, position, 2),
                    name=f"{shot.video}/{int(frame):05d}",
                )
            )
    return items


def attend_images(
    workspace: Workspace,
    source: ImageSource,
    records: Sequence[ImageRecord],
    encoder: Encoder2D,
    shots: ShotStore,
    *,
    scales: Sequence[float],
    max_side: int | None,
) -> None:
    """Keep images with the attention of each of their tags, once: a shot of one frame for every tag."""
    missing = [record for record in records if not shots.is_written(record.name)]
    bar = follow(missing, "attention of images", least=8)
    for record in bar:
        try:
            image = read_image(source, record, max_side=max_side)
        except DataError as error:
            skip_image(workspace, record.name, str(error))
            continue
        columns = [encoder.classes.index(str(tag)) for tag in record.tags]
        maps = encoder.attention(image[None], columns, scales=scales, method="cam", reduce="max")
        for number, (tag, attention) in enumerate(zip(record.tags, normalize(maps), strict=True)):
            shots.write(ShotRecord(record.name, number, 0, 1, (tag,)), image[None], np.zeros(1, np.int64), attention)
        shots.mark_done(record.name)


def label_images(
    model: AttentionDecoder,
    space: LabelSpace,
    shots: ShotStore,
    versions: PAStore,
    tags: Sequence[ImageRecord],
    *,
    foreground: float,
    margin: float,
) -> None:
    """Label images with a model's prediction within their tags (domain adaptation, Sec. 5.2.1; SPEC W-j), as PA.v0.

    Args:
        model: what labels.
        space: the classes.
        shots: the images.
        versions: gets the labels.
        tags: the images' records.
        foreground: probability from which a pixel belongs to its most probable class; 1/2 is the paper's. A decoder
            that has learned from labels which often miss a part of the object is unsure of it: then less is better.
        margin: pixels that are nearer than this to ``foreground`` become void; 0, the paper, takes all as they are.
    """
    if versions.current() is not None:
        return
    versions.begin(0)
    waiting = [record for record in tags if shots.is_written(record.name) and not versions.is_written(0, record.name)]
    for record in follow(waiting, "labelling images", least=8):
        image = shots.read(f"{record.name}-shot000")[0]
        scores = model.predict_scores(image, allowed=space.allowed(record.tags), threshold=0.0)  # (1, C, H, W)
        clip = Clip(image, np.zeros(1, np.int64), record.name, 1.0, record.tags)
        labels, sure = binarise(scores, foreground=foreground, margin=margin)
        versions.write(0, clip, Annotation(labels, sure.mean(axis=(1, 2)).astype(np.float32)))
    versions.publish(0)


def binarise(scores: FloatArray, *, foreground: float, margin: float) -> tuple[UInt8Array, FloatArray]:
    """Decide what each pixel shows, by a threshold of the probability that any of the classes is there.

    Args:
        scores: (T, C, H, W) of :func:`modules.image_inference.combine_foregrounds`, whose background is what the most
            probable class leaves.
        foreground: see :func:`label_images`.
        margin: see :func:`label_images`.

    Returns:
        uint8 (T, H, W), void where it is not sure; and the probability of what was decided, float (T, H, W).
    """
    objects = scores[:, 1:].max(1)
    objects = objects / (objects + scores[:, 0])  # the scores were divided by their sum
    shown = objects >= foreground
    labels = np.where(shown, scores[:, 1:].argmax(1) + 1, 0)
    labels[np.abs(objects - foreground) < margin] = VOID
    return labels.astype(np.uint8), np.where(shown, objects, 1 - objects)


def image_items(space: LabelSpace, shots: ShotStore, mask: Callable[[str], UInt8Array | None]) -> list[AttentionItem]:
    """Return the images of ``shots``, once for every tag.

    Args:
        space: the classes.
        shots: of :func:`attend_images`.
        mask: name of an image -> class ids uint8 (H, W), 255 = void; None = the image has no mask and is left out.
    """
    items = []
    tags: dict[str, list[int]] = {}
    for shot in shots.records():
        tags.setdefault(shot.video, []).append(space.index(shot.tags[0]))
    for shot in shots.records():
        if mask(shot.video) is None:
            continue
        label = space.index(shot.tags[0])
        items.append(
            AttentionItem(
                frame=partial(_part, shots, shot.name, 0, 0),
                target=label,
                mask=partial(_chosen_mask, mask, shot.video, label),
                attention=partial(_part, shots, shot.name, 0, 2),
                tags=tuple(tags[shot.video]),
                name=shot.name,
            )
        )
    return items


def true_mask(
    workspace: Workspace, source: ImageSource, records: Sequence[ImageRecord], *, max_side: int | None
) -> Callable[[str], UInt8Array | None]:
    """Return what gives an image's true mask at the size of the image; only the supervised twin may ask it."""
    known = {record.name: record for record in records}

    def mask(name: str) -> UInt8Array | None:
        pair = read_with_truth(workspace, source, known[name], max_side=max_side)
        return None if pair is None else resize(pair[1], (pair[0].shape[0], pair[0].shape[1]), nearest=True)

    return mask


def _part(shots: ShotStore, name: str, position: int, which: int) -> Any:
    return shots.read(name)[which][position]


def _stored_mask(versions: PAStore, video: str, frame: int, label: int) -> UInt8Array:
    return _binary(versions.read(0, video, frame), label)


def _chosen_mask(mask: Callable[[str], UInt8Array | None], name: str, label: int) -> UInt8Array:
    found = mask(name)
    if found is None:
        raise RuntimeError(f"The mask of '{name}' was there and is not any more.")
    return _binary(found, label)


def _binary(labels: UInt8Array, label: int) -> UInt8Array:
    return np.where(labels == VOID, np.uint8(VOID), (labels == label).astype(np.uint8))
