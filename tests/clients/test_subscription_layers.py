"""UpdateSubscriptions with settings, to a subscriber with the companion for Python: chosen is what is received."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from livekit import rtc

from tests.clients.apps import attached, public_key
from tests.livekit_process import LiveKitProcess
from tests.participants import Joined, participant
from tests.publications import DEADLINE_S, OBSERVED, TONE, pattern, publish
from tests.receivers import eventually
from tests.subscription_policies import policy, set_policy
from tests.subscriptions import apply, release, subscription, update
from tests.track_process import Client
from track.v1 import publication_pb2, tracks_pb2
from track.v1 import subscription_pb2 as sub
from track.v1.track_pb2 import VIDEO_QUALITY_HIGH as HIGH
from track.v1.track_pb2 import VIDEO_QUALITY_LOW as LOW
from track.v1.track_pb2 import VIDEO_QUALITY_MEDIUM as MEDIUM

ENFORCED = sub.LAYER_ENFORCEMENT_ENFORCED
MANUAL = sub.SUBSCRIPTION_DECIDER_MANUAL
VIDEO = pattern(960, 540, 15)
SIZES: dict[int, tuple[int, int]] = {LOW: (320, 180), MEDIUM: (640, 360), HIGH: (960, 540)}


class Screen:
    """Decodes the videos that a participant receives. ``sizes``: of the last picture of each, by track SID."""

    def __init__(self, joined: rtc.Room) -> None:
        self.sizes: dict[str, tuple[int, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        joined.on("track_subscribed", self._subscribed)

    async def aclose(self) -> None:
        """Looks no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def shows(self, sid: str, size: tuple[int, int]) -> None:
        """Waits until that is the size of the video's pictures."""
        await eventually(lambda: self.sizes.get(sid) == size, lambda: f"{self.sizes}")

    def _subscribed(self, track: rtc.Track, *_: object) -> None:
        if isinstance(track, rtc.RemoteVideoTrack):
            self._tasks.add(asyncio.create_task(self._read(track)))

    async def _read(self, track: rtc.RemoteVideoTrack) -> None:
        stream = rtc.VideoStream(track)
        try:
            async for event in stream:
                self.sizes[track.sid] = event.frame.width, event.frame.height
        finally:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stream.aclose(), 1.0)


@contextlib.asynccontextmanager
async def watcher(
    livekit: LiveKitProcess, room: str, key: bytes, *, companion: bool = True
) -> AsyncIterator[tuple[Joined, Screen]]:
    """A participant `viewer` whose app shows what it receives, with a companion in it or without."""
    async with contextlib.AsyncExitStack() as stack:
        joined = await stack.enter_async_context(participant(livekit, room, "viewer"))
        screen = Screen(joined)
        stack.push_async_callback(screen.aclose)
        if companion:
            await stack.enter_async_context(attached(joined, key))
        yield joined, screen


def shows(quality: int) -> Callable[[sub.Subscription], bool]:
    """Whether that layer is sent, and its pictures are decoded."""

    def holds(found: sub.Subscription) -> bool:
        seen = found.observed
        return (seen.spatial_layer, (seen.width, seen.height)) == (quality - LOW, SIZES[quality])

    return holds


