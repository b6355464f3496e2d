"""Warnings of single videos, kept off the console where a stage counts them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unsaid(module: str) -> Iterator[None]:
    """Let a module log errors alone, within a ``with``.

    Args:
        module: its name, such as ``pseudolabel.motion``.
    """
    logger = logging.getLogger(module)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
