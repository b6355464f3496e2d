"""How far something is that takes a while: a bar in a terminal, a line now and then where the output goes to a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

Item = TypeVar("Item")

LINE_EVERY = 30.0
"""Seconds between two lines."""


def follow(items: Iterable[Item], description: str, *, total: int | None = None, least: int = 1) -> Iterator[Item]:
    """Pass items on, and tell on stderr how many have been worked on.

    Args:
        items: what is worked on, one after the other.
        description: what is done with them.
        total: how many there are; None = their length, or unknown where they have none.
        least: fewer items than these are not worth a word.

    Yields:
        the items.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if total is not None and total < least:
        yield from items
        return
    console = Console(stderr=True)
    if console.is_terminal:
        with Progress(console=console, transient=True, redirect_stdout=False) as progress:
            yield from progress.track(items, total=total, description=description)
        return
    began = told = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - told >= LINE_EVERY or (told > began and done == total):
            told = now
            of = "" if total is None else f" of {total}"
            print(f"{description}: {done}{of}, {now - began:.0f} s", file=sys.stderr, flush=True)
