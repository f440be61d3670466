"""The endpoint for LiveKit's webhooks: what is signed is taken as a hint, and answered at once; all else is refused."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from tests.conftest import StartLiveKit
from tests.livekit_process import LiveKitProcess, ReservedPort
from tests.livekit_rooms import delete_room, existing_room
from tests.participants import microphone, participant
from tests.webhooks.signing import PATH, doubled, event, post, token
from track_server.config import SettingsError
from track_server.keys import ApiKey, KeyRing
from track_server.livekit.api import LiveKitApi
from track_server.livekit.tokens import TokenMint
from track_server.livekit.webhook import WebhookReader
from track_server.rooms.hints import Hint, Hints
from track_server.rooms.rooms import Rooms
from track_server.rooms.standing import Standing
from track_server.webhooks.endpoint import MAX_BODY_BYTES, Endpoint

KEY, SECRET = "APItest", "a secret that is long enough to sign with"
DEADLINE_S = 45.0
NEVER_S = 3600.0


class Running:
    """An endpoint in the process of the test, and what it takes."""

    def __init__(self, endpoint: Endpoint, hints: Hints, standing: Standing, rooms: Rooms, registry: CollectorRegistry):
        self.address = endpoint.address
        self.standing = standing
        self.rooms = rooms
        self.taken: list[Hint] = []
        self._registry = registry
        hints.listen(self.taken.append)

    def count(self, outcome: str, name: str = "") -> float:
        """How many requests ended so."""
        labels = {"event": name, "outcome": outcome}
        return self._registry.get_sample_value("track_webhooks_received_total", labels) or 0.0

    def value(self, name: str) -> float:
        """Of a metric without labels."""
        return self._registry.get_sample_value(name) or 0.0

    async def until(self, kind: str, **names: str) -> Hint:
        """The hint of that kind and those names."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for hint in self.taken:
                    if hint.event == kind and all(getattr(hint, name) == value for name, value in names.items()):
                        return hint
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(
    livekit: LiveKitProcess, secret: str, listen: str = "127.0.0.1:0", **options: float
) -> AsyncIterator[Running]:
    tokens = TokenMint(livekit.api_key, livekit.api_secret)
    registry = CollectorRegistry()
    settings: dict[str, Any] = {"linger_s": 0.0, "max_events": 1000, "transport_timeout_s": 10.0}
    async with (
        LiveKitApi(livekit.http_url, tokens) as livekit_api,
        Rooms(livekit.url, livekit_api, tokens, **settings) as rooms,
        Standing(rooms, livekit_api, interval_s=NEVER_S) as standing,
        Hints(rooms, standing, livekit_api, grace_s=0.2) as hints,
        KeyRing(ApiKey(KEY, secret)) as keys,
        Endpoint(listen, "TRACK_WEBHOOK_LISTEN", WebhookReader(keys), hints, registry, **options) as endpoint,
    ):
        yield Running(endpoint, hints, standing, rooms, registry)


@pytest_asyncio.fixture
async def endpoint(livekit: LiveKitProcess) -> AsyncIterator[Running]:
    """One that takes what is signed with KEY and SECRET."""
    async with running(livekit, SECRET) as made:
        yield made


async def test_livekits_own_webhooks_are_taken_and_find_rooms_at_once(
    start_livekit: StartLiveKit, room_name: str
) -> None:
    port = ReservedPort()
    # Bound and not listening, it would keep the endpoint from its port.
    port.release()
    listen = f"127.0.0.1:{port.number}"
    livekit = await start_livekit({"webhook": {"urls": [f"http://{listen}{PATH}"], "api_key": KEY}})
    async with running(livekit, livekit.api_secret, listen) as taking:
        taking.standing.want("owner", room_name)
        # Without a webhook it would be looked for at the interval alone, which never comes.
        async with participant(livekit, room_name, "alice") as alice:
            published = await microphone(alice)
            started = await taking.until("room_started", room=room_name)
            assert started.room_sid.startswith("RM_")
            await taking.until("participant_joined", participant_identity="alice")
            await taking.until("track_published", track_sid=published.sid)
            async with asyncio.timeout(DEADLINE_S):
                while taking.rooms.find(room_name) is None:
                    await asyncio.sleep(0.02)
        await taking.until("participant_left", participant_identity="alice")
        await delete_room(livekit, room_name)
        await taking.until("room_finished", room=room_name)
        assert taking.count("taken", "room_started") == 1
        assert taking.value("track_webhooks_last_time_seconds") > 0
        assert not [outcome for outcome in ("wrong_signature", "malformed", "other_body") if taking.count(outcome)]


