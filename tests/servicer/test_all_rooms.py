"""What is set for all rooms at once: who may, by the grants that LiveKit has for every room, in both modes."""

import asyncio
from typing import Any, Final

import grpc
import pytest

from tests.conftest import StartPermissions, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.permission_process import EXAMPLE
from tests.servicer.contract import METHODS, RULES, request_of
from tests.servicer.stage import DENIED, outcome, validated
from tests.track_process import TrackProcess
from track.v1.access_pb2 import (
    PERMISSION_MANAGE_WEBHOOKS,
    PERMISSION_READ_AUDIT,
    PERMISSION_READ_TRACKS,
    PERMISSION_RECORD,
    PERMISSION_WRITE_SCHEMAS,
)

ROOM: Final = "r"
LISTS: Final = {PERMISSION_READ_TRACKS, PERMISSION_READ_AUDIT}

CALLERS: Final[dict[str, tuple[dict[str, Any], set[int]]]] = {
    "admin of a room": ({"room_admin": True, "room_join": True, "room_record": True, "room": ROOM}, set()),
    "service": ({"room_list": True}, {*LISTS}),
    "recording service": ({"room_list": True, "room_record": True}, {*LISTS}),
    "operator": ({"room_create": True}, {PERMISSION_WRITE_SCHEMAS}),
    "recording operator": ({"room_create": True, "room_record": True}, {PERMISSION_WRITE_SCHEMAS, PERMISSION_RECORD}),
    "operator that lists": (
        {"room_create": True, "room_list": True},
        {*LISTS, PERMISSION_WRITE_SCHEMAS, PERMISSION_MANAGE_WEBHOOKS},
    ),
}
"""By their grants, the permissions that they have in all rooms."""

RPCS: Final = (
    *("SetMetadataSchema", "GetMetadataSchema", "DeleteMetadataSchema", "ListMetadataSchemas"),
    *("CreateWebhookSubscription", "ListWebhookSubscriptions", "DeleteWebhookSubscription"),
    *("SetEgressRule", "DeleteEgressRule", "ListEgressRules", "ListAuditEntries"),
)


@pytest.mark.parametrize("mode", ["token", "service"])
async def test_what_is_about_all_rooms_takes_grants_about_all_rooms(
    livekit: LiveKitProcess, start_track: StartTrack, start_permissions: StartPermissions, mode: str
) -> None:
    settings = {} if mode == "token" else (await start_permissions(EXAMPLE.read_text())).track_settings
    track = await start_track(livekit, {**settings, "TRACK_MEDIA_WORKERS": "0"})
    faults = await asyncio.gather(*(faults_of(track, name) for name in CALLERS))
    assert not [fault for found in faults for fault in found]


async def faults_of(track: TrackProcess, name: str) -> list[str]:
    """Where the caller is not treated as it should be."""
    grants, permissions = CALLERS[name]
    faults = []
    async with track.client(name, **grants) as client:
        for rpc in RPCS:
            found = await outcome(client, rpc, validated(rpc, request_of(rpc)))
            if (RULES[rpc].permission in permissions) == (found.code is DENIED):
                faults.append(f"{name}: {rpc} is {found.code.name} {found.reason}")
            elif found.code not in (
                *(grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT),
                *(grpc.StatusCode.FAILED_PRECONDITION, DENIED),
            ):
                faults.append(f"{name}: {rpc} ends with {found.code.name} {found.reason}")
    return faults


def test_they_are_all_rpcs_that_do_not_need_a_room() -> None:
    without = {name for name, method in METHODS.items() if "room" in method.input_type.fields_by_name}
    assert {name for name in without if request_of(name).room == ""} == set(RPCS) | {"PushMedia", "ReportTrackStats"}
