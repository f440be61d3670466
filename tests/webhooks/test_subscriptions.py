"""Webhook subscriptions: who may make, see and end them, and what is refused."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.permission_process import PermissionProcess
from tests.refusals import refusal
from tests.track_process import Client, TrackProcess
from tests.webhooks.conftest import SETTINGS
from tests.webhooks.receiver import DEADLINE_S
from tests.webhooks.subscribing import delete, listed, subscribed
from track.v1 import event_pb2
from track.v1 import webhook_pb2 as pb

URL = "http://127.0.0.1:9/hooks?key=hush"
DENIED = grpc.StatusCode.PERMISSION_DENIED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND


def create(client: Client, room: str = "", url: str = URL, **options: Any) -> Any:
    request = pb.CreateWebhookSubscriptionRequest(room=room, url=url, **options)
    return client.CreateWebhookSubscription(request, timeout=45)


async def test_it_is_made_listed_and_deleted(admin: Client, room_name: str) -> None:
    kinds = [event_pb2.EVENT_KIND_TRACK_MUTED]
    made = (await create(admin, room_name, kinds=kinds, filter="room != ''", request_id="once")).subscription
    assert made.subscription_id.startswith("WHS_")
    assert (made.room, list(made.kinds), made.filter, made.creator_identity) == (
        room_name,
        kinds,
        "room != ''",
        "admin",
    )
    assert made.url == "http://127.0.0.1:9/hooks", "the query may be a secret"
    again = (await create(admin, room_name, kinds=kinds, filter="room != ''", request_id="once")).subscription
    assert again.subscription_id == made.subscription_id
    (found,) = await listed(admin, room_name)
    assert found == made
    assert (await delete(admin, room_name, made.subscription_id)).subscription_id == made.subscription_id
    assert not await listed(admin, room_name)
    gone = await refusal(delete(admin, room_name, made.subscription_id))
    assert (gone.code, gone.reason) == (NOT_FOUND, "WEBHOOK_SUBSCRIPTION_NOT_FOUND")


async def test_pages_are_oldest_first(admin: Client, room_name: str) -> None:
    made = [(await create(admin, room_name)).subscription.subscription_id for _ in range(3)]
    request = pb.ListWebhookSubscriptionsRequest(room=room_name, page_size=2)
    first = await admin.ListWebhookSubscriptions(request, timeout=45)
    request.page_token = first.next_page_token
    second = await admin.ListWebhookSubscriptions(request, timeout=45)
    pages = [found.subscription_id for page in (first, second) for found in page.subscriptions]
    assert (pages, second.next_page_token) == (made, "")
    for subscription_id in made:
        await delete(admin, room_name, subscription_id)


async def test_validate_only_makes_and_ends_nothing(admin: Client, room_name: str) -> None:
    would = (await create(admin, room_name, validate_only=True)).subscription
    assert (would.subscription_id, would.room, would.HasField("create_time")) == ("", room_name, False)
    assert not await listed(admin, room_name)
    assert (await refusal(create(admin, room_name, "https://elsewhere.example/", validate_only=True))).code is INVALID
    async with subscribed(admin, URL, room_name) as subscription_id:
        await delete(admin, room_name, subscription_id, validate_only=True)
        assert len(await listed(admin, room_name)) == 1


async def test_each_sees_and_ends_those_of_the_rooms_that_it_may_manage(hooked: TrackProcess, room_name: str) -> None:
    other = f"{room_name}-2"
    async with (
        hooked.client("admin", room_admin=True, room=room_name) as admin,
        hooked.client("colleague", room_admin=True, room=room_name) as colleague,
        hooked.client("other", room_admin=True, room=other) as stranger,
        hooked.client("reader", room_list=True) as reader,
        hooked.client("alice", room_join=True, room=room_name) as alice,
        hooked.client("service", room_create=True, room_list=True) as service,
        subscribed(admin, URL, room_name) as subscription_id,
        subscribed(service, URL) as of_all,
    ):
        assert [found.subscription_id for found in await listed(colleague, room_name)] == [subscription_id]
        assert of_all in [found.subscription_id for found in await listed(service)]
        for client in (alice, reader, stranger, service):
            assert (await refusal(listed(client, room_name))).code is DENIED
            assert (await refusal(create(client, room_name))).code is DENIED
            assert (await refusal(delete(client, room_name, subscription_id))).code is DENIED
        for client in (alice, reader, stranger, admin):
            assert (await refusal(listed(client))).code is DENIED
            assert (await refusal(create(client))).code is DENIED
            assert (await refusal(delete(client, "", of_all))).code is DENIED
        # Of another room it is nobody's business, by its id neither.
        for client, room, wanted in ((stranger, other, subscription_id), (admin, room_name, of_all)):
            assert (await refusal(delete(client, room, wanted))).code is NOT_FOUND


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://elsewhere.example/", "DESTINATION_NOT_ALLOWED"),
        ("http://169.254.169.254/latest/meta-data", "DESTINATION_NOT_ALLOWED"),
        ("http://localhost:9/", "DESTINATION_NOT_ALLOWED"),
        ("http://user:secret@127.0.0.1/", "INVALID_FIELD"),
        ("ftp://127.0.0.1/", "INVALID_FIELD"),
        ("unix:///var/run/docker.sock", "INVALID_FIELD"),
        ("not a url", "INVALID_FIELD"),
    ],
)
async def test_a_target_that_is_not_allowed_is_refused(admin: Client, room_name: str, url: str, reason: str) -> None:
    refused = await refusal(create(admin, room_name, url))
    assert (refused.code, refused.reason) == (INVALID, reason)
    assert "secret" not in refused.message


async def test_a_filter_that_does_not_compile_is_refused_with_its_place(admin: Client, room_name: str) -> None:
    refused = await refusal(create(admin, room_name, filter="event.nonsense == 1"))
    assert (refused.code, refused.reason) == (INVALID, "INVALID_EXPRESSION")


async def test_there_may_be_so_many_and_each_limit_is_named(
    livekit: LiveKitProcess, start_track: StartTrack, room_name: str
) -> None:
    limits = {
        "TRACK_MAX_WEBHOOK_SUBSCRIPTIONS": "3",
        "TRACK_MAX_WEBHOOK_SUBSCRIPTIONS_PER_ROOM": "2",
        "TRACK_MAX_WEBHOOK_SUBSCRIPTIONS_PER_PRINCIPAL": "1",
    }
    server = await start_track(livekit, {**SETTINGS, **limits})
    other = f"{room_name}-2"
    async with (
        server.client("a", room_admin=True, room=room_name) as first,
        server.client("b", room_admin=True, room=room_name) as second,
        server.client("c", room_admin=True, room=room_name) as third,
        server.client("d", room_admin=True, room=other) as fourth,
        server.client("e", room_admin=True, room=other) as fifth,
    ):
        made = (await create(first, room_name)).subscription
        refused = await refusal(create(first, room_name))
        assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED")
        assert "max_webhook_subscriptions_per_principal" in refused.message
        await create(second, room_name)
        assert "max_webhook_subscriptions_per_room" in (await refusal(create(third, room_name))).message
        await create(fourth, other)
        assert "max_webhook_subscriptions is 3" in (await refusal(create(fifth, other))).message
        await delete(first, room_name, made.subscription_id)
        await create(third, room_name)


async def test_nothing_is_allowed_by_default(livekit: LiveKitProcess, start_track: StartTrack, room_name: str) -> None:
    server = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with server.client("admin", room_admin=True, room=room_name) as admin:
        for url in (URL, "https://example.com/", "https://127.0.0.1/"):
            assert (await refusal(create(admin, room_name, url))).reason == "DESTINATION_NOT_ALLOWED"


async def test_subscriptions_outlive_the_server(mortal: TrackProcess, room_name: str) -> None:
    async with mortal.client("admin", room_admin=True, room=room_name) as admin:
        made = [(await create(admin, room_name)).subscription for _ in range(2)]
        await delete(admin, room_name, made[0].subscription_id)
    await mortal.kill()
    await mortal.start()
    async with mortal.client("admin", room_admin=True, room=room_name) as admin:
        assert await listed(admin, room_name) == made[1:]


async def test_a_subscription_ends_when_its_maker_may_no_longer_manage_webhooks(
    livekit: LiveKitProcess, start_track: StartTrack, tmp_path: Path, room_name: str
) -> None:
    everything = '[[rule]]\nname = "all"\nwhen = "true"\nlifetime = "5m"\n'
    denied = """[[rule]]
name = "not hers"
effect = "deny"
reason = "no longer"
when = 'check.principal.identity == "alice"'
"""
    async with PermissionProcess(tmp_path / "permissions", everything) as permissions:
        server = await start_track(livekit, {**SETTINGS, **permissions.track_settings})
        async with (
            server.client("alice", room=room_name, room_join=True) as alice,
            server.client("bob", room=room_name, room_join=True) as bob,
        ):
            await create(alice, room_name)
            kept = (await create(bob, room_name)).subscription.subscription_id
            await permissions.rewrite(denied + everything)
            async with asyncio.timeout(DEADLINE_S):
                while [found.subscription_id for found in await listed(bob, room_name)] != [kept]:
                    await asyncio.sleep(0.05)
