"""`track-server`, loaded once: servers that tests start are forks of it. Run as `python -m tests.loaded_program FD`.

Loading takes a server two seconds of CPU, and the tests start hundreds. What is forked has loaded its modules and done
nothing yet: no thread, no event loop, no call of gRPC. From there on it is the program: its `main`, in a process of its
own, with the environment and the log that it is given, and with media workers that are started as ever.

FD: a socket that takes a message for each server, `{"command": ..., "environment": {...}}`, with two descriptors: its
log, and a socket that is told its process id and, once it has ended, its exit status. It ends with the other end of FD.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_MESSAGE_BYTES: Final = 128 * 1024
_REPORT_BYTES: Final = 16


class ForkedServer:
    """A server that was forked, with what subprocess.Popen has of a process. ``reports``: its socket, now ours."""

    def __init__(self, reports: socket.socket) -> None:
        self.returncode: int | None = None
        """Its exit status, negative the signal that killed it; None while it runs."""
        self._reports = reports
        self._pid = 0

    @property
    def pid(self) -> int:
        """Its process id; waits until it is a process."""
        while not self._pid:
            self._hear()
        return self._pid

    def poll(self) -> int | None:
        """The exit status, as it is now."""
        while self.returncode is None and select.select([self._reports], [], [], 0)[0]:
            self._hear()
        return self.returncode

    def wait(self) -> int:
        """The exit status, once it has ended."""
        while self.returncode is None:
            self._hear()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Does nothing where it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """By SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _hear(self) -> None:
        report = self._reports.recv(_REPORT_BYTES)
        if not report:
            raise ChildProcessError("the loaded program is gone")
        if self._pid:
            self.returncode = int(report)
            self._reports.close()
        else:
            self._pid = int(report)


class LoadedProgram:
    """The program, in a process that is started with the first server, and ends at ``close`` or with this process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None

    def fork(self, command: str, environment: Mapping[str, str], log: Path) -> ForkedServer:
        """Start `track-server COMMAND`. ``log``: what it says is written at its end."""
        if self._requests is None:
            self._requests = self._load()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, log.open("ab") as lines:
            message = json.dumps({"command": command, "environment": dict(environment)}).encode()
            socket.send_fds(self._requests, [message], [lines.fileno(), theirs.fileno()])
        return ForkedServer(ours)

    def close(self) -> None:
        """End the process. May be called twice. Servers that still run go on."""
        if self._requests is not None and self._process is not None:
            self._requests.close()
            self._process.wait()
            self._requests = self._process = None

    def _load(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )
        return ours


def _serve(requests: socket.socket) -> None:
    """Fork until there is nobody left to fork for."""
    waking, woken = os.pipe()
    for descriptor in (waking, woken):
        os.set_blocking(descriptor, False)
    # Ctrl-C is for the tests, which then end this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([requests.fileno(), waking], [], [])
        if waking in ready:
            os.read(waking, select.PIPE_BUF)
            _reap(running)
        if requests.fileno() in ready:
            message, descriptors, _, _ = socket.recv_fds(requests, _MESSAGE_BYTES, 2)
            if not message:
                return
            log, told = descriptors
            pid = os.fork()
            if pid == 0:
                _become(json.loads(message), log)
            os.close(log)
            running[pid] = socket.socket(fileno=told)
            running[pid].send(str(pid).encode())


def _reap(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with running.pop(pid) as told, contextlib.suppress(OSError):
            told.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(server: dict[str, Any], log: int) -> None:
    """Be `track-server`, to the end of the process."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(server["environment"])
    sys.argv = ["track-server", server["command"]]
    sys.exit(_main([server["command"]]))


if __name__ == "__main__":
    from track_server.__main__ import _prepare_grpc
    from track_server.__main__ import main as _main

    _prepare_grpc()
    import track_server.permissions.program
    import track_server.server  # noqa: F401

    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
