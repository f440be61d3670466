"""Telling who calls from a LiveKit access token, and telling nothing to who has none."""

import asyncio
import base64
import json
from datetime import timedelta
from typing import Any

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from livekit import api

from track.v1.track_pb2 import TrackSource
from track_server.access import tokens
from track_server.access.principal import Grants, Principal
from track_server.access.tokens import TokenAuthenticator, Unguarded, verify
from track_server.errors import Unauthenticated

KEY = "APIkey"
SECRET = "secret-of-the-tests-with-more-than-32-bytes"
NOW = 1_700_000_000.0


# How long an example takes says nothing where other tests run beside.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def signed(
    claims: dict[str, Any], *, secret: str = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None
) -> str:
    base = {"iss": KEY, "exp": int(NOW) + 600, "nbf": int(NOW), "sub": "alice"}
    merged = {name: value for name, value in (base | claims).items() if value is not ...}
    return jwt.encode(merged, secret, algorithm=algorithm, headers=headers)


def principal_of(claims: dict[str, Any], now: float = NOW) -> Principal:
    return verify(signed(claims), KEY, SECRET, now)[0]


def refusal(token: str, now: float = NOW) -> str:
    with pytest.raises(Unauthenticated) as refused:
        verify(token, KEY, SECRET, now)
    return refused.value.message


def test_the_sdks_own_token_is_read_with_livekits_defaults() -> None:
    token = (
        api.AccessToken(KEY, SECRET)
        .with_identity("alice")
        .with_ttl(timedelta(hours=1))
        .with_grants(api.VideoGrants(room_join=True, room="room", can_publish_sources=["camera", "screen_share"]))
        .to_jwt()
    )
    now = jwt.decode(token, SECRET, algorithms=["HS256"])["nbf"]
    principal, good_until = verify(token, KEY, SECRET, now)
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
    verify(token, KEY, SECRET, NOW - 4)
    verify(token, KEY, SECRET, NOW + 99)
    assert "expired" in refusal(token, NOW + 100)


def _unsigned(header: dict[str, Any]) -> str:
    parts = (header, {"iss": KEY, "exp": int(NOW) + 600})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (signed({}, secret="another-secret-with-more-than-32-bytes"), "not signed"),
        (signed({}, algorithm="HS512", secret=SECRET * 2), "malformed"),
        (_unsigned({"alg": "none"}), "malformed"),
        (_unsigned({"alg": "HS256"}), "not signed"),
        (signed({"iss": "APIother"}), "another API key"),
        (signed({"exp": ...}), "lacks"),
        (signed({"iss": ...}), "lacks"),
        (signed({"exp": "soon"}), "malformed"),
        (signed({"exp": True}), "malformed"),
        (signed({"exp": 10**30}), "malformed"),
        (signed({"nbf": []}), "malformed"),
        (signed({"video": []}), "malformed"),
        (signed({"video": {"roomJoin": "true"}}), "malformed"),
        (signed({"video": {"room": 1}}), "malformed"),
        (signed({"video": {"canPublishSources": "camera"}}), "malformed"),
        (signed({"sub": 5}), "malformed"),
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


def test_a_token_whose_header_names_its_own_key_is_held_to_ours() -> None:
    headers = {"jwk": {"kty": "oct", "k": base64.b64encode(b"x" * 40).decode()}, "kid": "../../dev/null"}
    assert "not signed" in refusal(signed({}, secret="x" * 40, headers=headers))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_NAMES = st.sampled_from(["room", "roomJoin", "roomAdmin", "canPublish", "canPublishSources", "agent", "x"])
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
        "video": _JSON | st.dictionaries(_NAMES, _JSON, max_size=4),
    },
)


def _accepted_or_unauthenticated(token: str) -> None:
    try:
        principal, _ = verify(token, KEY, SECRET, NOW)
    except Unauthenticated:
        return
    assert isinstance(principal, Principal)


@patient
@given(claims=_CLAIMS)
def test_signed_nonsense_raises_nothing_but_unauthenticated(claims: dict[str, Any]) -> None:
    try:
        token = jwt.api_jws.encode(json.dumps(claims).encode(), SECRET)
    except ValueError:
        return
    _accepted_or_unauthenticated(token)


@patient
@given(token=st.text(max_size=200) | st.text(alphabet='eyJ.-_AZaz09{}"', max_size=200))
def test_any_text_raises_nothing_but_unauthenticated(token: str) -> None:
    with pytest.raises(Unauthenticated):
        verify(token, KEY, SECRET, NOW)


@patient
@given(header=_JSON, payload=_JSON)
def test_any_json_in_the_shape_of_a_token_raises_nothing_but_unauthenticated(header: object, payload: object) -> None:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, payload)]
    with pytest.raises(Unauthenticated):
        verify(".".join([*parts, "AAAA"]), KEY, SECRET, NOW)


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
        verify(changed.decode("latin-1"), KEY, SECRET, NOW)


class Moving:
    now = NOW

    def __call__(self) -> float:
        return self.now


async def test_a_token_is_verified_once_and_kept_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    verified = 0

    def counted(*arguments: Any) -> tuple[Principal, float]:
        nonlocal verified
        verified += 1
        return verify(*arguments)

    monkeypatch.setattr(tokens, "verify", counted)
    clock = Moving()
    authenticator = TokenAuthenticator(KEY, SECRET, clock=clock)
    header = f"Bearer {signed({'exp': int(NOW) + 100})}"
    first = await authenticator.authenticate(header)
    clock.now += 90
    assert await authenticator.authenticate(header) is first
    assert verified == 1
    clock.now += 10
    with pytest.raises(Unauthenticated, match="expired"):
        await authenticator.authenticate(header)


async def test_no_more_tokens_are_kept_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_CACHE", 10)
    authenticator = TokenAuthenticator(KEY, SECRET, clock=Moving())
    await asyncio.gather(*(authenticator.authenticate(f"Bearer {signed({'sub': str(n)})}") for n in range(50)))
    assert len(authenticator._principals) == 10


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearerabc", signed({})])
async def test_a_call_without_a_bearer_token_is_refused(header: str | None) -> None:
    with pytest.raises(Unauthenticated, match="Bearer"):
        await TokenAuthenticator(KEY, SECRET, clock=Moving()).authenticate(header)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
async def test_the_schemes_case_does_not_matter(scheme: str) -> None:
    principal = await TokenAuthenticator(KEY, SECRET, clock=Moving()).authenticate(f"{scheme} {signed({})}")
    assert principal.identity == "alice"


async def test_without_authentication_everybody_may_do_everything() -> None:
    for header in (None, "nonsense"):
        assert (await Unguarded().authenticate(header)).unrestricted
