"""Intervals of time: lists of (start, stop) in seconds."""

from __future__ import annotations

from collections.abc import Iterable

Interval = tuple[float, float]


def merge(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the union as intervals that neither overlap nor touch, in the order of time."""
    merged: list[Interval] = []
    for start, stop in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged


def total(intervals: Iterable[Interval]) -> float:
    """Return the seconds that intervals without overlap last."""
    return sum(stop - start for start, stop in intervals)


def overlap(first: list[Interval], second: list[Interval]) -> float:
    """Return the seconds that two merged lists have in common."""
    return total(first) + total(second) - total(merge([*first, *second]))
