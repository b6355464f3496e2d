"""Quality of motion segmentation: J on a DAVIS folder, agreement with the original program's outputs."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from pseudolabel.motion import segment_motion
from pseudolabel.types import DataError
from recipes.tables import show

Array = npt.NDArray[Any]


def _read(path: Path, flag: int) -> Array:
    image = cv2.imread(str(path), flag)
    if image is None:
        raise DataError(f"'{path}' cannot be read as an image. Restore it, or leave its video out (videos=...)")
    return np.asarray(image)


def _frames(folder: Path) -> Array:
    paths = sorted([*folder.glob("*.jpg"), *folder.glob("*.png")])
    if not paths:
        raise DataError(f"'{folder}' has no *.jpg or *.png. Expected the frames of one video.")
    return np.stack([cv2.cvtColor(_read(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB) for path in paths])


def _masks(folder: Path) -> Array:
    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise DataError(f"'{folder}' has no masks *.png.")
    return np.stack([_read(path, cv2.IMREAD_GRAYSCALE) > 0 for path in paths])


def jaccard(found: Array, truth: Array) -> Array:
    """Return J of every frame, float (T,): intersection over union; 1 where both are empty (DAVIS)."""
    joint = (found & truth).sum(axis=(1, 2))
    union = (found | truth).sum(axis=(1, 2))
    return np.where(union > 0, joint / np.maximum(union, 1), 1.0)


def _folders(root: Path) -> tuple[Path, Path]:
    images = root / "JPEGImages"
    sizes = sorted(path.name for path in images.iterdir()) if images.is_dir() else []
    if not sizes:
        raise DataError(f"'{root}' has no JPEGImages/<size>/<video>. Expected the DAVIS 2016 layout.")
    size = next((name for name in ("480p", "240p") if name in sizes), sizes[0])
    return images / size, root / "Annotations" / size


def _score(images: Path, masks: Path, changes: dict[str, Any]) -> tuple[float, float]:
    cv2.setNumThreads(1)
    logging.getLogger("pseudolabel.motion").setLevel(logging.ERROR)
    frames, truth = _frames(images), _masks(masks)
    start = time.process_time()
    found = segment_motion(frames, **changes).labels > 0
    rate = len(frames) / (time.process_time() - start)
    if truth.shape != found.shape:
        raise DataError(f"'{masks}' holds masks {truth.shape}, its video frames {found.shape}. Expected one per frame.")
    # The official evaluation leaves the first and the last frame out.
    return float(jaccard(found, truth)[1:-1].mean()), rate


def score_davis(root: str | Path, *, workers: int, videos: str | None, changes: dict[str, Any]) -> float:
    """Print J of every sequence below a DAVIS 2016 folder, and the mean, which is returned.

    Args:
        root: holds JPEGImages/<size>/<video>/*.jpg and Annotations/<size>/<video>/*.png.
        workers: sequences at a time.
        videos: names, separated by commas; None = all.
        changes: preset and settings of segment_motion.

    Raises:
        DataError: the folder is of another layout.
    """
    images, masks = _folders(Path(root))
    names = videos.split(",") if videos else sorted(path.name for path in images.iterdir() if path.is_dir())
    jobs = (delayed(_score)(images / name, masks / name, changes) for name in names)
    scores = Parallel(n_jobs=workers, batch_size=1)(jobs)
    rows = [(name, f"{score:.3f}", f"{rate:.1f}") for name, (score, rate) in zip(names, scores, strict=True)]
    mean = float(np.mean([score for score, _ in scores]))
    rows.append((f"mean of {len(names)}", f"{mean:.3f}", f"{np.mean([rate for _, rate in scores]):.1f}"))
    settings = ", ".join(f"{key}={value}" for key, value in changes.items()) or "default settings"
    show(f"{root}: {settings}", ("video", "J", "frames per CPU second"), rows)
    return mean


def score_golden(root: str | Path, *, changes: dict[str, Any]) -> dict[str, float]:
    """Print how far we agree with the original program on its own flow and superpixels.

    Args:
        root: holds <shot>/frames, flow-brox2011.npz, superpixels-slic.npz and segmentation.
        changes: settings; the preset is ``papazoglou`` unless they say otherwise.

    Returns:
        IoU over all pixels of each shot.

    Raises:
        DataError: no shot is there.
    """
    changes = {"preset": "papazoglou", **changes}
    shots = sorted(path.parent for path in Path(root).glob("*/flow-brox2011.npz"))
    if not shots:
        raise DataError(f"'{root}' has no <shot>/flow-brox2011.npz.")
    agreement, rows = {}, []
    for shot in shots:
        flow = np.load(shot / "flow-brox2011.npz")
        found = segment_motion(
            _frames(shot / "frames"),
            flow=np.stack([flow["dx"], flow["dy"]], axis=-1).astype(np.float32),
            superpixels=np.load(shot / "superpixels-slic.npz")["labels"].astype(np.int32),
            **changes,
        )
        truth, ours = _masks(shot / "segmentation"), found.labels > 0
        agreement[shot.name] = float((ours & truth).sum() / max((ours | truth).sum(), 1))
        worst = jaccard(ours, truth).min()
        rows.append((shot.name, str(len(truth)), f"{agreement[shot.name]:.3f}", f"{worst:.3f}"))
    show("Agreement with the original program", ("shot", "frames", "IoU", "worst frame"), rows)
    return agreement
