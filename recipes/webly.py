"""Segmentation from web-crawled video (Hong et al. 2017): attention from images, shape from video.

A classifier learns the classes from tagged images. It chooses videos from a web, the frames of these that are relevant,
and where to look in them; motion and colour then give the object's shape by a cut over space and time. A decoder,
shared by all classes, learns to turn attention into that shape, and is adapted to the images in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from callbacks.pictures import Pictures
from datamodules.attention_batches import AttentionFrames, AttentionItem
from datamodules.images import ImageSource
from datamodules.shot_store import ShotStore
from datamodules.videos import VideosSource
from modules.attention_decoder import AttentionDecoder
from modules.checkpoints import to_plain
from modules.distributed import barrier, rank
from modules.encoder2d import Encoder2D
from pseudolabel.store import PAStore
from pseudolabel.types import DataError, LabelSpace
from recipes.encoders import train_image_encoder
from recipes.fitting import fit_steps
from recipes.images import list_skipped, open_images_of
from recipes.mcnn_pictures import ShotPictures
from recipes.run_folder import RunFolder
from recipes.webly_items import attend_images, image_items, label_images, true_mask, video_items
from recipes.webly_report import show_retrieval
from recipes.webly_scores import score_images_by, score_video_segments
from recipes.webly_settings import check_webly, graph_settings
from recipes.webly_videos import LabelOptions, label_videos
from recipes.webly_web import Web, is_web, open_web, retrieval_problems, retrieve_videos, web_space
from recipes.workspace import Workspace, open_source


class Webly:
    """The recipe: each method is one stage, written to its own folder and done once.

    Args:
        cfg: the whole configuration.
        run: the run folder.
        loggers: Lightning loggers shared by all stages.

    Raises:
        DataError: a setting is out of its range, or images and videos have no class in common.
    """

    def __init__(self, cfg: DictConfig, run: RunFolder, loggers: list[Logger]) -> None:
        self.cfg, self.run, self.loggers = cfg, run, loggers
        check_webly(cfg)
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.trainer.accelerator != "cpu" else "cpu")
        self.web: Web | None = None
        self.space, self.images = self._open()
        self.taught = self.images.select("train")
        if not self.taught:
            raise DataError(f"{self.images.root} has no image of split 'train': the classifier learns from them.")
        self.shots, self.versions = ShotStore(run.path / "videos" / "shots"), PAStore(run.path / "pa")

    def _open(self) -> tuple[LabelSpace, ImageSource]:
        """Return the classes that images and videos share, and the images."""
        cfg = self.cfg
        if is_web(cfg.data):
            self.web = open_web(cfg.data)
            wanted = web_space(cfg.data)
        else:
            wanted = open_source(cfg.data).label_space
            if wanted.has_actions:
                raise DataError("recipe=webly labels classes, not actor-action pairs. Use data.source.actions=false.")
        images = open_images_of(cfg, wanted)
        if images is None:
            raise DataError("recipe=webly learns its classes from tagged images. Give images=folder images.root=…")
        common = tuple(tag for tag in wanted.tags if tag in set(images.common))
        shown = {tag for record in images.select("train") for tag in record.tags}
        missing = [str(tag) for tag in wanted.tags if tag not in shown]
        if missing and rank() == 0:
            print(f"no image shows {', '.join(missing)}: left out")
        space = LabelSpace(tuple(tag for tag in common if tag in shown)) if shown else wanted
        if space == wanted:
            return wanted, images
        narrowed = open_images_of(cfg, space)
        assert narrowed is not None
        return space, narrowed

    @cached_property
    def workspace(self) -> Workspace:
        """The videos, once they are there."""
        cfg = self.cfg
        if self.web is not None:
            source: Any = VideosSource(self.run.path / "web", val_share=0.0, label_space=self.space)
        else:
            source = open_source(cfg.data, label_space=self.space)
        found = Workspace(cfg, self.run.path, source, least_classes=1)  # attention comes from the images
        if rank() == 0:
            list_skipped(found, self.images)
            for name, reason in retrieval_problems(cfg, self.run.state.get("web"), self.run.path / "web"):
                found.list_skipped(name, reason)
        return found

    @cached_property
    def encoder(self) -> Encoder2D:
        """The classifier of the images' tags."""
        return Encoder2D.load(self.run.path / "encoder2d/best.ckpt").to(self.device)

    def stages(self) -> dict[str, Any]:
        """Do all stages in order and return their results."""
        results = {"encoder2d": self.run.stage("encoder2d", self.train_encoder)}
        if self.web is not None:
            results["web"] = self.run.stage("web", self.retrieve)
        results["videos"] = self.run.stage("videos", self.segment_videos)
        results["decoder"] = self.run.stage("decoder", self.train_decoder)
        if self.cfg.adapt.enabled:
            results["adapted"] = self.run.stage("adapted", self.adapt)
        if self.cfg.twin:
            results["twin"] = self.run.stage("twin", self.train_twin)
        results["scores"] = self.run.stage("scores", self.score)
        return results

    # --- stages

    def train_encoder(self, folder: Path) -> dict[str, Any]:
        """A classifier of the images' tags (Eq. 1)."""
        return train_image_encoder(self.cfg, self.images, self.space, folder, self.loggers)

    def retrieve(self, folder: Path) -> dict[str, Any]:
        """Videos from the web: search, thumbnails, key frames, windows (Sec. 4)."""
        assert self.web is not None
        found: dict[str, Any] = {}
        if rank() == 0:
            found = retrieve_videos(self.cfg, self.web, self.space, self.encoder, folder)
            show_retrieval(found)
        barrier()
        return found

    def segment_videos(self, folder: Path) -> dict[str, Any]:
        """Relevant intervals of the videos, segmented by attention, motion and colour (Sec. 3.2): PA.v0."""
        found: dict[str, Any] = {}
        workspace = self.workspace
        if rank() == 0:
            options, shots, versions = self._label_options(), self.shots, self.versions
            found = label_videos(workspace.train, self.space, options, shots, versions, workers=self.cfg.workers)
            for name, reason in (*found["failed"], *found["unused"]):
                workspace.list_skipped(name, reason)
            if not found["used"]:
                raise DataError(
                    f"None of {found['videos']} videos gave a label; {self.run.path / 'skipped.csv'} tells why. "
                    "Lower relevance.threshold, or train the classifier longer (encoder2d.epochs)."
                )
            if versions.current() is None:
                versions.publish(0)
            self._draw()
        barrier()
        return found

    def train_decoder(self, folder: Path) -> dict[str, Any]:
        """The decoder learns the videos' shapes (Eq. 6); end to end, the classifier learns with it, from them alone."""
        cfg, apart = self.cfg, self.cfg.training == "separate"
        torch.manual_seed(cfg.seed)
        encoder = self.encoder if apart else self._new_encoder()
        model = AttentionDecoder.from_encoder(encoder, train_encoder=not apart, **self._decoder_options())
        steps = cfg.decoder.steps if apart else cfg.decoder.steps + cfg.decoder.end_to_end_steps
        items = video_items(self.space, self.shots, self.versions)
        if not apart:  # attention changes while the classifier learns
            items = [_without_attention(item) for item in items]
        return self._fit(folder, model, items, steps=steps)

    def adapt(self, folder: Path) -> dict[str, Any]:
        """Domain adaptation: the images, labelled by the model within their tags, as strong labels (Sec. 5.2.1)."""
        cfg, space = self.cfg, self.space
        start = AttentionDecoder.load(self.run.path / "decoder/best.ckpt").to(self.device)
        shots, labels = self._image_shots(), PAStore(folder / "pa")
        if rank() == 0:
            limits = {"foreground": cfg.adapt.foreground, "margin": cfg.adapt.margin}
            label_images(start, space, shots, labels, self.taught, **limits)
        barrier()
        known = {row.video for row in labels.index(0)}
        items = image_items(space, shots, lambda name: labels.read(0, name, 0) if name in known else None)
        everything = cfg.adapt.train == "all"
        options = {**self._decoder_options(), "train_encoder": everything, "lr": cfg.adapt.lr}
        model = AttentionDecoder(to_plain(start.hparams["encoder"]), **options)
        model.load_state_dict(start.state_dict())
        if everything:
            items = [_without_attention(item) for item in items]
        return self._fit(folder, model, items, steps=cfg.adapt.steps)

    def train_twin(self, folder: Path) -> dict[str, Any]:
        """The supervised twin: the same decoder on the images' true masks, as many steps as all stages of ours."""
        truth = true_mask(self.workspace, self.images, self.taught, max_side=self.cfg.data.max_side)
        items = image_items(self.space, self._image_shots(), truth)
        if not items:
            return {}
        steps = sum(self.run.state[stage]["steps"] for stage in ("decoder", "adapted") if stage in self.run.state)
        torch.manual_seed(self.cfg.seed)
        model = AttentionDecoder.from_encoder(self.encoder, **self._decoder_options())
        return self._fit(folder, model, items, steps=steps)

    def score(self, folder: Path) -> dict[str, Any]:
        """Every model on the images, beside the CAM baseline; the videos' segmentation beside its parts."""
        cfg, state = self.cfg, self.run.state
        paths = {name: self.run.path / name / "best.ckpt" for name in ("decoder", "adapted", "twin")}
        paths = {name: path for name, path in paths.items() if state.get(name, {}).get("steps")}
        found = score_images_by(
            self.workspace,
            self.images,
            self.encoder,
            self.space,
            paths,
            scales=cfg.attention.scales,
            device=self.device,
        )
        most, workers = cfg.compare_videos, cfg.workers
        found["videos"] = score_video_segments(
            self.workspace, self._label_options(), compare=cfg.compare, most=most, workers=workers
        )
        return found

    # --- parts of stages

    def _label_options(self) -> LabelOptions:
        cfg = self.cfg
        return LabelOptions(
            encoder=self.run.path / "encoder2d/best.ckpt",
            scales=tuple(cfg.attention.scales),
            graph=graph_settings(cfg),
            threshold=cfg.relevance.threshold,
            more_than=cfg.relevance.more_than,
            least_area=cfg.relevance.least_area,
            frames_per_video=cfg.data.frames_per_video,
            max_side=cfg.data.max_side,
        )

    def _image_shots(self) -> ShotStore:
        """The tagged images with their attention, made once."""
        shots, cfg = ShotStore(self.run.path / "images"), self.cfg
        if rank() == 0:
            attend_images(
                self.workspace,
                self.images,
                self.taught,
                self.encoder,
                shots,
                scales=cfg.attention.scales,
                max_side=cfg.data.max_side,
            )
        barrier()
        return shots

    def _new_encoder(self) -> Encoder2D:
        return Encoder2D(list(self.space.names[1:]), multi_label=True, **to_plain(self.cfg.encoder2d.model))

    def _decoder_options(self) -> dict[str, Any]:
        cfg = self.cfg
        shared = {"label_space": self.space.to_dict(), "scales": list(cfg.attention.scales)}
        return {**to_plain(cfg.decoder.model), **shared, "max_side": cfg.data.max_side}

    def _fit(
        self, folder: Path, model: AttentionDecoder, items: Sequence[AttentionItem], *, steps: int
    ) -> dict[str, Any]:
        options, cfg = self.cfg.decoder, self.cfg
        if not items:
            raise DataError(f"{folder.name} has nothing to train on: no image of {self.images.root} could be labelled.")

        def data(epoch: int) -> AttentionFrames:
            return AttentionFrames(
                items,
                crop=options.crop,
                num_classes=self.space.num_classes,
                scales=tuple(options.scales),
                jitter=options.jitter,
                seed=cfg.seed,
                epoch=epoch,
            )

        return fit_steps(cfg, folder, model, data, batch_size=options.batch_size, steps=steps, loggers=self.loggers)

    def _draw(self) -> None:
        shots: dict[str, list[Any]] = {}
        for shot in self.shots.records():
            if shot.video in self.workspace.by_name:
                shots.setdefault(shot.video, []).append(shot)
        source = ShotPictures(self.workspace, self.shots, shots)
        if shots:
            Pictures(self.run.path / "pictures", source, self.versions, loggers=self.loggers).draw(0)


def _without_attention(item: AttentionItem) -> AttentionItem:
    return AttentionItem(item.frame, item.target, item.mask, None, item.tags, item.weight, item.name)


def run(cfg: DictConfig, folder: RunFolder, loggers: list[Logger]) -> dict[str, Any]:
    """Run the recipe and return the results of its stages."""
    OmegaConf.set_readonly(cfg, True)
    return Webly(cfg, folder, loggers).stages()
