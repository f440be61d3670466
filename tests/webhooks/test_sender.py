"""A POST to a receiver, and every way in which that may go wrong."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from livekit import api

from tests.certificates import authority, server_certificate
from track_server.errors import DestinationNotAllowed, TrackError, WebhookNotTaken
from track_server.livekit.tokens import TokenMint
from track_server.webhooks.sender import Sender
from track_server.webhooks.targets import Targets

KEY, SECRET = "key", "a secret that is long enough to sign with"
HOSTS = ["http://127.0.0.1", "http://hooks.example", "localhost"]
BODY = '{"id": "WHE_ä"}'.encode()


@contextlib.asynccontextmanager
async def sender(*, allow_private: bool = True, timeout_s: float = 20.0) -> AsyncIterator[Sender]:
    targets = Targets(HOSTS, allow_private=allow_private)
    async with Sender(targets, TokenMint(KEY, SECRET).sign, timeout_s=timeout_s, user_agent="tests") as made:
        yield made


@contextlib.asynccontextmanager
async def receiver(
    status: int = 200, *, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[tuple[str, list[web.BaseRequest]]]:
    came: list[web.BaseRequest] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        came.append(request)
        return web.Response(status=status, **options)

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/", came
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def raw(answer: bytes) -> AsyncIterator[str]:
    """A server that says just that, and closes no connection."""
    writers = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(answer)
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for writer in writers:
            writer.transport.abort()


async def cause(made: Sender, url: str) -> str:
    with pytest.raises(WebhookNotTaken) as refused:
        await made.post(url, BODY)
    return refused.value.metadata["cause"]


async def test_the_body_arrives_signed_as_livekit_signs() -> None:
    async with sender() as made, receiver(202) as (url, came):
        await made.post(url, BODY)
        (request,) = came
        verifier = api.WebhookReceiver(api.TokenVerifier(KEY, SECRET))
        assert verifier.receive(BODY.decode(), request.headers["Authorization"]).id == "WHE_ä"
        assert request.method == "POST"
        assert request.headers["Content-Type"] == "application/webhook+json"


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 410, 429, 500, 503])
async def test_any_other_status_is_a_failure_and_redirects_are_not_followed(status: int) -> None:
    async with sender() as made, receiver(200) as (elsewhere, followed):
        async with receiver(status, headers={"Location": elsewhere}, text="secret of the receiver") as (url, _):
            with pytest.raises(WebhookNotTaken) as refused:
                await made.post(url, BODY)
        assert not followed
        assert refused.value.metadata == {"cause": "status", "status": str(status)}
        assert "secret" not in refused.value.message


async def test_a_receiver_that_does_not_answer_in_time_is_a_failure() -> None:
    async with sender(timeout_s=0.3) as made, raw(b"") as url:
        assert await cause(made, url) == "timeout"


async def test_an_answer_without_end_is_not_read() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
    async with sender() as made, raw(head + bytes(1 << 20)) as url:
        await made.post(url, BODY)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000])
async def test_what_speaks_no_http_is_a_failure(answer: bytes) -> None:
    async with sender() as made, raw(answer) as url:
        assert await cause(made, url) == "protocol"


async def test_a_receiver_that_is_away_or_unknown_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver() as (url, _):
        pass
    async with sender() as made:
        assert await cause(made, url) == "unreachable"
        resolve_to(monkeypatch)
        assert await cause(made, "http://hooks.example/") == "name"


async def test_a_certificate_that_nobody_trusts_is_a_failure(tmp_path: Path) -> None:
    server_certificate(authority("nobody's")).write(tmp_path, "server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    async with sender() as made, receiver(tls=context) as (url, came):
        assert await cause(made, url.replace("http://127.0.0.1", "https://localhost")) == "certificate"
        assert not came


async def test_a_receiver_that_speaks_no_tls_is_a_failure() -> None:
    async with sender() as made, receiver() as (url, came):
        assert await cause(made, url.replace("http://127.0.0.1", "https://localhost")) in ("certificate", "unreachable")
        assert not came


async def test_the_address_that_is_really_connected_to_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver() as (url, came):
        port = url.rpartition(":")[2]
        async with sender(allow_private=False) as made:
            for addresses in (["127.0.0.1"], ["::1", "127.0.0.1"], ["169.254.169.254"], ["::ffff:127.0.0.1"]):
                resolve_to(monkeypatch, *addresses)
                with pytest.raises(DestinationNotAllowed):
                    await made.post(f"http://hooks.example:{port}", BODY)
            with pytest.raises(DestinationNotAllowed):
                await made.post(url, BODY)
        assert not came
        async with sender() as made:
            resolve_to(monkeypatch, "127.0.0.1")
            await made.post(f"http://hooks.example:{port}", BODY)
        assert len(came) == 1


async def test_a_name_that_changes_its_address_after_it_was_looked_at_gains_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is connected to is what was looked at: the name is looked up once for a connection."""
    async with receiver() as (url, came):
        port, looked = int(url.rpartition(":")[2].strip("/")), 0

        def rebinding(host: str, port: int, *rest: Any) -> Any:
            nonlocal looked
            looked += 1
            return infos(["203.0.114.1" if looked == 1 else "127.0.0.1"], port)

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        async with sender(allow_private=False, timeout_s=0.5) as made:
            for _ in range(2):
                with pytest.raises(TrackError):
                    await made.post(f"http://hooks.example:{port}/", BODY)
        assert not came


async def test_a_host_that_the_list_names_no_more_is_not_connected_to() -> None:
    async with sender() as made, receiver() as (url, came):
        with pytest.raises(DestinationNotAllowed):
            await made.post(url.replace("127.0.0.1", "127.0.0.2"), BODY)
        assert not came


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Every name leads to those; to nothing, where there are none."""

    def resolve(host: str, port: int, *rest: Any) -> Any:
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return infos(addresses, port)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def infos(addresses: Any, port: int) -> Any:
    """As getaddrinfo answers."""
    return [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
        if ":" in address
        else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
        for address in addresses
    ]
