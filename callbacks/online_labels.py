"""Labels of every mini-batch, predicted from the network's own scores just before the network is trained on them.

This is the E-step of M-CNN (Tokmakov et al. 2016, section 3.3) and EM-Adapt: the network's scores of a batch and other
evidence (motion, tags) give its labels, the labels give the loss. It has a hook of its own beside callbacks/rounds.py
because the two share nothing but the word label. A round relabels *all* videos, whole, when a criterion has converged,
from the best weights of its version; it keeps every version on disk, selects among its frames and may stop training.
The online step relabels *each crop* of each mini-batch, from the weights of the moment, thousands of times in a fit;
it keeps nothing, selects nothing and knows no criterion, and its difficulty is another one: training must not wait.

Training does not wait because labels are made ahead: the loader (:class:`datamodules.loaders.AheadLoader`) shows
batches ``lag`` steps early, the present network scores them at once, and other processes label them while the steps
between go on. Labels are thus ``lag`` steps old, except those of an epoch's first ``lag`` batches, which come from the
epoch's start; ``lag=0`` is the paper's own order.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytorch_lightning as pl
import torch
from joblib.externals.loky import ProcessPoolExecutor
from torch import Tensor
from torch.func import functional_call

from modules.modes import evaluating
from pseudolabel.types import VOID, BoolArray, DataError, FloatArray, UInt8Array, nearest_name

Batch = dict[str, Any]
Labeller = Callable[[UInt8Array, BoolArray, FloatArray, FloatArray | None, BoolArray], UInt8Array]
"""(frames uint8 (T, H, W, 3), allowed bool (T, C), scores float32 (T, C, H, W), motion float32 (T, H, W) or None,
valid bool (T, H, W)) -> labels uint8 (T, H, W), 255 = void. It must be picklable and should use one thread."""

MODES = ("online", "epoch")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


class _Scouted(NamedTuple):
    """A batch whose labels are under way."""

    name: str
    labels: Future[UInt8Array]
    classes: int


class OnlineLabels(pl.Callback):
    """Puts ``labels`` (long (T, h, w)) into every training batch before the module sees it.

    Batches are those of datamodules/shot_batches.py, and the loader is a :class:`datamodules.loaders.AheadLoader`. Of
    the module nothing is needed but ``module(images) -> logits``: uint8 (T, 3, h, w) to (T, C, h, w). Every rank labels
    its own batches in its own processes. Pixels that are not ``valid`` become void. The epoch metric
    ``train/label_wait_share`` is the share of the training time that was spent waiting for labels.

    Args:
        labellers: by the batches' ``kind``.
        mode: ``"online"``: scores of the weights of the moment; ``"epoch"``: of the weights at the start of the epoch,
            a copy of which is kept, so that memory does not grow with the epoch.
        lag: steps between scores and training, >= 0; the loader's.
        workers: processes that label; 0 = this process (training waits).

    Attributes:
        lag: as given.
        seconds_waited: in the present epoch, for labels.
        seconds: of the present epoch so far, validation left out.

    Raises:
        DataError: unknown mode, negative ``lag`` or ``workers``.
    """

    def __init__(
        self,
        labellers: Mapping[str, Labeller],
        *,
        mode: str = "online",
        lag: int = 2,
        workers: int = 2,
    ) -> None:
        if mode not in MODES:
            raise DataError(f"Unknown mode '{mode}' of online labels. Expected {' or '.join(MODES)}.")
        if lag < 0 or workers < 0:
            raise DataError(f"Online labels need lag >= 0 and workers >= 0, got lag={lag} and workers={workers}.")
        self.labellers, self.mode, self.lag, self.workers = dict(labellers), mode, lag, workers
        self.seconds_waited = self.seconds = 0.0
        self._began = 0.0
        self._threads = 0
        self._weights: dict[str, Tensor] | None = None
        self._pending: deque[_Scouted] = deque()
        self._pool: Executor | None = None

    # --- hooks

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave cores to the labelling processes: threads that fight with them for a core make a step twice as long."""
        if pl_module.device.type == "cpu" and self.workers:
            self._threads = torch.get_num_threads()
            torch.set_num_threads(max(1, self._threads - self.workers))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget what an epoch that was cut short has left; keep the weights if the mode is ``"epoch"``."""
        self._forget()
        self._weights = None
        if self.mode == "epoch":
            state = {**dict(pl_module.named_parameters()), **dict(pl_module.named_buffers())}
            self._weights = {name: tensor.detach().clone() for name, tensor in state.items()}
        self.seconds_waited = self.seconds = 0.0
        self._began = time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Score and hand out the batches ahead, then wait for the labels of this one."""
        ahead = self._take_ahead(trainer, batch, batch_idx)
        for other in ahead:
            self._scout(trainer, pl_module, other)
        labels = self._collect(batch)
        batch["labels"] = torch.from_numpy(labels).to(batch["image"].device).long()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Log the share of the time spent waiting when the epoch's last batch is done."""
        self.seconds = time.monotonic() - self._began
        if trainer.is_last_batch:
            share = self.seconds_waited / max(self.seconds, 1e-9)
            pl_module.log("train/label_wait_share", share, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the processes, and take their cores back."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """End the processes."""
        self._close()

    def __getstate__(self) -> dict[str, Any]:
        """Leave processes and pending work behind: spawned ranks start their own."""
        return {**self.__dict__, "_pool": None, "_pending": deque(), "_weights": None}

    # --- parts of a step

    def _take_ahead(self, trainer: pl.Trainer, batch: Batch, batch_idx: int) -> list[Batch]:
        if not isinstance(batch, dict) or "ahead" not in batch:
            raise DataError(
                "Online labels need batches that are shown ahead, and this batch has no 'ahead'. "
                "Wrap the training loader: AheadLoader(loader, lag), or use ShotDataModule."
            )
        ahead: list[Batch] = batch.pop("ahead")
        if batch_idx == 0:
            expected = min(self.lag + 1, trainer.num_training_batches)
            if not expected <= len(ahead) <= self.lag + 1:
                raise DataError(
                    f"The loader shows {len(ahead)} batches at first, lag={self.lag} needs {expected}. "
                    "Give the loader and the online labels the same lag."
                )
        return ahead

    def _scout(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Batch) -> None:
        kind, name = batch["kind"], batch["name"]
        if kind not in self.labellers:
            hint = nearest_name(kind, self.labellers) or "."
            raise DataError(f"'{name}' is of kind '{kind}'{hint} Labellers are given for {', '.join(self.labellers)}.")
        scores = self._score(trainer, module, batch["image"])
        motion = batch.get("motion")
        arrays = (
            np.ascontiguousarray(batch["image"].permute(0, 2, 3, 1).cpu().numpy()),  # (T, 3, h, w) -> (T, h, w, 3)
            batch["allowed"].cpu().numpy(),
            scores,
            None if motion is None else motion.cpu().numpy(),
            batch["valid"].cpu().numpy(),
        )
        began = time.monotonic()
        labels = self._executor().submit(self.labellers[kind], *arrays)
        self.seconds_waited += time.monotonic() - began
        self._pending.append(_Scouted(name, labels, scores.shape[1]))

    @torch.no_grad()
    def _score(self, trainer: pl.Trainer, module: pl.LightningModule, images: Tensor) -> FloatArray:
        """Return the softmax scores of images uint8 (T, 3, h, w) in the network's test mode, float32 (T, C, h, w)."""
        with evaluating(module), trainer.precision_plugin.forward_context():
            logits = module(images) if self._weights is None else functional_call(module, self._weights, (images,))
        return logits.float().softmax(1).cpu().numpy()

    def _collect(self, batch: Batch) -> UInt8Array:
        name = batch["name"]
        if not self._pending or self._pending[0].name != name:
            waiting = ", ".join(f"'{scouted.name}'" for scouted in self._pending) or "none"
            raise RuntimeError(f"The labels of '{name}' are not next in line (waiting: {waiting}).")
        scouted = self._pending.popleft()
        began = time.monotonic()
        try:
            labels = scouted.labels.result()
        except Exception as error:
            kind = DataError if isinstance(error, DataError) else RuntimeError
            raise kind(f"No labels for '{name}': {type(error).__name__}: {error}") from error
        finally:
            self.seconds_waited += time.monotonic() - began
        valid = batch["valid"].cpu().numpy()
        if not isinstance(labels, np.ndarray) or labels.dtype != np.uint8 or labels.shape != valid.shape:
            found = f"{labels.dtype} {labels.shape}" if isinstance(labels, np.ndarray) else type(labels).__name__
            raise RuntimeError(f"The labeller of '{name}' gave {found}, expected uint8 {valid.shape}.")
        labels = np.where(valid, labels, np.uint8(VOID))
        if ((labels >= scouted.classes) & (labels != VOID)).any():
            raise RuntimeError(
                f"The labeller of '{name}' gave class {labels[labels != VOID].max()}, "
                f"expected 0 to {scouted.classes - 1} or {VOID}."
            )
        return labels

    # --- processes

    def _executor(self) -> Executor:
        """Return this callback's own processes: joblib's shared ones are replaced when anybody asks for others."""
        if self._pool is None:
            if self.workers == 0:
                self._pool = _Here()
            else:
                # cv2's own function: one of this module's would have every worker import torch
                self._pool = ProcessPoolExecutor(
                    self.workers, env=ONE_THREAD, initializer=cv2.setNumThreads, initargs=(1,)
                )
        return self._pool

    def _forget(self) -> None:
        for scouted in self._pending:
            scouted.labels.cancel()
        self._pending.clear()

    def _close(self) -> None:
        if self._threads:
            torch.set_num_threads(self._threads)
            self._threads = 0
        self._forget()
        self._weights = None
        pool, self._pool = self._pool, None
        if isinstance(pool, ProcessPoolExecutor):
            pool.shutdown(wait=True, kill_workers=True)


class _Here(Executor):
    """Does its work at once, in the process that asks."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
