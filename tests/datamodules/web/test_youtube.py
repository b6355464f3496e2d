from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from datamodules.web.sources import SourceUnavailable, VideoHit
from datamodules.web.youtube import YouTube
from pseudolabel.types import DataError


class YoutubeDLError(Exception):
    """The base class of yt-dlp's errors."""


class DownloadError(YoutubeDLError):
    """What YoutubeDL raises, with what it was made from."""

    def __init__(self, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.exc_info = (type(cause), cause, None) if cause else None


class ExtractorError(YoutubeDLError):
    """What a site's page gives; it keeps its cause."""

    def __init__(self, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class TransportError(YoutubeDLError):
    """No connection."""


class IncompleteRead(TransportError):
    """A connection that broke."""


class HTTPError(YoutubeDLError):
    """An answer with a state."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP Error {status}")
        self.status = status


ENTRIES: list[dict[str, Any] | None] = [
    {
        "id": "dQw4w9WgXcQ",
        "title": "My dog/../../x, \n100%(id)s",
        "duration": 61.0,
        "thumbnails": [{"url": "https://i/small.jpg", "height": 94}, {"url": "https://i/large.jpg", "height": 720}],
    },
    None,
    {"id": "live", "title": "now", "live_status": "is_live", "thumbnails": [{"url": "https://i/live.jpg"}]},
    {"id": "bare", "title": "no picture", "thumbnails": []},
    {"id": "-abc_DEF-12", "title": None, "thumbnails": [{"url": "https://i/b.jpg"}]},
]


@pytest.fixture
def yt_dlp(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A yt-dlp that does as told: `answer` gives what extract_info returns, `urls` what urlopen reads."""
    fake = SimpleNamespace(answer=lambda *_: None, urls={}, clients=[], asked=[])

    class YoutubeDL:
        def __init__(self, options: dict[str, Any]) -> None:
            self.options = options
            fake.clients.append(options)

        def __enter__(self) -> YoutubeDL:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def extract_info(self, url: str, download: bool) -> Any:
            fake.asked.append((url, download))
            return fake.answer(self.options, url)

        def urlopen(self, url: str) -> BytesIO:
            found = fake.urls[url]
            if isinstance(found, Exception):
                raise found
            return BytesIO(found)

    package, exceptions = ModuleType("yt_dlp"), ModuleType("yt_dlp.networking.exceptions")
    package.YoutubeDL = YoutubeDL  # type: ignore[attr-defined]
    package.utils = SimpleNamespace(YoutubeDLError=YoutubeDLError)  # type: ignore[attr-defined]
    exceptions.TransportError, exceptions.IncompleteRead = TransportError, IncompleteRead  # type: ignore[attr-defined]
    for name, module in (
        ("yt_dlp", package),
        ("yt_dlp.networking", ModuleType("yt_dlp.networking")),
        ("yt_dlp.networking.exceptions", exceptions),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    return fake


def raising(error: Exception) -> Callable[..., Any]:
    def answer(*_: object) -> Any:
        raise error

    return answer


HIT = VideoHit("dQw4w9WgXcQ", "../%(title)s", "dog", "https://i/large.jpg", 61.0)
NO_NETWORK = DownloadError("ERROR: Failed to resolve 'www.youtube.com'", TransportError("Failed to resolve"))


def test_the_search_is_flat_and_gives_videos_only(yt_dlp: SimpleNamespace) -> None:
    yt_dlp.answer = lambda *_: {"entries": iter(ENTRIES)}
    source = YouTube(options={"cookiefile": "c.txt"})
    first, second = source.search("hot dog", 7)
    assert yt_dlp.asked == [("ytsearch7:hot dog", False)]
    assert yt_dlp.clients[0]["extract_flat"] == "in_playlist" and yt_dlp.clients[0]["cookiefile"] == "c.txt"
    assert first == VideoHit("dQw4w9WgXcQ", ENTRIES[0]["title"], "hot dog", "https://i/large.jpg", 61.0)  # type: ignore[index]
    assert second == VideoHit("-abc_DEF-12", "", "hot dog", "https://i/b.jpg", None)
    assert [name for name, _ in source.skipped] == ["live", "bare"]
    assert len(source.search("hot dog", 1)) == 1
    yt_dlp.answer = lambda *_: {"entries": []}
    assert source.search("zebra", 3) == []


def test_thumbnails(yt_dlp: SimpleNamespace) -> None:
    content = BytesIO()
    Image.new("RGB", (6, 4), (1, 2, 3)).save(content, "PNG")
    source = YouTube()
    yt_dlp.urls[HIT.thumbnail] = content.getvalue()
    assert source.thumbnail(HIT).shape == (4, 6, 3) and (source.thumbnail(HIT) == (1, 2, 3)).all()
    assert not yt_dlp.asked  # the video is not touched
    for found, error in (
        (b"<html>", DataError),
        (HTTPError(404), DataError),
        (HTTPError(429), SourceUnavailable),
        (TransportError("Failed to resolve"), SourceUnavailable),
    ):
        yt_dlp.urls[HIT.thumbnail] = found
        with pytest.raises(DataError, match=r"https://i/large\.jpg") as caught:
            source.thumbnail(HIT)
        assert type(caught.value) is error


@pytest.mark.parametrize("name", ["dQw4w9WgXcQ", "-abc_DEF-12", "../../etc/passwd", "a/b%(ext)s"])
def test_a_download_is_named_by_its_id_and_capped(yt_dlp: SimpleNamespace, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "100% videos"
    folder.mkdir()

    def answer(options: dict[str, Any], url: str) -> dict[str, Any]:
        path = Path(options["outtmpl"]["default"] % {"ext": "mp4"})
        path.write_bytes(b"video")
        return {"requested_downloads": [{"filepath": str(path)}]}

    yt_dlp.answer = answer
    hit = VideoHit(name, "../../x/%(title)s", "dog", "")
    path = YouTube(height=240).download(hit, folder)
    assert path.parent == folder and path.read_bytes() == b"video" and path.suffix == ".mp4"
    assert yt_dlp.asked == [("https://www.youtube.com/watch?v=" + name, True)]
    formats = yt_dlp.clients[0]["format"].split("/")
    assert len(formats) == 4 and all("[height<=240]" in wanted for wanted in formats)


def test_a_download_that_gives_no_file_is_an_error(yt_dlp: SimpleNamespace, tmp_path: Path) -> None:
    for found in (None, {}, {"requested_downloads": [{"filepath": str(tmp_path / "gone.mp4")}]}):
        yt_dlp.answer = lambda *_, found=found: found
        with pytest.raises(DataError, match="gave no file"):
            YouTube().download(HIT, tmp_path)


def test_without_a_network_it_refuses_clearly(yt_dlp: SimpleNamespace, tmp_path: Path) -> None:
    source = YouTube()
    yt_dlp.answer = raising(NO_NETWORK)
    with pytest.raises(
        SourceUnavailable, match=r"does not answer: search for 'dog' failed .*Check the network.*catalogue"
    ):
        source.search("dog", 3)
    with pytest.raises(SourceUnavailable, match="video 'dQw4w9WgXcQ' failed"):
        source.download(HIT, tmp_path)


@pytest.mark.parametrize(
    ("error", "dead"),
    [
        (DownloadError("x", ExtractorError("y", TransportError("z"))), True),
        (DownloadError("x", ExtractorError("y", HTTPError(429))), True),
        (DownloadError("Sign in to confirm you're not a bot", ExtractorError("y")), True),
        (DownloadError("Private video", ExtractorError("y")), False),
        (DownloadError("x", HTTPError(403)), False),
        (DownloadError("x", IncompleteRead("half of it")), False),
        (DownloadError("Requested format is not available"), False),
    ],
)
def test_a_video_that_cannot_be_had_is_not_a_dead_source(
    yt_dlp: SimpleNamespace, tmp_path: Path, error: Exception, dead: bool
) -> None:
    yt_dlp.answer = raising(error)
    with pytest.raises(DataError) as caught:
        YouTube().download(HIT, tmp_path)
    assert isinstance(caught.value, SourceUnavailable) == dead


def test_without_yt_dlp_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    with pytest.raises(DataError, match=r"not installed.*`pip install yt-dlp`.*catalogue"):
        YouTube()


@pytest.mark.parametrize("changes", [{"height": 0}, {"timeout": 0.0}, {"retries": -1}])
def test_ranges(yt_dlp: SimpleNamespace, changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="must be positive"):
        YouTube(**changes)


def test_the_real_yt_dlp_refuses_through_a_dead_proxy(tmp_path: Path) -> None:
    if importlib.util.find_spec("yt_dlp") is None:
        pytest.skip("yt-dlp is not installed")
    source = YouTube(timeout=2, retries=0, options={"proxy": "http://127.0.0.1:9"})  # port 9: nothing listens
    with pytest.raises(SourceUnavailable, match="Check the network"):
        source.search("dog", 2)
    with pytest.raises(SourceUnavailable, match="Check the network"):
        source.thumbnail(HIT)
    with pytest.raises(SourceUnavailable, match="Check the network"):
        source.download(HIT, tmp_path)
    assert list(tmp_path.iterdir()) == []
