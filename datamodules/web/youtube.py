"""Search YouTube and download from it, over yt-dlp. What may be downloaded is for its terms and your law to say."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.web.sources import SourceUnavailable, VideoHit, WebVideoSource, decode_image, safe_name
from pseudolabel.types import DataError, UInt8Array

PIP = "pip install yt-dlp"

_WATCH = "https://www.youtube.com/watch?v="
_TOO_MANY_REQUESTS = 429
_ROBOT = "not a bot"


class _Silent:
    """A logger that keeps yt-dlp from printing: its errors come as exceptions."""

    def debug(self, message: str) -> None:
        """Say nothing."""

    info = warning = error = debug


class YouTube(WebVideoSource):
    """YouTube: a flat search that opens no video's page, thumbnails first, and only then videos.

    Only streams with pictures are asked for, so no other program has to merge anything; H.264 in mp4 is preferred.

    Args:
        height: of the frames at most, in pixels.
        timeout: seconds to wait for an answer.
        retries: of a request that fails.
        options: further options of ``yt_dlp.YoutubeDL``, such as ``{"cookiefile": ...}`` or ``{"ratelimit": ...}``.

    Raises:
        DataError: yt-dlp is not installed, or height, timeout or retries are out of range.
    """

    name = "youtube"

    def __init__(
        self, *, height: int = 360, timeout: float = 20.0, retries: int = 3, options: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        if height < 1 or not timeout > 0 or retries < 0:
            raise DataError(
                f"YouTube: height and timeout must be positive and retries at least 0, got {height}, {timeout} and "
                f"{retries}."
            )
        try:
            self._yt_dlp = importlib.import_module("yt_dlp")
            self._network = importlib.import_module("yt_dlp.networking.exceptions")
        except ImportError as error:
            raise DataError(
                f"yt-dlp is not installed ({error}), and YouTube is searched with it. Install it: `{PIP}`; or use a "
                "catalogue of videos on this machine."
            ) from error
        self._options = {
            "quiet": True,
            "no_warnings": True,
            "noprogress": True,
            "logger": _Silent(),
            "cachedir": False,
            "socket_timeout": timeout,
            "retries": retries,
            "extractor_retries": retries,
            **(options or {}),
        }
        self._height = height

    def search(self, keyword: str, limit: int) -> list[VideoHit]:
        """Return the hits in YouTube's order; live streams and what has no thumbnail are left out.

        Raises:
            SourceUnavailable: there is no network, or YouTube does not let us search.
        """
        try:
            with self._yt_dlp.YoutubeDL({**self._options, "extract_flat": "in_playlist"}) as client:
                found = client.extract_info(f"ytsearch{limit}:{keyword}", download=False)
                entries = [entry for entry in (found or {}).get("entries") or () if entry]
        except self._yt_dlp.utils.YoutubeDLError as error:
            raise self._unavailable(f"search for '{keyword}'", error) from error
        hits = (self._hit(entry, keyword) for entry in entries)
        return [hit for hit in hits if hit][:limit]

    def _hit(self, entry: dict[str, Any], keyword: str) -> VideoHit | None:
        """Return an entry of the search as a hit; None, and listed as skipped, if it is no plain video."""
        name = str(entry.get("id") or "")
        pictures = [picture for picture in entry.get("thumbnails") or () if picture.get("url")]
        if entry.get("live_status") in ("is_live", "is_upcoming") or not name or not pictures:
            self.skipped.append(
                (name or keyword, "no thumbnail" if name and not pictures else "no video, or a live one")
            )
            return None
        largest = max(pictures, key=lambda picture: picture.get("height") or 0)
        return VideoHit(name, str(entry.get("title") or ""), keyword, largest["url"], entry.get("duration"))

    def thumbnail(self, hit: VideoHit) -> UInt8Array:
        """Download a thumbnail; see :meth:`WebVideoSource.thumbnail`."""
        what = f"thumbnail of '{hit.id}', {hit.thumbnail},"
        try:
            with self._yt_dlp.YoutubeDL(self._options) as client:
                content = client.urlopen(hit.thumbnail).read()
        except (self._yt_dlp.utils.YoutubeDLError, OSError) as error:
            raise self._error(what, error) from error
        return decode_image(content, hit.thumbnail)

    def download(self, hit: VideoHit, folder: Path) -> Path:
        """Download a video to ``<folder>/<id, made safe>.<suffix>``; an interrupted one goes on where it was.

        Raises:
            DataError: it was removed, is not for everyone, or has no pictures of at most the wanted height.
            SourceUnavailable: there is no network, or YouTube turns us away.
        """
        low = f"[height<={self._height}]"
        options = {
            **self._options,
            "format": "/".join((f"bv{low}[vcodec^=avc1]", f"b{low}[ext=mp4]", f"bv{low}", f"b{low}")),
            # The captions are never part of a name. A % in the folder would be read as a field.
            "outtmpl": {"default": f"{folder}/{safe_name(hit.id)}".replace("%", "%%") + ".%(ext)s"},
            "noplaylist": True,
        }
        try:
            with self._yt_dlp.YoutubeDL(options) as client:
                found = client.extract_info(_WATCH + hit.id, download=True)
        except (self._yt_dlp.utils.YoutubeDLError, OSError) as error:
            raise self._error(f"video '{hit.id}'", error) from error
        files = [Path(item["filepath"]) for item in (found or {}).get("requested_downloads") or ()]
        if not files or not files[0].is_file():
            raise DataError(f"YouTube: video '{hit.id}' gave no file. It may be gone or not for everyone.")
        return files[0]

    def _error(self, what: str, error: Exception) -> DataError:
        """Tell a video that cannot be had from a source that does not answer."""
        causes = list(_causes(error))
        torn = any(isinstance(cause, self._network.IncompleteRead) for cause in causes)
        lost = any(isinstance(cause, self._network.TransportError) for cause in causes) and not torn
        refused = any(getattr(cause, "status", None) == _TOO_MANY_REQUESTS for cause in causes) or _ROBOT in str(error)
        if lost or refused:
            return self._unavailable(what, error)
        return DataError(f"YouTube: {what} cannot be had ({error}).")

    def _unavailable(self, what: str, error: Exception) -> SourceUnavailable:
        return SourceUnavailable(
            f"YouTube does not answer: {what} failed ({error}). Check the network, or wait if there were too many "
            f"requests; an old yt-dlp may help no more: `{PIP} -U`. Start again to go on where it stopped, or use a "
            "catalogue of videos on this machine."
        )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was made from, as yt-dlp hands it on: exc_info, cause, __cause__."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if isinstance(current, BaseException) and id(current) not in seen:
            seen.add(id(current))
            yield current
            raised = getattr(current, "exc_info", None)
            waiting += [raised[1] if isinstance(raised, tuple) else None, getattr(current, "cause", None)]
            waiting.append(current.__cause__)
