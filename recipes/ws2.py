"""WS2: weakly supervised actor-action segmentation with a wise selection (Chen et al. 2020).

Stage 1 writes PA.v0 from attention; stage 2 selects, trains and predicts until the region integrity criterion
converges.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from callbacks.rounds import Rounds
from modules.checkpoints import to_plain
from modules.crf_predictor import check_crf
from modules.distributed import barrier, rank
from modules.encoder2d import Encoder2D
from modules.encoder3d import Encoder3D
from modules.segmenter import Segmenter
from pseudolabel.annotators import AttentionAnnotator, PredictionAnnotator, SlicRefiner
from pseudolabel.decision import Decision
from pseudolabel.sharpen import Sharpener, check_colours
from pseudolabel.store import Index, PAStore
from pseudolabel.types import Annotation, Clip, DataError, FloatArray
from recipes.encoders import start_from_encoder, train_encoder2d, train_encoder3d
from recipes.rounds_stage import annotate_first, fit_rounds
from recipes.run_folder import RunFolder
from recipes.scoring import score_segmenter, score_version
from recipes.twin import fit_twin
from recipes.wise_selection import WiseSelector
from recipes.workspace import Workspace

SWITCHES = {
    "selection": ("wise", "full"),
    "criterion": ("ric", "miou_pa"),
    "cues": ("both", "actor", "action"),
    "selector.use": ("either", "discriminator", "classifier"),
    "refine.overlap": ("share", "iou"),
    "rounds.decision": ("otsu", "object_first", "expected", "argmax"),
    "rounds.unsure": ("background", "void"),
    "segmenter.model.decision": get_args(Decision),
}
"""The settings of the ablations and what each may be."""


class WS2:
    """The recipe: each method is one stage, written to its own folder and done once.

    Args:
        cfg: the whole configuration.
        run: the run folder.
        workspace: the data.
        loggers: Lightning loggers shared by all stages.
    """

    def __init__(self, cfg: DictConfig, run: RunFolder, workspace: Workspace, loggers: list[Logger]) -> None:
        self.cfg, self.run, self.workspace, self.loggers = cfg, run, workspace, loggers
        self.options = cfg
        self.space = workspace.space
        self.store = PAStore(run.path / "pa")
        self.refine = {key: value for key, value in to_plain(cfg.refine).items() if key != "enabled"}
        self.refiner = SlicRefiner(self.space, to_plain(cfg.slic), self.refine, enabled=cfg.refine.enabled)
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.trainer.accelerator != "cpu" else "cpu")
        for key, known in SWITCHES.items():
            if OmegaConf.select(cfg, key) not in known:
                raise DataError(f"{key}={OmegaConf.select(cfg, key)}: expected {' or '.join(known)}.")
        self.sharpener = self._new_sharpener()
        self.use_actor = self.options.cues != "action"
        self.use_action = self.options.cues != "actor" and self.space.has_actions
        if not (self.use_actor or self.use_action):
            raise DataError("cues=action needs tags with actions; the data has none. Use cues=both.")

    def stages(self) -> dict[str, Any]:
        """Do all stages in order and return their results."""
        results = {"encoder2d": self.run.stage("encoder2d", self.train_encoder2d)}
        if self.use_action:
            results["encoder3d"] = self.run.stage("encoder3d", self.train_encoder3d)
        results["v0"] = self.run.stage("v0", self.annotate_v0)
        results["segmenter"] = self.run.stage("segmenter", self.train_segmenter)
        results["scores"] = self.run.stage("scores", self.score)
        if self.options.twin:
            results["twin"] = self.run.stage("twin", self.train_twin)
        return results

    def train_encoder2d(self, folder: Path) -> dict[str, Any]:
        """Actor classifier on frames (S3)."""
        return train_encoder2d(self.cfg, self.options.encoder2d, self.workspace, folder, self.loggers)

    def train_encoder3d(self, folder: Path) -> dict[str, Any]:
        """Action classifier on clips (S3)."""
        return train_encoder3d(self.cfg, self.options.encoder3d, self.workspace, folder, self.loggers)

    def annotate_v0(self, folder: Path) -> dict[str, Any]:
        """Attention of the tags' actors and actions -> PA.v0."""
        actors, actions = list(self.space.actors[1:]), list(self.space.actions[1:])
        encoder2d = self._encoder2d() if self.use_actor else None
        encoder3d = Encoder3D.load(self.run.path / "encoder3d/best.ckpt").to(self.device) if self.use_action else None
        attention = to_plain(self.options.attention)

        def clip_of(name: str) -> Clip:
            clip = self.workspace.clip(name)
            if encoder2d is not None:
                targets = [actors.index(tag.actor) for tag in clip.tags]
                clip.evidence["actor"] = encoder2d.attention(clip.frames, targets, **attention)
            if encoder3d is not None:
                record = self.workspace.by_name[name]
                every = self.workspace.cache.read(record, np.arange(self.workspace.cache.length(record)))
                targets = [actions.index(tag.action) for tag in clip.tags]
                clip.evidence["action"] = encoder3d.attention(every, targets, positions=list(clip.indices))
            return clip

        return annotate_first(
            self.workspace,
            self.workspace.annotated,
            self.store,
            clip_of,
            AttentionAnnotator(self.space, self.refiner),
            workers=self.cfg.workers,
            needed=self.workspace.annotated,
        )

    def train_segmenter(self, folder: Path) -> dict[str, Any]:
        """The rounds: select, train, predict until the criterion converges."""
        rounds = self._rounds(folder)
        return fit_rounds(
            self.cfg,
            folder,
            self._new_segmenter(),
            rounds,
            self.workspace,
            pictured=self.workspace,
            keep=lambda reports: max(reports, key=lambda report: report.best[rounds.criterion]),
            loggers=self.loggers,
        )

    def score(self, folder: Path) -> dict[str, Any]:
        """Tables 1 to 4: every version's pseudo-annotations, every version's model."""
        reports = self.run.state["segmenter"]
        rounds = self._rounds(self.run.path / "segmenter")
        annotations = []
        for version in self.store.versions():
            index = self.workspace.split_index(self.store.index(version), validation=False)
            taught = version < len(reports["versions"])
            entry: dict[str, Any] = {"version": version, "frames": len(index)}
            entry["full"] = score_version(self.workspace, self.store, version, index)
            if taught:
                selected = [row for row in index if row.selected]
                entry["selected"] = score_version(self.workspace, self.store, version, selected)
                entry["selected_share"] = round(len(selected) / max(1, len(index)), 4)
            for name in rounds.compare:
                rival = rounds.rival_store(name)
                same = version not in rival.versions()
                scores = entry["full"] if same else score_version(self.workspace, rival, version, index)
                entry[f"full_by_{name.split('/')[-1]}"] = scores
            annotations.append(entry)
        models = []
        for report, weights in zip(reports["versions"], reports["weights"], strict=True):
            segmenter = Segmenter.load(self.run.path / weights).to(self.device)
            models.append({"version": report["version"], **self._score_model(segmenter)})
        return {"annotations": annotations, "models": models}

    def train_twin(self, folder: Path) -> dict[str, Any]:
        """The supervised twin: the same network on true masks, with no fewer steps than went into the final model.

        Only this yardstick sees true masks.
        """
        truth = PAStore(folder / "truth")
        if 0 not in truth.versions() and rank() == 0:
            truth.begin(0)
            written = [_write_truth(self.workspace, truth, name) for name in self.workspace.annotated]
            if any(written):
                truth.publish(0)
        barrier()
        if not truth.versions() or not self.workspace.split_index(truth.index(0), validation=False):
            return {}
        options, rounds = self.options.segmenter, self.run.state["segmenter"]
        steps = max(report["steps"] for report in rounds["versions"]) if self.options.rounds.reinit else rounds["steps"]
        twin = fit_twin(
            self.cfg,
            folder,
            self._new_segmenter(),
            lambda epoch: self.workspace.pseudo_frames(truth, 0, options, seed=self.cfg.seed, epoch=epoch),
            batch_size=options.batch_size,
            steps=steps,
            loggers=self.loggers,
        )
        return {"steps": steps, **self._score_model(twin.to(self.device))}

    # --- parts of stages

    def _rounds(self, folder: Path) -> Rounds:
        options = self.options.rounds
        selector = WiseSelector(self.workspace, self.store, self._encoder2d(), self.options.selector, self.cfg.seed)
        return Rounds(
            store=self.store,
            clips=self.workspace.clip,
            videos=self.workspace.annotated,
            annotator=PredictionAnnotator(
                self.space, self.refiner, decision=options.decision, unsure=options.unsure, sharpener=self.sharpener
            ),
            selector=selector if self.options.selection == "wise" else self._select_all,
            folder=folder,
            criterion=f"val/{self.options.criterion}",
            compare=[f"val/{name}" for name in self.options.compare],
            patience=options.patience,
            max_epochs=options.max_epochs,
            max_versions=options.max_versions,
            min_delta=options.min_delta,
            reinit=options.reinit,
            workers=self.cfg.workers,
        )

    def _new_sharpener(self) -> Sharpener | None:
        """What fits predictions to colours, None if ``rounds.crf`` is off."""
        crf, colours = to_plain(self.options.rounds.crf), to_plain(self.options.rounds.colours)
        check_crf(crf, "rounds.crf")
        check_colours(colours, "rounds.colours")
        if crf.pop("enabled"):
            return Sharpener(crf, **colours)
        if colours["weight"]:
            raise DataError(
                f"rounds.colours.weight={colours['weight']} needs the dense CRF, which is off. Set "
                "rounds.colours.weight=0, or rounds.crf.enabled=true."
            )
        return None

    def _select_all(self, index: Index) -> FloatArray:
        """selection=full: every training frame counts alike."""
        training = {(row.video, row.frame) for row in self.workspace.split_index(index, validation=False)}
        return np.array([(row.video, row.frame) in training for row in index], np.float32)

    def _encoder2d(self) -> Encoder2D:
        return Encoder2D.load(self.run.path / "encoder2d/best.ckpt").to(self.device)

    def _new_segmenter(self) -> Segmenter:
        """A fresh segmenter; its backbone starts from ``weights`` or, with init=encoder2d, from stage 1's."""
        torch.manual_seed(self.cfg.seed)
        model = to_plain(self.options.segmenter.model)
        segmenter = Segmenter(
            self.space.to_dict(),
            **model,
            refine=self.refine,
            ric_alpha=self.options.rounds.ric_alpha,
            max_side=self.cfg.data.max_side,
        )
        if self.options.segmenter.init == "encoder2d":
            start_from_encoder(segmenter, self._encoder2d())
        return segmenter

    def _score_model(self, segmenter: Segmenter) -> dict[str, Any]:
        space = self.workspace
        radius = self.options.align_radius
        held_out = space.test or space.train
        found = {"test": score_segmenter(space, segmenter, held_out, radius=radius)}
        if space.val:
            found["val"] = score_segmenter(space, segmenter, space.val, radius=radius)
        found["tested_on"] = "test" if space.test else "train"  # type: ignore[assignment]
        return found


def _write_truth(workspace: Workspace, store: PAStore, name: str) -> bool:
    """Write a video's true masks as if they were pseudo-annotations; tell whether it has any."""
    record = workspace.by_name[name]
    clip = workspace.clip(name)
    size = clip.frames.shape[1:3]
    masks = [workspace.truth(record, int(frame), (size[0], size[1])) for frame in clip.indices]
    kept = [position for position, mask in enumerate(masks) if mask is not None]
    if kept:
        part = Clip(clip.frames[kept], clip.indices[kept], name, clip.fps, clip.tags)
        store.write(0, part, Annotation(np.stack([masks[p] for p in kept]), np.ones(len(kept), np.float32)))
    return bool(kept)


def run(cfg: DictConfig, folder: RunFolder, loggers: list[Logger]) -> dict[str, Any]:
    """Run the recipe and return the results of its stages."""
    OmegaConf.set_readonly(cfg, True)
    return WS2(cfg, folder, Workspace(cfg, folder.path), loggers).stages()
