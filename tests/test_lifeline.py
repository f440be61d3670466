"""Processes that go when the one that started them does."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import psutil
import pytest

from track_server.lifeline import bound

DEADLINE_S: Final = 45.0

# Stands for a module that imports for seconds: it would live on for ten minutes.
SLOW: Final = """
import pathlib, sys, time
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""

# Starts it in a session of its own and says its id; is killed then, or once the module runs.
PARENT: Final = """
import signal, subprocess, sys, time
from track_server.lifeline import bound
command = bound("slow", sys.argv[1], end=signal.Signals(int(sys.argv[2])))
print(subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True).pid, flush=True)
time.sleep(600)
"""

ECHO: Final = """
import sys
if __name__ == "__main__":
    print(sys.argv[1:], "here" in sys.modules, flush=True)
    sys.exit(7)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which the modules of the test are found."""
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "here.py").write_text(ECHO)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}


async def until_gone(pid: int) -> None:
    """A process that nobody has reaped is gone as well."""
    with contextlib.suppress(psutil.NoSuchProcess):
        async with asyncio.timeout(DEADLINE_S):
            while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("imported", [False, True], ids=["at once", "while it imports"])
async def test_the_child_of_a_parent_that_is_killed_goes_before_its_module_has_done_anything(
    environment: dict[str, str], tmp_path: Path, imported: bool, end: signal.Signals
) -> None:
    begun = tmp_path / "begun"
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(begun), str(int(end))), env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = 0
    try:
        async with asyncio.timeout(DEADLINE_S):
            pid = int(await parent.stdout.readline())
            while imported and not begun.exists():
                await asyncio.sleep(0.02)
        parent.kill()
        await parent.wait()
        await until_gone(pid)
        pid = 0
    finally:
        if parent.returncode is None:
            parent.kill()
            await parent.wait()
        if pid:
            os.kill(pid, signal.SIGKILL)


def test_the_module_runs_with_its_arguments_and_its_status_is_the_process_s(environment: dict[str, str]) -> None:
    done = subprocess.run(
        bound("here", "one", "--two"), capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "['one', '--two'] False\n", "")


def test_a_process_whose_parent_died_before_runs_nothing(environment: dict[str, str]) -> None:
    command = bound("here")
    command[3] = str(os.getpid() + 1)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "the parent is gone\n")
