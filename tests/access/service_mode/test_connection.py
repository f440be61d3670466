"""The connection to the permission service: bearer, certificates, TLS."""

from typing import Any

import pytest

from tests.access.service_mode.authority import Authority
from tests.access.service_mode.service import READ, ROOM, SERVICE, running, settings, until
from tests.permission_peer import PermissionPeer
from track_server.access.question import Question
from track_server.config import SettingsError
from track_server.errors import PermissionServiceUnavailable
from track_server.permission_client.connection import Connection


@pytest.mark.parametrize(("sent", "taken"), [("right", True), ("wrong", False), ("", False)])
async def test_the_bearer_must_be_the_services(sent: str, taken: bool) -> None:
    async with (
        PermissionPeer(token="right") as peer,
        running(peer, permission_token=sent, connected=taken) as service,
    ):
        if taken:
            await service.ask(ROOM)
        else:
            assert isinstance(await service.fails(ROOM), PermissionServiceUnavailable)
            assert not service.access.connected
            assert not await service.access.answering()
            assert peer.questions == []


async def test_tls_both_ways_and_certificates_that_are_exchanged(tmp_path: Any) -> None:
    first, second = Authority(tmp_path / "first"), Authority(tmp_path / "second")
    ours = first.issue("track-server")
    async with PermissionPeer(credentials=first.server_credentials("127.0.0.1")) as peer:
        tls: dict[str, Any] = {
            "permission_tls_ca": first.ca,
            "permission_tls_cert": ours.cert,
            "permission_tls_key": ours.key,
        }
        async with running(peer, **tls) as service:
            await service.ask(ROOM)
            # The service comes back under another authority, and knows the old certificates no more.
            await peer.stop()
            await until(lambda: not service.access.connected)
            peer.credentials = second.server_credentials("127.0.0.1")
            await peer.start()
            assert isinstance(await service.fails(Question(READ, "b"), SERVICE), PermissionServiceUnavailable)
            theirs = second.issue("track-server")
            for path, new in ((first.ca, second.ca), (ours.cert, theirs.cert), (ours.key, theirs.key)):
                path.write_bytes(new.read_bytes())
            await until(lambda: service.access.connected)
            await service.ask(Question(READ, "b"), SERVICE)


@pytest.mark.parametrize("fault", ["no certificate", "another authority", "another name", "no tls"])
async def test_without_the_right_certificates_there_is_no_answer(tmp_path: Any, fault: str) -> None:
    authority, other = Authority(tmp_path / "authority"), Authority(tmp_path / "other")
    shown = authority.server_credentials("elsewhere.example" if fault == "another name" else "127.0.0.1")
    ours = (other if fault == "another authority" else authority).issue("track-server")
    tls: dict[str, Any] = {"permission_tls_ca": authority.ca}
    if fault != "no certificate":
        tls |= {"permission_tls_cert": ours.cert, "permission_tls_key": ours.key}
    if fault == "no tls":
        tls = {}
    async with (
        PermissionPeer(credentials=shown) as peer,
        running(peer, connected=False, timeout_s=1, **tls) as service,
    ):
        assert isinstance(await service.fails(ROOM), PermissionServiceUnavailable)
        assert peer.calls == []


def test_without_tls_the_service_must_be_on_this_machine() -> None:
    with pytest.raises(SettingsError, match="TRACK_PERMISSION_TLS_CA"):
        settings("permissions.example:50052")
    with pytest.raises(SettingsError, match="TRACK_PERMISSION_TLS_KEY"):
        settings("127.0.0.1:1", permission_tls_ca="ca.pem", permission_tls_cert="cert.pem")
    with pytest.raises(SettingsError, match="TRACK_PERMISSION_TLS_CA"):
        settings("127.0.0.1:1", permission_tls_cert="cert.pem", permission_tls_key="key.pem")
    with pytest.raises(SettingsError, match="TRACK_PERMISSION_TOKEN"):
        settings("127.0.0.1:1", permission_token="schlüssel")
    settings("permissions.example:50052", permission_tls_ca="ca.pem")


async def test_certificates_that_cannot_be_read_end_the_start(tmp_path: Any) -> None:
    with pytest.raises(SettingsError, match="TRACK_PERMISSION_TLS_CA"):
        async with Connection(settings("127.0.0.1:1", permission_tls_ca=tmp_path / "none.pem")):
            pass
    authority = Authority(tmp_path / "authority")
    ours, other = authority.issue("ours"), authority.issue("other")
    no_pem = tmp_path / "no.pem"
    no_pem.write_text("no certificate")
    for ca, cert, key, says in (
        (no_pem, ours.cert, ours.key, "TRACK_PERMISSION_TLS_CA: .* has no certificate in PEM"),
        (authority.ca, no_pem, ours.key, "TRACK_PERMISSION_TLS_CERT: .* has no certificate in PEM"),
        (authority.ca, ours.cert, no_pem, "TRACK_PERMISSION_TLS_KEY: .* has no private key in PEM"),
        (authority.ca, ours.cert, other.key, "TRACK_PERMISSION_TLS_KEY: .* is not the private key of the certificate"),
    ):
        given = settings("127.0.0.1:1", permission_tls_ca=ca, permission_tls_cert=cert, permission_tls_key=key)
        with pytest.raises(SettingsError, match=says):
            async with Connection(given):
                pass


async def test_half_exchanged_certificates_leave_the_connection_as_it_is(tmp_path: Any) -> None:
    authority = Authority(tmp_path / "authority")
    ours, theirs = authority.issue("ours"), authority.issue("theirs")
    given = settings(
        "127.0.0.1:1", permission_tls_ca=authority.ca, permission_tls_cert=ours.cert, permission_tls_key=ours.key
    )
    async with Connection(given) as connection:
        before = connection.channel
        ours.cert.write_bytes(theirs.cert.read_bytes())
        await connection.renew()
        assert connection.channel is before
        ours.key.write_bytes(theirs.key.read_bytes())
        await connection.renew()
        assert connection.channel is not before
