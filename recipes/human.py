"""Learning to segment a class by watching video, with an imperfect detector (Liang et al. 2017).

Videos become supervoxels, shots and key frames. In every round an energy over the key frames' supervoxels - boxes of a
detector matched with region proposals, the network's scores, looks and long-term consistency - gives masks with a
quality; the best of every shot, weighed by it, and frames without the class train the network of the next round.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from callbacks.rounds import Rounds
from datamodules.datasets import PseudoFrames, TrueFrames
from datamodules.images import ImageSource
from datamodules.key_frame_store import KeyFrameStore
from datamodules.target import TargetSource, tagged
from modules.checkpoints import to_plain
from modules.crf_predictor import with_crf
from modules.distributed import rank
from modules.encoder2d import Encoder2D
from modules.segmenter import Segmenter
from pseudolabel.detect import Detector
from pseudolabel.store import PAStore
from pseudolabel.types import VOID, Annotator, DataError
from recipes.context_store import ContextStore
from recipes.detector_training import check_detector, train_detector
from recipes.encoders import start_from_encoder, train_encoder2d
from recipes.extra_supervision import fit_with_extra
from recipes.finishing import finish_rounds
from recipes.human_detectors import TableDetector, detector_of
from recipes.human_labels import annotator_of, selector_of
from recipes.human_scores import score_target, score_versions
from recipes.human_settings import check_human, check_target, proposal_settings, supervoxel_settings, word_settings
from recipes.human_videos import find_key_frames, make_contexts
from recipes.images import open_images
from recipes.key_frame_workspace import open_key_frames
from recipes.rounds_stage import annotate_first, fit_rounds
from recipes.run_folder import RunFolder
from recipes.true_pairs import true_frames
from recipes.twin import fit_twin
from recipes.workspace import Workspace, open_source


class Human:
    """The recipe: each method is one stage, written to its own folder and done once.

    Args:
        cfg: the whole configuration.
        run: the run folder.
        loggers: Lightning loggers shared by all stages.

    Raises:
        DataError: a setting is out of its range, or no video is tagged with the target.
    """

    def __init__(self, cfg: DictConfig, run: RunFolder, loggers: list[Logger]) -> None:
        check_human(cfg)
        self.cfg, self.run, self.loggers = cfg, run, loggers
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.trainer.accelerator != "cpu" else "cpu")
        self.all_classes = open_source(cfg.data)
        self.source = TargetSource(self.all_classes, cfg.target)
        check_target(self.source, cfg.target)
        self.table: TableDetector | None = None
        if cfg.detector.name in ("csv", "torchvision"):  # a file that cannot be used is told now
            detector = detector_of(cfg, self.source, self._encoder, self.device)
            self.table = detector if isinstance(detector, TableDetector) else None  # a network is not kept
        elif cfg.detector.name == "trained":
            check_detector(cfg, self.source.label_space)
        self.store = PAStore(run.path / "pa")
        self.key_frames = KeyFrameStore(run.path / "key_frames")
        self.contexts = ContextStore(run.path / "contexts")

    def stages(self) -> dict[str, Any]:
        """Do all stages in order and return their results."""
        cfg = self.cfg
        results = {}
        if cfg.segmenter.init == "encoder2d" or cfg.detector.name == "cam":
            results["encoder2d"] = self.run.stage("encoder2d", self.train_encoder)
        results["key_frames"] = self.run.stage("key_frames", self.find_key_frames)
        if cfg.detector.name == "trained":
            results["detector"] = self.run.stage("detector", self.train_detector)
        results["contexts"] = self.run.stage("contexts", self.make_contexts)
        self._tell_table(results["contexts"])
        results["v0"] = self.run.stage("v0", self.annotate_v0)
        results["segmenter"] = self.run.stage("segmenter", self.train_segmenter)
        if cfg.finish.epochs:
            results["finish"] = self.run.stage("finish", self.finish)
        if cfg.extra.supervision != "none":
            results["extra"] = self.run.stage("extra", self.add_supervision)
        results["scores"] = self.run.stage("scores", self.score)
        if cfg.twin:
            results["twin"] = self.run.stage("twin", self.train_twin)
        return results

    # --- stages

    def train_encoder(self, folder: Path) -> dict[str, Any]:
        """A classifier of all tags of the data: its attention boxes the target, or its backbone starts the network."""
        workspace = Workspace(self.cfg, self.run.path, self.all_classes)
        return train_encoder2d(self.cfg, self.cfg.encoder2d, workspace, folder, self.loggers)

    def find_key_frames(self, folder: Path) -> dict[str, Any]:
        """Supervoxels, shots and key frames of the videos that carry the tag."""
        options = self.cfg.key_frames
        records = tagged(self.source.select("train") + self.source.select("val"))
        found = find_key_frames(
            records,
            self.key_frames,
            max_side=self.cfg.data.max_side,
            level=self.cfg.supervoxels.level,
            supervoxels=supervoxel_settings(self.cfg),
            cut_share=options.cut_share,
            key_changes=options.changes,
            most=options.most,
            split_at_cuts=options.split_at_cuts,
            workers=self.cfg.workers,
        )
        if rank() == 0:
            print(f"{found['key_frames']} key frames in {found['num_shots']} shots of {found['videos']} videos")
        return found

    def train_detector(self, folder: Path) -> dict[str, Any]:
        """A detector of the target, from boxes of the still images."""
        images = self._images()
        if images is None:
            raise DataError("detector.name=trained needs images. Give images=folder images.root=…")
        return train_detector(self.cfg, self.workspace, images, folder, self.loggers)

    def make_contexts(self, folder: Path) -> dict[str, Any]:
        """Boxes of the detector in all videos; graph and proposals of those that carry the tag."""
        found = make_contexts(
            self.workspace,
            self.key_frames,
            self.contexts,
            self._detector(),
            proposals=proposal_settings(self.cfg),
            proposals_dir=None if self.cfg.proposals.path is None else Path(self.cfg.proposals.path),
            words=word_settings(self.cfg),
            workers=self.cfg.workers,
            needed=self.cfg.labels == "context",
        )
        return {**found, "table": None if self.table is None else self.table.digest}

    def annotate_v0(self, folder: Path) -> dict[str, Any]:
        """Masks without a network: PA.v0."""
        return annotate_first(
            self.workspace,
            self.annotated,
            self.store,
            self.workspace.clip,
            self._annotator(),
            workers=self.cfg.workers,
            needed=[name for name in self.annotated if self.workspace.by_name[name].tags],
        )

    def train_segmenter(self, folder: Path) -> dict[str, Any]:
        """The rounds: infer masks, select, train (Sec. 3.1)."""
        return fit_rounds(
            self.cfg,
            folder,
            self._new_segmenter(),
            self._rounds(folder),
            self.workspace,
            pictured=self._pictured(),
            keep=lambda reports: reports[-1],
            loggers=self.loggers,
        )

    def finish(self, folder: Path) -> dict[str, Any]:
        """Teach every round's network that what its masks leave out is background; it makes no masks any more."""
        weights = [self.run.path / path for path in self.run.state["segmenter"]["weights"]]
        return finish_rounds(self.cfg, folder, weights, self._frames, loggers=self.loggers)

    def add_supervision(self, folder: Path) -> dict[str, Any]:
        """Go on with the last round's masks and images whose boxes or masks are given (Sec. 4.2).

        Where the networks of several rounds are averaged, all of them go on, each with its own masks.
        """
        images = self._images()
        if images is None:
            raise DataError("extra.supervision needs images. Give images=folder images.root=…")
        done = self.run.state
        finished = "finish" in done
        count = self.cfg.finish.average if finished else 1
        versions = [report["version"] for report in done["segmenter"]["versions"]][-count:]
        return fit_with_extra(
            self.cfg,
            folder,
            {
                version: self.run.path / (f"finish/v{version}/best.ckpt" if finished else _weights(done)[version])
                for version in versions
            },
            self._frames,
            self.workspace,
            images,
            proposals=proposal_settings(self.cfg),
            loggers=self.loggers,
        )

    def score(self, folder: Path) -> dict[str, Any]:
        """Every version's masks and every round's network, where true masks exist."""
        done = self.run.state
        models = [
            {"round": report["version"] + 1, **self._score(weights)}
            for report, weights in zip(done["segmenter"]["versions"], _weights(done), strict=True)
        ]
        if "extra" in done:
            name = f"{models[-1]['round']} + {self.cfg.extra.supervision}"
            models.append({"round": name, **self._score("extra/best.ckpt")})
        rounds = len(done["segmenter"]["versions"])
        return {"annotations": score_versions(self.workspace, self.store, rounds), "models": models}

    def train_twin(self, folder: Path) -> dict[str, Any]:
        """The supervised twin: the same network on the true masks of the same frames, for as many steps."""
        pairs = true_frames(self.workspace, self.workspace.train)
        if not pairs:
            return {}
        options = self.cfg.segmenter
        done = self.run.state
        steps = done["segmenter"]["steps"] + done.get("finish", {}).get("steps", 0)
        fit_twin(
            self.cfg,
            folder,
            self._new_segmenter(),
            lambda epoch: TrueFrames(
                pairs,
                crop=options.crop,
                scales=tuple(options.scales),
                jitter=options.jitter,
                seed=self.cfg.seed,
                epoch=epoch,
            ),
            batch_size=options.batch_size,
            steps=steps,
            loggers=self.loggers,
        )
        return {"steps": steps, "frames": len(pairs), **self._score("twin/best.ckpt")}

    # --- parts of stages

    @cached_property
    def workspace(self) -> Workspace:
        """The videos; the key frames stand for those that carry the tag."""
        lost = self.run.state["key_frames"]["skipped"]
        return open_key_frames(self.cfg, self.run.path, self.source, self.key_frames, lost)

    @property
    def annotated(self) -> list[str]:
        """Names of the videos with detections, and with a context if they carry the tag."""
        return [name for name in self.workspace.annotated if self.contexts.is_written(name)]

    def _rounds(self, folder: Path) -> Rounds:
        options = self.cfg.rounds
        return Rounds(
            store=self.store,
            clips=self.workspace.clip,
            videos=self.annotated,
            annotator=self._annotator(),
            selector=selector_of(self.cfg, self.workspace, self.annotated, self.store, self.key_frames, self.contexts),
            folder=folder,
            criterion=f"val/{options.criterion}",
            patience=options.patience,
            max_epochs=options.max_epochs,
            max_versions=options.max_versions,
            min_delta=options.min_delta,
            reinit=options.reinit,
            workers=self.cfg.workers,
        )

    def _frames(self, version: int, epoch: int) -> PseudoFrames:
        """The frames that teach after the rounds; what their masks leave out is background if rounds are finished."""
        void_as = 0 if self.cfg.finish.epochs else VOID
        return self.workspace.pseudo_frames(
            self.store, version, self.cfg.segmenter, seed=self.cfg.seed, epoch=epoch, void_as=void_as
        )

    def _annotator(self) -> Annotator:
        return annotator_of(self.cfg, self.contexts, lambda: self._new_segmenter().to(self.device))

    def _detector(self) -> Detector:
        trained = self.run.path / "detector/best.ckpt"
        return self.table or detector_of(self.cfg, self.source, self._encoder, self.device, trained=trained)

    def _tell_table(self, contexts: Mapping[str, Any]) -> None:
        """Tell that a table was changed after its boxes were read."""
        if rank() == 0 and self.table is not None and contexts["table"] != self.table.digest:
            print(
                f"{self.table.path} has changed since its boxes were read, and this run keeps the old ones. "
                "Give another name=… to use the new ones."
            )

    def _encoder(self) -> Encoder2D:
        return Encoder2D.load(self.run.path / "encoder2d/best.ckpt").to(self.device)

    def _new_segmenter(self) -> Segmenter:
        torch.manual_seed(self.cfg.seed)
        segmenter = Segmenter(
            self.source.label_space.to_dict(),
            **to_plain(self.cfg.segmenter.model),
            refine=to_plain(self.cfg.refine),
            ric_alpha=self.cfg.rounds.ric_alpha,
            max_side=self.cfg.data.max_side,
            crf=to_plain(self.cfg.crf),
        )
        if self.cfg.segmenter.init == "encoder2d":
            start_from_encoder(segmenter, self._encoder())
        return segmenter

    def _images(self) -> ImageSource | None:
        return open_images(self.cfg, self.workspace)

    def _score(self, weights: str) -> dict[str, Any]:
        segmenter = Segmenter.load(self.run.path / weights).to(self.device)
        sharpened = with_crf(segmenter, to_plain(self.cfg.crf))
        return score_target(self.workspace, sharpened, self._images(), most=self.cfg.score_frames)

    def _pictured(self) -> Any:
        return _Pictured(self.workspace, {name: self.workspace.by_name[name] for name in self.annotated})


def _weights(done: Mapping[str, Any]) -> list[str]:
    """Return the checkpoint of every round, relative to the run folder: what is scored, and what a user gets."""
    return list(done.get("finish", done["segmenter"])["weights"])


class _Pictured:
    """The videos that carry the tag, for pictures."""

    def __init__(self, workspace: Workspace, records: Mapping[str, Any]) -> None:
        self.by_name = {name: record for name, record in records.items() if record.tags}
        self.clip, self.truth = workspace.clip, workspace.truth


def run(cfg: DictConfig, folder: RunFolder, loggers: list[Logger]) -> dict[str, Any]:
    """Run the recipe and return the results of its stages."""
    OmegaConf.set_readonly(cfg, True)
    return Human(cfg, folder, loggers).stages()
