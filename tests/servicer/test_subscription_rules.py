"""Rules follow what they read: metadata of tracks, attributes of participants, mutes. LiveKit's debug view tells."""

import asyncio

from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.participants import participant
from tests.publications import DEADLINE_S
from tests.subscription_policies import SUBSCRIBE, UNSUBSCRIBE, delete_policy, explain, policy, rule, set_policy
from tests.subscriptions import down_tracks, subscription
from tests.track_process import Client
from tests.tracks_metadata import announced_microphone, set_metadata
from track.v1 import subscription_pb2 as pb

NOTHING_ELSE = pb.SubscriptionDefaults(action=UNSUBSCRIBE)


async def received(livekit: LiveKitProcess, room: str, *pairs: tuple[str, str]) -> None:
    """Waits until LiveKit shows that those, and nobody else, have those tracks."""
    found: set[tuple[str, str]] = set()
    try:
        async with asyncio.timeout(DEADLINE_S):
            while (found := await down_tracks(livekit, room)) != set(pairs):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"it is {found}, not {set(pairs)}") from None


async def test_rules_follow_the_metadata_of_tracks(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with (
        participant(livekit, room, "ann") as ann,
        participant(livekit, room, "bob"),
        participant(livekit, room, "eve", auto_subscribe=False),
    ):
        first, second = await announced_microphone(ann, "first"), await announced_microphone(ann, "second")
        await received(livekit, room, ("bob", first.sid), ("bob", second.sid))
        await set_policy(
            admin, room, policy(rule("presenters", 'track.metadata.role == "presenter"'), defaults=NOTHING_ELSE)
        )
        # Nothing has metadata yet: the condition cannot be evaluated, and so does not hold.
        await received(livekit, room)
        await set_metadata(admin, room, first.sid, {"role": "presenter"})
        await received(livekit, room, ("bob", first.sid), ("eve", first.sid))
        desired = (await subscription(admin, room, "eve", first.sid)).desired
        assert (desired.subscribed, desired.rule) == (True, "presenters")
        assert desired.decider == pb.SUBSCRIPTION_DECIDER_ROOM_RULE
        # Eve's own rules come before the room's, and leave the rest to them.
        await set_policy(admin, room, policy(rule("guests", 'track.metadata.role == "guest"')), "eve")
        await set_metadata(admin, room, second.sid, {"role": "guest"})
        await received(livekit, room, ("bob", first.sid), ("eve", first.sid), ("eve", second.sid))
        await set_metadata(admin, room, first.sid, {"role": "guest"})
        await set_metadata(admin, room, second.sid, {"role": "presenter", "topic": "x"})
        await received(livekit, room, ("bob", second.sid), ("eve", first.sid), ("eve", second.sid))
        # What is explained is what is.
        told = await explain(admin, room)
        assert {(one.participant_identity, one.track_sid) for one in told if one.desired.subscribed} == {
            *{("bob", second.sid), ("eve", first.sid), ("eve", second.sid)}
        }
        assert {one.desired.rule for one in told if one.track_sid == first.sid} == {"", "guests"}
        await delete_policy(admin, room, "eve")
        await received(livekit, room, ("bob", second.sid), ("eve", second.sid))


async def test_rules_follow_attributes_and_mutes(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with (
        participant(livekit, room, "ann") as ann,
        participant(livekit, room, "bob", can_update_own_metadata=True) as bob,
    ):
        mic = await announced_microphone(ann)
        await received(livekit, room, ("bob", mic.sid))
        await set_policy(
            admin,
            room,
            policy(
                rule("muted", "track.muted", UNSUBSCRIBE),
                rule("front", 'subscriber.attributes["app.seat"] == "front"', SUBSCRIBE),
                defaults=NOTHING_ELSE,
            ),
        )
        await received(livekit, room)
        await bob.local_participant.set_attributes({"app.seat": "front", "other": "x"})
        await received(livekit, room, ("bob", mic.sid))
        track = mic.track
        assert isinstance(track, rtc.LocalAudioTrack)
        track.mute()
        await received(livekit, room)
        track.unmute()
        await received(livekit, room, ("bob", mic.sid))
        await bob.local_participant.set_attributes({"app.seat": ""})
        await received(livekit, room)
