"""Flow that is computed once: a cache in memory and on disk."""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pseudolabel.flow import FlowSettings, check_frames, flow_with
from pseudolabel.palette import write_atomically
from pseudolabel.types import FloatArray, UInt8Array


class FlowCache:
    """Flow that is computed once: the last ones in memory, all of them on disk when a folder is given.

    An entry belongs to a video, two frame numbers, settings, and the checksum of the two frames, so that another video
    of the same name never gets its flow. A file that cannot be read is computed anew. Several processes may share the
    folder.

    Args:
        folder: where to keep flow, as float16 (relative error 0.05 %); None = in memory only.
        settings: how flow is computed; DIS medium when None.
        memory_mib: the memory that the last entries may take.
    """

    def __init__(
        self, folder: str | Path | None = None, *, settings: FlowSettings | None = None, memory_mib: float = 64.0
    ) -> None:
        self.folder = Path(folder) if folder is not None else None
        self.settings = settings or FlowSettings()
        self._room = int(memory_mib * 2**20)
        self._entries: OrderedDict[tuple[str, int, int, int], npt.NDArray[np.float16]] = OrderedDict()
        self._held = 0

    def __len__(self) -> int:
        """Number of entries in memory."""
        return len(self._entries)

    def get(self, video: str, first_index: int, second_index: int, first: UInt8Array, second: UInt8Array) -> FloatArray:
        """Return the flow from ``first`` to ``second``, float32 (H, W, 2), from memory, from disk or computed.

        The same numbers come from wherever: they are rounded to float16 also when just computed.

        Raises:
            DataError: as :func:`compute_flow`.
        """
        check_frames(first, second)
        checksum = zlib.crc32(second.tobytes(), zlib.crc32(first.tobytes()))
        key = (video, first_index, second_index, checksum)
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key].astype(np.float32)
        path = self._path(key)
        flow = _read(path, first.shape) if path is not None else None
        if flow is None:
            flow = flow_with(self.settings, first, second).astype(np.float16)
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                buffer = io.BytesIO()
                np.save(buffer, flow)
                write_atomically(path, buffer.getvalue())
        self._entries[key] = flow
        self._held += flow.nbytes
        while self._held > self._room and self._entries:
            self._held -= self._entries.popitem(last=False)[1].nbytes
        return flow.astype(np.float32)

    def _path(self, key: tuple[str, int, int, int]) -> Path | None:
        if self.folder is None:
            return None
        video, first, second, checksum = key
        name = hashlib.sha1(video.encode(), usedforsecurity=False).hexdigest()[:16]
        return self.folder / self.settings.key / name / f"{first:06d}-{second:06d}-{checksum:08x}.npy"


def _read(path: Path, shape: tuple[int, ...]) -> npt.NDArray[np.float16] | None:
    try:
        flow = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = flow.shape == (*shape[:2], 2) and flow.dtype == np.float16 and os.path.getsize(path) > flow.nbytes
    return flow if whole else None
