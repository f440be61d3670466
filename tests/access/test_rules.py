"""Who may do what, as access.proto says."""

import pytest

from track.v1.access_pb2 import Permission, TrackOperation
from track.v1.track_pb2 import Participant, ParticipantPermission, TrackSource, TrackType
from track_server.access import rules
from track_server.access.bounds import Description
from track_server.access.principal import Grants, Principal, anonymous
from track_server.access.question import Question
from track_server.errors import PermissionDenied

READ_SERVER = Permission.PERMISSION_READ_SERVER
READ = Permission.PERMISSION_READ_TRACKS
PUBLISH = Permission.PERMISSION_PUBLISH
MUTE = Permission.PERMISSION_MUTE
SUBSCRIBE = Permission.PERMISSION_SUBSCRIBE
HOST = Permission.PERMISSION_HOST_MEDIA
RESTRICT = Permission.PERMISSION_RESTRICT_TRACK
TOKEN = Permission.PERMISSION_CREATE_TOKEN
AUDIT = Permission.PERMISSION_READ_AUDIT
METADATA = Permission.PERMISSION_WRITE_METADATA
SCHEMAS = Permission.PERMISSION_WRITE_SCHEMAS
WEBHOOKS = Permission.PERMISSION_MANAGE_WEBHOOKS
RECORD = Permission.PERMISSION_RECORD
POLICIES = Permission.PERMISSION_WRITE_SUBSCRIPTION_POLICIES
STATS = Permission.PERMISSION_REPORT_STATS
QUALITY = Permission.PERMISSION_WRITE_QUALITY_POLICIES
SENDING = {PUBLISH, MUTE, RESTRICT, METADATA}
GOVERNING = {AUDIT, SCHEMAS, WEBHOOKS, POLICIES, QUALITY}
ALL = {READ_SERVER, READ, SUBSCRIBE, HOST, TOKEN, STATS, RECORD, *GOVERNING, *SENDING}

NO_SOURCE = TrackSource.TRACK_SOURCE_UNSPECIFIED
CAMERA = TrackSource.TRACK_SOURCE_CAMERA
MICROPHONE = TrackSource.TRACK_SOURCE_MICROPHONE
VIDEO = TrackType.TRACK_TYPE_VIDEO
DATA = TrackType.TRACK_TYPE_DATA


def who(identity: str = "alice", **grants: object) -> Principal:
    return Principal(identity, Grants(room="room", **grants))  # type: ignore[arg-type]  # by name


def one(operation: "TrackOperation.ValueType") -> Principal:
    """An operation token, with grants for everything: its operation alone must count."""
    grants = Grants(room="room", room_join=True, can_publish=True, can_publish_data=True, can_subscribe=True)
    return Principal("alice", grants, operation=operation)


def asked(
    permission: "Permission.ValueType",
    identity: str,
    source: "TrackSource.ValueType" = NO_SOURCE,
    track_type: "TrackType.ValueType" = TrackType.TRACK_TYPE_UNSPECIFIED,
    *,
    room: str = "room",
) -> Question:
    return Question(permission, room, identity, described=Description(type=track_type, source=source))


PUBLISHING = TrackOperation.TRACK_OPERATION_PUBLISH
SUBSCRIBING = TrackOperation.TRACK_OPERATION_SUBSCRIBE
OBSERVING = TrackOperation.TRACK_OPERATION_OBSERVE

VIEWER = who(room_join=True, can_subscribe=True)
SPEAKER = who(room_join=True, can_publish=True, can_publish_sources=frozenset({MICROPHONE}))
SENDER = who(room_join=True, can_publish_data=True)
PARTICIPANT = who(room_join=True, can_publish=True, can_publish_data=True, can_subscribe=True)
ADMIN = who(room_admin=True)
SERVICE = who(room_list=True)
RECORDER = who(room_record=True)
OPERATOR = who(room_list=True, room_create=True, room_record=True)
WORKER = Principal("SES_1", Grants(agent=True))
# As LiveKit makes it for an agent that it sends into a room.
AGENT = who(agent=True, room_join=True, can_subscribe=True)
# Grants without roomJoin: they say what a participant could do, but the token makes nobody one.
OUTSIDER = who(can_publish=True, can_publish_data=True, can_subscribe=True)


