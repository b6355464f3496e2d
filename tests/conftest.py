"""One thread per test process: the tests are tiny, and machines are shared."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "disabled")

import pytest
import torch

from recipes.worker_processes import end_worker_processes
from tests.toys import Toy, make_toy

torch.set_num_threads(1)

SECONDS_TO_END = 60.0
"""So long may the interpreter take to end after the last test. (That commands end is tested with the commands.)"""


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """End what would be waited for; where something is waited for nevertheless, tell what, and end with the status."""
    end_worker_processes()
    out = os.fdopen(os.dup(2), "w")

    def leave() -> None:
        print(f"\nthe tests are done, but the interpreter waits for something after {SECONDS_TO_END:g} s:", file=out)
        faulthandler.dump_traceback(file=out)
        out.flush()
        sys.stdout.flush()
        os._exit(int(session.exitstatus))

    timer = threading.Timer(SECONDS_TO_END, leave)
    timer.daemon = True
    timer.start()


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
