"""Folders of sockets: whose owner was killed, whose is there."""

import os
import subprocess
import sys
import time
from pathlib import Path

from track_server.localsocket.folder import YOUNG_S, SocketFolder

OWNER = """
import sys, time
from track_server.localsocket.folder import SocketFolder
folder = SocketFolder(sys.argv[1])
(folder.path / "media.sock").touch()
print(folder.path, flush=True)
time.sleep(600)
"""


def aged(path: Path) -> None:
    """Makes it older than folders are that are not locked yet."""
    then = time.time() - YOUNG_S - 10
    os.utime(path, (then, then))


def test_what_a_killed_owner_left_goes_and_what_has_an_owner_stays(tmp_path: Path) -> None:
    base = str(tmp_path)
    with subprocess.Popen([sys.executable, "-c", OWNER, base], stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            left = Path(owner.stdout.readline().strip())
            foreign = tmp_path / "something-else"
            foreign.mkdir()
            for path in (left, foreign):
                aged(path)
            SocketFolder(base).remove()
            assert left.is_dir()
        finally:
            owner.kill()
    SocketFolder(base).remove()
    assert os.listdir(base) == ["something-else"]


def test_a_young_folder_without_a_lock_is_left_alone(tmp_path: Path) -> None:
    first = SocketFolder(str(tmp_path))
    young = tmp_path / f"{first.path.name}-young"
    young.mkdir()
    SocketFolder(str(tmp_path)).remove()
    assert young.is_dir()
    first.remove()
    aged(young)
    SocketFolder(str(tmp_path)).remove()
    assert not os.listdir(tmp_path)
