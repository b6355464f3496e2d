"""What the 2-D and the 3-D encoder share: training a classifier on the videos' tags."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torchmetrics import MeanMetric

from modules.optim import build_optimizer, one_cycle


class Tagger(pl.LightningModule, ABC):
    """Base of the encoders: softmax cross-entropy (one tag per video) or sigmoid (several), one-cycle schedule.

    The accuracy counts the items whose most probable class is one of their tags.

    A subclass builds its network, names its input's key in a sample and says how it looks at uint8 input.

    Args:
        classes: names of the classes, in the order of the logits.
        optimizer: ``"sgd"`` or ``"adamw"``.
        lr: highest learning rate.
        head_multiplier: factor of the new classifier's learning rate.
        weight_decay: L2 factor.
        label_smoothing: of the softmax cross-entropy.
        multi_label: sigmoid cross-entropy on all tags instead of softmax on the only one.
    """

    input_key: str

    def __init__(
        self,
        classes: list[str],
        *,
        optimizer: str = "sgd",
        lr: float = 1e-3,
        head_multiplier: float = 10.0,
        weight_decay: float = 5e-4,
        label_smoothing: float = 0.0,
        multi_label: bool = False,
    ) -> None:
        super().__init__()
        self.classes = list(classes)
        self.optimizer_name, self.lr, self.head_multiplier = optimizer, lr, head_multiplier
        self.weight_decay = weight_decay
        self.loss = nn.BCEWithLogitsLoss() if multi_label else nn.CrossEntropyLoss(label_smoothing=label_smoothing)
        self.val_acc = MeanMetric()

    @abstractmethod
    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that start at random."""

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        """Return the cross-entropy of one batch."""
        loss = self.loss(self(batch[self.input_key]).float(), batch["label"])
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(batch["label"]))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count the right answers of one batch."""
        answer = self(batch[self.input_key]).argmax(1, keepdim=True)
        self.val_acc.update(batch["label"].gather(1, answer).flatten())

    def on_validation_epoch_end(self) -> None:
        """Log the accuracy, the same on all ranks."""
        self.log("val/acc", self.val_acc.compute(), prog_bar=True)
        self.val_acc.reset()

    def configure_optimizers(self) -> Any:
        """One-cycle over the whole fit; the classifier learns ``head_multiplier`` times faster."""
        head = self.head_parameters()
        known = {id(parameter) for parameter in head}
        body = [p for p in self.parameters() if p.requires_grad and id(p) not in known]
        groups = [{"params": body, "lr": self.lr}, {"params": head, "lr": self.lr * self.head_multiplier}]
        optimizer = build_optimizer(
            [group for group in groups if group["params"]],
            self.optimizer_name,
            lr=self.lr,
            weight_decay=self.weight_decay,
        )
        total = max(1, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": one_cycle(optimizer, total), "interval": "step"}}
