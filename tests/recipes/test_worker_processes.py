import os
import subprocess
import sys
from multiprocessing import active_children

from joblib import Parallel, delayed

from recipes.worker_processes import end_worker_processes


def workers() -> list[str]:
    return [child.name for child in active_children() if child.name.startswith("Loky")]


def test_no_process_is_left_and_new_ones_can_be_had() -> None:
    for _ in range(2):
        pids = Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(4))
        assert os.getpid() not in pids and workers()
        end_worker_processes()
        assert not workers()
        end_worker_processes()  # a second time there is nothing to do


def test_where_nobody_had_any_nothing_is_loaded() -> None:
    code = "import sys; from recipes.worker_processes import end_worker_processes\n"
    code += "end_worker_processes(); print('joblib' in sys.modules)\n"
    code += "from joblib.externals.loky import reusable_executor, get_reusable_executor\n"
    code += "end_worker_processes(); print(reusable_executor._executor)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "None"]


def test_a_command_ends_its_processes() -> None:
    code = (
        "import os, sys; from multiprocessing import active_children; from joblib import Parallel, delayed\n"
        "from recipes.command_line import command_line\n"
        "def work(cfg): Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(4)); assert active_children()\n"
        "status = command_line([], doc='', load=lambda words: None, work=work)\n"
        "print(status, len(active_children()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 0"
