"""Films the videos of the synthetic web, shot by shot, with their thumbnails and their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from datamodules.rendering import MIN_VISIBLE, RenderedVideo, render_video
from datamodules.studio.web_stage import WebOptions, WebShot, WebVideo
from datamodules.video import VideoReader, VideoWriter
from pseudolabel.palette import write_atomically, write_mask
from pseudolabel.types import BoolArray, UInt8Array

_STRANGER = 254
"""Mask value of an actor that is none of the classes, while it is rendered; background after."""

_JPEG_QUALITY = (55, 85)

_KEPT_BYTES = 0.6
"""Share of the pictures' bytes that a file cut short keeps."""


def film_video(folder: Path, video: WebVideo, options: WebOptions) -> BoolArray:
    """Write ``videos/<id>.mp4``, ``thumbnails/<id>.jpg`` and ``masks/<id>/<frame>.png`` of one video.

    Returns:
        bool (T, C), which classes are seen in each frame that can be decoded.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the workers are the parallelism
    try:
        seen, thumbnail = _film(folder, video, options)
    finally:
        cv2.setNumThreads(threads)
    if not video.thumbnail_missing:
        quality = int(np.random.default_rng([*video.seed, len(video.shots), 1]).integers(*_JPEG_QUALITY))
        content = BytesIO()
        Image.fromarray(thumbnail).save(content, format="JPEG", quality=quality)
        write_atomically(folder / "thumbnails" / f"{video.id}.jpg", content.getvalue())
    if not video.cut_short:
        return seen
    path = folder / "videos" / f"{video.id}.mp4"
    cut_short(path, share=_KEPT_BYTES)
    kept = len(VideoReader(path))
    for file in (folder / "masks" / video.id).iterdir():
        if int(file.stem) >= kept:
            file.unlink()
    return seen[:kept]


def render_shot(shot: WebShot, options: WebOptions, *, seed: Sequence[int]) -> RenderedVideo:
    """Render one shot; its masks hold places in ``(background, *options.classes)``."""
    known = shot.actor in options.classes
    film = render_video(
        seed,
        [shot.tag] if shot.tag else [],
        [1 + options.classes.index(shot.actor) if known else _STRANGER] if shot.tag else [],
        frames=shot.frames,
        size=options.size,
        annotated=range(0, shot.frames, options.mask_every),
        # A camera that leaves the actor for a while needs more than one frame.
        difficulty=options.difficulty if shot.frames > 1 else replace(options.difficulty, absent=0.0, occlusion=0.0),
        idle=shot.idle,
    )
    film.masks[film.masks == _STRANGER] = 0
    return film


def seen_classes(masks: UInt8Array, num_classes: int) -> BoolArray:
    """Return bool (T, num_classes): which classes 1 .. num_classes the masks (T, H, W) show enough of to be seen."""
    least = MIN_VISIBLE * masks.shape[1] * masks.shape[2]
    return np.stack([(masks == 1 + index).sum(axis=(1, 2)) >= least for index in range(num_classes)], axis=1)


class WebWriter(VideoWriter):
    """Writes a video with a key frame every so many frames at least; the encoder adds those at cuts.

    Args:
        path: the final name.
        fps: frames per second, > 0.
        size: (H, W) of the frames.
        key_frame_every: most frames from one key frame to the next.
    """

    def __init__(self, path: Path, *, fps: float, size: tuple[int, int], key_frame_every: int) -> None:
        super().__init__(path, fps=fps, size=size)
        self.key_frame_every = key_frame_every

    def __enter__(self) -> VideoWriter:
        super().__enter__()
        self._stream.codec_context.gop_size = self.key_frame_every
        return self


def cut_short(path: Path, *, share: float) -> None:
    """Leave only the first ``share`` of a video's pictures; its header still tells of all of them."""
    content = path.read_bytes()
    start = content.index(b"mdat")
    path.write_bytes(content[: start + round(share * (len(content) - start))])


def _film(folder: Path, video: WebVideo, options: WebOptions) -> tuple[BoolArray, UInt8Array]:
    """Write the video and its masks; return which classes are seen, (T, C), and the thumbnail's picture."""
    masks = folder / "masks" / video.id
    masks.mkdir(parents=True)
    rng = np.random.default_rng([*video.seed, len(video.shots)])
    seen, stills, start = [], [], 0
    every = max(1, round(options.key_frame_seconds * options.fps))
    path = folder / "videos" / f"{video.id}.mp4"
    with WebWriter(path, fps=options.fps, size=options.size, key_frame_every=every) as clip:
        for number, shot in enumerate(video.shots):
            film = render_shot(shot, options, seed=[*video.seed, number])
            for offset, (frame, mask) in enumerate(zip(film.frames, film.masks, strict=True)):
                clip.write(frame)
                if (start + offset) % options.mask_every == 0:
                    write_mask(masks / f"{start + offset:05d}.png", mask)
            seen.append(seen_classes(film.masks, len(options.classes)))
            if shot.actor == video.subject:
                stills.append(film.frames[_good_picture(rng, film.masks)])
            start += shot.frames
    if video.poster is not None:
        stills = [render_shot(video.poster, options, seed=[*video.seed, len(video.shots), 0]).frames[0]]
    return np.concatenate(seen), stills[rng.integers(len(stills))]


def _good_picture(rng: np.random.Generator, masks: UInt8Array) -> int:
    """Draw one of the frames that show the actor no smaller than half of the frames do."""
    areas = (masks > 0).sum(axis=(1, 2))
    return int(rng.choice(np.flatnonzero(areas >= np.median(areas))))
