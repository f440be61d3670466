"""Who calls, by client certificate."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.certificates import issue
from track.v1.access_pb2 import PrincipalKind
from track.v1.track_pb2 import TrackSource
from track_server.access.certificates import ClientCertificates, parse_clients, read_certificate
from track_server.access.principal import Grants, Principal
from track_server.access.tokens import TokenAuthenticator
from track_server.errors import Unauthenticated
from track_server.keys import ApiKey, KeyRing

CLIENTS = """
["spiffe://example.org/recorder"]
identity = "recorder"
room = "demo"
room_admin = true

["dashboard.example.org"]
room_list = true

[microphone]
room = "demo"
room_join = true
can_publish_sources = ["microphone"]
can_subscribe = false
"""
BOB = "[bob]\nroom_list = true"


def test_a_file_that_is_nested_too_deeply_is_wrong_and_no_more() -> None:
    with pytest.raises(ValueError, match="nested"):
        parse_clients("a = " + "[" * 5000)


def refused(certificates: ClientCertificates, pem: bytes, now: float) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as raised:
        certificates.principal(pem, now)
    return raised.value


def test_a_name_is_a_principal_with_livekits_defaults_for_what_is_not_said() -> None:
    clients = parse_clients(CLIENTS)
    assert clients == {
        "spiffe://example.org/recorder": Principal(
            identity="recorder",
            grants=Grants(room="demo", room_admin=True),
            certificate="spiffe://example.org/recorder",
        ),
        "dashboard.example.org": Principal(
            identity="dashboard.example.org", grants=Grants(room_list=True), certificate="dashboard.example.org"
        ),
        "microphone": Principal(
            identity="microphone",
            grants=Grants(
                room="demo",
                room_join=True,
                can_publish=True,
                can_publish_sources=frozenset({TrackSource.TRACK_SOURCE_MICROPHONE}),
                can_publish_data=True,
            ),
            certificate="microphone",
        ),
    }
    assert clients["dashboard.example.org"].kind == PrincipalKind.PRINCIPAL_KIND_SERVICE
    assert parse_clients("") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bob", "no TOML"),
        ("bob = 5", '"bob" must be a table'),
        ("[bob.example.org]\nroom_list = true", "between quotes"),
        ("[bob]\nroomAdmin = true", "neither identity nor one of room, room_join"),
        ("[bob]\nagent = true", "neither identity nor"),
        ("[bob]\nidentity = 5", "identity"),
        ('[bob]\nidentity = ""', "identity"),
        ('[bob]\nroom_list = "yes"', "grants"),
        ("[bob]\nroom = 1", "grants"),
        ("[bob]\nroom_admin = true", "no room"),
        ("[bob]\nroom_join = true", "no room"),
        ('[bob]\nroom = "r"\ncan_publish_sources = "camera"', "grants"),
        ('[bob]\nroom = "r"\ncan_publish_sources = ["hologram"]', "can_publish_sources"),
        ('[bob]\nroom = "r"\ncan_publish_sources = [["camera"]]', "can_publish_sources"),
        ('[""]\nroom_list = true', "must be a table"),
    ],
)
def test_what_is_not_understood_is_refused_with_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_clients(text)


@given(st.text(alphabet='[]"=.\n#abroom_list true', max_size=60))
def test_any_text_is_clients_or_a_value_error(text: str) -> None:
    try:
        clients = parse_clients(text)
    except ValueError:
        return
    assert all(not client.unrestricted and client.certificate == name for name, client in clients.items())


def test_the_names_of_a_certificate_are_its_uris_dns_names_and_common_name_in_this_order() -> None:
    made = issue("common", uris=["spiffe://example.org/a"], names=["a.example.org", "127.0.0.1"])
    assert read_certificate(made.pem)[0] == ["spiffe://example.org/a", "a.example.org", "common"]
    assert read_certificate(issue("").pem)[0] == []


def test_the_first_name_that_is_mapped_counts_until_the_certificate_expires() -> None:
    certificates = ClientCertificates(parse_clients(CLIENTS))
    made = issue("microphone", uris=["spiffe://example.org/unknown"], names=["dashboard.example.org"])
    expires = made.certificate.not_valid_after_utc.timestamp()
    for now in (expires - 60, expires - 1):
        principal = certificates.principal(made.pem, now)
        assert (principal.identity, principal.expire_time) == ("dashboard.example.org", expires)
        assert certificates.known(made.pem, now) is principal
    assert certificates.known(made.pem, expires) is None
    assert refused(certificates, made.pem, expires).cause == "expired_certificate"


def test_a_certificate_that_is_mapped_to_nobody_is_refused() -> None:
    now = 0.0
    certificates = ClientCertificates(parse_clients(CLIENTS))
    assert refused(certificates, issue("stranger").pem, now).cause == "unknown_certificate"
    assert refused(certificates, b"no certificate", now).cause == "malformed_certificate"
    assert refused(ClientCertificates(), issue("microphone").pem, now).cause == "unknown_certificate"


def test_another_mapping_counts_for_certificates_that_were_seen_before() -> None:
    certificates = ClientCertificates(parse_clients(BOB))
    pem = issue("bob").pem
    assert certificates.principal(pem, 0.0).grants.room_list
    certificates.replace(parse_clients('[bob]\nroom = "r"\nroom_admin = true'))
    assert certificates.principal(pem, 0.0).grants == Grants(room="r", room_admin=True)
    certificates.replace({})
    assert refused(certificates, pem, 0.0).cause == "unknown_certificate"


async def test_a_token_goes_before_the_certificate() -> None:
    authenticator = TokenAuthenticator(KeyRing(ApiKey("key", "x" * 32)), ClientCertificates(parse_clients(BOB)))
    pem = issue("bob", good_for=timedelta(hours=1)).pem
    assert (await authenticator.authenticate(None, pem)).certificate == "bob"
    assert authenticator.known(None) is None
    assert authenticator.known(None, pem) is not None
    assert authenticator.known("Bearer nonsense", pem) is None
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate("Bearer nonsense", pem)
    with pytest.raises(Unauthenticated) as missing:
        await authenticator.authenticate(None, None)
    assert missing.value.cause == "missing"
    without = TokenAuthenticator(KeyRing(ApiKey("key", "x" * 32)))
    with pytest.raises(Unauthenticated) as unmapped:
        await without.authenticate(None, pem)
    assert unmapped.value.cause == "missing"
