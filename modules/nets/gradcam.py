"""Class activation maps of 2-D and 3-D networks: Grad-CAM, plain CAM, and maps over several scales."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from modules.modes import evaluating


class GradCAM:
    """Grad-CAM of one layer, a context manager that owns its hook.

    ``with GradCAM(network, layer) as cam: maps, logits = cam(inputs, targets)``

    Source: Selvaraju et al. 2017; in 3-D as Chen et al. 2020, Eqs. 4 and 5: ``w_m = 1/Z sum_p dy_c/dA_m(p)``,
    ``S = ReLU(sum_m w_m A_m)``, where Z is the number of positions.

    Args:
        network: maps inputs to logits (B, num_classes).
        layer: a module of ``network``, run once per forward, whose output (B, M, h, w) or (B, M, t, h, w) is explained.
    """

    def __init__(self, network: nn.Module, layer: nn.Module) -> None:
        self.network = network
        self.layer = layer
        self._handle: RemovableHandle | None = None
        self._activations: list[Tensor] = []

    def __enter__(self) -> GradCAM:
        if self._handle is not None:
            raise RuntimeError("This GradCAM is already entered. Use a new one for a nested context.")
        self._handle = self.layer.register_forward_hook(self._capture)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = None
        self._activations.clear()

    def __call__(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one map per sample and target: one forward pass, K backward passes down to the layer.

        The network runs in eval mode and is left in the modes it was found in; parameters get no ``.grad``. Works
        under ``torch.no_grad()`` and with frozen parameters.

        Args:
            inputs: (B, ...) what the network takes.
            targets: long (B, K), class ids in 0..num_classes-1.

        Returns:
            maps: float32 (B, K, h, w) or (B, K, t, h, w) of the layer's size, not negative, not normalised.
            logits: (B, num_classes), detached.

        Raises:
            RuntimeError: called outside ``with`` or under ``torch.inference_mode()``, or the layer did not run once.
            ValueError: ``targets`` has another shape, or names a class that does not exist.
        """
        if self._handle is None:
            raise RuntimeError("GradCAM is used outside its context. Write `with GradCAM(network, layer) as cam:`.")
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "GradCAM needs gradients, which torch.inference_mode() rules out for good. Call it outside, "
                "e.g. with Trainer(inference_mode=False); torch.no_grad() does no harm."
            )
        if targets.ndim != 2 or targets.shape[0] != inputs.shape[0] or targets.shape[1] < 1:
            raise ValueError(f"Wrong targets shape {tuple(targets.shape)}, expected ({inputs.shape[0]}, K), K >= 1.")
        try:
            with evaluating(self.network), torch.enable_grad():
                # A tensor made under inference mode cannot enter a graph; its copy can.
                logits: Tensor = self.network(inputs.clone() if inputs.is_inference() else inputs)
                return self._maps(logits, targets), logits.detach()
        finally:
            self._activations.clear()

    def _capture(self, layer: nn.Module, inputs: object, output: object) -> Tensor:
        """Cut the graph at the layer: what lies below needs no backward pass and no memory for it."""
        if not isinstance(output, Tensor):
            raise RuntimeError(f"The layer of GradCAM must give one tensor, got {type(output).__name__}.")
        activation = output.detach().requires_grad_()
        self._activations.append(activation)
        return activation.clone()  # a copy, since the next module may work in place

    def _maps(self, logits: Tensor, targets: Tensor) -> Tensor:
        if len(self._activations) != 1:
            raise RuntimeError(
                f"The layer of GradCAM ran {len(self._activations)} times in one forward pass, expected once. "
                "Give a module of the same network that is called exactly once."
            )
        if int(targets.min()) < 0 or int(targets.max()) >= logits.shape[1]:
            raise ValueError(f"Targets must be in 0..{logits.shape[1] - 1}, got {targets.min()}..{targets.max()}.")
        activation = self._activations[0]
        positions = tuple(range(2, activation.ndim))
        # In eval mode samples do not touch each other, so the gradient of the sum holds each sample's own.
        scores = logits.gather(1, targets.to(logits.device)).sum(dim=0)  # (B, K) -> (K,)
        maps = []
        for k, score in enumerate(scores):
            (gradient,) = torch.autograd.grad(score, activation, retain_graph=k + 1 < len(scores))
            weights = gradient.float().mean(dim=positions, keepdim=True)
            maps.append((weights * activation.detach().float()).sum(dim=1).relu())
        return torch.stack(maps, dim=1)


def class_activation_map(features: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Plain CAM: features weighed by the classifier behind a global average pooling.

    Source: Zhou et al., "Learning Deep Features for Discriminative Localization", 2016, Eq. 2. For such a network
    Grad-CAM is ``relu(CAM) / Z``, with Z the number of positions.

    Args:
        features: (B, C, h, w) or (B, C, t, h, w), what is pooled.
        weight: (num_classes, C), or a 1x1 convolution's (num_classes, C, 1, ...).
        targets: long (B, K), class ids.

    Returns:
        (B, K, h, w) or (B, K, t, h, w), of any sign.
    """
    return torch.einsum("bkc,bc...->bk...", weight.flatten(1)[targets], features)


def multi_scale_maps(
    fn: Callable[[Tensor], Tensor],
    images: Tensor,
    scales: Sequence[float],
    *,
    reduce: Literal["max", "mean"] = "max",
    flip: bool = False,
) -> Tensor:
    """Compute maps of resized copies of the images and reduce them at the images' own size.

    Args:
        fn: maps (B, 3, H', W') to (B, K, h, w), or (B, 3, T, H', W') to (B, K, t, h, w).
        images: (B, 3, H, W), or (B, 3, T, H, W); time is not resized.
        scales: factors of height and width, e.g. (0.5, 1, 1.5, 2).
        reduce: ``"max"`` (Hong et al. 2017) or ``"mean"``, over scales and flips.
        flip: also map the images mirrored left to right.

    Returns:
        (B, K, H, W), or (B, K, t, H, W).

    Raises:
        ValueError: there is no scale, a scale is not positive, or ``reduce`` is unknown.
    """
    if not scales or min(scales) <= 0:
        raise ValueError(f"scales must hold at least one number, all positive, got {tuple(scales)}.")
    if reduce not in ("max", "mean"):
        raise ValueError(f"reduce must be 'max' or 'mean', got {reduce!r}.")
    height, width = images.shape[-2:]
    join = torch.maximum if reduce == "max" else torch.add
    found: Tensor | None = None  # joined as they come, so that memory does not grow with the number of scales
    for scale in scales:
        resized = _resize(images, (max(1, round(height * scale)), max(1, round(width * scale))))
        for mirrored in (False, True)[: 1 + flip]:
            maps = fn(resized.flip(-1)).flip(-1) if mirrored else fn(resized)
            maps = _resize(maps, (height, width))
            found = maps if found is None else join(found, maps)
    assert found is not None
    return found if reduce == "max" else found / (len(scales) * (1 + flip))


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize the last two axes of (B, C, ..., H, W) bilinearly."""
    if tuple(x.shape[-2:]) == size:
        return x
    planes = x.flatten(0, -3)[:, None]  # (B, C, ..., H, W) -> (N, 1, H, W)
    return F.interpolate(planes, size=size, mode="bilinear", align_corners=False).view(*x.shape[:-2], *size)
