"""subscription_changed, received_layer_changed: what this service asks for, and what LiveKit's debug view shows."""

import contextlib
from collections.abc import AsyncIterator

from livekit import rtc

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import camera, microphone, participant
from tests.publications import pattern, publish
from tests.streams import EventStream, events, watching
from tests.subscriptions import apply, listed, subscribers, update
from tests.track_process import Client
from track.v1 import event_pb2, publication_pb2

REQUESTED, OBSERVED = publication_pb2.STAGE_REQUESTED, publication_pb2.STAGE_OBSERVED
DEBUG_VIEW = publication_pb2.EVIDENCE_DEBUG_VIEW
SUBSCRIBED = event_pb2.EVENT_KIND_SUBSCRIPTION_CHANGED
LAYER = event_pb2.EVENT_KIND_RECEIVED_LAYER_CHANGED


@contextlib.asynccontextmanager
async def service_without_debug_view(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> AsyncIterator[Client]:
    track = await start_track(livekit, {"TRACK_LIVEKIT_DEBUG_URL": "", "TRACK_MEDIA_WORKERS": "0"})
    async with track.client("admin", room_admin=True, room=room) as client:
        yield client


async def change(stream: EventStream, identity: str, subscribed: bool, stage: int) -> event_pb2.RoomEvent:
    """Reads on to that change of a subscription."""

    def wanted(found: event_pb2.SubscriptionChanged) -> bool:
        return (found.participant_identity, found.subscribed, found.stage) == (identity, subscribed, stage)

    await stream.until("subscription_changed", wanted)
    return stream.seen[-1].event


def told(stream: EventStream) -> list[tuple[str, str, bool, int]]:
    changes = [
        message.event.subscription_changed for message in stream.seen if message.event.HasField("subscription_changed")
    ]
    return [(found.participant_identity, found.track_sid, found.subscribed, found.stage) for found in changes]


async def test_what_clients_subscribe_by_themselves_is_observed_while_somebody_listens(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice, camera(alice) as cam:
        await listed(admin, room, cam.sid)
        async with watching(admin, room=room, kinds=[SUBSCRIBED, LAYER]) as stream:
            await stream.snapshot()
            async with participant(livekit, room, "bob") as bob:
                event = await change(stream, "bob", True, OBSERVED)
                seen = event.subscription_changed
                assert (seen.track_sid, seen.evidence) == (cam.sid, DEBUG_VIEW)
                # A client did it by itself.
                assert not event.HasField("cause")
                layer = await stream.until("received_layer_changed", lambda found: found.HasField("spatial_layer"))
                assert (layer.participant_identity, layer.track_sid, layer.spatial_layer) == ("bob", cam.sid, 0)
                bob.remote_participants["alice"].track_publications[cam.sid].set_subscribed(False)
                await change(stream, "bob", False, OBSERVED)
        # The watcher subscribes too, hidden, for the quality of it.
        assert told(stream) == [("bob", cam.sid, True, OBSERVED), ("bob", cam.sid, False, OBSERVED)]


async def test_another_layer_that_a_subscriber_receives_is_told(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    video = await publish(admin, room, pattern(1280, 720, 10))
    async with watching(admin, room=room, kinds=[LAYER]) as stream, participant(livekit, room, "viewer") as viewer:
        await stream.snapshot()
        begun = await stream.until("received_layer_changed", lambda found: found.HasField("spatial_layer"))
        remote = viewer.remote_participants[video.participant_identity].track_publications[video.track_sid]
        steps = [(0, rtc.VideoQuality.VIDEO_QUALITY_LOW), (1, rtc.VideoQuality.VIDEO_QUALITY_MEDIUM)]
        # To another one than it receives.
        for layer, quality in steps if begun.spatial_layer else reversed(steps):
            remote.set_video_quality(quality)
            wanted = event_pb2.ReceivedLayerChanged(
                participant_identity="viewer", track_sid=video.track_sid, spatial_layer=layer
            )
            await stream.until("received_layer_changed", wanted.__eq__)


async def test_what_is_asked_for_is_told_as_requested_then_as_observed_with_who_asked(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice, subscribers(livekit, room, "bob"):
        mic = await microphone(alice)
        await listed(admin, room, mic.sid)
        async with events(admin, room) as stream:
            await stream.snapshot()
            for subscribe in (True, False):
                await apply(admin, room, update("bob", mic.sid, subscribe))
                for stage in (REQUESTED, OBSERVED):
                    event = await change(stream, "bob", subscribe, stage)
                    assert (event.cause.principal_identity, event.cause.rule) == ("admin", "")
                    assert event.cause.request_id
                    assert event.subscription_changed.evidence == (DEBUG_VIEW if stage == OBSERVED else 0)
        asked = [("bob", mic.sid, subscribe, stage) for subscribe in (True, False) for stage in (REQUESTED, OBSERVED)]
        assert told(stream) == asked


async def test_without_the_debug_view_requests_alone_are_told(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        service_without_debug_view(start_track, livekit, room) as client,
        participant(livekit, room, "alice") as alice,
        subscribers(livekit, room, "bob"),
    ):
        mic = await microphone(alice)
        await listed(client, room, mic.sid)
        async with watching(client, room=room, kinds=[SUBSCRIBED]) as stream:
            await stream.snapshot()
            await apply(client, room, update("bob", mic.sid))
            await change(stream, "bob", True, REQUESTED)
            await apply(client, room, update("bob", mic.sid, subscribe=False))
            await change(stream, "bob", False, REQUESTED)
        assert len(told(stream)) == 2


async def test_what_happened_while_nobody_listened_is_told_to_who_comes_back(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice, subscribers(livekit, room, "bob"):
        mic = await microphone(alice)
        await listed(admin, room, mic.sid)
        # Another stream keeps the room watched, and wants other things.
        async with watching(admin, room=room, kinds=[event_pb2.EVENT_KIND_ROOM_CLOSED]) as other:
            await other.snapshot()
            async with watching(admin, room=room, kinds=[SUBSCRIBED]) as stream:
                await stream.snapshot()
                cursor = stream.seen[-1].cursor
            bobs = update("bob", mic.sid)
            await apply(admin, room, bobs)
            async with watching(admin, room=room, kinds=[SUBSCRIBED], cursor=cursor) as stream:
                await change(stream, "bob", True, OBSERVED)
            assert told(stream) == [("bob", mic.sid, True, REQUESTED), ("bob", mic.sid, True, OBSERVED)]