async def test_the_layer_chosen_is_the_layer_received_by_quality_and_by_size(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    key = await public_key(admin)
    video = await publish(admin, room, VIDEO, "host")
    sid = video.track_sid
    async with watcher(livekit, room, key) as (_, screen):
        await screen.shows(sid, SIZES[HIGH])
        by_size = sub.SubscriptionSettings(width=500, height=300)
        for quality, settings in ((LOW, sub.SubscriptionSettings(quality=LOW)), (MEDIUM, by_size)):
            (result,) = await apply(admin, room, update("viewer", sid, settings=settings))
            assert (result.stage, result.enforcement) == (OBSERVED, ENFORCED), result
            assert (result.layer.quality, result.layer.limiting_term) == (quality, sub.LAYER_TERM_KIND_MANUAL)
            assert not result.unsupported_settings
            await screen.shows(sid, SIZES[quality])

            found = await subscription(admin, room, "viewer", sid, shows(quality))
            assert found.observed.evidence == publication_pb2.EVIDENCE_DEBUG_VIEW
            assert (found.desired.decider, found.desired.settings) == (MANUAL, settings)
            assert (found.layer.quality, found.enforcement) == (quality, ENFORCED)
            assert found.publisher_identity == "host"
        (result,) = await apply(admin, room, release("viewer", sid))
        assert not result.HasField("problem"), result
        await screen.shows(sid, SIZES[HIGH])
        found = await subscription(admin, room, "viewer", sid)
        assert not found.HasField("desired"), found


async def test_what_is_chosen_is_given_up_by_itself_at_its_time(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    key = await public_key(admin)
    video = await publish(admin, room, VIDEO, "host")
    async with watcher(livekit, room, key) as (_, screen):
        await screen.shows(video.track_sid, SIZES[HIGH])
        choice = update("viewer", video.track_sid, settings=sub.SubscriptionSettings(quality=LOW))
        choice.expire_time.GetCurrentTime()
        choice.expire_time.seconds += 12
        (result,) = await apply(admin, room, choice)
        assert result.enforcement == ENFORCED, result
        (manual,) = [term for term in result.layer.terms if term.kind == sub.LAYER_TERM_KIND_MANUAL]
        assert manual.detail == "admin"
        assert abs(manual.expire_time.ToMilliseconds() - choice.expire_time.ToMilliseconds()) <= 1
        await screen.shows(video.track_sid, SIZES[LOW])
        await screen.shows(video.track_sid, SIZES[HIGH])
        found = await subscription(admin, room, "viewer", video.track_sid, lambda found: not found.HasField("desired"))
        assert found.observed.subscribed


async def test_what_the_client_cannot_do_is_told(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    key = await public_key(admin)
    video, tone = await asyncio.gather(publish(admin, room, VIDEO, "host"), publish(admin, room, TONE, "host"))
    async with watcher(livekit, room, key) as (_, screen):
        # rtc 1.2.1 has no frame rate of what is received.
        settings = sub.SubscriptionSettings(quality=LOW, frames_per_second=5)
        (result,) = await apply(admin, room, update("viewer", video.track_sid, settings=settings))
        assert list(result.unsupported_settings) == ["frames_per_second"]
        assert (result.layer.quality, result.layer.frames_per_second) == (LOW, 5)
        await screen.shows(video.track_sid, SIZES[LOW])
        # And none for switching a track off without unsubscribing it.
        settings = sub.SubscriptionSettings(enabled=False)
        (result,) = await apply(admin, room, update("viewer", tone.track_sid, settings=settings))
        assert list(result.unsupported_settings) == ["enabled"]
        assert result.enforcement == sub.LAYER_ENFORCEMENT_UNSUPPORTED
        # Nor for what does not fit into a budget, which goes on to be received.
        await set_policy(admin, room, policy(bandwidth_bps=16_000))
        found = await subscription(
            admin, room, "viewer", video.track_sid, lambda found: found.enforcement == sub.LAYER_ENFORCEMENT_UNSUPPORTED
        )
        assert found.layer.limiting_term == sub.LAYER_TERM_KIND_BUDGET


async def test_an_answer_does_not_wait_for_what_nobody_can_see(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    key = await public_key(admin)
    video, tone = await asyncio.gather(publish(admin, room, VIDEO, "host"), publish(admin, room, TONE, "host"))
    async with watcher(livekit, room, key) as (_, screen):
        await screen.shows(video.track_sid, SIZES[HIGH])
        ref = tracks_pb2.TrackRef(track_sid=video.track_sid)
        await admin.MuteTracks(tracks_pb2.MuteTracksRequest(room=room, tracks=[ref]))
        # Long before its deadline: how sound is received is in no view, and of what is muted nothing is sent.
        async with asyncio.timeout(DEADLINE_S / 2):
            silent, dark = await apply(
                admin,
                room,
                update("viewer", tone.track_sid, settings=sub.SubscriptionSettings(priority=9)),
                update("viewer", video.track_sid, settings=sub.SubscriptionSettings(quality=LOW)),
            )
        for result in (silent, dark):
            assert (result.stage, result.enforcement) == (OBSERVED, sub.LAYER_ENFORCEMENT_ACKNOWLEDGED), result
        await admin.UnmuteTracks(tracks_pb2.UnmuteTracksRequest(room=room, tracks=[ref]))
        await screen.shows(video.track_sid, SIZES[LOW])
        await subscription(admin, room, "viewer", video.track_sid, lambda found: found.enforcement == ENFORCED)


async def test_what_is_reported_by_call_alone_decides_the_layer_for_as_long_as_the_connection_lasts(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    key = await public_key(admin)
    video = await publish(admin, room, VIDEO, "host")
    sid = video.track_sid
    async with watcher(livekit, room, key) as (_, screen):
        await screen.shows(sid, SIZES[HIGH])
        decodes = sub.SubscriberState(max_decode_width=320, max_decode_height=180)
        await admin.ReportSubscriberState(
            sub.ReportSubscriberStateRequest(room=room, participant_identity="viewer", state=decodes)
        )
        await screen.shows(sid, SIZES[LOW])
        found = await subscription(admin, room, "viewer", sid, lambda found: found.enforcement == ENFORCED)
        assert (found.layer.quality, found.layer.limiting_term) == (LOW, sub.LAYER_TERM_KIND_CAPABILITY)
        assert not found.HasField("desired"), found
    # What was reported ended with the connection.
    async with watcher(livekit, room, key) as (_, screen):
        await screen.shows(sid, SIZES[HIGH])
        found = await subscription(admin, room, "viewer", sid, lambda found: not found.HasField("layer"))
        assert found.observed.subscribed


async def test_a_client_without_a_companion_is_advised(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    video = await publish(admin, room, VIDEO, "host")
    async with watcher(livekit, room, b"", companion=False) as (joined, screen):
        await screen.shows(video.track_sid, SIZES[HIGH])
        settings = sub.SubscriptionSettings(quality=LOW)
        (result,) = await apply(admin, room, update("viewer", video.track_sid, settings=settings))
        assert (result.stage, result.enforcement) == (OBSERVED, sub.LAYER_ENFORCEMENT_ADVISED), result
        assert result.layer.quality == LOW
        attributes = joined.local_participant.attributes
        await eventually(
            lambda: video.track_sid in joined.local_participant.attributes.get("track.layers", ""),
            lambda: f"{attributes}",
        )
        (result,) = await apply(admin, room, release("viewer", video.track_sid))
        await eventually(lambda: "track.layers" not in joined.local_participant.attributes, lambda: f"{attributes}")
