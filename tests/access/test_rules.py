"""Who may do what, as access.proto says."""

import pytest

from track.v1.access_pb2 import Permission
from track.v1.track_pb2 import TrackSource, TrackType
from track_server.access import rules
from track_server.access.principal import Grants, Principal, anonymous
from track_server.errors import PermissionDenied

READ_SERVER = Permission.PERMISSION_READ_SERVER
READ = Permission.PERMISSION_READ_TRACKS
PUBLISH = Permission.PERMISSION_PUBLISH
MUTE = Permission.PERMISSION_MUTE
SUBSCRIBE = Permission.PERMISSION_SUBSCRIBE
HOST = Permission.PERMISSION_HOST_MEDIA
ALL = {READ_SERVER, READ, PUBLISH, MUTE, SUBSCRIBE, HOST}

CAMERA = TrackSource.TRACK_SOURCE_CAMERA
MICROPHONE = TrackSource.TRACK_SOURCE_MICROPHONE
VIDEO = TrackType.TRACK_TYPE_VIDEO
DATA = TrackType.TRACK_TYPE_DATA


def who(identity: str = "alice", **grants: object) -> Principal:
    return Principal(identity, Grants(room="room", **grants))  # type: ignore[arg-type]  # by name


VIEWER = who(room_join=True, can_subscribe=True)
SPEAKER = who(room_join=True, can_publish=True, can_publish_sources=frozenset({MICROPHONE}))
SENDER = who(room_join=True, can_publish_data=True)
PARTICIPANT = who(room_join=True, can_publish=True, can_publish_data=True, can_subscribe=True)
ADMIN = who(room_admin=True)
SERVICE = who(room_list=True)
WORKER = who(agent=True)
# Grants without roomJoin: they say what a participant could do, but the token makes nobody one.
OUTSIDER = who(can_publish=True, can_publish_data=True, can_subscribe=True)


@pytest.mark.parametrize(
    ("principal", "here", "elsewhere"),
    [
        (who(), {READ_SERVER}, {READ_SERVER}),
        (OUTSIDER, {READ_SERVER}, {READ_SERVER}),
        (VIEWER, {READ_SERVER, READ, SUBSCRIBE}, {READ_SERVER}),
        (SPEAKER, {READ_SERVER, READ, PUBLISH, MUTE}, {READ_SERVER}),
        (SENDER, {READ_SERVER, READ, PUBLISH, MUTE}, {READ_SERVER}),
        (PARTICIPANT, {READ_SERVER, READ, PUBLISH, MUTE, SUBSCRIBE}, {READ_SERVER}),
        (ADMIN, {READ_SERVER, READ, PUBLISH, MUTE, SUBSCRIBE}, {READ_SERVER}),
        (SERVICE, {READ_SERVER, READ}, {READ_SERVER, READ}),
        (WORKER, {READ_SERVER, HOST}, {READ_SERVER, HOST}),
        (anonymous(), ALL, ALL),
    ],
)
@pytest.mark.parametrize("permission", sorted(Permission.values()))
def test_a_room_opens_to_the_grants_that_the_contract_names(
    principal: Principal, here: set[int], elsewhere: set[int], permission: "Permission.ValueType"
) -> None:
    for room, allowed in (("room", here), ("other", elsewhere), ("", elsewhere)):
        if permission in allowed:
            rules.room_level(permission, principal, room)
        else:
            with pytest.raises(PermissionDenied):
                rules.room_level(permission, principal, room)


def test_a_token_without_a_room_opens_no_room_not_even_the_nameless() -> None:
    for grants in (Grants(room_join=True, can_publish=True), Grants(room_admin=True)):
        for room in ("", "room"):
            with pytest.raises(PermissionDenied):
                rules.room_level(READ, Principal("alice", grants), room)
            with pytest.raises(PermissionDenied):
                rules.require_target(Principal("alice", grants), PUBLISH, room, "alice", source=CAMERA)


@pytest.mark.parametrize(
    ("principal", "permission", "identity", "source", "track_type", "allowed"),
    [
        (PARTICIPANT, PUBLISH, "alice", CAMERA, VIDEO, True),
        (PARTICIPANT, PUBLISH, "bob", CAMERA, VIDEO, False),
        (PARTICIPANT, MUTE, "alice", CAMERA, VIDEO, True),
        (PARTICIPANT, MUTE, "bob", CAMERA, VIDEO, False),
        (PARTICIPANT, SUBSCRIBE, "alice", CAMERA, VIDEO, True),
        (PARTICIPANT, SUBSCRIBE, "bob", CAMERA, VIDEO, False),
        (PARTICIPANT, READ, "alice", CAMERA, VIDEO, False),
        (PARTICIPANT, HOST, "alice", CAMERA, VIDEO, False),
        (VIEWER, PUBLISH, "alice", CAMERA, VIDEO, False),
        (VIEWER, PUBLISH, "alice", 0, DATA, False),
        (VIEWER, MUTE, "alice", CAMERA, VIDEO, False),
        (VIEWER, SUBSCRIBE, "alice", 0, 0, True),
        (SPEAKER, PUBLISH, "alice", MICROPHONE, TrackType.TRACK_TYPE_AUDIO, True),
        (SPEAKER, PUBLISH, "alice", CAMERA, VIDEO, False),
        (SPEAKER, PUBLISH, "alice", 0, VIDEO, False),
        (SPEAKER, PUBLISH, "alice", 0, DATA, False),
        (SPEAKER, MUTE, "alice", CAMERA, VIDEO, False),
        (SPEAKER, SUBSCRIBE, "alice", 0, 0, False),
        (SENDER, PUBLISH, "alice", 0, DATA, True),
        (SENDER, PUBLISH, "alice", CAMERA, VIDEO, False),
        (OUTSIDER, PUBLISH, "alice", CAMERA, VIDEO, False),
        (OUTSIDER, SUBSCRIBE, "alice", 0, 0, False),
        (SERVICE, PUBLISH, "alice", CAMERA, VIDEO, False),
        (SERVICE, SUBSCRIBE, "bob", 0, 0, False),
        (ADMIN, PUBLISH, "bob", CAMERA, VIDEO, True),
        (ADMIN, MUTE, "bob", 0, DATA, True),
        (ADMIN, SUBSCRIBE, "bob", 0, 0, True),
        (anonymous(), PUBLISH, "bob", CAMERA, VIDEO, True),
        (who("", room_join=True, can_publish=True), PUBLISH, "", CAMERA, VIDEO, False),
    ],
)
def test_acting_on_a_participant_takes_its_own_grant_or_room_admin(
    principal: Principal,
    permission: "Permission.ValueType",
    identity: str,
    source: "TrackSource.ValueType",
    track_type: "TrackType.ValueType",
    allowed: bool,
) -> None:
    if allowed:
        rules.require_target(principal, permission, "room", identity, source=source, track_type=track_type)
    else:
        with pytest.raises(PermissionDenied):
            rules.require_target(principal, permission, "room", identity, source=source, track_type=track_type)
    if not principal.unrestricted:
        with pytest.raises(PermissionDenied):
            rules.require_target(principal, permission, "other", identity, source=source, track_type=track_type)


def test_a_denial_is_the_same_for_every_room_and_participant() -> None:
    texts = set()
    for room in ("secret-room", "other"):
        for identity in ("hidden-participant", "bob"):
            with pytest.raises(PermissionDenied) as denied:
                rules.require_target(VIEWER, MUTE, room, identity)
            texts.add(denied.value.message)
    assert len(texts) == 1
    assert "hidden" not in texts.pop()