async def test_a_stranger_is_not_told_which_keys_there_are(endpoint: Running) -> None:
    body = event("room_started", "demo")
    told = []
    for key in (KEY, "APIother"):
        signed = {"Authorization": token(body, key, "another secret that is long enough")}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://{endpoint.address}{PATH}", data=body, headers=signed) as answer,
        ):
            told.append((answer.status, await answer.text(), answer.headers["Server"]))
    assert told == [(401, "wrong_signature\n", "track-server")] * 2
    assert (endpoint.count("wrong_signature"), endpoint.count("unknown_key")) == (1, 1), "the operator is"


async def test_a_webhook_is_taken_with_and_without_the_word_bearer(endpoint: Running) -> None:
    for prefix in ("", "Bearer ", "bearer "):
        body = event("egress_ended", egressInfo={"egressId": "EG_a", "roomName": "demo"})
        assert (await post(endpoint.address, body, prefix + token(body, KEY, SECRET))).status == 200
    assert [(hint.egress_id, hint.room) for hint in endpoint.taken] == [("EG_a", "demo")] * 3


async def test_a_doubled_one_is_taken_and_told_once(endpoint: Running) -> None:
    body = event("room_started", "demo")
    for _ in range(2):
        assert (await post(endpoint.address, body, token(body, KEY, SECRET))).status == 200
    assert len(endpoint.taken) == 1
    assert (endpoint.count("taken", "room_started"), endpoint.count("doubled", "room_started")) == (1, 1)


async def test_a_request_that_was_taken_is_refused_when_it_is_replayed(endpoint: Running) -> None:
    body = event("room_started", "demo")
    authorization = token(body, KEY, SECRET)
    assert (await post(endpoint.address, body, authorization)).status == 200
    assert (await post(endpoint.address, body, authorization)).status == 401
    assert len(endpoint.taken) == 1
    assert endpoint.count("replayed") == 1


@pytest.mark.parametrize(
    ("forged", "outcome"),
    [
        (lambda body: None, "missing"),
        (lambda body: "", "missing"),
        (lambda body: "Bearer", "malformed"),
        (lambda body: "nonsense", "malformed"),
        (lambda body: "a.b.c", "malformed"),
        (lambda body: "x" * 6000, "malformed"),
        (lambda body: doubled(body, KEY, SECRET), "malformed"),
        (lambda body: token(body, KEY, "another secret that is long enough"), "wrong_signature"),
        (lambda body: token(body, "APIother", SECRET), "unknown_key"),
        (lambda body: token(body, KEY, SECRET, iss=None), "unknown_key"),
        (lambda body: token(body + b" ", KEY, SECRET), "other_body"),
        (lambda body: token(body, KEY, SECRET, sha256=None), "no_body_hash"),
        (lambda body: token(body, KEY, SECRET, sha256="***"), "malformed"),
        (lambda body: token(body, KEY, SECRET, sha256=17), "no_body_hash"),
        (lambda body: token(body, KEY, SECRET, lasts_s=-1), "expired"),
        (lambda body: token(body, KEY, SECRET, exp=None), "malformed"),
        (lambda body: token(body, KEY, SECRET, exp="soon"), "malformed"),
        (lambda body: token(body, KEY, SECRET, lasts_s=86_400), "not_yet_valid"),
        (lambda body: token(body, KEY, SECRET, begins_s=200), "not_yet_valid"),
    ],
)
async def test_what_livekit_has_not_signed_is_refused(
    endpoint: Running, forged: Callable[[bytes], str | None], outcome: str
) -> None:
    body = event("room_started", "demo")
    assert (await post(endpoint.address, body, forged(body))).status == 401
    assert endpoint.count(outcome) == 1
    assert not endpoint.taken


