"""The stage of the pseudo-label rounds, as every recipe that works in rounds does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from callbacks.pictures import Pictures, PictureSource
from callbacks.rounds import Rounds, VersionReport
from datamodules.loaders import EpochDataModule
from datamodules.progress import follow
from modules.checkpoints import read_checkpoint, save_weights
from modules.distributed import barrier, gather_lists, own_share, rank
from modules.segmenter import Segmenter
from pseudolabel.annotate import annotate
from pseudolabel.store import PAStore
from pseudolabel.types import Annotator, Clip, DataError
from recipes.engine import build_trainer
from recipes.workspace import Workspace


def annotate_first(
    workspace: Workspace,
    names: Sequence[str],
    store: PAStore,
    clip_of: Callable[[str], Clip],
    annotator: Annotator,
    *,
    workers: int,
    needed: Sequence[str],
) -> dict[str, Any]:
    """Write and publish version 0, made of evidence alone; videos that are written are not done again.

    Args:
        workspace: what fails is listed in its ``skipped.csv``.
        names: of the videos.
        store: gets the version.
        clip_of: name of a video -> its clip with evidence.
        annotator: makes the labels.
        workers: processes of each rank.
        needed: that all of these videos fail is an error.

    Returns:
        ``videos``, their number, and ``skipped``: (video, reason).

    Raises:
        DataError: no video that is needed could be annotated.
    """
    if 0 in store.versions():
        return {}
    store.begin(0)
    barrier()
    own = [name for name in own_share(names) if not store.is_written(0, name)]
    clips = ((clip_of(name), None) for name in follow(own, "annotating v0", least=8))
    failed = gather_lists(annotate(clips, annotator, store, 0, workers=workers))
    barrier()
    if rank() == 0:
        if len(failed) >= len(needed):
            raise DataError(f"No video could be annotated; first: {failed[0][0]}: {failed[0][1]}")
        for name, reason in failed:
            workspace.list_skipped(name, reason)
        store.publish(0)
    barrier()
    return {"videos": len(names), "skipped": failed}


def fit_rounds(
    cfg: DictConfig,
    folder: Path,
    segmenter: Segmenter,
    rounds: Rounds,
    workspace: Workspace,
    *,
    pictured: PictureSource,
    keep: Callable[[Sequence[VersionReport]], VersionReport],
    loggers: list[Logger],
) -> dict[str, Any]:
    """Select, train and predict until the rounds end; ``best.ckpt`` holds the best model of the version to keep.

    Args:
        cfg: the whole configuration; ``segmenter``, ``rounds`` and ``slic``.
        folder: of the stage; a killed training goes on from its ``last.ckpt``.
        segmenter: the untrained network.
        rounds: the callback, with its store.
        workspace: the data.
        pictured: videos of the pictures, which go beside the stage's folder.
        keep: chooses among the reports of all versions.
        loggers: of Lightning.

    Returns:
        ``versions``, ``best_version``, ``steps`` and ``weights`` (of each version, relative to the run folder).
    """
    options, store, run = cfg.segmenter, rounds.store, folder.parent
    data = EpochDataModule(
        lambda epoch: workspace.pseudo_frames(store, rounds.version, options, seed=cfg.seed, epoch=epoch),
        lambda epoch: workspace.pseudo_videos(store, rounds.version, cfg.slic),
        batch_size=options.batch_size,
        workers=cfg.workers_per_loader,
        seed=cfg.seed,
    )
    pictures = Pictures(run / "pictures", pictured, store, loggers=loggers)
    rounds.on_version = pictures.draw
    if rank() == 0:
        pictures.draw(0)
    most = cfg.rounds.max_epochs * cfg.rounds.max_versions
    trainer = build_trainer(cfg, folder.name, folder, max_epochs=most, callbacks=[rounds], loggers=loggers)
    last = folder / "last.ckpt"
    trainer.fit(segmenter, data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    kept = keep(rounds.reports)
    if trainer.is_global_zero:
        segmenter.load_state_dict(read_checkpoint(rounds.weights_of(kept.version))["state_dict"])
        save_weights(segmenter, folder / "best.ckpt")
    barrier()
    return {
        "versions": [vars(report) for report in rounds.reports],
        "best_version": kept.version,
        "steps": sum(report.steps for report in rounds.reports),
        "weights": [str(rounds.weights_of(report.version).relative_to(run)) for report in rounds.reports],
    }
