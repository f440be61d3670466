"""Who may call what: every RPC for every kind of principal in every mode, from the permissions that the contract
declares."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import pytest

from tests.conftest import StartLiveKit, StartPermissions, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.permission_process import EXAMPLE, PermissionProcess
from tests.servicer.contract import METHODS
from tests.servicer.principals import PRINCIPALS, May, Principal, bearing, nothing, whatever_the_token_is_about
from tests.servicer.stage import DENIED, UNAUTHENTICATED, Stage, all_faults, outcome, stage
from tests.track_process import TrackProcess
from track.v1 import server_info_pb2, tracks_pb2

RULE: Final = """
[[rule]]
name = "everything"
when = "true"
effect = "{}"
"""


class Mode(NamedTuple):
    """``rules``: of the permission service, None: there is none. ``may``: what a principal may."""

    settings: Mapping[str, str]
    rules: str | None
    may: Callable[[Principal], May | None]


MODES: Final = {
    "token": Mode({"TRACK_AUTH_MODE": "token"}, None, lambda principal: principal.may),
    "service, the example": Mode({}, EXAMPLE.read_text(), lambda principal: principal.may),
    "service, all denied": Mode({}, RULE.format("deny"), nothing),
    "service, all allowed": Mode({}, RULE.format("allow"), whatever_the_token_is_about),
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
async def test_every_rpc_is_open_to_whom_its_permission_names(
    start_livekit: StartLiveKit,
    start_track: StartTrack,
    start_permissions: StartPermissions,
    room_name: str,
    mode: Mode,
) -> None:
    livekit = await start_livekit()
    permissions = await start_permissions(RULE.format("allow")) if mode.rules else None
    settings = permissions.track_settings if permissions else {}
    track = await start_track(livekit, {**mode.settings, **settings, "TRACK_MEDIA_WORKERS": "0"})
    async with stage(track, livekit, room_name) as there:
        if permissions is not None:
            assert mode.rules is not None
            await taken(permissions, mode.rules, track, there)
        faults = await all_faults(there, mode.may)
        assert not faults, "\n".join(faults)


async def test_without_authentication_every_rpc_is_open_to_everybody(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, {"TRACK_AUTH_MODE": "off", "TRACK_MEDIA_WORKERS": "0"})
    assert track.address.startswith("127.0.0.1:")
    async with stage(track, livekit, room_name) as there:
        faults = await all_faults(there, lambda _: PRINCIPALS["recording admin"].may)
        assert not faults, "\n".join(faults)
        info = await there.callers["none"].GetServerInfo(server_info_pb2.GetServerInfoRequest())
        assert info.auth_mode == server_info_pb2.AUTH_MODE_OFF
    assert any("AUTH MODE IS OFF" in entry["event"] for entry in track.log())


async def test_who_may_not_read_a_room_is_not_told_whether_it_exists(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with stage(track, livekit, room_name) as there:
        denied = 0
        rooms = (room_name, f"{room_name}-which-does-not-exist")
        requests = {rpc: [there.others.requests(rpc, room) for room in rooms] for rpc in METHODS}
        for name, principal in PRINCIPALS.items():
            if principal.operation:
                continue
            async with bearing(track, principal.token(livekit, "a-room-of-its-own")) as client:
                for rpc, asked in requests.items():
                    for existing, missing in zip(*asked, strict=True):
                        outcomes = await asyncio.gather(*(outcome(client, rpc, each) for each in (existing, missing)))
                        if outcomes[0].code in (UNAUTHENTICATED, DENIED):
                            denied += 1
                            assert outcomes[0] == outcomes[1], (name, rpc)
        assert denied > len(PRINCIPALS) * len(METHODS) / 2


async def taken(permissions: PermissionProcess, rules: str, track: TrackProcess, there: Stage) -> None:
    """Has the service take the rules, and the server hear of it."""
    await permissions.rewrite(rules)
    client = there.callers["no grants"]
    deny = rules != RULE.format("allow")
    async with asyncio.timeout(45):
        while (
            (await outcome(client, "ListTracks", tracks_pb2.ListTracksRequest(room=there.room))).code is DENIED
        ) != deny:
            await asyncio.sleep(0.05)


def test_without_authentication_it_serves_loopback_only(livekit: LiveKitProcess) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "LIVEKIT_URL": livekit.url,
        "LIVEKIT_API_KEY": livekit.api_key,
        "LIVEKIT_API_SECRET": livekit.api_secret,
        "TRACK_AUTH_MODE": "off",
        "TRACK_LISTEN": "0.0.0.0:0",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "track_server", "serve"],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode != 0
    assert "TRACK_LISTEN" in ended.stderr
    assert "Traceback" not in ended.stderr
