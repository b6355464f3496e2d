"""One thread per test process: the tests are tiny, and machines are shared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "disabled")

import pytest
import torch

from tests.toys import Toy, make_toy

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_chance() -> Iterator[None]:
    """Start every test from the same random state, and leave no rank behind that a trainer has announced."""
    torch.manual_seed(0)
    before = dict(os.environ)
    yield
    for key in ("LOCAL_RANK", "RANK", "NODE_RANK", "WORLD_SIZE", "PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        if key not in before:
            os.environ.pop(key, None)


@pytest.fixture(scope="session")
def shared_toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Six videos of red or green squares that no test changes."""
    return make_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """The same, for one test to change."""
    return make_toy(tmp_path / "toy")
