"""`track-server events`: a line an event, and on after a broken connection."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from chaos.relay import Relay
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room
from tests.participants import microphone, participant
from tests.track_process import TrackProcess
from track_server.__main__ import main

DEADLINE_S = 45.0


class Running:
    """The command as a child process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[str] = []

    async def until(self, *words: str) -> str:
        """Reads on to a line that has all these words."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            while raw := await self._process.stdout.readline():
                line = raw.decode().rstrip("\n")
                self.lines.append(line)
                if all(word in line for word in words):
                    return line
        raise AssertionError(f"no line with {words} among {self.lines}")

    async def end(self) -> tuple[int, str]:
        """Waits for it; the status, and what it said on stderr."""
        async with asyncio.timeout(DEADLINE_S):
            out, err = await self._process.communicate()
        self.lines += out.decode().splitlines()
        return self._process.returncode or 0, err.decode()

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)


@contextlib.asynccontextmanager
async def running(address: str, token: str, *arguments: str) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "track_server", "events", "--address", address, *arguments),
        env={**os.environ, "TRACK_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest_asyncio.fixture
async def token(track: TrackProcess, room_name: str) -> str:
    return track.token("admin", room_admin=True, room=room_name)


async def test_each_event_is_a_line_and_the_end_of_the_room_that_of_the_command(
    track: TrackProcess, livekit: LiveKitProcess, room: str, token: str
) -> None:
    async with running(track.address, token, "--room", room) as command:
        assert "0 participants, 0 tracks" in await command.until("snapshot", "INITIAL")
        async with participant(livekit, room, "alice") as alice:
            mic = await microphone(alice)
            line = await command.until("track_published", f"sid={mic.sid}", "participant_identity=alice")
            assert "source=MICROPHONE" in line
        await delete_room(livekit, room)
        await command.until("room_closed", "reason=ROOM_")
        status, told = await command.end()
    assert (status, f"the last cursor of {room}: " in told) == (0, True)


async def test_a_broken_connection_is_made_again_and_nothing_is_lost_or_told_twice(
    track: TrackProcess, livekit: LiveKitProcess, room: str, token: str
) -> None:
    async with Relay(int(track.address.rpartition(":")[2])) as relay:
        address = (await relay.start()).removeprefix("ws://")
        arguments = ("--room", room, "--json", "--kind", "participant_joined", "--kind", "track_published")
        async with running(address, token, *arguments) as command:
            await command.until("SNAPSHOT_REASON_INITIAL")
            async with participant(livekit, room, "alice") as alice:
                await microphone(alice, "one")
                await command.until('"name": "one"')
                relay.shut()
                second = await microphone(alice, "two")
                await alice.announced(second.sid)
                relay.open()
                await command.until('"name": "two"')
            command.interrupt()
            status, told = await command.end()
    assert status == 130
    assert "UNAVAILABLE" in told
    messages = [json.loads(line) for line in command.lines]
    assert [list(message)[1] for message in messages] == ["snapshot", "event", "event", "event"]
    assert f"the last cursor of {room}: {messages[-1]['cursor']}" in told


async def test_several_rooms_and_a_filter(track: TrackProcess, livekit: LiveKitProcess, room: str) -> None:
    service = track.token("dashboard", room_list=True)
    joined = 'event.participant_joined.identity == "bob"'
    rooms = ("--room", room, "--room", room + "-none")
    async with running(track.address, service, *rooms) as command:
        status, told = await command.end()
    assert (status, "NOT_FOUND" in told) == (1, True)
    async with running(track.address, service, "--room", room, "--filter", joined) as command:
        await command.until("snapshot")
        async with participant(livekit, room, "alice"), participant(livekit, room, "bob"):
            await command.until("participant_joined", "identity=bob")
    assert not [line for line in command.lines if "alice" in line]


async def test_what_the_server_refuses_ends_it_with_its_words(track: TrackProcess, room: str, token: str) -> None:
    for arguments in (("--room", "elsewhere"), ("--room", room, "--filter", "nonsense")):
        async with running(track.address, token, *arguments) as command:
            status, told = await command.end()
        assert status == 1
        assert track.address in told
        assert "Traceback" not in told


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--room", "a", "--kind", "nothing"], "--kind nothing is none of track_published, "),
        (["--room", "a", "--room", "b", "--cursor", "x"], "--cursor is of one room"),
        (["--room", "a", "--tls-cert", "x"], "need --tls-ca"),
        (["--room", "a", "--address", "nowhere"], "--address must be host:port"),
    ],
)
def test_wrong_use_is_told_in_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert main(["events", *arguments]) == 2
    assert sentence in capsys.readouterr().err
