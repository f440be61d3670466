"""LiveKit access tokens: what they grant, and which are refused."""

import base64
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from livekit import api

from tests.access.access_tokens import (
    KEY,
    NOW,
    OTHER_KEY,
    OTHER_SECRET,
    RING,
    SECRET,
    principal_of,
    refusal,
    refused,
    signed,
)
from track.v1.access_pb2 import TrackOperation
from track.v1.publication_pb2 import VideoCodec
from track.v1.track_pb2 import TrackSource
from track_server import signatures
from track_server.access.bounds import UNBOUNDED, Bounds
from track_server.access.operation import CLAIM, claim_of
from track_server.access.principal import Grants
from track_server.access.tokens import verify


def test_the_sdks_own_token_is_read_with_livekits_defaults() -> None:
    token = (
        api.AccessToken(KEY, SECRET)
        .with_identity("alice")
        .with_ttl(timedelta(hours=1))
        .with_grants(api.VideoGrants(room_join=True, room="room", can_publish_sources=["camera", "screen_share"]))
        .to_jwt()
    )
    now = jwt.decode(token, SECRET, algorithms=["HS256"])["nbf"]
    principal, good_until = verify(token, RING, now)
    assert principal.identity == "alice"
    assert good_until == now + 3600
    assert principal.grants == Grants(
        room="room",
        room_join=True,
        can_publish=True,
        can_publish_sources=frozenset({TrackSource.TRACK_SOURCE_CAMERA, TrackSource.TRACK_SOURCE_SCREEN_SHARE}),
        can_publish_data=True,
        can_subscribe=True,
    )


@pytest.mark.parametrize(
    ("video", "grants"),
    [
        (..., Grants()),
        ({}, Grants()),
        ({"roomAdmin": True, "room": "r"}, Grants(room="r", room_admin=True)),
        ({"roomList": True}, Grants(room_list=True)),
        ({"agent": True}, Grants(agent=True)),
        (
            {"roomJoin": True, "room": "r"},
            Grants(room="r", room_join=True, can_publish=True, can_publish_data=True, can_subscribe=True),
        ),
        # As in LiveKit: data follow media where nothing is said about them.
        ({"roomJoin": True, "room": "r", "canPublish": False}, Grants(room="r", room_join=True, can_subscribe=True)),
        (
            {"roomJoin": True, "canPublish": False, "canPublishData": True, "canSubscribe": False},
            Grants(room_join=True, can_publish_data=True),
        ),
        # A list that names nothing we know allows the unknown source, not all of them.
        (
            {"roomJoin": True, "canPublishSources": ["hologram"], "canPublishData": False, "canSubscribe": False},
            Grants(
                room_join=True,
                can_publish=True,
                can_publish_sources=frozenset({TrackSource.TRACK_SOURCE_UNSPECIFIED}),
            ),
        ),
        ({"roomJoin": None, "hidden": True, "somethingNew": [1]}, Grants()),
    ],
)
def test_grants_are_read_as_livekit_reads_them(video: object, grants: Grants) -> None:
    assert principal_of({"video": video}).grants == grants


def test_an_identity_that_is_missing_is_the_tokens_id_as_in_livekit() -> None:
    assert principal_of({"sub": ..., "jti": "bob"}).identity == "bob"
    assert principal_of({"sub": ...}).identity == ""


def test_a_token_is_good_from_its_not_before_with_a_little_leeway_until_its_expiry() -> None:
    token = signed({"nbf": int(NOW), "exp": int(NOW) + 100})
    assert "not valid yet" in refusal(token, NOW - 6)
    verify(token, RING, NOW - 4)
    verify(token, RING, NOW + 99)
    assert "expired" in refusal(token, NOW + 100)


def _unsigned(header: dict[str, Any]) -> str:
    parts = (header, {"iss": KEY, "exp": int(NOW) + 600})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


