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

from track.v1.access_pb2 import TrackOperation
from track.v1.publication_pb2 import VideoCodec
from track.v1.track_pb2 import TrackSource
from track_server.access import tokens
from track_server.access.bounds import UNBOUNDED, Bounds
from track_server.access.operation import CLAIM, claim_of
from track_server.access.principal import Grants, Principal
from track_server.access.tokens import TokenAuthenticator, Unguarded, verify
from track_server.errors import Unauthenticated
from track_server.keys import ApiKey, KeyRing, parse_keys

KEY = "APIkey"
SECRET = "secret-of-the-tests-with-more-than-32-bytes"
OTHER_KEY = "APInext"
OTHER_SECRET = "the-other-secret-of-the-tests-also-32-bytes"
NOW = 1_700_000_000.0


def ring(text: str = f"{KEY}: {SECRET}\n{OTHER_KEY}: {OTHER_SECRET}") -> KeyRing:
    """Keys as a file with that text has them."""
    keys = KeyRing(ApiKey("", ""))
    keys._take(parse_keys(text))
    return keys


RING = ring()


# How long an example takes says nothing where other tests run beside.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def signed(
    claims: dict[str, Any], *, secret: str = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None
) -> str:
    base = {"iss": KEY, "exp": int(NOW) + 600, "nbf": int(NOW), "sub": "alice"}
    merged = {name: value for name, value in (base | claims).items() if value is not ...}
    return jwt.encode(merged, secret, algorithm=algorithm, headers=headers)


def principal_of(claims: dict[str, Any], now: float = NOW) -> Principal:
    return verify(signed(claims), RING, now)[0]


def refused(token: str, now: float = NOW) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as raised:
        verify(token, RING, now)
    return raised.value


def refusal(token: str, now: float = NOW) -> str:
    return refused(token, now).message


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
        (signed({"iss": ...}, secret=tokens._NO_SECRET), "lacks"),
        (signed({"iss": "APIother"}, secret=tokens._NO_SECRET), "another API key"),
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
        patch.setattr(tokens, "_issuer", lambda _: OTHER_KEY)
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
    authenticator = TokenAuthenticator(ring(), clock=clock)
    header = f"Bearer {signed({'exp': int(NOW) + 100})}"
    first = await authenticator.authenticate(header)
    clock.now += 90
    assert await authenticator.authenticate(header) is first
    assert verified == 1
    clock.now += 10
    with pytest.raises(Unauthenticated, match="expired"):
        await authenticator.authenticate(header)


async def test_a_token_that_is_kept_is_not_taken_once_its_key_is_gone_or_has_another_secret() -> None:
    keys = ring()
    authenticator = TokenAuthenticator(keys, clock=Moving())
    old, new = f"Bearer {signed({})}", f"Bearer {signed({'iss': OTHER_KEY}, secret=OTHER_SECRET)}"
    for header in (old, new):
        await authenticator.authenticate(header)
        assert authenticator.known(header) is not None
    keys._take({OTHER_KEY: OTHER_SECRET})
    assert authenticator.known(old) is None
    with pytest.raises(Unauthenticated) as gone:
        await authenticator.authenticate(old)
    assert gone.value.cause == "unknown_key"
    assert (await authenticator.authenticate(new)).identity == "alice"
    keys._take({OTHER_KEY: "x" * 40})
    with pytest.raises(Unauthenticated) as changed:
        await authenticator.authenticate(new)
    assert changed.value.cause == "wrong_signature"


async def test_no_more_tokens_are_kept_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_CACHE", 10)
    authenticator = TokenAuthenticator(ring(), clock=Moving())
    await asyncio.gather(*(authenticator.authenticate(f"Bearer {signed({'sub': str(n)})}") for n in range(50)))
    assert len(authenticator._principals) == 10


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearerabc", signed({})])
async def test_a_call_without_a_bearer_token_is_refused(header: str | None) -> None:
    with pytest.raises(Unauthenticated, match="Bearer") as raised:
        await TokenAuthenticator(ring(), clock=Moving()).authenticate(header)
    assert raised.value.cause == ("missing" if header is None else "malformed")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
async def test_the_schemes_case_does_not_matter(scheme: str) -> None:
    principal = await TokenAuthenticator(ring(), clock=Moving()).authenticate(f"{scheme} {signed({})}")
    assert principal.identity == "alice"


async def test_without_authentication_everybody_may_do_everything() -> None:
    for header in (None, "nonsense"):
        assert (await Unguarded().authenticate(header)).unrestricted
