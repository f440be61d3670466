"""Tokens that this service signs: good for what they are for and no more, and signed once."""

from datetime import timedelta
from typing import Any

import jwt
from livekit.api import VideoGrants

from track_server.access.tokens import verify
from track_server.keys import ApiKey, KeyRing
from track_server.livekit import tokens
from track_server.livekit.tokens import TokenMint

KEY = "APIkey"
SECRET = "secret-of-the-tests-with-more-than-32-bytes"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def claims(token: str) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(token, SECRET, algorithms=["HS256"], issuer=KEY)
    return decoded


def given_grants(token: str) -> set[str]:
    return {name for name, value in claims(token)["video"].items() if value is True}


def test_each_token_grants_what_it_is_for() -> None:
    mint = TokenMint(KEY, SECRET)
    # The SDK writes its defaults canPublish, canSubscribe and canPublishData into every token.
    defaults = {"canPublish", "canSubscribe", "canPublishData"}
    assert given_grants(mint.server()) - defaults == {"roomList", "roomCreate"}
    assert given_grants(mint.room_admin("room")) - defaults == {"roomAdmin", "roomCreate", "roomList"}
    assert claims(mint.room_admin("room"))["video"]["room"] == "room"
    assert given_grants(mint.host("room", "host", {})) == {"roomJoin", "agent", "canPublish", "canPublishData"}
    assert given_grants(mint.worker()) - defaults == {"agent"}
    watcher = mint.watcher("room", "watcher-1")
    assert given_grants(watcher) == {"roomJoin", "hidden", "canSubscribe"}
    assert (claims(watcher)["sub"], claims(watcher)["kind"]) == ("watcher-1", "agent")


def test_a_workers_token_opens_media_sessions_and_no_room() -> None:
    mint = TokenMint(KEY, SECRET)
    now = claims(mint.worker())["nbf"]
    grants = verify(mint.worker(), KeyRing(ApiKey(KEY, SECRET)), now)[0].grants

    assert (grants.agent, grants.room_join, grants.room_admin, grants.room_list) == (True, False, False, False)


def test_a_token_is_signed_once_per_purpose_and_again_before_it_expires(monkeypatch: Any) -> None:
    clock = Clock()
    mint = TokenMint(KEY, SECRET, clock=clock)
    signed = 0
    mint_token = TokenMint._mint

    def counted(self: TokenMint, *arguments: Any, **options: Any) -> str:
        nonlocal signed
        signed += 1
        return mint_token(self, *arguments, **options)

    monkeypatch.setattr(TokenMint, "_mint", counted)
    first = mint.room_admin("a")
    assert mint.room_admin("a") is first
    mint.room_admin("b")
    mint.watcher("a", "one")
    mint.watcher("a", "two")
    assert signed == 4
    clock.now += 3600 - 600 - 1
    assert mint.room_admin("a") is first
    clock.now += 1
    mint.room_admin("a")
    mint.room_admin("a")
    assert signed == 5


def test_no_more_tokens_are_kept_than_the_limit(monkeypatch: Any) -> None:
    monkeypatch.setattr(tokens, "_CACHE", 10)
    mint = TokenMint(KEY, SECRET)
    for n in range(50):
        mint.room_admin(f"room-{n}")
    assert len(mint._kept) == 10


def test_a_users_token_has_the_grants_identity_and_life_asked_for() -> None:
    grants = VideoGrants(room_join=True, room="room", can_publish=False)
    decoded = claims(TokenMint(KEY, SECRET).user(grants, identity="alice", ttl=timedelta(minutes=5)))
    assert decoded["sub"] == "alice"
    assert decoded["exp"] - decoded["nbf"] == 300
    assert decoded["video"]["canPublish"] is False
