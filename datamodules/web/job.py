"""The steps of a retrieval, each done once: searches, batches of thumbnails, videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datamodules.web.clips import cut_clips
from datamodules.web.manifest import Decision, Progress
from datamodules.web.settings import RetrieveSettings, Scorer, scores_of
from datamodules.web.sources import SourceUnavailable, VideoHit, WebVideoSource, safe_name
from pseudolabel.types import DataError, FloatArray, UInt8Array


class Job:
    """A retrieval at work.

    Args:
        source: where to search.
        classes: names, in the order of the scores' columns.
        score: gives the scores of images.
        folder: of the clips.
        settings: thresholds and caps.
        progress: the steps that are done.
    """

    def __init__(
        self,
        source: WebVideoSource,
        classes: Sequence[str],
        score: Scorer,
        folder: Path,
        settings: RetrieveSettings,
        progress: Progress,
    ) -> None:
        self.source, self.classes, self.score = source, tuple(classes), score
        self.folder, self.settings, self.progress = folder, settings, progress

    def search(self, name: str, keyword: str) -> tuple[list[VideoHit], list[Decision]]:
        """Return the hits of a class that are worth a look, and the decision on every hit."""
        done = self.progress.once(f"search.{safe_name(name)}", lambda: self._search(name, keyword))
        return [VideoHit(**hit) for hit in done["hits"]], _loaded(done["decisions"])

    def _search(self, name: str, keyword: str) -> dict[str, Any]:
        hits: dict[str, VideoHit] = {}
        decisions = []
        for rank, hit in enumerate(self.source.search(keyword, self.settings.search_limit), 1):
            reason = f"hit {rank} for '{keyword}'"
            kept = hit.id not in hits and not self._too_long(hit)
            if hit.id in hits:
                reason += ": duplicate id"
            elif not kept:
                reason += f": {hit.duration:g} s, longer than {self.settings.longest:g} s"
            else:
                hits[hit.id] = hit
            decisions.append(Decision(name, hit.id, hit.title, "search", kept, reason))
        if not decisions:
            decisions.append(Decision(name, "", "", "search", False, f"no result for '{keyword}'"))
        return {"hits": [asdict(hit) for hit in hits.values()], "decisions": [asdict(row) for row in decisions]}

    def _too_long(self, hit: VideoHit) -> bool:
        return None not in (hit.duration, self.settings.longest) and hit.duration > self.settings.longest  # type: ignore[operator]

    def collect(self, name: str, hits: Sequence[VideoHit], later: set[str]) -> Iterator[list[Decision]]:
        """Yield the decisions on each hit of a class, and write its clips.

        Args:
            name: the class.
            hits: of its search.
            later: ids of videos that other classes will ask for: their downloads are kept.
        """
        cap, videos = self.settings.videos_per_class, 0
        full = f"not looked at: {cap} videos of the class are kept already"
        for begin in range(0, len(hits), self.settings.batch):
            batch = hits[begin : begin + self.settings.batch]
            if videos >= cap:
                yield from ([Decision(name, hit.id, hit.title, "thumbnail", False, full)] for hit in batch)
                continue
            for hit, decision in zip(batch, self._thumbnails(name, begin, batch), strict=True):
                decisions = [decision]
                if decision.kept and videos >= cap:
                    decisions.append(Decision(name, hit.id, hit.title, "download", False, full))
                elif decision.kept:
                    decisions += self._video(name, hit, later)
                    videos += any(row.step == "window" and row.kept for row in decisions)
                yield decisions

    def _thumbnails(self, name: str, begin: int, hits: Sequence[VideoHit]) -> list[Decision]:
        """Judge a batch of thumbnails."""

        def work() -> list[dict[str, Any]]:
            images: list[UInt8Array] = []
            reasons = []
            for hit in hits:
                try:
                    images.append(self.source.thumbnail(hit))
                    reasons.append("")
                except SourceUnavailable:
                    raise
                except DataError as error:
                    reasons.append(f"thumbnail missing: {error}")
            scores = iter(self._scores(name, images).tolist())
            return [asdict(self._judge(name, hit, reason, scores)) for hit, reason in zip(hits, reasons, strict=True)]

        return _loaded(self.progress.once(f"thumbnails.{safe_name(name)}.{begin:06d}", work))

    def _judge(self, name: str, hit: VideoHit, reason: str, scores: Iterator[float]) -> Decision:
        if reason:
            return Decision(name, hit.id, hit.title, "thumbnail", False, reason, broken=True)
        value, least = next(scores), self.settings.thumbnail
        reason = f"score above {least}" if value > least else f"score not above {least}"
        return Decision(name, hit.id, hit.title, "thumbnail", value > least, reason, score=value)

    def _video(self, name: str, hit: VideoHit, later: set[str]) -> list[Decision]:
        """Download a video and cut its clips."""

        def work() -> list[dict[str, Any]]:
            try:
                path = self.source.download(hit, self.progress.downloads)
            except SourceUnavailable:
                raise
            except DataError as error:
                return [asdict(Decision(name, hit.id, hit.title, "download", False, str(error), broken=True))]
            done = Decision(name, hit.id, hit.title, "download", True, "the thumbnail passed")
            clips = cut_clips(name, hit, path, lambda images: self._scores(name, images), self.folder, self.settings)
            return [asdict(row) for row in (done, *clips)]

        decisions = _loaded(self.progress.once(f"video.{safe_name(name)}.{safe_name(hit.id)}", work))
        if hit.id not in later:
            for file in self.progress.downloads.glob(f"{safe_name(hit.id)}.*"):
                file.unlink()
        return decisions

    def _scores(self, name: str, images: Sequence[UInt8Array]) -> FloatArray:
        """Return the scores of one class, float32 (N,)."""
        return scores_of(self.score, images, len(self.classes))[:, self.classes.index(name)]


def _loaded(decisions: Sequence[dict[str, Any]]) -> list[Decision]:
    return [Decision(**decision) for decision in decisions]
