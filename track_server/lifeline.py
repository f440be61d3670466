"""A process that goes when the one that started it does, from its first moment on.

`python -m track_server.lifeline PARENT SIGNAL MODULE ARGUMENT...` runs it as `python -m MODULE ARGUMENT...` would.
Modules take seconds to import on a busy machine: what binds itself after that would outlive a parent that died before.
"""

import ctypes
import os
import runpy
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_OWN_ARGUMENTS: Final = 4


def bound(module: str, *arguments: str, end: signal.Signals = signal.SIGKILL) -> list[str]:
    """The command that runs ``module`` in a process that the kernel sends ``end`` once this one dies, however it dies.

    To be started from a thread that lives as long as this process: its end counts as well. On systems other than Linux
    only a death before the module is loaded is seen.
    """
    return [sys.executable, "-m", __name__, str(os.getpid()), str(int(end)), module, *arguments]


def _bind(parent: int, end: int) -> None:
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, end) != 0:
        sys.stderr.write(f"no signal when the parent dies: error {ctypes.get_errno()}\n")
    # By its number and not by 1: the first process of a container is a parent like any other.
    if os.getppid() != parent:
        sys.exit("the parent is gone")


if __name__ == "__main__":
    _, parent, end, module = sys.argv[:_OWN_ARGUMENTS]
    _bind(int(parent), int(end))
    sys.argv = [module, *sys.argv[_OWN_ARGUMENTS:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