@pytest.mark.parametrize(
    ("principal", "here", "elsewhere"),
    [
        (who(), {READ_SERVER}, {READ_SERVER}),
        (OUTSIDER, {READ_SERVER}, {READ_SERVER}),
        (VIEWER, {READ_SERVER, READ, SUBSCRIBE, TOKEN, STATS}, {READ_SERVER}),
        (SPEAKER, {READ_SERVER, READ, TOKEN, STATS, *SENDING}, {READ_SERVER}),
        (SENDER, {READ_SERVER, READ, TOKEN, STATS, *SENDING}, {READ_SERVER}),
        (PARTICIPANT, {READ_SERVER, READ, SUBSCRIBE, TOKEN, STATS, *SENDING}, {READ_SERVER}),
        (ADMIN, {READ_SERVER, READ, SUBSCRIBE, TOKEN, STATS, *GOVERNING, *SENDING}, {READ_SERVER}),
        (RECORDER, {READ_SERVER, RECORD}, {READ_SERVER}),
        (SERVICE, {READ_SERVER, READ, AUDIT}, {READ_SERVER, READ, AUDIT}),
        (WORKER, {READ_SERVER, HOST}, {READ_SERVER, HOST}),
        (AGENT, {READ_SERVER, READ, SUBSCRIBE, TOKEN, STATS}, {READ_SERVER}),
        (one(PUBLISHING), {READ_SERVER, PUBLISH}, {READ_SERVER}),
        (one(SUBSCRIBING), {READ_SERVER, SUBSCRIBE}, {READ_SERVER}),
        (one(OBSERVING), {READ_SERVER, READ}, {READ_SERVER}),
        (anonymous(), ALL, ALL),
    ],
)
@pytest.mark.parametrize("permission", sorted(Permission.values()))
def test_a_room_opens_to_the_grants_that_the_contract_names(
    principal: Principal, here: set[int], elsewhere: set[int], permission: "Permission.ValueType"
) -> None:
    for room, allowed in (("room", here), ("other", elsewhere), ("", elsewhere)):
        if permission in allowed:
            rules.admit(principal, permission, room)
        else:
            with pytest.raises(PermissionDenied):
                rules.admit(principal, permission, room)


@pytest.mark.parametrize("permission", sorted({SCHEMAS, WEBHOOKS, RECORD, AUDIT, READ}))
def test_all_rooms_at_once_take_grants_that_are_about_all(permission: "Permission.ValueType") -> None:
    rules.admit(OPERATOR, permission, "")
    rules.within_token(OPERATOR, permission, "")
    for principal in (ADMIN, PARTICIPANT, RECORDER, who(room_join=True, room_admin=True, room_record=True)):
        with pytest.raises(PermissionDenied):
            rules.admit(principal, permission, "")
        with pytest.raises(PermissionDenied):
            rules.within_token(principal, permission, "")


def test_what_is_about_all_rooms_governs_no_single_one() -> None:
    for permission in (SCHEMAS, WEBHOOKS):
        with pytest.raises(PermissionDenied):
            rules.admit(OPERATOR, permission, "room")
    rules.admit(who(room_list=True, room_record=True), RECORD, "other")
    rules.require(RECORDER, asked(RECORD, "bob", CAMERA, VIDEO))
    with pytest.raises(PermissionDenied):
        rules.require(ADMIN, asked(RECORD, "bob", CAMERA, VIDEO))


