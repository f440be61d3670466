"""What rules decide: the first that matches, by permission, and never an allow by accident."""

import json

import pytest

from track.permission.v1.permission_service_pb2 import (
    CheckPermissionRequest,
    IssueTrackTokenRequest,
    TrackDescription,
)
from track.v1 import track_pb2
from track.v1.access_pb2 import Grants, Permission, Principal, PrincipalKind, TrackOperation
from track.v1.publication_pb2 import VideoCodec
from track_server.access.bounds import Bounds
from track_server.permissions.rules import PERMISSIONS
from track_server.permissions.rules_file import parse

ALICE = Principal(
    kind=PrincipalKind.PRINCIPAL_KIND_PARTICIPANT, identity="alice", grants=Grants(room="demo", room_join=True)
)
PUBLISH = CheckPermissionRequest(
    principal=ALICE,
    permission=Permission.PERMISSION_PUBLISH,
    room="demo",
    participant_identity="alice",
    track=TrackDescription(type=track_pb2.TRACK_TYPE_VIDEO, source=track_pb2.TRACK_SOURCE_CAMERA, width=1280),
)
MUTE = CheckPermissionRequest(principal=ALICE, permission=Permission.PERMISSION_MUTE, room="demo")


def rule(when: str, **keys: object) -> str:
    """A rule of a rules file; keys are TOML values."""
    given = {"name": json.dumps(f"rule {when}"), "when": json.dumps(when), **keys}
    return "\n".join(["[[rule]]", *(f"{key} = {value}" for key, value in given.items())]) + "\n"


@pytest.mark.parametrize(
    ("when", "matches"),
    [
        ('check.principal.identity == "alice"', True),
        ("check.permission == Permission.PERMISSION_PUBLISH", True),
        ("check.principal.kind == PrincipalKind.PRINCIPAL_KIND_ADMIN", False),
        ("check.track.source == TrackSource.TRACK_SOURCE_CAMERA && check.track.width <= 1280", True),
        ("check.track.codec == VideoCodec.VIDEO_CODEC_VP8", False),
        ("has(check.track) && !has(issue.principal)", True),
        ('check.room in ["demo", "stage"]', True),
    ],
)
def test_a_condition_speaks_of_the_question(when: str, matches: bool) -> None:
    assert parse(rule(when).encode()).decide(PUBLISH).allowed is matches


def test_the_first_rule_that_matches_decides() -> None:
    denies = rule('check.room == "demo"', effect='"deny"', reason='"demo is closed"', lifetime='"5m"')
    allows = rule('check.room.startsWith("d")', lifetime='"2s"')
    verdict = parse((denies + allows).encode()).decide(PUBLISH)
    assert (verdict.allowed, verdict.reason, verdict.lifetime_s) == (False, "demo is closed", 300)
    verdict = parse((allows + denies).encode()).decide(PUBLISH)
    assert (verdict.allowed, verdict.reason, verdict.lifetime_s) == (True, "", 2)


def test_a_rule_speaks_of_its_permissions_alone() -> None:
    rules = parse(rule("true", permissions='["MUTE"]').encode())
    assert rules.decide(MUTE).allowed
    assert not rules.decide(PUBLISH).allowed


def test_a_rule_without_permissions_speaks_of_all() -> None:
    rules = parse(rule("true").encode())
    for permission in PERMISSIONS:
        assert rules.decide(CheckPermissionRequest(permission=permission)).allowed


def test_where_no_rule_matches_it_is_denied() -> None:
    verdict = parse(rule("false").encode()).decide(PUBLISH)
    assert (verdict.allowed, verdict.reason) == (False, "no rule allows this")
    assert verdict.lifetime_s == 60


def test_a_deny_without_a_reason_has_one() -> None:
    assert parse(rule("true", effect='"deny"').encode()).decide(PUBLISH).reason == "the rules do not allow this"


@pytest.mark.parametrize(
    "failing",
    [
        '{"a": true}[check.room]',
        "1 / check.track.height == 1",
        'check.room.matches("(")',
        "dyn(1)",
    ],
)
def test_a_condition_that_fails_denies_where_it_denies_and_does_not_allow_where_it_allows(failing: str) -> None:
    denied = parse((rule(failing, effect='"deny"', name='"a"') + rule("true", name='"b"')).encode()).decide(PUBLISH)
    assert (denied.allowed, denied.failed) == (False, ("a",))
    passed = parse((rule(failing, name='"a"') + rule("true", name='"b"')).encode()).decide(PUBLISH)
    assert (passed.allowed, passed.failed) == (True, ("a",))
    assert not parse(rule(failing).encode()).decide(PUBLISH).allowed


def test_obligations_come_with_the_rule_that_allows() -> None:
    bounded = rule(
        "true",
        max_bitrate_bps="1_000_000",
        max_width="1280",
        max_height="720",
        max_frames_per_second="29.97",
        sources='["CAMERA", "SCREEN_SHARE"]',
        codecs='["VP8"]',
        max_tracks="2",
    )
    assert parse(bounded.encode()).decide(PUBLISH).obligations == Bounds(
        max_bitrate_bps=1_000_000,
        max_width=1280,
        max_height=720,
        max_frames_per_second=29.97,
        sources=frozenset({track_pb2.TRACK_SOURCE_CAMERA, track_pb2.TRACK_SOURCE_SCREEN_SHARE}),
        codecs=frozenset({VideoCodec.VIDEO_CODEC_VP8}),
        max_tracks=2,
    )


def test_a_rule_sees_the_token_that_is_asked_for() -> None:
    rules = parse(
        rule(
            "issue.operation == TrackOperation.TRACK_OPERATION_OBSERVE && !issue.grants.can_publish"
            ' && issue.ttl <= duration("60s")',
            permissions='["CREATE_TOKEN"]',
        ).encode()
    )
    check = CheckPermissionRequest(principal=ALICE, permission=Permission.PERMISSION_CREATE_TOKEN, room="demo")
    issue = IssueTrackTokenRequest(principal=ALICE, room="demo", operation=TrackOperation.TRACK_OPERATION_OBSERVE)
    issue.ttl.seconds = 30
    assert rules.decide(check, issue).allowed
    issue.grants.can_publish = True
    assert not rules.decide(check, issue).allowed
    assert not rules.decide(check).allowed


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (rule("true"), rule("true"), set()),
        (rule("true"), "# a remark\n" + rule("true", name='"another name"'), set()),
        (rule("true", permissions='["MUTE"]'), rule("true", permissions='["MUTE"]', lifetime='"1s"'), {"MUTE"}),
        (rule("true", permissions='["MUTE"]'), rule("true", permissions='["MUTE", "PUBLISH"]'), {"PUBLISH"}),
        (
            rule("check.room != ''", permissions='["MUTE"]') + rule("true", effect='"deny"'),
            rule("true", effect='"deny"'),
            {"MUTE"},
        ),
        (rule("true", max_tracks="1"), rule("true"), None),
        (rule("true"), rule("false"), None),
    ],
)
def test_a_change_names_the_permissions_that_it_touches(before: str, after: str, changed: set[str] | None) -> None:
    expected = PERMISSIONS if changed is None else {Permission.Value(f"PERMISSION_{name}") for name in changed}
    assert parse(before.encode()).changed(parse(after.encode())) == expected
    assert parse(after.encode()).changed(parse(before.encode())) == expected
