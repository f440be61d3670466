"""The example's rules decide as mode `token` does, for every principal, permission and target."""

from dataclasses import replace
from itertools import product
from typing import Final

import pytest

from tests.permission_process import EXAMPLE
from track.permission.v1.permission_service_pb2 import CheckPermissionRequest, TrackDescription
from track.v1.access_pb2 import Permission
from track.v1.track_pb2 import TrackSource, TrackType
from track_server.access import rules
from track_server.access.bounds import Description
from track_server.access.principal import Grants, Principal
from track_server.access.question import Question
from track_server.errors import PermissionDenied
from track_server.permissions.rules import PERMISSIONS
from track_server.permissions.rules_file import parse

JOIN: Final = Grants(room="demo", room_join=True, can_publish=True, can_publish_data=True, can_subscribe=True)
PRINCIPALS: Final = {
    "nobody": Principal("", Grants()),
    "no room": Principal("alice", replace(JOIN, room="")),
    "participant": Principal("alice", JOIN),
    "nameless participant": Principal("", JOIN),
    "camera alone": Principal("alice", replace(JOIN, can_publish_sources=frozenset({TrackSource.TRACK_SOURCE_CAMERA}))),
    "unknown source alone": Principal(
        "alice", replace(JOIN, can_publish_sources=frozenset({TrackSource.TRACK_SOURCE_UNSPECIFIED}))
    ),
    "data alone": Principal("alice", replace(JOIN, can_publish=False)),
    "media alone": Principal("alice", replace(JOIN, can_publish_data=False)),
    "subscriber alone": Principal("alice", replace(JOIN, can_publish=False, can_publish_data=False)),
    "no subscriber": Principal("alice", replace(JOIN, can_subscribe=False)),
    "no join": Principal("alice", replace(JOIN, room_join=False)),
    "admin": Principal("", Grants(room="demo", room_admin=True)),
    "admin who joins": Principal("alice", replace(JOIN, room_admin=True, can_publish=False)),
    "admin of no room": Principal("alice", Grants(room_admin=True)),
    "admin of another room": Principal("alice", Grants(room="other", room_admin=True)),
    "service": Principal("recorder", Grants(room_list=True)),
    "service and admin": Principal("recorder", Grants(room="demo", room_list=True, room_admin=True)),
    "operator": Principal("operator", Grants(room_list=True, room_create=True, room_record=True)),
    "creator": Principal("operator", Grants(room_create=True)),
    "recorder": Principal("recorder", Grants(room="demo", room_record=True)),
    "recording service": Principal("recorder", Grants(room_list=True, room_record=True)),
    "service and participant": Principal("alice", replace(JOIN, room_list=True)),
}
DESCRIBED: Final = {
    "nothing known": None,
    "camera": Description(TrackType.TRACK_TYPE_VIDEO, TrackSource.TRACK_SOURCE_CAMERA),
    "microphone": Description(TrackType.TRACK_TYPE_AUDIO, TrackSource.TRACK_SOURCE_MICROPHONE),
    "video": Description(TrackType.TRACK_TYPE_VIDEO),
    "data": Description(TrackType.TRACK_TYPE_DATA),
}
# What is asked about participants.
ACTING: Final = (
    Permission.PERMISSION_PUBLISH,
    Permission.PERMISSION_MUTE,
    Permission.PERMISSION_SUBSCRIBE,
    Permission.PERMISSION_RESTRICT_TRACK,
    Permission.PERMISSION_CREATE_TOKEN,
    Permission.PERMISSION_WRITE_METADATA,
    Permission.PERMISSION_RECORD,
)
EXAMPLE_RULES: Final = parse(EXAMPLE.read_bytes())
# Between server and media workers, and between server and permission service: their grants are not in the contract's
# Grants, and the permission service is not asked.
OURS: Final = {Permission.PERMISSION_HOST_MEDIA, Permission.PERMISSION_CHECK_PERMISSIONS}


def decided(principal: Principal, question: Question) -> bool:
    described = question.described
    check = CheckPermissionRequest(
        principal=principal.message,
        permission=question.permission,
        room=question.room,
        participant_identity=question.participant_identity,
        track=None if described is None else TrackDescription(type=described.type, source=described.source),
    )
    verdict = EXAMPLE_RULES.decide(check)
    assert not verdict.failed
    return verdict.allowed


def by_token(principal: Principal, question: Question) -> bool:
    try:
        if question.participant_identity:
            rules.require(principal, question)
        else:
            rules.admit(principal, question.permission, question.room)
    except PermissionDenied:
        return False
    return True


@pytest.mark.parametrize("name", PRINCIPALS)
def test_the_example_decides_about_rooms_as_the_token_does(name: str) -> None:
    principal = PRINCIPALS[name]
    for permission, room in product(PERMISSIONS - OURS, ("demo", "other", "")):
        question = Question(permission, room)
        assert decided(principal, question) == by_token(principal, question), question


@pytest.mark.parametrize("name", PRINCIPALS)
def test_the_example_decides_about_participants_as_the_token_does(name: str) -> None:
    principal = PRINCIPALS[name]
    for permission, room, target, described in product(
        ACTING, ("demo", "other", ""), ("alice", "bob"), DESCRIBED.values()
    ):
        question = Question(permission, room, target, "TR_1", described)
        assert decided(principal, question) == by_token(principal, question), question


def test_the_tables_hold_both_answers() -> None:
    questions = [Question(permission, "demo", "alice") for permission in ACTING]
    answers = {by_token(principal, question) for principal, question in product(PRINCIPALS.values(), questions)}
    assert answers == {True, False}
