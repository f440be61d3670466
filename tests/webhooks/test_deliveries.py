"""Events reach receivers: signed, in order, each at least once, whatever becomes of receivers and servers."""

import asyncio
import contextlib
from functools import partial
from typing import Any

from aiohttp import web

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room, existing_room
from tests.participants import microphone, participant
from tests.streams import events
from tests.track_process import Client, TrackProcess
from tests.webhooks.conftest import SETTINGS
from tests.webhooks.receiver import DEADLINE_S, Receiver, hang, refuse, take
from tests.webhooks.subscribing import delete, listed, subscribed
from track.v1 import event_pb2
from track.v1 import webhook_pb2 as pb

JOINED, LEFT, CLOSED = "participant_joined", "participant_left", "room_closed"
GUESTS = [event_pb2.EVENT_KIND_PARTICIPANT_JOINED, event_pb2.EVENT_KIND_PARTICIPANT_LEFT]


async def visit(livekit: LiveKitProcess, room: str, identity: str) -> None:
    """Joins and leaves. Who publishes nothing may be gone before LiveKit has told of it."""
    async with participant(livekit, room, identity) as joined:
        await joined.announced((await microphone(joined)).sid)


def joined_in(receiver: Receiver, room: str) -> bool:
    return JOINED in receiver.kinds(room)


def sequence(body: dict[str, Any]) -> int:
    return int(body["cursor"].rpartition("-")[2])


async def test_events_of_a_room_come_in_order_with_what_they_tell(
    livekit: LiveKitProcess, admin: Client, room_name: str
) -> None:
    async with (
        Receiver(livekit) as receiver,
        existing_room(livekit, room_name),
        subscribed(admin, receiver.url, room_name) as subscription_id,
    ):
        async with participant(livekit, room_name, "alice") as alice:
            published = await microphone(alice)
            told = await receiver.event("track_published")
        await receiver.event(LEFT)
        assert told["roomEvent"]["trackPublished"]["sid"] == published.sid
        assert (told["subscriptionId"], told["roomName"]) == (subscription_id, room_name)
        kinds = receiver.kinds()
        assert [kind for kind in kinds if kind in (JOINED, "track_published", "track_unpublished", LEFT)] == [
            JOINED,
            "track_published",
            "track_unpublished",
            LEFT,
        ]
        assert "gap" not in kinds, "the room was empty, and was watched all the time"
        places = [sequence(body) for body in receiver.taken]
        assert places == sorted(set(places))
        assert receiver.most_at_once == 1
        assert len({body["id"] for body in receiver.taken}) == len(receiver.taken)


async def test_a_room_that_comes_later_is_told_from_its_beginning_and_in_its_next_life(
    livekit: LiveKitProcess, admin: Client, room_name: str
) -> None:
    async with Receiver(livekit) as receiver, subscribed(admin, receiver.url, room_name):
        for identity in ("alice", "bob"):
            async with participant(livekit, room_name, identity):
                await receiver.until(
                    lambda: any(body["event"] == JOINED for body in receiver.taken), f"{identity} joined"
                )
                joined = [body for body in receiver.taken if body["event"] == JOINED][-1]
                assert joined["roomEvent"]["participantJoined"]["identity"] == identity
            assert receiver.kinds()[:2] == ["gap", "room_updated"], "what came and went before the watch is not known"
            await delete_room(livekit, room_name)
            await receiver.event(CLOSED)
            receiver.taken.clear()


async def test_what_was_before_the_subscription_is_not_told(
    livekit: LiveKitProcess, admin: Client, room_name: str
) -> None:
    async with Receiver(livekit) as receiver, participant(livekit, room_name, "alice"):
        async with subscribed(admin, receiver.url, room_name), participant(livekit, room_name, "bob"):
            joined = await receiver.event(JOINED)
        assert joined["roomEvent"]["participantJoined"]["identity"] == "bob"
        assert "gap" not in receiver.kinds()


async def test_only_the_chosen_kinds_that_the_filter_matches_are_sent(
    livekit: LiveKitProcess, admin: Client, room_name: str
) -> None:
    chosen = f"room == '{room_name}' && event.participant_left.identity == 'bob'"
    kinds = [event_pb2.EVENT_KIND_PARTICIPANT_LEFT]
    async with (
        Receiver(livekit) as receiver,
        existing_room(livekit, room_name),
        subscribed(admin, receiver.url, room_name, kinds=kinds, filter=chosen),
    ):
        for identity in ("alice", "bob"):
            await visit(livekit, room_name, identity)
        left = await receiver.event(LEFT)
        assert left["roomEvent"]["participantLeft"]["identity"] == "bob"
        assert set(receiver.kinds()) == {LEFT}


