"""A checkpoint and videos in, masks out: ``python predict.py ckpt=runs/<name>/segmenter/best.ckpt input=clip.mp4``.

``input=`` is a video file, a folder of frames, a folder of videos, an image, or a glob of these; several with commas.

  out=predictions    folder for <name>/<frame>.png (palette PNGs), <name>.mp4 (overlay), summary.json and skipped.csv
  threshold=0.3      the best foreground class wins where its score reaches this; without it, as the checkpoint decides
  overlay=false      no overlay videos        opacity=0.5   of the overlay
  masks=false        no palette PNGs          align_radius=5  frames on each side that vote on an action (null: none)
  crf=true           sharpens masks by the dense CRF, false: does not; without it, as the checkpoint was tested
  batch_size=8       frames at once           device=auto   auto, cpu, cuda, cuda:1, mps
  classes=cat,dog    an error if the checkpoint has others

``--cfg`` prints the configuration, ``--help`` this text.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from datamodules.inputs import ImageReader, Source, find_inputs
from datamodules.outputs import Coverage, PredictionWriter, legend
from datamodules.video import VideoReader
from pseudolabel.palette import write_atomically
from pseudolabel.types import DataError
from recipes.command_line import command_line
from recipes.configuration import load_config

if TYPE_CHECKING:
    from modules.predictors import Predictor

SHOWN_CLASSES = 3
SHOWN_INPUTS = 50


def predict(cfg: DictConfig) -> dict[str, Any]:
    """Segment videos and images with a trained segmenter; memory is flat in the length of the videos.

    Args:
        cfg: configuration as composed by ``load_config("predict", …)``.

    Returns:
        what is written to ``<out>/summary.json``: checkpoint, classes, palette, settings, inputs, skipped, seconds.

    Raises:
        DataError: no checkpoint or one of another kind or other classes, a wrong setting, or no usable input.
    """
    began = time.monotonic()
    _check_settings(cfg)
    segmenter, crf = _load_segmenter(cfg)
    out = Path(cfg.out).expanduser()
    given = cfg.input if isinstance(cfg.input, str) else list(cfg.input)
    sources, skipped = find_inputs(given, out=out)
    done, failed = _predict_all(segmenter, sources, out, cfg)
    skipped += failed
    if len(skipped) > 1 or (skipped and done):
        _write_skipped(out, skipped)
    if not done:
        where = f" (the first of {len(skipped)}, all are in {out / 'skipped.csv'})" if len(skipped) > 1 else ""
        raise DataError(f"No input could be used{where}: {skipped[0][1]}")
    summary = {
        "checkpoint": str(cfg.ckpt),
        "classes": list(segmenter.space.names),
        "palette": legend(segmenter.space),
        "settings": {
            **{key: cfg[key] for key in ("threshold", "align_radius")},
            "crf": crf,
            "max_side": segmenter.max_side,
            "decision": segmenter.decision,
        },
        "inputs": done,
        "skipped": [{"input": name, "reason": reason} for name, reason in skipped],
        "seconds": round(time.monotonic() - began, 2),
    }
    if not skipped:
        (out / "skipped.csv").unlink(missing_ok=True)
    write_atomically(out / "summary.json", (json.dumps(summary, indent=2, ensure_ascii=False) + "\n").encode())
    _show(summary, out)
    return summary


def _predict_all(
    segmenter: Predictor, sources: Sequence[Source], out: Path, cfg: DictConfig
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    done: list[dict[str, Any]] = []
    skipped: list[tuple[str, str]] = []
    if not sources:
        return done, skipped
    earlier = _earlier_names(out)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("")
        for number, source in enumerate(sources, 1):
            try:
                reader = source.open()
                title = f"[{number}/{len(sources)}] {source.name}"
                progress.reset(task, total=len(reader), description=escape(title))
                writer = PredictionWriter(
                    out,
                    source.name,
                    source=source.path,
                    fps=reader.fps,
                    size=reader.size,
                    masks=cfg.masks,
                    overlay=cfg.overlay,
                    opacity=cfg.opacity,
                    renew=source.name in earlier,
                )
                done.append(_predict_one(segmenter, source, reader, writer, cfg, lambda: progress.advance(task)))
            except DataError as error:
                skipped.append((str(source.path), str(error)))
    return done, skipped


def _predict_one(
    segmenter: Predictor,
    source: Source,
    reader: VideoReader | ImageReader,
    writer: PredictionWriter,
    cfg: DictConfig,
    advance: Callable[[], None],
) -> dict[str, Any]:
    from recipes.prediction import segment_frames

    began = time.monotonic()
    coverage = Coverage(segmenter.space)
    stems = None if isinstance(reader, VideoReader) and source.path.is_file() else reader.stems
    pairs = segment_frames(
        segmenter, reader, batch_size=cfg.batch_size, threshold=cfg.threshold, align_radius=cfg.align_radius
    )
    with writer:
        for index, (frame, labels) in enumerate(pairs):
            writer.write(f"{index:05d}" if stems is None else stems[index], frame, labels)
            coverage.update(labels)
            advance()
    return {
        "input": str(source.path),
        "name": source.name,
        "frames": coverage.frames,
        "size": list(reader.size),
        "fps": reader.fps,
        "seconds": round(time.monotonic() - began, 2),
        "classes": coverage.found(),
        "files": writer.files(),
    }


def _load_segmenter(cfg: DictConfig) -> tuple[Predictor, dict[str, Any]]:
    """Return what predicts, and the settings of the dense CRF that follows the network."""
    import torch

    from modules.crf_predictor import with_crf
    from modules.predictors import load_predictor
    from modules.segmenter import Segmenter

    segmenter = load_predictor(Path(cfg.ckpt).expanduser())
    names = list(segmenter.space.names[1:])
    asked = cfg.classes.split(",") if isinstance(cfg.classes, str) else [str(name) for name in cfg.classes or names]
    if sorted(name.strip() for name in asked) != sorted(names):
        raise DataError(
            f"{cfg.ckpt} knows the classes {', '.join(names)}; classes= asks for {', '.join(asked)}. "
            "Give another checkpoint, or leave classes= out."
        )
    device = cfg.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        moved = segmenter.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"device={device} is not usable here ({reason}). Expected auto, cpu, cuda, cuda:1 or mps."
        ) from error
    crf = {"enabled": False} | (moved.crf if isinstance(moved, Segmenter) else {})
    if cfg.crf is not None:
        crf["enabled"] = cfg.crf
    return with_crf(moved, crf), crf


def _check_settings(cfg: DictConfig) -> None:
    if not cfg.ckpt:
        raise DataError(
            "ckpt= is missing. Give a segmenter's checkpoint, such as ckpt=runs/<name>/segmenter/best.ckpt."
        )
    if not cfg.input:
        raise DataError("input= is missing. Give a video, a folder, an image or a glob, such as input=clip.mp4.")
    if not cfg.out:
        raise DataError("out= is empty. Give a folder for the outputs, such as out=predictions.")
    _check_number(cfg, "threshold", 0, 1, optional=True)
    _check_number(cfg, "opacity", 0, 1)
    _check_number(cfg, "align_radius", 0, optional=True)
    _check_number(cfg, "batch_size", 1)
    for key in ("masks", "overlay"):
        if not isinstance(cfg[key], bool):
            raise DataError(f"{key}={cfg[key]}: expected true or false.")
    if not isinstance(cfg.crf, bool | None):
        raise DataError(f"crf={cfg.crf}: expected null, true or false.")


def _check_number(cfg: DictConfig, key: str, low: int, high: int | None = None, *, optional: bool = False) -> None:
    """Check a fraction ``low..high``, or without ``high`` a whole number from ``low`` on."""
    value = cfg[key]
    if value is None and optional:
        return
    kinds = int if high is None else (int, float)
    if isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= (value if high is None else high):
        return
    expected = f"a whole number of frames, {low} or more" if high is None else f"a number from {low} to {high}"
    raise DataError(f"{key}={value}: expected {'null or ' if optional else ''}{expected}.")


def _earlier_names(out: Path) -> set[str]:
    """Return the inputs whose outputs in ``out`` are known to be of an earlier run."""
    try:
        return {str(entry["name"]) for entry in json.loads((out / "summary.json").read_text())["inputs"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _write_skipped(out: Path, skipped: Sequence[tuple[str, str]]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    text = StringIO()
    csv.writer(text).writerows([("input", "reason"), *skipped])
    write_atomically(out / "skipped.csv", text.getvalue().encode())
    for name, reason in skipped:
        print(f"skipped: {name}: {reason}", file=sys.stderr)


def _show(summary: dict[str, Any], out: Path) -> None:
    from rich.markup import escape

    from recipes.tables import show

    rows = []
    for entry in summary["inputs"][:SHOWN_INPUTS]:
        found = [f"{name} {100 * of['pixel_share']:.1f} %" for name, of in entry["classes"].items()]
        if len(found) > SHOWN_CLASSES:
            found[SHOWN_CLASSES:] = [f"and {len(found) - SHOWN_CLASSES} more"]
        height, width = entry["size"]
        speed = entry["frames"] / max(entry["seconds"], 1e-2)
        classes = escape("\n".join(found)) or "background only"
        rows.append((escape(entry["name"]), str(entry["frames"]), f"{width}x{height}", f"{speed:.1f}", classes))
    number = len(summary["inputs"])
    if number > SHOWN_INPUTS:
        rows.append((f"{number - SHOWN_INPUTS} more", "", "", "", "see summary.json"))
    notes = f", {len(summary['skipped'])} skipped (skipped.csv)" if summary["skipped"] else ""
    title = f"{number} input{'s' * (number > 1)} in {summary['seconds']:.1f} s{notes}: {escape(str(out))}"
    show(title, ("input", "frames", "size", "frames/s", "classes (share of pixels)"), rows)


def _quote(override: str) -> str:
    """Protect paths with spaces, commas or brackets, which the grammar of overrides would take apart."""
    key, given, value = override.partition("=")
    is_list = value.startswith("[") and value.endswith("]")
    is_plain = value in ("", "null") or is_list or value[0] in "'\""
    if not given or key not in ("ckpt", "input", "out", "classes") or is_plain:
        return override
    escaped = value.replace("'", "\\'").replace("${", "\\${")
    return f"{key}='{escaped}'"


def main(arguments: list[str]) -> int:
    """Compose the configuration, predict, and report mistakes in one line."""
    words = [_quote(word) for word in arguments]
    return command_line(words, doc=__doc__ or "", load=lambda o: load_config("predict", o), work=predict)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
