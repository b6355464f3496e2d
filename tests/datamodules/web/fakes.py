"""A tiny web on disk, whose colours say what is seen: red = dog, blue = cat, grey = nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from PIL import Image

from datamodules.web.sources import VideoHit, WebVideoSource
from pseudolabel.types import FloatArray, UInt8Array
from tests.datamodules.fakes import write_table

CLASSES = ("dog", "cat")
RED, BLUE, GREY, PINK = (220, 30, 30), (30, 30, 220), (120, 120, 120), (200, 80, 80)
FPS = 5
GOP = 5
"""A key frame each second."""


def frames_of(seconds: str) -> UInt8Array:
    """Frames uint8 (T, 32, 32, 3): each letter is a second, r(ed), b(lue), p(ink) or g(rey)."""
    colours = {"r": RED, "b": BLUE, "g": GREY, "p": PINK}
    frames = np.array([colours[letter] for letter in seconds for _ in range(FPS)], np.uint8)
    return np.broadcast_to(frames[:, None, None], (len(frames), 32, 32, 3)).copy()


def encode(
    path: Path,
    frames: UInt8Array,
    *,
    codec: str = "libx264",
    gop: int = GOP,
    fps: int = FPS,
    params: str = "scenecut=0",
) -> Path:
    """Write a video with a key frame each ``gop`` frames; an mp4 has its index first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    extra = {
        "libx264": {"x264-params": params},
        "mpeg4": {"sc_threshold": "1000000000"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    }.get(codec, {})
    options = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=fps, options={"g": str(gop), **extra})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def cut(path: Path, share: float) -> Path:
    """Cut a file short."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def write_picture(path: Path, colour: Sequence[int], size: tuple[int, int] = (24, 40)) -> Path:
    """Write a flat image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size[1], size[0]), tuple(colour)).save(path)
    return path


def score(images: Sequence[UInt8Array]) -> FloatArray:
    """Dog scores by red, cat by blue, in [0, 1]: 0.95 for RED of dog, 0.6 for PINK, 0.5 for GREY."""
    red, blue = (np.array([float(np.median(image[..., channel])) for image in images]) for channel in (0, 2))
    return np.clip(0.5 + (np.stack([red - blue, blue - red], 1)) / 420, 0, 1).astype(np.float32)


class Web(WebVideoSource):
    """Videos in a folder that count how often they are asked for, and fail as told."""

    name = "fake"

    def __init__(self, root: Path, videos: dict[str, tuple[str, str]]) -> None:
        """Take id -> (keyword, seconds as in :func:`frames_of`); thumbnails show the first second."""
        super().__init__()
        self.root, self.videos, self.calls = root, videos, list[str]()
        self.fail: dict[str, Exception] = {}
        for name, (_, seconds) in videos.items():
            if not (root / f"{name}.mp4").exists():
                encode(root / f"{name}.mp4", frames_of(seconds))

    def _call(self, what: str) -> None:
        self.calls.append(what)
        if what in self.fail:
            raise self.fail[what]

    def search(self, keyword: str, limit: int) -> list[VideoHit]:
        self._call(f"search {keyword}")
        found = [name for name, (words, _) in self.videos.items() if keyword in words.split()]
        return [VideoHit(name, f"all about {name}", keyword, name, None) for name in found][:limit]

    def thumbnail(self, hit: VideoHit) -> UInt8Array:
        self._call(f"thumbnail {hit.id}")
        return frames_of(self.videos[hit.id][1][0])[0]

    def download(self, hit: VideoHit, folder: Path) -> Path:
        self._call(f"download {hit.id}")
        return self.root / f"{hit.id}.mp4"


def write_catalogue(root: Path, rows: Sequence[Sequence[object]]) -> Path:
    """Write ``catalogue.csv``."""
    write_table(root / "catalogue.csv", [("id", "title", "keywords", "video", "thumbnail", "duration"), *rows])
    return root
