"""Who the permission service takes for TrackService."""

from datetime import timedelta

import pytest

from tests.certificates import issue
from track_server.errors import Unauthenticated
from track_server.permissions.caller import CallerAuthenticator


@pytest.mark.parametrize(
    ("authorization", "known"),
    [
        ("Bearer secret", True),
        ("bearer secret", True),
        ("BEARER  secret ", True),
        ("Bearer secret2", False),
        ("Bearer secre", False),
        ("Bearer ", False),
        ("Basic secret", False),
        ("secret", False),
        ("", False),
        (None, False),
    ],
)
async def test_the_bearer_token_must_be_the_whole_one(authorization: str | None, known: bool) -> None:
    callers = CallerAuthenticator("secret", certificates=False)
    assert (callers.known(authorization) is not None) is known
    if not known:
        with pytest.raises(Unauthenticated):
            await callers.authenticate(authorization, issue("track").pem)


async def test_with_nothing_to_show_for_everybody_is_taken() -> None:
    callers = CallerAuthenticator("", certificates=False)
    assert callers.known(None) is not None
    assert callers.known("Bearer whatever") is not None


async def test_a_certificate_is_good_until_it_expires() -> None:
    certificate = issue("track", uris=["spiffe://example/track"], good_for=timedelta(days=1))
    end = certificate.certificate.not_valid_after_utc.timestamp()
    now = end - 1
    callers = CallerAuthenticator("", certificates=True, clock=lambda: now)
    assert callers.known(None) is None
    assert (await callers.authenticate(None, certificate.pem)).certificate == "spiffe://example/track"
    now = end
    with pytest.raises(Unauthenticated, match="expired"):
        await callers.authenticate(None, certificate.pem)
    with pytest.raises(Unauthenticated, match="malformed"):
        await callers.authenticate(None, b"no certificate")
    with pytest.raises(Unauthenticated):
        await callers.authenticate(None, None)
