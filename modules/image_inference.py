"""Segmenting an image by its classes' attention maps, as pure functions (Hong et al. 2017, Sec. 3.4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CLASS_THRESHOLD = 0.6
"""Probability from which a class counts as present: the paper names none, this is TransferNet's."""

AttendFn = Callable[[Tensor], Tensor]
"""Classes long (K,) -> attention maps (B, K, H, W) of all images."""

DecodeFn = Callable[[Tensor, Tensor], Tensor]
"""Images long (P,), attention (P, 1, H, W) -> probability of foreground (P, H, W)."""


def stretch(maps: Tensor) -> Tensor:
    """Stretch every map (..., H, W) to [0, 1] by its own minimum and maximum; a constant map becomes 0."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    extent = high - low
    return (maps - low) / torch.where(extent > 0, extent, torch.ones_like(extent))


def present_classes(
    probabilities: Tensor, *, threshold: float = CLASS_THRESHOLD, allowed: Tensor | None = None
) -> Tensor:
    """Decide which classes an image shows: those from the threshold on, or else the most probable one.

    Args:
        probabilities: float (B, N), of the object classes.
        threshold: smallest probability of a class that is present; 0 = all that are allowed.
        allowed: bool (B, N), classes that are possible, such as an image's tags; None = all. An image that allows no
            class shows none.

    Returns:
        bool (B, N).
    """
    possible = torch.ones_like(probabilities, dtype=torch.bool) if allowed is None else allowed.to(probabilities.device)
    candidates = probabilities.masked_fill(~possible, -1)
    best = torch.zeros_like(possible).scatter(1, candidates.argmax(1, keepdim=True), True)
    return possible & ((candidates >= threshold) | best)


def combine_foregrounds(foregrounds: Tensor, classes: Tensor, *, num_classes: int) -> Tensor:
    """Join the foreground maps of one image's classes to scores whose argmax is their pixel-wise maximum.

    Background is ``1 - max_c p_c``, ours, as the paper leaves it open: a class wins a pixel where its probability is
    the largest and above 1/2. The scores are then divided by their sum, which changes no decision.

    Args:
        foregrounds: float (K, H, W) in [0, 1], K >= 0.
        classes: long (K,), their class ids, 1..num_classes - 1, each at most once.
        num_classes: C, background included.

    Returns:
        float (C, H, W) >= 0, of sum 1 at every pixel; class 0 is background, absent classes are 0.
    """
    scores = foregrounds.new_zeros(num_classes, *foregrounds.shape[1:])
    scores[classes] = foregrounds
    scores[0] = 1 - scores.amax(0)
    return scores / scores.sum(0)


def segment_images(
    probabilities: Tensor,
    attend: AttendFn,
    decode: DecodeFn,
    *,
    size: tuple[int, int],
    threshold: float = CLASS_THRESHOLD,
    allowed: Tensor | None = None,
    maps_at_once: int = 16,
) -> Tensor:
    """Segment images: their classes, an attention map and a foreground map of each, the pixel-wise maximum.

    Args:
        probabilities: float (B, N) of the object classes, N = C - 1.
        attend: gives the attention maps of classes 0..N - 1.
        decode: turns attention maps of some of the images into foreground.
        size: (H, W) of the foreground maps.
        threshold: see :func:`present_classes`.
        allowed: see :func:`present_classes`.
        maps_at_once: foreground maps decoded at a time.

    Returns:
        float (B, N + 1, H, W), see :func:`combine_foregrounds`.
    """
    present = present_classes(probabilities, threshold=threshold, allowed=allowed)
    classes = present.any(0).nonzero().flatten()
    places = present[:, classes].nonzero()  # (P, 2): image, place in classes
    foregrounds = probabilities.new_zeros(0, *size)
    if len(places):
        attention = attend(classes)  # (B, K, H, W)
        foregrounds = torch.cat(
            [decode(part[:, 0], attention[part[:, 0], part[:, 1]][:, None]) for part in places.split(maps_at_once)]
        )
    scores = []
    for image in range(len(probabilities)):
        mine = places[:, 0] == image
        ids = classes[places[mine, 1]] + 1
        scores.append(combine_foregrounds(foregrounds[mine], ids, num_classes=probabilities.shape[1] + 1))
    return torch.stack(scores)