async def test_a_subscription_of_all_rooms_is_told_of_rooms_that_are_there_and_that_come(
    livekit: LiveKitProcess, hooked: TrackProcess, room_name: str
) -> None:
    first, second = f"{room_name}-1", f"{room_name}-2"
    chosen = f"room.startsWith('{room_name}')"
    async with (
        Receiver(livekit) as receiver,
        hooked.client("service", room_create=True, room_list=True) as service,
        existing_room(livekit, first),
        subscribed(service, receiver.url, kinds=GUESTS, filter=chosen),
    ):
        for name in (first, second):
            async with participant(livekit, name, "alice"):
                await receiver.until(partial(joined_in, receiver, name), f"alice joined {name}")
        await delete_room(livekit, second)


async def test_a_receiver_that_fails_gets_the_same_event_again_and_misses_none(
    livekit: LiveKitProcess, admin: Client, room_name: str
) -> None:
    answers = iter([refuse(500), refuse(302, Location="http://127.0.0.1:1/elsewhere")])

    async def moody(body: dict[str, Any]) -> web.Response:
        answer = next(answers, None)
        return web.Response() if answer is None else await answer(body)

    async with (
        Receiver(livekit, moody) as receiver,
        existing_room(livekit, room_name),
        subscribed(admin, receiver.url, room_name, kinds=GUESTS),
        participant(livekit, room_name, "alice"),
    ):
        await receiver.event(JOINED)
        first, second, third = receiver.tried[:3]
        assert first["id"] == second["id"] == third["id"]
        (subscription,) = await listed(admin, room_name)
        assert not subscription.HasField("last_problem")


async def test_a_failure_is_shown_with_what_waits_and_when_it_is_tried_next(
    livekit: LiveKitProcess, admin: Client, room_name: str
) -> None:
    async with (
        Receiver(livekit, refuse(503)) as receiver,
        existing_room(livekit, room_name),
        subscribed(admin, receiver.url, room_name, kinds=GUESTS),
    ):
        async with participant(livekit, room_name, "alice"):
            await receiver.until(lambda: receiver.tried, "it was tried")
        found = await waiting(admin, room_name, 2)
        assert found.last_problem.metadata["status"] == "503"
        assert found.last_problem.message == "the receiver answered with status 503"
        assert found.delivered == 0
        receiver.answer = take
        await receiver.event(LEFT)
        assert receiver.kinds() == [JOINED, LEFT]
        found = await waiting(admin, room_name, 0)
        assert (found.delivered, found.parked) == (2, 0)


