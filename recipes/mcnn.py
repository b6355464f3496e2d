"""M-CNN: weakly supervised segmentation with motion as a soft constraint (Tokmakov et al. 2016).

Videos are cut into shots, what moves in them is segmented, and shots without usable motion are dropped. Stage A trains
on all shots; the labels of every mini-batch are the minimum of an energy of motion, colour and the network's own
scores. Stage B fine-tunes on the best shot of each video, stage C on these shots and tagged still images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger
from rich.progress import track

from callbacks.online_labels import OnlineLabels
from callbacks.pictures import Pictures
from datamodules.datasets import TrueFrames
from datamodules.images import ImageSource
from datamodules.loaders import ShotDataModule
from datamodules.motion_masks import MotionMasks
from datamodules.records import VideoRecord
from datamodules.shot_batches import ImageBatches, MixedBatches, ShotBatches
from datamodules.shot_store import ShotRecord, ShotStore
from datamodules.transforms import fit_longest_side, resize
from modules.checkpoints import read_checkpoint, save_weights, to_plain
from modules.distributed import barrier, rank
from modules.encoder2d import Encoder2D
from modules.losses import class_balance
from modules.segmenter import Segmenter
from pseudolabel.colocalise import ColocaliseSettings
from pseudolabel.labellers import make_labeller
from pseudolabel.store import PAStore
from pseudolabel.types import Annotation, BoolArray, Clip, DataError, UInt8Array
from recipes.corloc import score_colocalisation
from recipes.encoders import start_from_encoder, train_encoder2d
from recipes.engine import build_trainer, keep_last
from recipes.images import open_images
from recipes.motion_shots import find_motion_shots
from recipes.run_folder import RunFolder
from recipes.scoring import score_images, score_masks, score_segmenter
from recipes.twin import fit_twin
from recipes.workspace import Workspace

SWITCHES = {
    "labels.name": ("motion", "hard", "em_adapt"),
    "labels.mode": ("online", "epoch"),
    "with_images.labels": ("network", "em_adapt"),
    "train_on": ("videos", "images"),
}
"""The settings of the tables and what each may be."""


class MCNN:
    """The recipe: each method is one stage, written to its own folder and done once.

    Args:
        cfg: the whole configuration.
        run: the run folder.
        workspace: the data.
        loggers: Lightning loggers shared by all stages.
    """

    def __init__(self, cfg: DictConfig, run: RunFolder, workspace: Workspace, loggers: list[Logger]) -> None:
        self.cfg, self.run, self.workspace, self.loggers = cfg, run, workspace, loggers
        self.space = workspace.space
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.trainer.accelerator != "cpu" else "cpu")
        for key, known in SWITCHES.items():
            if OmegaConf.select(cfg, key) not in known:
                raise DataError(f"{key}={OmegaConf.select(cfg, key)}: expected {' or '.join(known)}.")
        if self.space.has_actions:
            raise DataError(
                "recipe=mcnn labels classes, not actor-action pairs: motion cannot tell actions apart. Use "
                "data.source.actions=false (each actor is a class), or recipe=ws2."
            )
        motion = Path(cfg.motion_dir) if cfg.motion_dir else run.path / "motion"
        self.shots, self.masks = ShotStore(motion / "shots"), MotionMasks(motion / "masks")
        self.motion_folder = motion
        self.images: ImageSource | None = open_images(cfg, workspace)
        if cfg.train_on == "images" and self.images is None:
            raise DataError("train_on=images needs tagged images. Give images=folder images.root=…")

    def stages(self) -> dict[str, Any]:
        """Do all stages in order and return their results."""
        cfg = self.cfg
        results = {"motion": self.run.stage("motion", self.find_shots)}
        if cfg.segmenter.init == "encoder2d":
            results["encoder2d"] = self.run.stage("encoder2d", self.train_encoder)
        results["stage_a"] = self.run.stage("stage_a", self.train_all)
        if cfg.finetune.enabled and cfg.train_on == "videos":
            results["stage_b"] = self.run.stage("stage_b", self.finetune)
            if self.images is not None and cfg.with_images.enabled:
                results["stage_c"] = self.run.stage("stage_c", self.add_images)
        results["scores"] = self.run.stage("scores", self.score)
        if cfg.twin:
            results["twin"] = self.run.stage("twin", self.train_twin)
        return results

    # --- stages

    def find_shots(self, folder: Path) -> dict[str, Any]:
        """Shots, motion segments, pruning, 10 frames a shot; the hard motion segments are PA.v0."""
        found = find_motion_shots(
            self.workspace.train,
            self.motion_folder,
            max_side=self.cfg.data.max_side,
            options=to_plain(self.cfg.shots),
            motion=to_plain(self.cfg.motion),
            workers=self.cfg.workers,
        )
        store = PAStore(self.run.path / "pa")
        if rank() == 0 and 0 not in store.versions():
            store.begin(0)
            hard = make_labeller("hard")
            for name, shots in self._by_video(self.shots.records()).items():
                store.write(0, *self._motion_annotation(name, shots, hard))
            store.publish(0)
            pictures = Pictures(self.run.path / "pictures", _ShotPictures(self), store, loggers=self.loggers)
            pictures.draw(0)
        barrier()
        return found

    def train_encoder(self, folder: Path) -> dict[str, Any]:
        """A classifier of the videos' tags; its backbone stands in for ImageNet's where there is no file of that."""
        return train_encoder2d(self.cfg, self.cfg.encoder2d, self.workspace, folder, self.loggers)

    def train_all(self, folder: Path) -> dict[str, Any]:
        """Stage A: all shots (or, for the image baseline, all tagged images)."""
        cfg = self.cfg
        if cfg.train_on == "images":
            return self._train(folder, cfg.stage_a, shots=[], images=True, alpha=cfg.labels.alpha)
        return self._train(folder, cfg.stage_a, shots=self.shots.records(), images=False, alpha=cfg.labels.alpha)

    def finetune(self, folder: Path) -> dict[str, Any]:
        """Stage B: the shot of each video whose motion segments overlap best with stage A's prediction (Sec. 3.4)."""
        chosen, overlaps = self._best_shots(self.run.path / "stage_a/best.ckpt")
        if not chosen:
            if rank() == 0:
                save_weights(self._load("stage_a"), folder / "best.ckpt")
                print(f"fine-tuning: no shot overlaps by {self.cfg.finetune.least_overlap}; stage A's weights are kept")
            barrier()
            return {"shots": [], "overlaps": overlaps, "steps": 0}
        done = self._train(
            folder,
            self.cfg.finetune,
            shots=chosen,
            images=False,
            alpha=self.cfg.finetune.alpha,
            start=self.run.path / "stage_a/best.ckpt",
        )
        return {**done, "shots": [shot.name for shot in chosen], "overlaps": overlaps}

    def add_images(self, folder: Path) -> dict[str, Any]:
        """Stage C: the selected shots and the tagged images together (Sec. 4.4)."""
        names = set(self.run.state["stage_b"]["shots"])
        shots = [shot for shot in self.shots.records() if shot.name in names]
        start = self.run.path / "stage_b/best.ckpt"
        options = self.cfg.with_images
        return self._train(folder, options, shots=shots, images=True, alpha=self.cfg.finetune.alpha, start=start)

    def score(self, folder: Path) -> dict[str, Any]:
        """Every stage's model on test videos and images; motion segments and models on the training videos."""
        space = self.workspace
        teacher = self._teacher_scores()
        models = []
        for stage in self._trained():
            segmenter = self._load(stage).to(self.device)
            models.append({"stage": stage, **self._score_model(segmenter)})
        found: dict[str, Any] = {"motion": {"train": teacher}, "models": models}
        if self.cfg.colocalise.enabled and teacher:
            last = self._load(self._trained()[-1]).to(self.device)
            found["corloc"] = score_colocalisation(
                space, last, self.masks, space.train, **colocalise_options(self.cfg.colocalise)
            )
        if rank() == 0:
            self._draw_predictions()
        barrier()
        return found

    def train_twin(self, folder: Path) -> dict[str, Any]:
        """The supervised twin: true masks of the videos (and images, if any taught), as many steps as all stages."""
        cfg = self.cfg
        items: list[Callable[[], tuple[UInt8Array, UInt8Array] | None]] = []
        if cfg.train_on == "videos":
            for record in self.workspace.train:
                known = {int(i): p for p, i in enumerate(self.workspace.cache.indices(record))}
                items += [self._true_frame(record, f, known[f]) for f in record.annotated if f in known]
        if self.images is not None and (cfg.train_on == "images" or "stage_c" in self.run.state):
            items += [self._true_image(self.images, record) for record in self.images.select("train")]
        items = [item for item in items if item() is not None]
        if not items:
            return {}
        options = cfg.segmenter
        steps = sum(self.run.state[stage]["steps"] for stage in self._trained())
        epochs = max(1, -(-steps // max(1, len(items) // cfg.shots.count)))
        twin = fit_twin(
            cfg,
            folder,
            self._new_segmenter(),
            lambda epoch: TrueFrames(
                items,  # type: ignore[arg-type]
                crop=options.crop,
                scales=tuple(options.scales),
                jitter=options.jitter,
                seed=cfg.seed,
                epoch=epoch,
            ),
            batch_size=cfg.shots.count,
            epochs=epochs,
            loggers=self.loggers,
        )
        return {"epochs": epochs, "frames": len(items), **self._score_model(twin.to(self.device))}

    # --- parts of stages

    def _train(
        self,
        folder: Path,
        options: DictConfig,
        *,
        shots: Sequence[ShotRecord],
        images: bool,
        alpha: float,
        start: Path | None = None,
    ) -> dict[str, Any]:
        cfg, crops = self.cfg, self.cfg.segmenter
        records = self.images.select("train") if images and self.images is not None else []
        allowed = np.array([self.space.allowed(record.tags) for record in records], bool)
        counts = np.sum([self.space.allowed(shot.tags) * cfg.shots.count for shot in shots] or [0], axis=0)
        counts = counts + (allowed.sum(axis=0) if len(records) else 0)
        segmenter = self._new_segmenter(class_weights=class_balance(counts).tolist(), lr=options.lr)
        if start is not None:
            segmenter.load_state_dict(read_checkpoint(start)["state_dict"])
        augment = {"crop": crops.crop, "scales": tuple(crops.scales), "jitter": crops.jitter, "seed": cfg.seed}

        def batches(epoch: int) -> Any:
            parts: list[Any] = []
            if shots:
                parts.append(ShotBatches(self.shots, shots, self.space, **augment, epoch=epoch))
            if records:
                loaders = [self._image_loader(record) for record in records]
                parts.append(ImageBatches(loaders, allowed, batch_size=cfg.shots.count, **augment, epoch=epoch))
            return parts[0] if len(parts) == 1 else MixedBatches(parts)

        energy = {**to_plain(cfg.energy), "alpha": alpha}
        name = cfg.labels.name
        taught = {"motion": energy, "hard": {}, "em_adapt": to_plain(cfg.em_adapt)}[name]
        still = name if name == "em_adapt" else cfg.with_images.labels
        labellers = {
            "shot": make_labeller(name, **taught),
            "image": make_labeller(still, **(to_plain(cfg.em_adapt) if still == "em_adapt" else energy)),
        }
        labels = OnlineLabels(labellers, mode=cfg.labels.mode, lag=cfg.labels.lag, workers=cfg.labels.workers)
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

    def _best_shots(self, weights: Path) -> tuple[list[ShotRecord], dict[str, float]]:
        """Return the best shot of each video, if good enough, and every shot's overlap."""
        segmenter = Segmenter.load(weights).to(self.device)
        overlaps: dict[str, float] = {}
        records = self.shots.records()
        for shot in track(records, description="overlap with motion", disable=len(records) < 20, transient=True):
            frames, _, motion = self.shots.read(shot.name)
            predicted = segmenter.predict_scores(frames).argmax(1)  # (T, H, W)
            tagged = np.isin(predicted, np.flatnonzero(self.space.allowed(shot.tags))[1:])
            overlaps[shot.name] = round(float(np.mean(frame_overlaps(tagged, motion > 0.5))), 5)
        chosen = []
        for shots in self._by_video(records).values():
            best = max(shots, key=lambda shot: overlaps[shot.name])
            if overlaps[best.name] >= self.cfg.finetune.least_overlap:
                chosen.append(best)
        return chosen, overlaps

    def _score_model(self, segmenter: Segmenter) -> dict[str, Any]:
        space = self.workspace
        found: dict[str, Any] = {"train": score_segmenter(space, segmenter, space.train, radius=0)}
        if space.test:
            found["test"] = score_segmenter(space, segmenter, space.test, radius=0)
        if self.images is not None:
            for split in ("val", "test"):
                if self.images.select(split):
                    found[f"images_{split}"] = score_images(
                        segmenter, self.images, split, max_side=self.cfg.data.max_side
                    )
        return found

    def _teacher_scores(self) -> dict[str, float]:
        """Score the motion segments themselves, as labels of the video's first tag."""
        done = [record for record in self.workspace.train if self.masks.is_written(record.name)]

        def labels(record: VideoRecord) -> UInt8Array:
            return self.masks.read(record.name).astype(np.uint8) * np.uint8(self.space.index(record.tags[0]))

        return score_masks(self.workspace, done, labels)

    def _new_segmenter(self, *, class_weights: list[float] | None = None, lr: float | None = None) -> Segmenter:
        torch.manual_seed(self.cfg.seed)
        model = to_plain(self.cfg.segmenter.model)
        if lr is not None:
            model["lr"] = lr
        options = {"class_weights": class_weights, "max_side": self.cfg.data.max_side}
        segmenter = Segmenter(self.space.to_dict(), **model, **options)
        if self.cfg.segmenter.init == "encoder2d":
            start_from_encoder(segmenter, Encoder2D.load(self.run.path / "encoder2d/best.ckpt"))
        return segmenter

    def _load(self, stage: str) -> Segmenter:
        return Segmenter.load(self.run.path / stage / "best.ckpt")

    def _trained(self) -> list[str]:
        return [stage for stage in ("stage_a", "stage_b", "stage_c") if stage in self.run.state]

    def _by_video(self, shots: Sequence[ShotRecord]) -> dict[str, list[ShotRecord]]:
        found: dict[str, list[ShotRecord]] = {}
        for shot in shots:
            if shot.video in self.workspace.by_name:
                found.setdefault(shot.video, []).append(shot)
        return found

    def _motion_annotation(self, name: str, shots: Sequence[ShotRecord], hard: Any) -> tuple[Clip, Annotation]:
        parts = [self.shots.read(shot.name) for shot in shots]
        frames, indices, motion = (np.concatenate([part[k] for part in parts]) for k in range(3))
        record = self.workspace.by_name[name]
        allowed = np.repeat(self.space.allowed(record.tags)[None], len(frames), axis=0)
        scores = np.repeat(allowed[:, :, None, None], 1, axis=0) / allowed.sum(1)[:, None, None, None]
        scores = np.broadcast_to(scores, (*scores.shape[:2], *motion.shape[1:])).astype(np.float32)
        labels = hard(frames, allowed, scores, motion, np.ones(motion.shape, bool))
        quality = [float(m[m > 0.5].mean()) if (m > 0.5).any() else 0.0 for m in motion]
        clip = Clip(frames, indices, name, self.workspace.cache.fps(record), record.tags)
        return clip, Annotation(labels, np.array(quality, np.float32))

    def _image_loader(self, record: Any) -> Callable[[], UInt8Array]:
        assert self.images is not None
        source, max_side = self.images, self.cfg.data.max_side

        def load() -> UInt8Array:
            image = source.image(record)
            return resize(image, fit_longest_side(image.shape[:2], max_side))

        return load

    def _true_image(self, source: ImageSource, record: Any) -> Callable[[], tuple[UInt8Array, UInt8Array] | None]:
        load = self._image_loader(record)

        def pair() -> tuple[UInt8Array, UInt8Array] | None:
            mask = source.mask(record)
            image = load()
            return None if mask is None else (image, resize(mask, image.shape[:2], nearest=True))

        return pair

    def _true_frame(
        self, record: VideoRecord, frame: int, position: int
    ) -> Callable[[], tuple[UInt8Array, UInt8Array] | None]:
        def pair() -> tuple[UInt8Array, UInt8Array] | None:
            image = np.array(self.workspace.cache.frames(record)[position])
            mask = self.workspace.truth(record, frame, (image.shape[0], image.shape[1]))
            return None if mask is None else (image, mask)

        return pair

    def _draw_predictions(self) -> None:
        """Add every stage's prediction on the shots' frames as a version, so that people see labels evolve."""
        store = PAStore(self.run.path / "pa")
        pictures = Pictures(self.run.path / "pictures", _ShotPictures(self), store, loggers=self.loggers)
        for version, stage in enumerate(self._trained(), 1):
            if version in store.versions():
                continue
            segmenter = self._load(stage).to(self.device)
            store.begin(version)
            for name, shots in self._by_video(self.shots.records()).items():
                parts = [self.shots.read(shot.name) for shot in shots]
                frames, indices = (np.concatenate([part[k] for part in parts]) for k in range(2))
                scores = segmenter.predict_scores(frames)
                labels = scores.argmax(1).astype(np.uint8)
                record = self.workspace.by_name[name]
                clip = Clip(frames, indices, name, self.workspace.cache.fps(record), record.tags)
                quality = scores.max(1).mean(axis=(1, 2)).astype(np.float32)
                store.write(version, clip, Annotation(labels, quality))
            store.publish(version)
            pictures.draw(version)


class _ShotPictures:
    """The sampled frames of a video's shots, as :class:`callbacks.pictures.Pictures` wants them."""

    def __init__(self, recipe: MCNN) -> None:
        self.recipe = recipe
        self.shots = recipe._by_video(recipe.shots.records())
        self.by_name: dict[str, Any] = {name: recipe.workspace.by_name[name] for name in self.shots}

    def clip(self, name: str) -> Clip:
        """Return the frames of a video's first shot."""
        frames, indices, _ = self.recipe.shots.read(self.shots[name][0].name)
        record = self.by_name[name]
        return Clip(frames, indices, name, self.recipe.workspace.cache.fps(record), record.tags)

    def truth(self, record: Any, frame: int, size: tuple[int, int]) -> Any:
        """Return a true mask or None; shown, never used."""
        return self.recipe.workspace.truth(record, frame, size)


def colocalise_options(options: DictConfig) -> dict[str, Any]:
    """Part the settings of co-localisation into superpixels and energy."""
    plain = {key: value for key, value in to_plain(options).items() if key != "enabled"}
    superpixels = {key: plain.pop(key) for key in ("num_superpixels", "compactness")}
    return {**superpixels, "settings": ColocaliseSettings(**plain)}


def frame_overlaps(first: BoolArray, second: BoolArray) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the intersection over union of two masks (T, H, W) per frame, (T,) in [0, 1]; 0 where both are empty."""
    union = (first | second).sum(axis=(1, 2))
    return (first & second).sum(axis=(1, 2)) / np.maximum(union, 1)


def run(cfg: DictConfig, folder: RunFolder, workspace: Workspace, loggers: list[Logger]) -> dict[str, Any]:
    """Run the recipe and return the results of its stages."""
    OmegaConf.set_readonly(cfg, True)
    return MCNN(cfg, folder, workspace, loggers).stages()
