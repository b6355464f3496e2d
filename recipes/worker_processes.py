"""The end of joblib's shared worker processes."""

from __future__ import annotations

import sys


def end_worker_processes() -> None:
    """End the processes that joblib keeps for its next call, at once.

    Left to the interpreter's own end they are joined one by one, and a process that ends by itself at that moment (it
    was idle for five minutes) can make the join wait for ever (loky, issue 363). Where the caller was interrupted or
    failed, work that nobody waits for any more ends with them.
    """
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    executor = getattr(loky, "_executor", None)  # asking for it by its public name would make one
    if executor is not None:
        executor.shutdown(wait=True, kill_workers=True)