def _twice(name: str, value: object) -> str:
    """A token of ours in which that name is there twice."""
    claims = {"iss": KEY, "sub": "alice", "exp": int(NOW) + 600, "video": {"roomJoin": True, "room": "demo"}}
    text = f"{json.dumps(claims)[:-1]}, {json.dumps({name: value})[1:]}"
    return jwt.PyJWS().encode(text.encode(), SECRET, "HS256")


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (signed({}, secret="another-secret-with-more-than-32-bytes"), "not signed"),
        (signed({}, algorithm="HS512", secret=SECRET * 2), "malformed"),
        (_unsigned({"alg": "none"}), "malformed"),
        (_unsigned({"alg": "HS256"}), "not signed"),
        (signed({"iss": "APIother"}), "another API key"),
        (signed({"iss": OTHER_KEY}), "another API key"),
        (signed({"iss": ""}), "another API key"),
        (signed({"exp": ...}), "lacks"),
        (signed({"iss": ...}, secret=signatures._NO_SECRET), "lacks"),
        (signed({"iss": "APIother"}, secret=signatures._NO_SECRET), "another API key"),
        (signed({"exp": "soon"}), "malformed"),
        (signed({"exp": True}), "malformed"),
        (signed({"exp": 10**30}), "malformed"),
        (signed({"nbf": []}), "malformed"),
        (signed({"video": []}), "malformed"),
        (signed({"video": {"roomJoin": "true"}}), "malformed"),
        (signed({"video": {"room": 1}}), "malformed"),
        (signed({"video": {"canPublishSources": "camera"}}), "malformed"),
        (signed({"sub": 5}), "malformed"),
        (_twice("sub", "bob"), "malformed"),
        (_twice("iss", KEY), "malformed"),
        (_twice("video", {"roomAdmin": True, "room": "demo"}), "malformed"),
        (signed({"sub": "\ud800"}), "malformed"),
        ("", "malformed"),
        ("a.b.c", "malformed"),
        ("." * 100, "malformed"),
        ("é.é.é", "malformed"),
        ("x" * 20_000, "too long"),
    ],
)
def test_a_bad_token_is_refused_with_a_reason_that_tells_nothing_of_ours(token: str, reason: str) -> None:
    text = refusal(token)
    assert reason in text
    assert KEY not in text
    assert SECRET not in text


@pytest.mark.parametrize(
    ("token", "cause"),
    [
        (signed({"exp": int(NOW)}), "expired"),
        (signed({"nbf": int(NOW) + 60}), "not_yet_valid"),
        (signed({}, secret="x" * 40), "wrong_signature"),
        (signed({"iss": OTHER_KEY}), "wrong_signature"),
        (signed({"iss": "APIother"}), "unknown_key"),
        (signed({"iss": "APIother"}, secret="x" * 40), "unknown_key"),
        (_unsigned({"alg": "none"}), "malformed"),
        (signed({"exp": ...}), "malformed"),
        (signed({"track": None}), "malformed"),
        ("x" * 20_000, "malformed"),
    ],
)
def test_a_refusal_has_a_cause_to_count_by_which_is_not_sent(token: str, cause: str) -> None:
    error = refused(token)
    assert error.cause == cause
    assert not error.metadata
    assert cause not in ("unknown_key", "wrong_signature") or error.message == refusal(signed({"iss": "APIother"}))


def test_an_issuer_that_is_read_otherwise_before_the_signature_is_verified_is_refused() -> None:
    # The key is chosen by what the token seems to say; what counts is what it says.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signatures, "_issuer", lambda _: OTHER_KEY)
        assert refused(signed({}, secret=OTHER_SECRET)).cause == "unknown_key"


def test_every_key_of_the_ring_signs_tokens() -> None:
    assert verify(signed({}), RING, NOW)[0].identity == "alice"
    assert verify(signed({"iss": OTHER_KEY}, secret=OTHER_SECRET), RING, NOW)[0].identity == "alice"


def test_a_token_is_narrowed_to_the_operation_that_it_claims() -> None:
    video = {"room": "r", "roomJoin": True}
    plain = principal_of({"video": video})
    assert (plain.operation, plain.bounds) == (TrackOperation.TRACK_OPERATION_UNSPECIFIED, UNBOUNDED)
    bounds = Bounds(max_bitrate_bps=500_000, codecs=frozenset({VideoCodec.VIDEO_CODEC_VP8}), max_tracks=1)
    narrowed = principal_of({"video": video, CLAIM: claim_of(TrackOperation.TRACK_OPERATION_PUBLISH, bounds)})
    assert (narrowed.operation, narrowed.bounds) == (TrackOperation.TRACK_OPERATION_PUBLISH, bounds)
    assert narrowed.grants == plain.grants


def test_a_token_whose_header_names_its_own_key_is_held_to_ours() -> None:
    headers = {"jwk": {"kty": "oct", "k": base64.b64encode(b"x" * 40).decode()}, "kid": "../../dev/null"}
    assert "not signed" in refusal(signed({}, secret="x" * 40, headers=headers))
