"""What rules say about subscriptions is brought about, held against clients, and given back once they are gone."""

import asyncio
import contextlib
import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final, TypeVar

import aiohttp
from livekit import rtc

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import camera, microphone, participant
from tests.publications import DEADLINE_S
from tests.restrictions import restrict
from tests.restrictions import rule as only
from tests.servicer.records import record
from tests.streams import events, watching
from tests.subscription_policies import SUBSCRIBE, UNSUBSCRIBE, delete_policy, policy, rule, set_policy
from tests.subscriptions import apply, down_tracks, listed, release, subscription, update
from tests.track_process import Client, TrackProcess
from track.v1 import event_pb2, publication_pb2
from track.v1 import subscription_pb2 as pb

CAMERAS: Final = "track.source == TrackSource.TRACK_SOURCE_CAMERA"
NO_CAMERAS: Final = rule("no-cameras", CAMERAS, UNSUBSCRIBE)
T = TypeVar("T")
CLIENT = pb.SUBSCRIPTION_DECIDER_CLIENT


async def receives(livekit: LiveKitProcess, room: str, identity: str, sid: str, *, whether: bool) -> None:
    """Waits until LiveKit shows that the participant has the track, or has not."""
    async with asyncio.timeout(DEADLINE_S):
        while ((identity, sid) in await down_tracks(livekit, room)) is not whether:
            await asyncio.sleep(0.05)


def resubscribe(subscriber: rtc.Room, publisher: str, sid: str, *, subscribed: bool = True) -> None:
    """Its client does so by itself."""
    subscriber.remote_participants[publisher].track_publications[sid].set_subscribed(subscribed)


async def insisting(
    subscriber: rtc.Room, publisher: str, sid: str, awaited: Coroutine[Any, Any, T], *, subscribed: bool = True
) -> T:
    """What comes of it when its client does so by itself, as an app does that wants it: again until it shows.
    LiveKit loses a word that comes while it still negotiates the track with the client."""
    publication = subscriber.remote_participants[publisher].track_publications[sid]
    waiting = asyncio.create_task(awaited)
    publication.set_subscribed(subscribed)
    while not (await asyncio.wait([waiting], timeout=6))[0]:
        publication.set_subscribed(not subscribed)
        publication.set_subscribed(subscribed)
    return await waiting


@contextlib.asynccontextmanager
async def at_once(livekit: LiveKitProcess, room: str, names: list[str]) -> AsyncIterator[None]:
    """Participants that join at the same time, and leave so."""
    stacks = [contextlib.AsyncExitStack() for _ in names]
    try:
        joining = zip(stacks, names, strict=True)
        await asyncio.gather(*(stack.enter_async_context(participant(livekit, room, name)) for stack, name in joining))
        yield
    finally:
        await asyncio.gather(*(stack.aclose() for stack in stacks))


