"""API keys that come and go while the server runs, on a LiveKit with two keys, and tokens for one operation."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
import pytest_asyncio
from livekit import api, rtc

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import microphone, participant
from tests.publications import LIVE, TONE, publish, until
from tests.refusals import read, refusal
from tests.server_process import StartError
from tests.servicer.principals import bearing
from tests.streams import events
from tests.track_process import Client, TrackProcess
from track.v1 import event_pb2, publication_pb2, server_info_pb2
from track.v1.access_pb2 import TrackOperation
from track_server.access.bounds import Bounds
from track_server.access.operation import CLAIM, claim_of

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
OLD, OLD_SECRET = "APIold", "old-secret-of-the-tests-with-32-bytes"
NEW, NEW_SECRET = "APInew", "new-secret-of-the-tests-with-32-bytes"
BOTH = {OLD: OLD_SECRET, NEW: NEW_SECRET}
CHANGE_S = 20.0


def token(key: str, secret: str, claim: object = ..., **grants: Any) -> str:
    """A token of that key, with those grants; ``claim``: that of an operation."""
    made = {"iss": key, "sub": "alice", "exp": int(time.time()) + 600, "video": grants}
    if claim is not ...:
        made[CLAIM] = claim
    return jwt.encode(made, secret, algorithm="HS256")


def write(path: Path, keys: Mapping[str, str]) -> None:
    """Puts a file of those keys in the place of what is there."""
    other = path.with_suffix(".new")
    other.write_text("# keys\n" + "".join(f"{key}: {secret}\n" for key, secret in keys.items()))
    other.chmod(0o600)
    other.replace(path)


async def asked(client: Client) -> Any:
    """A call that any known principal may make."""
    return await client.GetServerInfo(server_info_pb2.GetServerInfoRequest(), timeout=30)


async def until_refused(client: Client) -> None:
    """Calls until it is refused, as of nobody."""
    refused = None
    async with asyncio.timeout(CHANGE_S):
        while refused is None:
            try:
                await asked(client)
                await asyncio.sleep(0.02)
            except grpc.aio.AioRpcError as error:
                refused = read(error)
    assert (refused.code, refused.reason) == (UNAUTHENTICATED, "UNAUTHENTICATED")


async def until_taken(client: Client) -> Any:
    """Calls until it is answered."""
    async with asyncio.timeout(CHANGE_S):
        while True:
            try:
                return await asked(client)
            except grpc.aio.AioRpcError as error:
                if error.code() is not UNAUTHENTICATED:
                    raise
            await asyncio.sleep(0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


@pytest_asyncio.fixture
async def two_keys(start_livekit: StartLiveKit) -> AsyncIterator[LiveKitProcess]:
    """A LiveKit that takes the old key and the new one."""
    yield await start_livekit({"keys": BOTH})


async def test_keys_come_and_go_and_take_their_tokens_along(
    start_track: StartTrack, livekit: LiveKitProcess, path: Path
) -> None:
    write(path, {OLD: OLD_SECRET})
    track = await start_track(livekit, {"TRACK_KEYS_FILE": str(path), "TRACK_MEDIA_WORKERS": "0"})
    own = token(livekit.api_key, livekit.api_secret, roomList=True)
    async with (
        bearing(track, token(OLD, OLD_SECRET, roomList=True)) as old,
        bearing(track, token(NEW, NEW_SECRET, roomList=True)) as new,
        bearing(track, token(NEW, "x" * 40, roomList=True)) as changed,
        bearing(track, own) as first,
    ):
        await asked(first)
        await asked(old)  # and is kept
        unknown = await refusal(asked(new))
        write(path, BOTH)
        await until_taken(new)
        await asked(old)
        wrong = await refusal(asked(changed))
        # Whether a key is unknown or a secret wrong is not told.
        assert (unknown.code, unknown.message, unknown.metadata) == (wrong.code, wrong.message, wrong.metadata)
        write(path, {NEW: NEW_SECRET})
        await until_refused(old)
        await asked(new)
        write(path, {NEW: "x" * 40})
        await until_refused(new)
        await asked(changed)
        # What cannot be read changes nothing.
        write(path, {"no key": "at all"})
        async with asyncio.timeout(CHANGE_S):
            while not track.logged("file_refused"):
                await asyncio.sleep(0.02)
        await asked(changed)
        await asked(first)


async def test_streams_end_with_the_key_that_their_token_was_signed_with(
    start_track: StartTrack, livekit: LiveKitProcess, path: Path, room: str
) -> None:
    write(path, BOTH)
    track = await start_track(livekit, {"TRACK_KEYS_FILE": str(path), "TRACK_MEDIA_WORKERS": "0"})
    async with (
        bearing(track, token(OLD, OLD_SECRET, roomList=True)) as old,
        bearing(track, token(NEW, NEW_SECRET, roomList=True)) as new,
        events(old, room) as ending,
        events(new, room) as going_on,
    ):
        await ending.snapshot()
        await going_on.snapshot()
        write(path, {NEW: NEW_SECRET})
        assert (await refusal(ending.end())).code is UNAUTHENTICATED
        async with participant(livekit, room, "bob") as bob:
            await microphone(bob)
            await going_on.until("track_published")


@pytest.mark.deadline(150)
async def test_the_key_that_acts_is_exchanged_without_a_restart(
    start_track: StartTrack, two_keys: LiveKitProcess, path: Path, room_name: str
) -> None:
    write(path, {OLD: OLD_SECRET})
    settings = {
        "TRACK_KEYS_FILE": str(path),
        "LIVEKIT_API_KEY": "",
        "LIVEKIT_API_SECRET": "",
        "TRACK_ROOM_LINGER_SECONDS": "0",
    }
    track = await start_track(two_keys, settings)
    grants: dict[str, Any] = {"roomAdmin": True, "room": room_name}
    async with (
        bearing(track, token(OLD, OLD_SECRET, **grants)) as old,
        bearing(track, token(NEW, NEW_SECRET, **grants)) as new,
    ):
        await until_live(old, room_name, "before")
        write(path, BOTH)
        await until_taken(new)
        write(path, {NEW: NEW_SECRET})
        await until_refused(old)
        # LiveKit forgets the old key, with which nothing must be done any more.
        await two_keys.stop()
        two_keys._overrides = {"keys": {NEW: NEW_SECRET}}
        await two_keys.start()
        async with asyncio.timeout(60):
            while not (await asked(new)).livekit.reachable:
                await asyncio.sleep(0.1)
        # A watcher, the API, job dispatch, and the worker's stream to the server: all under the new key.
        async with events(new, room_name) as stream:
            await stream.snapshot()
            await until_live(new, room_name, "after")
            # The watcher may come back after the track did.
            seen = await stream.until_shown(lambda found: found.participant_identity == "after")
            assert seen.room == room_name
    assert not track.logged("media_worker_ended")


async def until_live(client: Client, room: str, identity: str) -> None:
    """Publishes, as soon as a media worker is there to do it."""
    request = publication_pb2.PublishTrackRequest(
        room=room, spec=TONE, participant_identity=identity, create_room=True, request_id=f"publish {identity}"
    )
    async with asyncio.timeout(60):
        made = (await client.PublishTrack(request, timeout=40)).publication
    await until(client, made, lambda known: known.state == LIVE)


async def test_the_files_secret_counts_for_the_key_of_the_environment(
    start_track: StartTrack, two_keys: LiveKitProcess, path: Path
) -> None:
    write(path, BOTH)
    settings = {
        "TRACK_KEYS_FILE": str(path),
        "LIVEKIT_API_KEY": NEW,
        "LIVEKIT_API_SECRET": "a secret that was exchanged since",
        "TRACK_MEDIA_WORKERS": "0",
    }
    track = await start_track(two_keys, settings)
    async with (
        bearing(track, token(NEW, NEW_SECRET, roomList=True)) as new,
        bearing(track, token(NEW, settings["LIVEKIT_API_SECRET"], roomList=True)) as stale,
    ):
        assert (await asked(new)).livekit.reachable
        assert (await refusal(asked(stale))).code is UNAUTHENTICATED


async def test_a_wrong_file_of_keys_ends_the_start_with_a_sentence(
    start_track: StartTrack, livekit: LiveKitProcess, path: Path
) -> None:
    for wrong in ({}, {"no key": "at all"}):
        if wrong:
            write(path, wrong)
        with pytest.raises(StartError) as ended:
            await start_track(livekit, {"TRACK_KEYS_FILE": str(path)})
        assert "TRACK_KEYS_FILE: " in str(ended.value)
        assert "Traceback" not in str(ended.value)


async def test_the_command_line_signs_with_the_key_that_acts(track: TrackProcess, path: Path) -> None:
    write(path, BOTH)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "track_server", "token", "--list"),
        env={"PATH": "/usr/bin:/bin", "TRACK_KEYS_FILE": str(path)},
        stdout=subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert jwt.decode(printed.decode().strip(), OLD_SECRET, algorithms=["HS256"])["iss"] == OLD


async def test_livekit_takes_a_token_for_one_operation_as_any_other(
    track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    claim: object = claim_of(TrackOperation.TRACK_OPERATION_PUBLISH, Bounds(max_bitrate_bps=64_000))
    grants: dict[str, Any] = {"roomJoin": True, "room": room, "canSubscribe": False}
    made = token(livekit.api_key, livekit.api_secret, claim, **grants)
    joined = rtc.Room()
    await joined.connect(livekit.url, made)
    try:
        assert (await microphone(joined)).sid
    finally:
        await joined.disconnect()
    async with bearing(track, made) as client:
        await publish(client, room, TONE)
    malformed = token(livekit.api_key, livekit.api_secret, {"operation": "everything"}, **grants)
    async with bearing(track, malformed) as client:
        assert (await refusal(asked(client))).code is UNAUTHENTICATED
        watching = client.WatchEvents(event_pb2.WatchEventsRequest(room=room))
        assert (await refusal(watching.read())).code is UNAUTHENTICATED


def test_the_sdks_token_keeps_further_claims_apart() -> None:
    """The official SDK reads such a token, too."""
    made = token(NEW, NEW_SECRET, {"operation": "observe"}, roomJoin=True, room="r")
    assert api.TokenVerifier(NEW, NEW_SECRET).verify(made).video.room == "r"  # type: ignore[union-attr]
