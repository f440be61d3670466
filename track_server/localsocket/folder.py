"""Folders for sockets, which do not outlast their owners for long."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

PREFIX: Final = "track-media-socket-"
YOUNG_S: Final = 60.0
"""A folder is younger than this while it has no lock yet."""


class SocketFolder:
    """A new folder in ``base`` that no other user may enter. What others left there that were killed is removed.

    It is locked while the process lives, which also keeps systemd-tmpfiles from it. All of it blocks.
    """

    def __init__(self, base: str) -> None:
        with contextlib.suppress(OSError):
            for name in os.listdir(base):
                if name.startswith(PREFIX):
                    _remove_left(os.path.join(base, name))
        self.path: Final = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        self._lock: int | None = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        # Where it cannot be locked, others cannot lock it either, and leave it alone.
        with contextlib.suppress(OSError):
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Removes it with all that is in it. May be called twice."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def _remove_left(path: str) -> None:
    """Removes the folder where it is this user's, and its owner is gone."""
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        found = os.fstat(folder)
        if found.st_uid == os.geteuid() and time.time() - found.st_mtime > YOUNG_S:
            # Refused while the owner lives.
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    except OSError:
        return
    finally:
        os.close(folder)
