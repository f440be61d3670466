"""Tokens that nobody in their right mind sends: refused, each with Unauthenticated and nothing else."""

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.access.access_tokens import KEY, NOW, RING, SECRET, refusal, signed
from track.v1.access_pb2 import TrackOperation
from track_server.access.operation import CLAIM
from track_server.access.principal import Principal
from track_server.access.tokens import verify
from track_server.errors import Unauthenticated

# How long an example takes says nothing where other tests run beside.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_NAMES = st.sampled_from(
    [
        "room",
        "roomJoin",
        "roomAdmin",
        "roomList",
        "canPublish",
        "canPublishSources",
        "canPublishData",
        "canSubscribe",
        "agent",
        "x",
    ]
)
_CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "iss": st.just(KEY) | _JSON,
        "exp": st.just(int(NOW) + 600) | _JSON,
        "nbf": _JSON,
        "iat": _JSON,
        "aud": _JSON,
        "sub": _JSON,
        "jti": _JSON,
        "track": _JSON | st.dictionaries(st.sampled_from(["operation", "bounds", "x"]), _JSON, max_size=3),
        "video": _JSON | st.dictionaries(_NAMES, st.booleans() | st.text(max_size=4) | _JSON, max_size=5),
    },
)


def _accepted_or_unauthenticated(token: str) -> Principal | None:
    try:
        principal, _ = verify(token, RING, NOW)
    except Unauthenticated as error:
        if error.cause not in {"malformed", "expired", "not_yet_valid", "unknown_key", "wrong_signature"}:
            raise
        return None
    return principal


def _no_wider_than(principal: Principal, claims: dict[str, Any]) -> bool:
    """Whether each grant is one that LiveKit reads from the claims, in LiveKit's own words: what is not said is not
    granted, except for who joins.
    """
    video = claims.get("video") or {}
    grants, joins = principal.grants, video.get("roomJoin") is True

    def said(name: str, *, default: bool = False) -> bool:
        value = video.get(name)
        return default if value is None else value is True

    publishes = said("canPublish", default=joins)
    return (
        grants.room in ("", video.get("room"))
        and (not grants.room_join or joins)
        and (not grants.room_admin or said("roomAdmin"))
        and (not grants.room_list or said("roomList"))
        and (not grants.agent or said("agent"))
        and (not grants.can_publish or publishes)
        and (not grants.can_publish_data or said("canPublishData", default=publishes))
        and (not grants.can_subscribe or said("canSubscribe", default=joins))
        and bool(grants.can_publish_sources) == bool(video.get("canPublishSources"))
        and not principal.unrestricted
        and (CLAIM not in claims or principal.operation != TrackOperation.TRACK_OPERATION_UNSPECIFIED)
    )


@patient
@given(claims=_CLAIMS)
def test_signed_nonsense_raises_nothing_but_unauthenticated(claims: dict[str, Any]) -> None:
    try:
        token = jwt.api_jws.encode(json.dumps(claims).encode(), SECRET)
    except ValueError:
        return
    principal = _accepted_or_unauthenticated(token)
    assert principal is None or _no_wider_than(principal, claims)


@patient
@given(token=st.text(max_size=200) | st.text(alphabet='eyJ.-_AZaz09{}"', max_size=200))
def test_any_text_raises_nothing_but_unauthenticated(token: str) -> None:
    with pytest.raises(Unauthenticated):
        verify(token, RING, NOW)


@patient
@given(header=_JSON, payload=_JSON)
def test_any_json_in_the_shape_of_a_token_raises_nothing_but_unauthenticated(header: object, payload: object) -> None:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, payload)]
    with pytest.raises(Unauthenticated):
        verify(".".join([*parts, "AAAA"]), RING, NOW)


def test_deeply_nested_json_raises_nothing_but_unauthenticated() -> None:
    header = base64.urlsafe_b64encode(b'{"alg":' + b"[" * 8000).rstrip(b"=").decode()
    assert "malformed" in refusal(f"{header}.e30.AAAA")


@patient
@given(position=st.integers(0), flip=st.integers(1, 255))
def test_a_token_with_one_changed_byte_is_never_taken(position: int, flip: int) -> None:
    token = signed({"video": {"room": "room", "roomJoin": True}}).encode()
    at = position % len(token)
    changed = token[:at] + bytes([token[at] ^ flip]) + token[at + 1 :]
    head, _, signature = changed.rpartition(b".")
    if head == token.rpartition(b".")[0] and signature[:-1] == token.rpartition(b".")[2][:-1]:
        return  # the last character of base64 has bits that mean nothing
    with pytest.raises(Unauthenticated):
        verify(changed.decode("latin-1"), RING, NOW)
