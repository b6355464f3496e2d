"""The encoder-decoder of Hong et al. 2017: a tag classifier locates a class, a class-agnostic decoder segments it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.classification import BinaryJaccardIndex

from modules.attention_network import AttentionNetwork
from modules.checkpoints import load_hyper_checkpoint, to_plain
from modules.encoder2d import Encoder2D
from modules.image_inference import CLASS_THRESHOLD
from modules.losses import weighted_cross_entropy
from modules.modes import evaluating
from modules.optim import build_optimizer, one_cycle
from pseudolabel.decision import Decision
from pseudolabel.types import VOID, BoolArray, DataError, FloatArray, LabelSpace, Tag, UInt8Array, nearest_name


class AttentionDecoder(pl.LightningModule):
    """Segmentation by attention (Hong et al. 2017, Sec. 3.3 and 3.4); build it with :meth:`from_encoder`.

    A training batch has ``image`` uint8 (B, 3, H, W), ``target`` long (B,), the class id (1..C - 1) whose attention is
    decoded, ``labels`` (B, H, W), 1 on that class, 0 elsewhere, 255 = void, ``weight`` (B,), and perhaps ``attention``
    float (B, 1, h, w) in [0, 1] made before, and ``tags`` (B, C - 1), 1 for every class that the image shows.

    Args:
        encoder: the hyper-parameters of an :class:`Encoder2D`, its ``classes`` included; its weights are part of this
            module's checkpoint.
        label_space: :meth:`LabelSpace.to_dict`; None = the encoder's classes in their order.
        width: factor of the decoder's channels.
        batch_norm: see :class:`modules.nets.deconvnet.DeconvNet`.
        init: see :class:`modules.nets.deconvnet.DeconvNet`.
        scales: of the attention (the maximum over them); the paper names none.
        class_threshold: probability from which an image shows a class.
        train_encoder: train the encoder as well, through the attention and on the tags (domain adaptation ``all``, and
            the end-to-end variant); attention made before is then not used.
        encoder_multiplier: factor of the encoder's learning rate; ours.
        tag_weight: factor of the encoder's own loss on the tags while it is trained; ours.
        optimizer: ``"adam"``, ``"adamw"`` or ``"sgd"``.
        lr: learning rate.
        weight_decay: L2 factor.
        schedule: ``"constant"`` (paper) or ``"one_cycle"`` over the whole fit.
        max_side: longer side of the frames it was trained on; prediction resizes to it and back. None = any.
    """

    decision: Decision = "likeliest"  # its background is 1 - the best object, so that the sum of objects says nothing

    def __init__(
        self,
        encoder: Mapping[str, Any],
        *,
        label_space: dict[str, Any] | None = None,
        width: float = 1.0,
        batch_norm: bool = False,
        init: str = "kaiming",
        scales: Sequence[float] = (0.5, 1.0, 1.5, 2.0),
        class_threshold: float = CLASS_THRESHOLD,
        train_encoder: bool = False,
        encoder_multiplier: float = 0.1,
        tag_weight: float = 1.0,
        optimizer: str = "adam",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: str = "constant",
        max_side: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if schedule not in ("constant", "one_cycle"):
            raise DataError(f"Unknown schedule '{schedule}'. Expected 'constant' or 'one_cycle'.")
        classifier = Encoder2D(**{**encoder, "weights": None})
        classes = classifier.classes
        self.space = LabelSpace(tuple(map(Tag, classes))) if label_space is None else LabelSpace.from_dict(label_space)
        self.network = AttentionNetwork(
            classifier,
            [_find(str(tag), classes) for tag in self.space.tags],
            width=width,
            batch_norm=batch_norm,
            init=init,
            scales=scales,
            train_encoder=train_encoder,
        )
        self.class_threshold, self.max_side = class_threshold, max_side
        self.val_iou = BinaryJaccardIndex(ignore_index=VOID)

    @property
    def encoder(self) -> Encoder2D:
        """The classifier within."""
        return self.network.encoder

    @classmethod
    def from_encoder(cls, encoder: Encoder2D | str | Path, **options: Any) -> AttentionDecoder:
        """Build a decoder on a trained encoder (or its checkpoint); ``options`` are this class's arguments."""
        trained = encoder if isinstance(encoder, Encoder2D) else Encoder2D.load(encoder)
        module = cls({**to_plain(dict(trained.hparams)), "weights": None}, **options)
        module.encoder.load_state_dict(trained.state_dict())
        return module

    def forward(self, images: Tensor, attention: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..255 and attention (B, 1, h, w) in [0, 1] -> logits (B, 2, H, W)."""
        return self.network(images, attention)

    def _logits(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Logits (B, 2, H, W) of a batch; and the encoder's logits, while it is trained."""
        images, given, network = batch["image"], batch.get("attention"), self.network
        height, width = images.shape[-2:]
        padded = network.pad(images)
        features, switches = network.encode(padded)
        if given is None or network.train_encoder:
            given = network.attend(padded, batch["target"].long()[:, None] - 1, features)[..., :height, :width]
        logits = network.decode(given, switches, (height, width))
        return logits, network.encoder.score(features) if network.train_encoder else None

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Return the cross-entropy of Eq. 6, plus the encoder's own while it is trained."""
        logits, answers = self._logits(batch)
        loss = weighted_cross_entropy(logits, batch["labels"].long(), batch["weight"])
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(logits))
        if answers is None or not self.hparams["tag_weight"]:
            return loss
        tag_loss = self.encoder.loss(answers.float(), self._tags(batch, answers))
        self.log("train/tag_loss", tag_loss, on_step=False, on_epoch=True, batch_size=len(logits))
        return loss + self.hparams["tag_weight"] * tag_loss

    def _tags(self, batch: Mapping[str, Any], answers: Tensor) -> Tensor:
        """What the encoder should say (B, len(encoder.classes)): every tag 1, or equal shares for a softmax."""
        index, tags = self.network.class_index, batch.get("tags")
        if tags is None:
            tags = F.one_hot(batch["target"].long() - 1, len(index))
        wanted = torch.zeros_like(answers, dtype=torch.float32)
        wanted[:, index] = tags.to(wanted)
        shared = isinstance(self.encoder.loss, torch.nn.CrossEntropyLoss)
        return wanted / wanted.sum(1, keepdim=True).clamp(min=1) if shared else wanted

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add one batch, as those of training, to the foreground's overlap with its labels."""
        logits, _ = self._logits(batch)
        self.val_iou.update(logits.argmax(1), batch["labels"].long())

    def on_validation_epoch_end(self) -> None:
        """Log the overlap over all pixels, the same on all ranks."""
        self.log("val/iou", self.val_iou.compute(), prog_bar=True)
        self.val_iou.reset()

    def on_fit_start(self) -> None:
        """Freeze once more what synchronised batch norm has built anew."""
        self.encoder.on_fit_start()
        self.train(self.training)

    def configure_optimizers(self) -> Any:
        """Adam on the decoder, and with ``encoder_multiplier`` times the rate on an encoder that is trained."""
        options = self.hparams
        rates = {self.network.decoder: options["lr"], self.encoder: options["lr"] * options["encoder_multiplier"]}
        groups = [
            {"params": [item for item in part.parameters() if item.requires_grad], "lr": rate}
            for part, rate in rates.items()
        ]
        optimizer = build_optimizer(
            [group for group in groups if group["params"]],
            options["optimizer"],
            lr=options["lr"],
            weight_decay=options["weight_decay"],
        )
        if options["schedule"] == "constant":
            return optimizer
        total = max(1, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": one_cycle(optimizer, total), "interval": "step"}}

    def predict_scores(
        self,
        frames: UInt8Array,
        *,
        batch_size: int = 16,
        allowed: BoolArray | None = None,
        threshold: float | None = None,
    ) -> FloatArray:
        """Segment whole frames (Sec. 3.4); the mode is left as found.

        Args:
            frames: uint8 (T, H, W, 3).
            batch_size: frames and attention maps at a time; fewer frames where the scales enlarge them.
            allowed: bool (C,) or (T, C), the classes that are possible, as :meth:`LabelSpace.allowed` gives them;
                None = all. ``threshold=0`` decodes every one of them, as tags known to be true deserve.
            threshold: probability from which a frame shows a class; None = ``class_threshold``.

        Returns:
            float32 (T, C, H, W) of sum 1 over the classes; class 0 is background (:func:`combine_foregrounds`).
        """
        possible = None
        if allowed is not None:
            possible = torch.from_numpy(np.broadcast_to(allowed, (len(frames), self.space.num_classes))[:, 1:].copy())
        chunk = max(1, int(batch_size / max(1.0, *self.network.scales) ** 2))
        parts = []
        with evaluating(self):
            for start in range(0, len(frames), chunk):
                images = torch.from_numpy(np.ascontiguousarray(frames[start : start + chunk])).to(self.device)
                scores = self.network.segment(
                    images.permute(0, 3, 1, 2),  # (B, H, W, 3) -> (B, 3, H, W)
                    threshold=self.class_threshold if threshold is None else threshold,
                    allowed=None if possible is None else possible[start : start + chunk].to(self.device),
                    maps_at_once=batch_size,
                )
                parts.append(scores.float().cpu())
        return torch.cat(parts).numpy()

    @classmethod
    def load(cls, path: str | Path) -> AttentionDecoder:
        """Load a checkpoint, encoder and decoder, without running code from it and without any other file."""
        return load_hyper_checkpoint(cls, path)


def _find(name: str, classes: Sequence[str]) -> int:
    """Place of a class among the encoder's."""
    if name not in classes:
        hint = nearest_name(name, classes)
        raise DataError(
            f"The encoder knows no class '{name}'{hint} Known: {', '.join(classes)}. "
            "Train it on the classes of the data."
        )
    return list(classes).index(name)
