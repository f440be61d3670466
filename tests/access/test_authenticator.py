"""Who calls: tokens that are kept, and headers without one."""

import asyncio
from typing import Any

import pytest

from tests.access.access_tokens import NOW, OTHER_KEY, OTHER_SECRET, ring, signed
from track_server.access import tokens
from track_server.access.principal import Principal
from track_server.access.tokens import TokenAuthenticator, Unguarded, verify
from track_server.errors import Unauthenticated


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
