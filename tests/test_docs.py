"""The calls in README.md and docs/ are real: each is run, in order, and answers what is written under it."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import StartPermissions
from tests.egresses import egress_cluster
from tests.livekit_process import TOOLS, LiveKitProcess
from tests.livekit_rooms import delete_room
from tests.participants import microphone, participant
from tests.track_process import TrackProcess
from track.v1 import track_service_pb2

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = "localhost:50051"
"""What the documents call the server."""
PERMISSIONS = "localhost:50052"
"""What they call the permission service."""
ROOM = "demo"
RECORDING = "recording.md"
"""Its calls need an Egress, as only a cluster of their own has."""
FAILS = "# fails"
ENDLESS = "# until Ctrl-C"
ENDLESS_S = 5.0
CALL_S = 40.0

_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_TOKEN = re.compile(r"^(?:\$ )?([A-Z]+)=\$\((track-server token .*)\)$")
# What differs from run to run: ids by the name of their field, then every number.
_NAMED_ID = re.compile(r'"(\w+)": "((?:PUB|WHS|BLK|TEG|EG|D?TR|PA|RM)_\w+|(?:[0-9a-f]{12}){1,2}-\d+)"')
_VOLATILE = re.compile(
    r"(?:PUB|pub|WHS|BLK|TEG|EG|D?TR|PA|RM)_\w+|(?:[0-9a-f]{12}){1,2}-\d+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
)
# A first report may be made before LiveKit's first receiver report came, and a first point before a second reading.
_LATER = re.compile(r'"(?:loss_percent|jitter_ms|rtt_ms|window)":')


@dataclass
class Command:
    """A line of a console block, with the output that is written under it."""

    document: str
    line: str
    output: list[str] = field(default_factory=list)

    @property
    def rpc(self) -> str:
        """`TrackService/X`, or empty."""
        match = re.search(r"track\.v1\.TrackService/(\w+)", self.line)
        return match[1] if match else ""


def documents() -> list[Path]:
    """README.md, then docs/ by name."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(document: Path) -> Iterator[Command]:
    """The lines that make a token or begin with grpcurl."""
    for block in _BLOCK.findall(document.read_text()):
        current = None
        for line in block.replace("\\\n", " ").splitlines():
            bare = line.removeprefix("$ ")
            if bare.startswith("grpcurl ") or _TOKEN.match(line):
                current = Command(document.name, bare)
                yield current
            elif line.startswith("$ "):
                current = None
            elif current is not None:
                current.output.append(line)


ALL = [command for document in documents() for command in commands(document)]


def test_every_rpc_has_an_example() -> None:
    methods = {method.name for method in track_service_pb2.DESCRIPTOR.services_by_name["TrackService"].methods}
    assert {command.rpc for command in ALL} >= methods


@pytest.mark.deadline(240)
async def test_every_call_in_the_documents_works_and_answers_as_written(
    track: TrackProcess, livekit: LiveKitProcess, start_permissions: StartPermissions
) -> None:
    permissions = await start_permissions(None, {"TRACK_PERMISSION_TOKEN": ""})
    shell = Shell(track, {ADDRESS: track.address, PERMISSIONS: permissions.address})
    async with participant(livekit, ROOM, "viewer", auto_subscribe=False) as viewer:
        await microphone(viewer)
        try:
            for command in ALL:
                if command.document != RECORDING:
                    await shell.run(command)
        finally:
            await delete_room(livekit, ROOM)


@pytest.mark.deadline(240)
async def test_every_call_about_recordings_works_and_answers_as_written(tmp_path: Path) -> None:
    async with egress_cluster(tmp_path) as cluster:
        shell = Shell(cluster.track, {ADDRESS: cluster.track.address})
        async with participant(cluster.livekit, ROOM, "viewer", auto_subscribe=False) as viewer:
            await microphone(viewer)
            for command in ALL:
                if command.document == RECORDING or (_TOKEN.match(command.line) and command.document == "README.md"):
                    await shell.run(command)


class Shell:
    """Runs commands as somebody who reads the documents does, whose ids are others than theirs."""

    def __init__(self, track: TrackProcess, addresses: dict[str, str]) -> None:
        self._addresses = addresses
        self._ids: dict[str, str] = {}
        self._environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(TOOLS), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "LIVEKIT_API_KEY": track.livekit.api_key,
            "LIVEKIT_API_SECRET": track.livekit.api_secret,
        }

    async def run(self, command: Command) -> None:
        """Runs it, and holds it against what is written."""
        place = f"{command.document}: {command.line}"
        token = _TOKEN.match(command.line)
        if token:
            status, output = await self._bash(token[2])
            assert status == 0, f"{place}\n{output}"
            self._environment[token[1]] = output.strip()
            return
        line = command.line
        for written, real in self._addresses.items():
            line = line.replace(written, real)
        for written, real in self._ids.items():
            line = line.replace(written, real)
        endless = ENDLESS in command.line
        status, output = await self._bash(line, endless=endless)
        assert endless or (status == 0) == (FAILS not in command.line), f"{place}\n{output}"
        assert output.strip(), place
        self._learn(command.output, output)
        real_lines = {_masked(text) for text in output.splitlines()}
        written_lines = [text for text in command.output if text.strip(" .") and not _LATER.search(text)]
        missing = [text for text in written_lines if _masked(text) not in real_lines]
        assert not missing, f"{place}\nis not answered by {missing}, but by\n{output}"

    async def _bash(self, line: str, *, endless: bool = False) -> tuple[int, str]:
        """Exit status and output; what does not end by itself is interrupted."""
        # Not by the event loop: uvloop forks Python's state along, and can hang where the SDK's threads use it.
        process = subprocess.Popen(  # noqa: ASYNC220 - starting it takes a few ms
            ["bash", "-c", f"exec {line}"], env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        reading = asyncio.create_task(asyncio.to_thread(process.communicate))
        try:
            done, _ = await asyncio.wait([reading], timeout=ENDLESS_S if endless else CALL_S)
            if not done:
                process.send_signal(signal.SIGINT if endless else signal.SIGKILL)
            output, _ = await reading
        finally:
            process.kill()
        assert done or endless, f"{line}\ndoes not end"
        return process.returncode, output.decode()

    def _learn(self, written: list[str], output: str) -> None:
        """Which real ids stand for those that are written: the first of a name for the first, and so on."""
        names: dict[str, list[str]] = {}
        for name, value in _NAMED_ID.findall(output):
            if value not in names.setdefault(name, []):
                names[name].append(value)
        taken: dict[str, list[str]] = {}
        for name, value in _NAMED_ID.findall("\n".join(written)):
            values = taken.setdefault(name, [])
            if value not in values:
                values.append(value)
                if value not in self._ids and len(values) <= len(names.get(name, [])):
                    self._ids[value] = names[name][len(values) - 1]


def _masked(text: str) -> str:
    return _VOLATILE.sub("#", text.strip().rstrip(","))
