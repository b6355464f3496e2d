"""The end of joblib's shared worker processes."""

from __future__ import annotations

import sys


def end_worker_processes() -> None:
    """End the processes that joblib keeps for its next call, at once.

    Left to the interpreter's own end they are joined one by one, and a process that ends by itself at that moment (it
    was idle for five minutes) can make the join wait for ever (loky, issue 363). Nothing is lost: whoever gave them
    work has had it back.
    """
    if "joblib.externals.loky" not in sys.modules:
        return
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor(reuse=True, kill_workers=True).shutdown(wait=True, kill_workers=True)
