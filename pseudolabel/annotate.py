"""Annotate many clips on many workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from joblib import Parallel, delayed

from pseudolabel.store import PAStore
from pseudolabel.types import Annotator, Clip, DataError, Scores


def _annotate_clip(
    clip: Clip, scores: Scores | None, annotator: Annotator, store: PAStore, version: int
) -> tuple[str, str | None]:
    """Annotate and write one clip; return its name and why it was skipped (None: it was written)."""
    try:
        store.write(version, clip, annotator(clip, scores))
    except DataError as error:
        return clip.name, str(error)
    return clip.name, None


def annotate(
    clips: Iterable[tuple[Clip, Scores | None]],
    annotator: Annotator,
    store: PAStore,
    version: int,
    *,
    workers: int = 1,
    progress: Callable[[], object] | None = None,
) -> list[tuple[str, str]]:
    """Annotate clips and write them into the unfinished ``version`` of ``store``.

    The backend is threads (superpixels and colour conversion release the interpreter's lock) unless joblib is told
    otherwise, so ``with joblib.parallel_config(backend="dask")`` (or ``"ray"``) runs the same
    line on a cluster whose nodes share the store's file system. Clips are taken from the iterable only as workers
    become free, so memory stays flat. Videos that are written already are not annotated again, and a version that is
    whole is left as it is; a caller whose clips are dear to make asks ``store.is_written`` before making them.

    Args:
        clips: pairs of a clip (one per video) and the present network's scores, float32 (T, C, H, W), None at v0.
        annotator: from clip and scores to an annotation; must be picklable for backends of several processes.
        store: where the masks go.
        version: number of the version; :meth:`PAStore.publish` it afterwards.
        workers: number of threads (of processes or nodes with another backend); 1 = in this one, -1 = all cores.
        progress: called without arguments once per clip that was annotated or skipped.

    Returns:
        (video, reason) of every clip whose annotator or writing raised :class:`DataError`, sorted by video.
    """
    if version in store.versions():
        return []
    store.begin(version)

    def tasks() -> Iterator[Any]:
        for clip, scores in clips:
            try:
                written = store.is_written(version, clip.name)
            except DataError:
                written = False
            if not written:
                yield delayed(_annotate_clip)(clip, scores, annotator, store, version)

    pool = Parallel(
        n_jobs=workers, prefer="threads", return_as="generator_unordered", pre_dispatch="n_jobs + 1", batch_size=1
    )
    skipped = []
    for video, reason in pool(tasks()):
        if reason is not None:
            skipped.append((video, reason))
        if progress is not None:
            progress()
    return sorted(skipped)
