"""The cut-and-paste critic of WS2's selection (Chen et al., Sec. 3.2): original patch or pasted patch?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from modules.nets.patch_discriminator import PatchDiscriminator
from pseudolabel.types import FloatArray, UInt8Array


def _to_input(patches: UInt8Array, device: torch.device) -> torch.Tensor:
    images = torch.from_numpy(np.ascontiguousarray(patches)).to(device)
    return (images.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def train_discriminator(
    original: Sequence[UInt8Array],
    pasted: Sequence[UInt8Array],
    *,
    width: int,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
    device: torch.device | str = "cpu",
) -> PatchDiscriminator:
    """Train a fresh discriminator with binary cross-entropy: original foreground patches are real, pasted ones fake.

    Args:
        original: for each video, uint8 (N_v, s, s, 3), N_v >= 1; memory maps are read patch by patch.
        pasted: for each video, as many.
        width: channels of its first layer.
        steps: optimiser steps.
        batch_size: patches per step, half of each kind.
        lr: learning rate of Adam.
        seed: decides weights and order.
        device: where to train.

    Returns:
        the trained network, in eval mode.
    """
    device = torch.device(device)
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PatchDiscriminator(width).to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=lr, betas=(0.5, 0.999), weight_decay=1e-4)
    loss = nn.BCEWithLogitsLoss()
    half = max(1, batch_size // 2)
    target = torch.cat([torch.ones(half), torch.zeros(half)]).to(device)
    places = [(video, place) for video, patches in enumerate(original) for place in range(len(patches))]

    def draw() -> list[tuple[int, int]]:
        return [places[k] for k in rng.integers(len(places), size=half)]

    with torch.enable_grad():
        for _ in range(steps):
            batch = np.stack([patches[video][place] for patches in (original, pasted) for video, place in draw()])
            flipped = rng.random(len(batch)) < 0.5
            batch[flipped] = batch[flipped][:, :, ::-1]
            optimizer.zero_grad()
            loss(network(_to_input(batch, device)).flatten(), target).backward()
            optimizer.step()
    return network.eval()


@torch.no_grad()
def realness(network: PatchDiscriminator, patches: UInt8Array, *, batch_size: int = 128) -> FloatArray:
    """Return the probability (N,) in [0, 1] that each patch, uint8 (N, s, s, 3), is an original one."""
    device = next(network.parameters()).device
    parts = [
        network(_to_input(patches[start : start + batch_size], device)).flatten().sigmoid().cpu().numpy()
        for start in range(0, len(patches), batch_size)
    ]
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


def cross_fitted_realness(
    original: Sequence[UInt8Array],
    pasted: Sequence[UInt8Array],
    *,
    folds: int = 2,
    width: int = 64,
    steps: int = 500,
    batch_size: int = 64,
    lr: float = 2e-4,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> list[FloatArray]:
    """Judge every video's pasted patches by a discriminator that has not seen that video (SPEC S-d).

    Args:
        original: for each video, uint8 (N_v, s, s, 3).
        pasted: for each video, uint8 (N_v, s, s, 3).
        folds: number of parts of the cross-fit.
        width: channels of the first layer.
        steps: optimiser steps per fold.
        batch_size: patches per step.
        lr: learning rate.
        seed: decides folds, weights and order.
        device: where to train.

    Returns:
        for each video, float32 (N_v,) in [0, 1]; 1 everywhere if there are fewer than two videos with
        patches for each fold.
    """
    filled = [video for video, patches in enumerate(original) if len(patches)]
    answers = [np.ones(len(patches), np.float32) for patches in pasted]
    if len(filled) < 2 * folds:
        return answers
    order = np.random.default_rng(seed).permutation(filled)
    for fold in range(folds):
        judged = order[fold::folds]
        seen = np.setdiff1d(order, judged)
        network = train_discriminator(
            [original[video] for video in seen],
            [pasted[video] for video in seen],
            width=width,
            steps=steps,
            batch_size=batch_size,
            lr=lr,
            seed=seed + fold,
            device=device,
        )
        for video in judged:
            answers[video] = realness(network, pasted[video])
    return answers