async def test_a_huge_one_is_refused(endpoint: Running) -> None:
    body = event("room_started", "demo", padding="x" * MAX_BODY_BYTES)
    assert (await post(endpoint.address, body, token(body, KEY, SECRET))).status == 413

    async def pieces() -> AsyncIterator[bytes]:
        for place in range(0, len(body), 65536):
            yield body[place : place + 65536]

    # Without a length beforehand.
    headers = {"Authorization": token(body, KEY, SECRET)}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{endpoint.address}{PATH}", data=pieces(), headers=headers) as answer,
    ):
        assert answer.status == 413
    assert endpoint.count("too_large") == 2
    assert not endpoint.taken


async def test_other_paths_and_methods_are_refused(endpoint: Running) -> None:
    body = event("room_started", "demo")
    good = token(body, KEY, SECRET)
    for path in ("/", "/webhook", f"{PATH}/", f"{PATH}x"):
        assert (await post(endpoint.address, body, good, path=path)).status == 404
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        answer = await post(endpoint.address, b"", good, method=method)
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert not endpoint.taken


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"17", b"\xff\xfe", b'{"event": 17}', b"[" * 100_000])
async def test_what_is_signed_and_no_webhook_is_refused(endpoint: Running, body: bytes) -> None:
    assert (await post(endpoint.address, body, token(body, KEY, SECRET))).status == 400
    assert not endpoint.taken


async def test_unknown_events_and_fields_are_passed_over(endpoint: Running) -> None:
    body = event("something_new", "demo", novelty={"a": 1}, numDropped=3)
    assert (await post(endpoint.address, body, token(body, KEY, SECRET))).status == 200
    assert endpoint.count("taken", "other") == 1
    assert endpoint.value("track_webhooks_lost_total") == 3


async def test_who_sends_nothing_keeps_no_connection(livekit: LiveKitProcess) -> None:
    body = event("room_started", "demo")
    fields = f"Host: localhost\r\nAuthorization: {token(body, KEY, SECRET)}\r\nContent-Length: 900\r\n\r\n"
    head = f"POST {PATH} HTTP/1.1\r\n{fields}"
    async with running(livekit, SECRET, connection_s=0.3) as endpoint:
        host, port = endpoint.address.split(":")
        for beginning in (b"", b"POST / HTTP/1.1\r\nX: ", head.encode() + body):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(beginning)
            async with asyncio.timeout(DEADLINE_S):
                assert await reader.read() == b""
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        assert not endpoint.taken


async def test_an_address_that_is_taken_is_told(livekit: LiveKitProcess, endpoint: Running) -> None:
    with pytest.raises(SettingsError) as refused:
        async with running(livekit, SECRET, endpoint.address):
            pass
    assert refused.value.sentences[0].startswith("TRACK_WEBHOOK_LISTEN: ")


async def test_a_webhook_about_what_is_not_true_changes_nothing(
    livekit: LiveKitProcess, endpoint: Running, room_name: str
) -> None:
    async with (
        existing_room(livekit, room_name),
        participant(livekit, room_name, "alice") as alice,
        endpoint.rooms.watch(room_name) as live,
    ):
        sid = (await microphone(alice)).sid
        assert await live.until(lambda: sid in live.model.tracks, DEADLINE_S)
        before = live.log.cursor.epoch
        lies = [
            event("participant_joined", participant={"sid": "PA_none", "identity": "mallory"}),
            event("participant_left", participant={"sid": live.model.participants["alice"].sid, "identity": "alice"}),
            event("track_unpublished", track={"sid": sid}),
            event("room_finished"),
        ]
        for lie in lies:
            body = lie.replace(b"{", b'{"room": {"name": "%s"}, ' % room_name.encode(), 1)
            assert (await post(endpoint.address, body, token(body, KEY, SECRET))).status == 200
        assert await live.until(lambda: bool(live.model.tracks), DEADLINE_S)
        # LiveKit's API was asked, and shows the same as the watch: nothing was done.
        await asyncio.sleep(1.0)
        assert live.log.cursor.epoch == before
        assert not live.closed
        assert set(live.model.participants) == {"alice"}
