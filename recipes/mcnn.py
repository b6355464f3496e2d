"""M-CNN: weakly supervised segmentation with motion as a soft constraint (Tokmakov et al. 2016).

Videos are cut into shots, what moves in them is segmented, and shots without usable motion are dropped. Stage A trains
on all shots; the labels of every mini-batch are the minimum of an energy of motion, colour and the network's own
scores. Stage B fine-tunes on the best shot of each video, stage C on these shots and tagged still images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from datamodules.datasets import TrueFrames
from datamodules.images import ImageRecord, ImageSource
from datamodules.loaders import ShotDataModule
from datamodules.motion_masks import MotionMasks
from datamodules.shot_batches import ImageBatches, MixedBatches, ShotBatches
from datamodules.shot_store import ShotRecord, ShotStore
from modules.checkpoints import read_checkpoint, save_weights, to_plain
from modules.distributed import barrier, rank
from modules.encoder2d import Encoder2D
from modules.losses import class_balance
from modules.segmenter import Segmenter
from pseudolabel.types import DataError, UInt8Array
from recipes.best_shots import best_shots, shot_overlaps
from recipes.corloc import score_colocalisation
from recipes.encoders import start_from_encoder, train_encoder2d
from recipes.engine import build_trainer, keep_last
from recipes.images import open_images, read_image
from recipes.mcnn_pictures import ShotVersions, motion_labels, predicted_labels
from recipes.mcnn_scores import score_model, score_motion
from recipes.mcnn_settings import check_mcnn, colocalise_options, online_labels
from recipes.motion_shots import check_settings, find_motion_shots
from recipes.run_folder import RunFolder
from recipes.true_pairs import true_frames, true_images
from recipes.twin import fit_twin
from recipes.workspace import Workspace


class MCNN:
    """The recipe: each method is one stage, written to its own folder and done once.

    Args:
        cfg: the whole configuration.
        run: the run folder.
        workspace: the data.
        loggers: Lightning loggers shared by all stages.

    Raises:
        DataError: a setting is out of its range, or does not fit the data or the shared motion segments.
    """

    def __init__(self, cfg: DictConfig, run: RunFolder, workspace: Workspace, loggers: list[Logger]) -> None:
        self.cfg, self.run, self.workspace, self.loggers = cfg, run, workspace, loggers
        self.space = workspace.space
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.trainer.accelerator != "cpu" else "cpu")
        check_mcnn(cfg)
        if self.space.has_actions:
            raise DataError(
                "recipe=mcnn labels classes, not actor-action pairs: motion cannot tell actions apart. Use "
                "data.source.actions=false (each actor is a class), or recipe=ws2."
            )
        self.motion_folder = Path(cfg.motion_dir) if cfg.motion_dir else run.path / "motion"
        self.shots, self.masks = ShotStore(self.motion_folder / "shots"), MotionMasks(self.motion_folder / "masks")
        self.motion_options = {
            "max_side": cfg.data.max_side,
            "options": to_plain(cfg.shots),
            "motion": to_plain(cfg.motion),
        }
        check_settings(self.motion_folder, **self.motion_options)
        self.images: ImageSource | None = open_images(cfg, workspace)
        self.taught_images: list[ImageRecord] = [] if self.images is None else self.images.select("train")
        if cfg.train_on == "images" and not self.taught_images:
            found = "" if self.images is None else f" {self.images.root} has none of split 'train'."
            raise DataError(f"train_on=images needs tagged images.{found} Give images=folder images.root=…")

    def stages(self) -> dict[str, Any]:
        """Do all stages in order and return their results."""
        cfg = self.cfg
        results = {"motion": self.run.stage("motion", self.find_shots)}
        self._drop(results["motion"]["skipped"])
        if cfg.segmenter.init == "encoder2d":
            results["encoder2d"] = self.run.stage("encoder2d", self.train_encoder)
        results["stage_a"] = self.run.stage("stage_a", self.train_all)
        if cfg.finetune.enabled and cfg.train_on == "videos":
            results["stage_b"] = self.run.stage("stage_b", self.finetune)
            if self.taught_images and cfg.with_images.enabled:
                results["stage_c"] = self.run.stage("stage_c", self.add_images)
        results["scores"] = self.run.stage("scores", self.score)
        if cfg.twin:
            results["twin"] = self.run.stage("twin", self.train_twin)
        return results

    # --- stages

    def find_shots(self, folder: Path) -> dict[str, Any]:
        """Shots, motion segments, pruning, 10 frames a shot; the hard motion segments are PA.v0."""
        records = self.workspace.train
        found = find_motion_shots(records, self.motion_folder, **self.motion_options, workers=self.cfg.workers)
        shots = self._records()
        tagged = {tag for record in records for tag in record.tags}
        without = sorted(str(tag) for tag in tagged - {tag for shot in shots for tag in shot.tags})
        if rank() == 0:
            if without:
                print(f"no shot with usable motion shows {', '.join(without)}: the videos cannot teach it")
            self._versions().write(0, motion_labels(self.space))
        barrier()
        return {**found, "classes_without_shot": without}

    def train_encoder(self, folder: Path) -> dict[str, Any]:
        """A classifier of the videos' tags; its backbone stands in for ImageNet's where there is no file of that."""
        return train_encoder2d(self.cfg, self.cfg.encoder2d, self.workspace, folder, self.loggers)

    def train_all(self, folder: Path) -> dict[str, Any]:
        """Stage A: all shots (or, for the image baseline, all tagged images)."""
        cfg = self.cfg
        if cfg.train_on == "images":
            return self._train(folder, cfg.stage_a, shots=[], images=self.taught_images, alpha=cfg.labels.alpha)
        return self._train(folder, cfg.stage_a, shots=self._records(), images=[], alpha=cfg.labels.alpha)

    def finetune(self, folder: Path) -> dict[str, Any]:
        """Stage B: the shot of each video whose motion segments overlap best with stage A's prediction (Sec. 3.4)."""
        options, shots = self.cfg.finetune, self._records()
        overlaps = shot_overlaps(folder, self._load("stage_a"), self.shots, shots, self.space)
        chosen = best_shots(shots, overlaps, least=options.least_overlap)
        names = {"shots": [shot.name for shot in chosen], "overlaps": overlaps}
        if not chosen:
            if rank() == 0:
                save_weights(self._load("stage_a"), folder / "best.ckpt")
                print(f"fine-tuning: no shot overlaps by {options.least_overlap}; stage A's weights are kept")
            barrier()
            return {**names, "steps": 0}
        done = self._train(folder, options, shots=chosen, images=[], alpha=options.alpha, start="stage_a")
        return {**done, **names}

    def add_images(self, folder: Path) -> dict[str, Any]:
        """Stage C: the selected shots and the tagged images together (Sec. 4.4)."""
        names = set(self.run.state["stage_b"]["shots"])
        shots = [shot for shot in self._records() if shot.name in names]
        alpha = self.cfg.finetune.alpha
        return self._train(
            folder, self.cfg.with_images, shots=shots, images=self.taught_images, alpha=alpha, start="stage_b"
        )

    def score(self, folder: Path) -> dict[str, Any]:
        """Every stage's model on test videos and images; motion segments and models on the training videos."""
        space, trained = self.workspace, self._trained()
        models = [{"stage": stage, **score_model(space, self._load(stage), self.images)} for stage in trained]
        found: dict[str, Any] = {"motion": {"train": score_motion(space, self.masks, space.train)}, "models": models}
        if self.cfg.colocalise.enabled and any(record.annotated for record in space.train):
            boxes, last = self.run.path / "colocalisation", self._load(trained[-1])
            options = colocalise_options(self.cfg)
            found["corloc"] = score_colocalisation(space, last, self.masks, space.train, boxes, **options)
        if rank() == 0:
            versions = self._versions()
            for version, stage in enumerate(trained, 1):
                versions.write(version, predicted_labels(self._load(stage)))
        barrier()
        return found

    def train_twin(self, folder: Path) -> dict[str, Any]:
        """The supervised twin: true masks of the videos (and images, if any taught), as many steps as all stages."""
        cfg, space = self.cfg, self.workspace
        items = true_frames(space, space.train) if cfg.train_on == "videos" else []
        if self.images is not None and (cfg.train_on == "images" or "stage_c" in self.run.state):
            items += true_images(space, self.images, self.taught_images, max_side=cfg.data.max_side)
        if not items:
            return {}
        options, steps = cfg.segmenter, sum(self.run.state[stage]["steps"] for stage in self._trained())
        augment = {"crop": options.crop, "scales": tuple(options.scales), "jitter": options.jitter, "seed": cfg.seed}
        twin = fit_twin(
            cfg,
            folder,
            self._new_segmenter(),
            lambda epoch: TrueFrames(items, **augment, epoch=epoch),
            batch_size=cfg.shots.count,
            steps=max(1, steps),
            loggers=self.loggers,
        )
        return {"steps": steps, "frames": len(items), **score_model(space, twin.to(self.device), self.images)}

    # --- parts of stages

    def _train(
        self,
        folder: Path,
        options: DictConfig,
        *,
        shots: Sequence[ShotRecord],
        images: Sequence[ImageRecord],
        alpha: float,
        start: str | None = None,
    ) -> dict[str, Any]:
        cfg, crops = self.cfg, self.cfg.segmenter
        if not shots and not images:
            raise DataError(
                f"{folder.name} has nothing to train on: {self.shots.folder} holds no shot of the "
                f"{len(self.workspace.train)} training videos. Give the motion_dir with which this run began, or "
                "another name=… to make the shots anew."
            )
        tags = [self.space.allowed(item.tags) * cfg.shots.count for item in shots]
        tags += [self.space.allowed(item.tags).astype(int) for item in images]
        counts = np.sum(tags, axis=0)
        weights = class_balance(counts, unit=crops.class_weights)
        segmenter = self._new_segmenter(class_weights=weights.tolist(), lr=options.lr)
        if start is not None:
            segmenter.load_state_dict(read_checkpoint(self.run.path / start / "best.ckpt")["state_dict"])
        augment = {"crop": crops.crop, "scales": tuple(crops.scales), "jitter": crops.jitter, "seed": cfg.seed}

        def batches(epoch: int) -> Any:
            parts: list[Any] = []
            if shots:
                parts.append(ShotBatches(self.shots, shots, self.space, **augment, epoch=epoch))
            if images:
                allowed = np.array([self.space.allowed(image.tags) for image in images], bool)
                loaders = self._image_loaders(images)
                parts.append(ImageBatches(loaders, allowed, batch_size=cfg.shots.count, **augment, epoch=epoch))
            return parts[0] if len(parts) == 1 else MixedBatches(parts)

        labels = online_labels(cfg, alpha=alpha)
        data = ShotDataModule(batches, workers=cfg.workers_per_loader, lag=labels.lag, seed=cfg.seed)
        callbacks = [labels, keep_last(folder)]
        trainer = build_trainer(cfg, folder.name, folder, max_epochs=1, callbacks=callbacks, loggers=self.loggers)
        per_epoch = max(1, len(batches(0)) // trainer.world_size)  # a step takes one batch on every rank
        epochs = max(1, -(-options.steps // per_epoch))
        trainer.fit_loop.max_epochs = epochs
        segmenter.start_schedule(0, epochs * per_epoch)
        resume = folder / "last.ckpt"
        trainer.fit(segmenter, data, ckpt_path=str(resume) if resume.exists() else None, weights_only=True)
        if trainer.is_global_zero:
            save_weights(segmenter, folder / "best.ckpt")
        barrier()
        waited = trainer.callback_metrics.get("train/label_wait_share")
        return {
            "steps": epochs * per_epoch,
            "epochs": epochs,
            "samples": [int(count) for count in counts],
            "label_wait_share": None if waited is None else round(float(waited), 4),
        }

    def _image_loaders(self, records: Sequence[ImageRecord]) -> list[Callable[[], UInt8Array]]:
        assert self.images is not None
        return [partial(read_image, self.images, record, max_side=self.cfg.data.max_side) for record in records]

    def _new_segmenter(self, *, class_weights: list[float] | None = None, lr: float | None = None) -> Segmenter:
        torch.manual_seed(self.cfg.seed)
        model = to_plain(self.cfg.segmenter.model)
        if lr is not None:
            model["lr"] = lr
        options = {"class_weights": class_weights, "max_side": self.cfg.data.max_side, "crf": to_plain(self.cfg.crf)}
        segmenter = Segmenter(self.space.to_dict(), **model, **options)
        if self.cfg.segmenter.init == "encoder2d":
            start_from_encoder(segmenter, Encoder2D.load(self.run.path / "encoder2d/best.ckpt"))
        return segmenter

    def _load(self, stage: str) -> Segmenter:
        return Segmenter.load(self.run.path / stage / "best.ckpt").to(self.device)

    def _trained(self) -> list[str]:
        return [stage for stage in ("stage_a", "stage_b", "stage_c") if stage in self.run.state]

    def _records(self) -> list[ShotRecord]:
        """Return the training videos' shots with their present tags: a shared folder may hold others, and older."""
        tags = {record.name: record.tags for record in self.workspace.train}
        return [replace(shot, tags=tags[shot.video]) for shot in self.shots.records() if shot.video in tags]

    def _versions(self) -> ShotVersions:
        shots: dict[str, list[ShotRecord]] = {}
        for shot in self._records():
            shots.setdefault(shot.video, []).append(shot)
        return ShotVersions(self.run.path, self.workspace, self.shots, shots, loggers=self.loggers)

    def _drop(self, failed: Sequence[Sequence[str]]) -> None:
        """List videos that could not be searched for motion in ``skipped.csv``, and do without them.

        Every process does so, whether it saw the motion stage or began after it: all work on the same videos.
        """
        for name, reason in failed if rank() == 0 else ():
            self.workspace.list_skipped(name, reason)
        names = {name for name, _ in failed}
        space = self.workspace
        space.train = [record for record in space.train if record.name not in names]
        space.by_name = {name: record for name, record in space.by_name.items() if name not in names}


def run(cfg: DictConfig, folder: RunFolder, loggers: list[Logger]) -> dict[str, Any]:
    """Run the recipe and return the results of its stages."""
    OmegaConf.set_readonly(cfg, True)
    return MCNN(cfg, folder, Workspace(cfg, folder.path), loggers).stages()
