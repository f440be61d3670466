"""`track-server record`: writes what is measured in a room into a file, for `track-server replay`."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any, TextIO

import grpc

from track.v1.quality_recording_pb2 import RecordQualitySamplesRequest
from track.v1.track_service_pb2_grpc import TrackServiceStub
from track_server.commands.channel import Server
from track_server.commands.events import TOKEN
from track_server.config import SettingsError


def record(server: Server, *, room: str, output: str, seconds: float | None) -> int:
    """Writes until the room closes, for ``seconds``, or until Ctrl-C; returns the exit status, 1 where the server
    refuses, or the connection breaks. What was written until then is whole. Raises SettingsError.

    ``output``: a path, which must not exist yet; `-` for stdout.
    """
    with contextlib.ExitStack() as stack:
        if output == "-":
            file: TextIO = sys.stdout
        else:
            try:
                file = stack.enter_context(Path(output).open("x", encoding="utf-8"))
            except OSError as error:
                raise SettingsError([f"--output {output} cannot be written: {error.strerror}."]) from error
        writing = _Writing(file)
        try:
            return asyncio.run(_record(server, room, seconds, writing))
        except OSError as error:
            print(f"{output} cannot be written: {error.strerror}", file=sys.stderr)
            return 1
        finally:
            if output != "-" and not writing.lines:
                Path(output).unlink()
            print(f"{writing.lines} lines of {room}", file=sys.stderr)


class _Writing:
    """The file, and how much is in it."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.lines = 0

    def write(self, lines: list[str]) -> None:
        self._file.writelines(f"{line}\n" for line in lines)
        self._file.flush()
        self.lines += len(lines)


async def _record(server: Server, room: str, seconds: float | None, writing: _Writing) -> int:
    token = os.environ.get(TOKEN, "")
    metadata = [("authorization", f"Bearer {token}")] if token else []
    try:
        async with server.aio_channel() as channel, asyncio.timeout(seconds):
            stub: Any = TrackServiceStub(channel)
            messages = stub.RecordQualitySamples(RecordQualitySamplesRequest(room=room), metadata=metadata)
            async for message in messages:
                writing.write(list(message.lines))
    except TimeoutError:
        return 0
    except grpc.RpcError as error:
        print(f"{server.target}: {error.code().name}: {error.details()}", file=sys.stderr)
        return 1
    return 0
