"""What a user need not see: libraries' chatter, and warnings of single videos where a stage counts them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def quieten() -> None:
    """Silence the chatter of libraries that tells a user nothing; to be done again once Lightning has set its level.

    It does so when it is imported.
    """
    for name in ("pytorch_lightning", "lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning.*")
    warnings.filterwarnings("ignore", module="lightning_fabric.*")
    warnings.filterwarnings("ignore", category=FutureWarning)


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