async def counted(track: TrackProcess, name: str) -> Counter[str]:
    """The values of a metric by its labels, as text."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{track.metrics_address}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    found = [re.fullmatch(re.escape(name) + r"(\{.*\})? (\S+)", line) for line in lines]
    return Counter({match[1] or "": int(float(match[2])) for match in found if match})


async def test_a_client_that_does_otherwise_is_corrected_told_of_and_recorded_ever_more_seldom(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "ann") as ann,
        participant(livekit, room, "bob") as bob,
        camera(ann) as cam,
        events(admin, room) as stream,
    ):
        await receives(livekit, room, "bob", cam.sid, whether=True)
        await set_policy(admin, room, policy(NO_CAMERAS))
        await receives(livekit, room, "bob", cam.sid, whether=False)
        told = []
        for times in range(1, 5):
            corrected = await insisting(bob, "ann", cam.sid, stream.until("subscription_corrected"))
            assert corrected == pb.SubscriptionCorrected(
                participant_identity="bob", track_sid=cam.sid, subscribed=False, rule="no-cameras", times=times
            )
            told.append(stream.seen[-1].event)
            await receives(livekit, room, "bob", cam.sid, whether=False)
        assert {(event.cause.rule, event.cause.reason) for event in told} == {("subscription_policy", "no-cameras")}
        moments = [event.time.ToNanoseconds() / 1e9 for event in told]
        pauses = [after - before for before, after in itertools.pairwise(moments)]
        assert all(pause >= least for pause, least in zip(pauses, (0.9, 1.9, 3.9), strict=True)), pauses
        assert (await subscription(admin, room, "bob", cam.sid)).corrections == 4
        rows = [row for row in await record(admin, room) if row.method == "subscription_policy"]
        assert [(row.targets[0].participant_identity, row.targets[0].track_sid) for row in rows] == [
            ("bob", cam.sid)
        ] * 4
        assert [row.request["times"] for row in rows] == [1, 2, 3, 4]
        assert rows[0].request["rule"] == "no-cameras"


async def test_a_client_that_unsubscribes_from_what_a_rule_gives_it_is_corrected(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "ann") as ann,
        participant(livekit, room, "bob", auto_subscribe=False) as bob,
        events(admin, room) as stream,
    ):
        mic = await microphone(ann)
        await listed(admin, room, mic.sid)
        await set_policy(admin, room, policy(rule("all", "", SUBSCRIBE)))
        await receives(livekit, room, "bob", mic.sid, whether=True)
        await subscription(admin, room, "bob", mic.sid, lambda found: found.observed.subscribed)
        awaited = stream.until("subscription_corrected")
        corrected = await insisting(bob, "ann", mic.sid, awaited, subscribed=False)
        assert (corrected.subscribed, corrected.rule) == (True, "all")
        await receives(livekit, room, "bob", mic.sid, whether=True)


async def test_a_client_that_may_choose_begins_as_the_rule_says_and_is_left_alone_then(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "ann") as ann, participant(livekit, room, "bob") as bob, camera(ann) as cam:
        await set_policy(admin, room, policy(rule("begin", CAMERAS, UNSUBSCRIBE, choose=True)))
        await receives(livekit, room, "bob", cam.sid, whether=False)
        await subscription(admin, room, "bob", cam.sid, lambda found: found.observed.subscribed is False)
        awaited = subscription(admin, room, "bob", cam.sid, lambda now: now.desired.decider == CLIENT)
        found = await insisting(bob, "ann", cam.sid, awaited)
        assert (found.desired.subscribed, found.desired.rule, found.corrections) == (True, "begin", 0)
        # It stays so, also when something else is decided anew.
        await set_policy(admin, room, policy(rule("begin", CAMERAS, UNSUBSCRIBE, choose=True), bandwidth_bps=900_000))
        found = await subscription(admin, room, "bob", cam.sid)
        assert (found.observed.subscribed, found.desired.decider) == (True, CLIENT)


async def test_what_a_rule_took_away_is_given_back_when_it_no_longer_says_so(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    seated = rule("back-row", 'subscriber.attributes["seat"] == "back"', UNSUBSCRIBE)
    async with (
        participant(livekit, room, "ann", can_update_own_metadata=True) as ann,
        participant(livekit, room, "bob", can_update_own_metadata=True) as bob,
    ):
        mic = await microphone(ann)
        await receives(livekit, room, "bob", mic.sid, whether=True)
        await set_policy(admin, room, policy(seated))
        await bob.local_participant.set_attributes({"seat": "back"})
        await receives(livekit, room, "bob", mic.sid, whether=False)
        # The condition does not hold any more.
        await bob.local_participant.set_attributes({"seat": "front"})
        await receives(livekit, room, "bob", mic.sid, whether=True)
        await bob.local_participant.set_attributes({"seat": "back"})
        await receives(livekit, room, "bob", mic.sid, whether=False)
        # The policy is gone.
        async with watching(admin, room=room, kinds=[event_pb2.EVENT_KIND_SUBSCRIPTION_CHANGED]) as stream:
            await stream.snapshot()
            await delete_policy(admin, room)
            await receives(livekit, room, "bob", mic.sid, whether=True)
            back = await stream.until("subscription_changed", lambda change: change.subscribed)
            assert (back.participant_identity, back.track_sid) == ("bob", mic.sid)
            assert stream.seen[-1].event.cause.rule == "subscription_given_back"
        # And nobody holds it any more.
        resubscribe(bob, "ann", mic.sid, subscribed=False)
        await receives(livekit, room, "bob", mic.sid, whether=False)


async def test_what_a_choice_took_away_is_given_back_when_it_is_released(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "ann") as ann, participant(livekit, room, "bob"):
        mic = await microphone(ann)
        await receives(livekit, room, "bob", mic.sid, whether=True)
        await listed(admin, room, mic.sid)
        await apply(admin, room, update("bob", mic.sid, subscribe=False))
        await receives(livekit, room, "bob", mic.sid, whether=False)
        await apply(admin, room, release("bob", mic.sid))
        await receives(livekit, room, "bob", mic.sid, whether=True)


async def test_private_tracks_go_before_rules_and_who_may_not_subscribe_is_left_alone(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "ann") as ann,
        participant(livekit, room, "bob"),
        participant(livekit, room, "eve"),
        participant(livekit, room, "deaf", can_subscribe=False),
        watching(admin, room=room, kinds=[event_pb2.EVENT_KIND_SUBSCRIPTION_CHANGED]) as stream,
    ):
        mic = await microphone(ann)
        await listed(admin, room, mic.sid)
        await restrict(admin, room, only("bob"), track_sid=mic.sid)
        await receives(livekit, room, "eve", mic.sid, whether=False)
        await set_policy(admin, room, policy(rule("all", "", SUBSCRIBE)))
        await subscription(admin, room, "bob", mic.sid, lambda found: found.desired.subscribed)
        refused = await subscription(admin, room, "eve", mic.sid, lambda found: found.HasField("desired"))
        assert refused.desired.decider == pb.SUBSCRIPTION_DECIDER_PRIVATE_TRACK
        assert not refused.desired.subscribed
        # Released, it is as the rule says; by then nobody else was asked for.
        listing = pb.ListSubscriptionsRequest(room=room)
        assert "deaf" not in [
            each.participant_identity for each in (await admin.ListSubscriptions(listing)).subscriptions
        ]
        second = await microphone(ann, "second")
        await stream.until(
            "subscription_changed",
            lambda change: (change.participant_identity, change.track_sid) == ("eve", second.sid),
        )
        for message in stream.seen:
            change = message.event.subscription_changed
            if change.subscribed and change.stage == publication_pb2.STAGE_REQUESTED:
                assert change.participant_identity != "deaf"
                assert (change.participant_identity, change.track_sid) != ("eve", mic.sid)


async def test_thirty_who_join_at_once_get_what_the_rules_say_with_one_call_a_window_each(
    livekit: LiveKitProcess, start_track: StartTrack, room: str
) -> None:
    track = await start_track(livekit, {"TRACK_METRICS_LISTEN": "127.0.0.1:0"})
    names = [f"guest-{number}" for number in range(30)]
    async with (
        track.client("admin", room_admin=True, room=room) as admin,
        participant(livekit, room, "host") as host,
        contextlib.AsyncExitStack() as stack,
    ):
        heard = await microphone(host, "heard")
        silent = [await microphone(host, f"silent-{number}") for number in range(3)]
        for publication in (heard, *silent):
            await listed(admin, room, publication.sid)
        await set_policy(admin, room, policy(rule("silent", 'track.name.startsWith("silent")', UNSUBSCRIBE)))
        stream = await stack.enter_async_context(
            watching(admin, room=room, kinds=[event_pb2.EVENT_KIND_SUBSCRIPTION_CHANGED])
        )
        await stream.snapshot()
        await stack.enter_async_context(at_once(livekit, room, names))
        wanted = {(name, heard.sid) for name in names}
        async with asyncio.timeout(DEADLINE_S):
            while await down_tracks(livekit, room) != wanted:
                await asyncio.sleep(0.1)
        calls = await counted(track, "track_subscription_calls_total")
        tracks = await counted(track, "track_subscription_calls_tracks_total")
        assert not calls['{subscribe="true"}']
        # One for each, unless the machine was so slow that LiveKit told of a guest in parts.
        assert len(names) <= calls['{subscribe="false"}'] <= tracks['{subscribe="false"}']
        asked: dict[str, list[float]] = {name: [] for name in names}
        while sum(map(len, asked.values())) < tracks['{subscribe="false"}']:
            message = await stream.next()
            change = message.event.subscription_changed
            if change.stage == publication_pb2.STAGE_REQUESTED:
                asked[change.participant_identity].append(message.event.time.ToNanoseconds() / 1e9)
        assert all(len(times) >= len(silent) for times in asked.values())
        # What was asked for together is told together; between two calls for one subscriber lies a window.
        told = sum(1 + sum(b - a >= 0.045 for a, b in itertools.pairwise(times)) for times in asked.values())
        assert calls['{subscribe="false"}'] <= told