def test_a_token_without_a_room_opens_no_room_not_even_the_nameless() -> None:
    for grants in (Grants(room_join=True, can_publish=True), Grants(room_admin=True)):
        for room in ("", "room"):
            with pytest.raises(PermissionDenied):
                rules.admit(Principal("alice", grants), READ, room)
            with pytest.raises(PermissionDenied):
                rules.require(Principal("alice", grants), asked(PUBLISH, "alice", CAMERA, room=room))


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
        (ADMIN, TOKEN, "bob", 0, 0, True),
        (VIEWER, TOKEN, "alice", 0, 0, True),
        (VIEWER, TOKEN, "bob", 0, 0, False),
        (VIEWER, STATS, "alice", 0, 0, True),
        (VIEWER, STATS, "bob", 0, 0, False),
        (ADMIN, STATS, "bob", 0, 0, True),
        (SPEAKER, RESTRICT, "alice", MICROPHONE, TrackType.TRACK_TYPE_AUDIO, True),
        (SPEAKER, RESTRICT, "alice", CAMERA, VIDEO, False),
        (SPEAKER, RESTRICT, "bob", MICROPHONE, TrackType.TRACK_TYPE_AUDIO, False),
        (one(PUBLISHING), PUBLISH, "alice", CAMERA, VIDEO, True),
        (one(PUBLISHING), MUTE, "alice", CAMERA, VIDEO, False),
        (one(PUBLISHING), TOKEN, "alice", 0, 0, False),
        (one(SUBSCRIBING), SUBSCRIBE, "alice", 0, 0, True),
        (one(SUBSCRIBING), PUBLISH, "alice", CAMERA, VIDEO, False),
        (one(OBSERVING), SUBSCRIBE, "alice", 0, 0, False),
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
        rules.require(principal, asked(permission, identity, source, track_type))
    else:
        with pytest.raises(PermissionDenied):
            rules.require(principal, asked(permission, identity, source, track_type))
    if not principal.unrestricted:
        with pytest.raises(PermissionDenied):
            rules.require(principal, asked(permission, identity, source, track_type, room="other"))


def test_a_denial_is_the_same_for_every_room_and_participant() -> None:
    texts = set()
    for room in ("secret-room", "other"):
        for identity in ("hidden-participant", "bob"):
            with pytest.raises(PermissionDenied) as denied:
                rules.require(VIEWER, asked(MUTE, identity, room=room))
            texts.add(denied.value.message)
    assert len(texts) == 1
    assert "hidden" not in texts.pop()


def live(**left: object) -> Participant:
    """Alice's own participant, with those permissions left."""
    return Participant(identity="alice", permission=ParticipantPermission(**left))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("principal", "question", "left", "allowed"),
    [
        (PARTICIPANT, asked(PUBLISH, "alice", CAMERA, VIDEO), {"can_publish": True}, True),
        (PARTICIPANT, asked(PUBLISH, "alice", CAMERA, VIDEO), {"can_publish": False}, False),
        (
            PARTICIPANT,
            asked(PUBLISH, "alice", CAMERA, VIDEO),
            {"can_publish": True, "can_publish_sources": [MICROPHONE]},
            False,
        ),
        (SPEAKER, asked(MUTE, "alice", MICROPHONE), {"can_publish": True, "can_publish_sources": [CAMERA]}, False),
        (SPEAKER, asked(MUTE, "alice", MICROPHONE), {"can_publish": True, "can_publish_sources": [MICROPHONE]}, True),
        (SENDER, asked(PUBLISH, "alice", NO_SOURCE, DATA), {"can_publish": True}, False),
        (PARTICIPANT, asked(SUBSCRIBE, "alice"), {"can_subscribe": True}, True),
        (PARTICIPANT, asked(SUBSCRIBE, "alice"), {"can_subscribe": False}, False),
        # What LiveKit has given beyond the token is not in the token.
        (VIEWER, asked(PUBLISH, "alice", CAMERA, VIDEO), {"can_publish": True}, False),
        # An admin acts by its token, whatever a participant of its name may do.
        (ADMIN, asked(PUBLISH, "bob", CAMERA, VIDEO), {}, True),
    ],
)
def test_what_livekit_has_taken_away_counts_as_taken_away(
    principal: Principal, question: Question, left: dict[str, object], allowed: bool
) -> None:
    if allowed:
        rules.require(principal, question, live(**left))
    else:
        with pytest.raises(PermissionDenied):
            rules.require(principal, question, live(**left))


@pytest.mark.parametrize("permission", sorted(set(Permission.values()) - {0}))
def test_whoever_decides_a_token_is_about_its_room_and_its_operation_alone(
    permission: "Permission.ValueType",
) -> None:
    rules.within_token(PARTICIPANT, permission, "room")
    rules.within_token(SERVICE, permission, "other")
    rules.within_token(anonymous(), permission, "other")
    for principal in (PARTICIPANT, ADMIN, VIEWER):
        with pytest.raises(PermissionDenied):
            rules.within_token(principal, permission, "other")
    if permission not in (READ_SERVER, SUBSCRIBE):
        with pytest.raises(PermissionDenied):
            rules.within_token(one(SUBSCRIBING), permission, "room")