async def waiting(client: Client, room: str, pending: int) -> Any:
    """The room's one subscription, once so many events wait."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            (found,) = await listed(client, room)
            if found.pending == pending and bool(pending) == found.HasField("next_try_time"):
                return found
            await asyncio.sleep(0.05)


async def test_a_receiver_that_hangs_or_is_away_holds_up_no_other(
    livekit: LiveKitProcess, hooked: TrackProcess, room_name: str
) -> None:
    async with (
        Receiver(livekit, hang) as hanging,
        Receiver(livekit) as gone,
        Receiver(livekit) as receiver,
        hooked.client("admin", room_admin=True, room=room_name) as admin,
        existing_room(livekit, room_name),
        contextlib.AsyncExitStack() as stack,
    ):
        await gone.close()
        for other in (hanging, gone, receiver):
            await stack.enter_async_context(subscribed(admin, other.url, room_name, kinds=GUESTS))
        for identity in ("alice", "bob"):
            await visit(livekit, room_name, identity)
        await receiver.until(lambda: receiver.kinds().count(LEFT) == 2, "both left")
        assert not hanging.taken
        problems = {found.last_problem.metadata.get("cause") for found in await listed(admin, room_name)}
        assert "unreachable" in problems
        # Back again, it misses nothing.
        await gone.open()
        await gone.until(lambda: gone.kinds().count(LEFT) == 2, "both left")
        assert gone.kinds() == receiver.kinds()


async def test_an_event_that_is_refused_holds_up_no_other_room(
    livekit: LiveKitProcess, hooked: TrackProcess, room_name: str
) -> None:
    first, second = f"{room_name}-1", f"{room_name}-2"

    async def picky(body: dict[str, Any]) -> web.Response:
        return web.Response(status=400 if body["roomName"] == first else 200)

    async with (
        Receiver(livekit, picky) as receiver,
        hooked.client("service", room_create=True, room_list=True) as service,
        existing_room(livekit, first),
        existing_room(livekit, second),
        subscribed(service, receiver.url, kinds=GUESTS, filter=f"room.startsWith('{room_name}')"),
        participant(livekit, first, "alice"),
    ):
        await receiver.until(lambda: receiver.tried, "the first room's event was tried")
        async with participant(livekit, second, "bob"):
            await receiver.until(lambda: JOINED in receiver.kinds(second), "the second room goes on")
        assert not receiver.kinds(first)


async def test_what_nobody_takes_is_parked_and_shown_and_the_next_go_on(
    livekit: LiveKitProcess, start_track: StartTrack, room_name: str
) -> None:
    server = await start_track(livekit, {**SETTINGS, "TRACK_WEBHOOK_GIVE_UP_SECONDS": "0.1"})

    async def picky(body: dict[str, Any]) -> web.Response:
        return web.Response(status=500 if body["event"] == JOINED else 200)

    async with (
        Receiver(livekit, picky) as receiver,
        server.client("admin", room_admin=True, room=room_name) as admin,
        existing_room(livekit, room_name),
    ):
        subscription_id = await subscribe(admin, receiver.url, room_name, kinds=GUESTS)
        await visit(livekit, room_name, "alice")
        await receiver.event(LEFT)
        (found,) = await listed(admin, room_name)
        assert (found.delivered, found.parked) == (1, 1)
        (parked,) = found.parked_deliveries
        assert parked.event.event == JOINED
        assert parked.event.room_event.participant_joined.identity == "alice"
        assert parked.problem.metadata["status"] == "500"
        tried = [body for body in receiver.tried if body["event"] == JOINED]
        assert parked.tries == len(tried)
        assert parked.event.id == tried[0]["id"]
        # Over a restart too.
        await server.kill()
        await server.start()
        # The receiver is there still: it takes the gap that the kill made.
        async with server.client("admin", room_admin=True, room=room_name) as again:
            (found,) = await listed(again, room_name)
            assert (found.parked, len(found.parked_deliveries)) == (1, 1)
            assert (await delete(again, room_name, subscription_id)).parked == 1


async def test_nothing_is_lost_over_kills_of_the_server(
    livekit: LiveKitProcess, mortal: TrackProcess, room_name: str
) -> None:
    async with (
        Receiver(livekit) as receiver,
        existing_room(livekit, room_name),
        contextlib.AsyncExitStack() as stack,
    ):
        admin = await stack.enter_async_context(mortal.client("admin", room_admin=True, room=room_name))
        await subscribe(admin, receiver.url, room_name, kinds=GUESTS)
        receiver.answer = refuse(500)
        async with participant(livekit, room_name, "alice"):
            await receiver.until(lambda: receiver.tried, "it was tried")
        await waiting(admin, room_name, 2)
        async with events(admin, room_name) as stream:
            # What a stream begins with is stored, and what was before it.
            await stream.snapshot()
        before = list(receiver.tried)
        await mortal.kill()
        # Nobody sees him come and go.
        await visit(livekit, room_name, "bob")
        receiver.answer = take
        await mortal.start()
        await receiver.event(LEFT)
        await receiver.event("gap")
        assert receiver.kinds()[:3] == [JOINED, LEFT, "gap"], "the gap is told in its place"
        assert receiver.taken[0]["id"] == before[0]["id"], "the same event has the same id"
        async with participant(livekit, room_name, "carol"):
            await receiver.until(lambda: receiver.kinds().count(JOINED) == 2, "carol joined")


async def subscribe(client: Client, url: str, room: str, **options: Any) -> str:
    """Not deleted at the end: its server has another address by then."""
    request = pb.CreateWebhookSubscriptionRequest(room=room, url=url, **options)
    return (await client.CreateWebhookSubscription(request, timeout=45)).subscription.subscription_id


async def test_a_room_that_ends_while_the_server_is_down_is_told_to_have_ended(
    livekit: LiveKitProcess, mortal: TrackProcess, room_name: str
) -> None:
    async with Receiver(livekit) as receiver, existing_room(livekit, room_name):
        async with (
            mortal.client("admin", room_admin=True, room=room_name) as admin,
            participant(livekit, room_name, "alice"),
        ):
            await subscribe(admin, receiver.url, room_name)
            async with participant(livekit, room_name, "bob"):
                await receiver.event(JOINED)
            await receiver.event(LEFT)
        await mortal.kill()
        await delete_room(livekit, room_name)
        await mortal.start()
        await receiver.event(CLOSED)
        assert receiver.kinds()[-2:] == ["gap", CLOSED]


async def test_nothing_is_sent_after_the_subscription_is_deleted(
    livekit: LiveKitProcess, admin: Client, room_name: str
) -> None:
    async with (
        Receiver(livekit, refuse(500)) as dead,
        Receiver(livekit) as receiver,
        existing_room(livekit, room_name),
        subscribed(admin, receiver.url, room_name, kinds=GUESTS),
    ):
        async with subscribed(admin, dead.url, room_name, kinds=GUESTS) as subscription_id:
            async with participant(livekit, room_name, "alice"):
                await dead.until(lambda: dead.tried, "it was tried")
            assert len(await listed(admin, room_name)) == 2
        tried = len(dead.tried)
        await visit(livekit, room_name, "bob")
        await receiver.until(lambda: receiver.kinds().count(LEFT) == 2, "both left")
        assert len(dead.tried) == tried
        assert subscription_id not in {found.subscription_id for found in await listed(admin, room_name)}
