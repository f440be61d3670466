"""Publications with pushed frames: stalls, mutes, streams that break, callers that are too fast, lost processes."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import grpc
import psutil
import pytest
import pytest_asyncio

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import participants
from tests.media.encoded import HEIGHT, WIDTH, encoded, number_in, picture
from tests.media.viewer import luma, viewer
from tests.publications import ENDED, LIVE, publication, until
from tests.servicer import pushing as push
from tests.servicer.test_revocation import permit
from tests.track_process import Client, TrackProcess
from tests.updates import REPLACED, update
from track.v1 import error_pb2, tracks_pb2
from track.v1 import publication_pb2 as pb

SOURCE_ENDED = pb.PUBLICATION_END_CAUSE_SOURCE_ENDED
STALLED = pb.DEGRADED_REASON_STALLED
PICTURE = picture(0)
LONG_S = 60


def pictures(begin: int = 0) -> Iterator[push.Request]:
    """Raw ones, without end."""
    return (push.raw(number, PICTURE) for number in itertools.count(begin))


async def playing(pusher: push.Pusher, requests: Iterator[push.Request]) -> "asyncio.Task[None]":
    """Plays them from now on."""
    return asyncio.create_task(pusher.play(requests))


async def stopped(task: "asyncio.Task[None]") -> None:
    """Plays no more."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def room_shows(admin: Client, known: pb.Publication, muted: bool) -> None:
    """Waits until the room shows the track muted or not."""
    async with asyncio.timeout(push.DEADLINE_S):
        while True:
            answer = await admin.ListTracks(tracks_pb2.ListTracksRequest(room=known.room))
            if any(track.publication_id == known.publication_id and track.muted == muted for track in answer.tracks):
                return
            await asyncio.sleep(0.05)


async def test_a_stall_mutes_the_track_until_the_next_frame(admin: Client, room: str) -> None:
    known = await push.publish_push(admin, room, push.push_spec("raw_video", stall_mute=0.5, stall_end=LONG_S))
    async with push.pushing(admin, known) as pusher:
        await pusher.ready()
        feeding = await playing(pusher, pictures())
        live = await until(admin, known, lambda found: found.state == LIVE)
        assert not live.degraded
        await stopped(feeding)
        stalled = await until(admin, live, lambda found: found.degraded == STALLED)
        await room_shows(admin, live, muted=True)
        # What mutes it is the stall, not a moderator.
        assert not (await publication(admin, room, known.publication_id)).muted
        feeding = await playing(pusher, pictures(1000))
        again = await until(admin, stalled, lambda found: not found.degraded)
        await room_shows(admin, live, muted=False)
        await stopped(feeding)
    assert again.track_sid == live.track_sid
    assert not again.muted


@pytest.mark.parametrize("when", ["before the stall", "during the stall"])
async def test_a_stall_does_not_undo_a_mute(admin: Client, room: str, when: str) -> None:
    known = await push.publish_push(admin, room, push.push_spec("raw_video", stall_mute=0.5, stall_end=LONG_S))
    async with push.pushing(admin, known) as pusher:
        await pusher.ready()
        feeding = await playing(pusher, pictures())
        live = await until(admin, known, lambda found: found.state == LIVE)
        await room_shows(admin, live, muted=False)
        if when == "before the stall":
            await mute(admin, live)
            await until(admin, live, lambda found: found.muted)
        await stopped(feeding)
        stalled = await until(admin, live, lambda found: found.degraded == STALLED)
        if when == "during the stall":
            await room_shows(admin, live, muted=True)
            await mute(admin, live)
        feeding = await playing(pusher, pictures(1000))
        over = await until(admin, stalled, lambda found: not found.degraded)
        assert over.muted
        await room_shows(admin, live, muted=True)
        assert (await publication(admin, room, known.publication_id)).muted
        await stopped(feeding)


async def mute(admin: Client, live: pb.Publication) -> None:
    """A moderator's."""
    request = tracks_pb2.MuteTracksRequest(room=live.room, tracks=[tracks_pb2.TrackRef(track_sid=live.track_sid)])
    answer = await admin.MuteTracks(request, timeout=push.DEADLINE_S)
    assert answer.results[0].muted


async def test_a_stall_that_lasts_ends_the_publication_and_the_stream(admin: Client, room: str) -> None:
    known = await push.publish_push(admin, room, push.push_spec("raw_video", stall_mute=0.3, stall_end=1))
    async with push.pushing(admin, known) as pusher:
        await pusher.ready()
        await pusher.send(push.raw(0, PICTURE))
        refused = await pusher.refused()
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PUBLICATION_ENDED")
    assert (await until(admin, known, lambda found: found.state == ENDED)).end_cause == SOURCE_ENDED


@pytest.mark.parametrize("kind", ["raw_video", "encoded_video", "pcm", "data"])
async def test_the_end_of_the_media_takes_the_participant_away(
    admin: Client, room: str, livekit: LiveKitProcess, kind: str
) -> None:
    frames = {
        "raw_video": [push.raw(number, PICTURE) for number in range(5)],
        "encoded_video": push.units(encoded("vp8", 5)),
        "pcm": [push.sound(0, 0.2, 48_000, 500)],
        "data": [push.payload(b"last")],
    }
    known = await push.publish_push(admin, room, push.push_spec(kind))
    async with push.pushing(admin, known) as pusher:
        await pusher.ready()
        await comes_or_goes(livekit, known, there=True)
        await pusher.send(*frames[kind])
        await pusher.finish()
    # Or each would hold a place in the media worker for ever.
    await comes_or_goes(livekit, known, there=False)


async def comes_or_goes(livekit: LiveKitProcess, known: pb.Publication, *, there: bool) -> None:
    """Waits until the publication's participant is in the room, or is not."""
    async with asyncio.timeout(push.DEADLINE_S):
        while (known.participant_identity in await participants(livekit, known.room)) != there:
            await asyncio.sleep(0.05)


async def test_a_track_that_is_replaced_leaves_out_no_frame_and_counts_none(admin: Client, room: str) -> None:
    spec = push.push_spec("pcm")
    spec.push.pcm.channels, spec.audio.stereo = 2, True
    known = await push.publish_push(admin, room, spec)
    async with push.pushing(admin, known) as pusher:
        await pusher.ready()
        # As far ahead as it may be: when the old track goes, there is much on the way to both.
        pieces = (push.sound(0.02 * number, 0.02, 48_000, 500, 1500) for number in range(250))
        feeding = asyncio.create_task(pusher.send(*pieces))
        live = await until(admin, known, lambda found: found.state == LIVE)
        wanted = pb.PublicationSpec(audio=pb.AudioOptions(stereo=False))
        assert (await update(admin, live, wanted, "audio.stereo")).method == REPLACED
        await feeding
        assert (await pusher.finish()).frames_dropped == 0


async def test_a_publication_into_which_nobody_pushes_ends(admin: Client, room: str) -> None:
    known = await push.publish_push(admin, room, push.push_spec("pcm", stall_mute=0.3, stall_end=1))
    ended = await until(admin, known, lambda found: found.state == ENDED)
    assert (ended.end_cause, list(ended.lineage)) == (SOURCE_ENDED, [])


async def test_one_that_no_media_worker_has_waits_for_it_and_not_for_frames(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with track.client(room_admin=True, room=room) as admin:
        spec = push.push_spec("pcm", stall_mute=0.3, stall_end=1)
        answer = await admin.PublishTrack(pb.PublishTrackRequest(room=room, spec=spec), timeout=4)
    assert answer.publication.state == pb.PUBLICATION_STATE_PENDING
    assert answer.publication.problem.reason == error_pb2.ERROR_REASON_WORKER_UNAVAILABLE


async def test_data_may_be_silent_for_long_while_a_stream_is_open(admin: Client, room: str) -> None:
    silent = await push.publish_push(admin, room, push.push_spec("data", stall_end=1))
    alone = await push.publish_push(admin, room, push.push_spec("data", stall_end=1))
    async with push.pushing(admin, silent) as pusher:
        await pusher.ready()
        await until(admin, alone, lambda found: found.state == ENDED)
        await pusher.send(push.payload(b"a"))
        await pusher.until(lambda: pusher.stats().frames_taken == 1)
        assert (await publication(admin, room, silent.publication_id)).state == LIVE


async def test_a_broken_stream_that_nobody_takes_up_ends_the_publication(admin: Client, room: str) -> None:
    known = await push.publish_push(admin, room, push.push_spec("raw_video", resume_grace=0.5))
    async with push.pushing(admin, known) as pusher:
        await pusher.ready()
        await pusher.send(push.raw(0, PICTURE))
        await until(admin, known, lambda found: found.state == LIVE)
    assert (await until(admin, known, lambda found: found.state == ENDED)).end_cause == SOURCE_ENDED


async def test_a_stream_that_is_closed_can_be_taken_up(admin: Client, room: str) -> None:
    known = await push.publish_push(admin, room, push.push_spec("data"))
    async with push.pushing(admin, known) as pusher:
        await pusher.ready()
        await pusher.send(push.payload(b"a"))
        await pusher.until(lambda: pusher.stats().frames_taken == 1)
        await pusher.hang_up()
    async with push.taken_up(admin, known) as pusher:
        assert (await pusher.ready()).resumed
        assert (await pusher.finish()).frames_taken == 1


async def test_the_end_of_media_without_media_ends_the_publication(admin: Client, room: str) -> None:
    known = await push.publish_push(admin, room, push.push_spec("raw_video"))
    async with push.pushing(admin, known) as pusher:
        await pusher.ready()
        assert (await pusher.finish()).frames_taken == 0
    assert (await publication(admin, room, known.publication_id)).end_cause == SOURCE_ENDED


async def test_what_is_pushed_ahead_is_played_in_its_time_before_the_end(admin: Client, room: str) -> None:
    known = await push.publish_push(admin, room, push.push_spec("pcm"))
    async with push.pushing(admin, known) as pusher:
        await pusher.ready()
        loop = asyncio.get_running_loop()
        await pusher.send(push.sound(0, 0.5, 48_000, 500))
        begun = loop.time()
        await pusher.send(*(push.sound(0.5 * number, 0.5, 48_000, 500) for number in range(1, 6)))
        stats = await pusher.finish()
        took = loop.time() - begun
    assert (stats.frames_taken, stats.frames_dropped) == (6, 0)
    assert took > 2, "three seconds of sound were not played in their time"


async def test_the_end_of_the_publication_ends_the_stream(admin: Client, room: str) -> None:
    known = await push.publish_push(admin, room, push.push_spec("data"))
    async with push.pushing(admin, known) as pusher:
        await pusher.ready()
        await admin.UnpublishTrack(pb.UnpublishTrackRequest(room=room, publication_id=known.publication_id))
        refused = await pusher.refused()
    assert refused.reason == "PUBLICATION_ENDED"
    assert "CALLER" in refused.message


async def test_a_stream_ends_when_the_permission_to_publish_is_taken_away(
    track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with track.client("alice", room_join=True, room=room) as alice:
        known = await push.publish_push(alice, room, push.push_spec("data"))
        async with push.pushing(alice, known) as pusher:
            await pusher.ready()
            await permit(livekit, room, "alice", can_subscribe=True)
            refused = await pusher.refused()
    assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")


@pytest_asyncio.fixture
async def own(start_track: StartTrack, livekit: LiveKitProcess) -> AsyncIterator[TrackProcess]:
    """A server whose processes may be measured and killed."""
    yield await start_track(livekit)


async def test_a_caller_that_is_too_fast_is_held_back_and_nothing_grows(own: TrackProcess, room: str) -> None:
    width, height = 1280, 720
    big = picture(0, width, height)
    spec = push.push_spec("raw_video", video=pb.VideoOptions(width=width, height=height, frames_per_second=10))
    async with own.client("admin", room_admin=True, room=room) as admin:
        known = await push.publish_push(admin, room, spec)
        async with push.pushing(admin, known) as pusher:
            credit = (await pusher.ready()).credit.bytes
            await pusher.send(push.raw(0, big))
            await until(admin, known, lambda found: found.state == LIVE)
            before = memory(own)
            sent = 0

            async def flood() -> None:
                nonlocal sent
                for number in itertools.count(1):
                    await pusher.send(push.raw(number, big, at=number * 100_000))
                    sent += 1

            flooding = asyncio.create_task(flood())
            try:
                # It sends on without a look at its credit, for longer than all buffers on the way last.
                await pusher.until(lambda: pusher.stats().frames_taken >= 50)
            finally:
                await stopped(flooding)
            grown = memory(own) - before
            taken = pusher.stats().frames_taken + pusher.stats().frames_dropped
    # What was on its way: the window, what gRPC holds, and statistics that are up to a second old.
    assert sent - taken < 40
    assert sent * len(big) > 60e6
    assert grown < 60e6 + credit, f"{grown / 1e6:.0f} MB"


def memory(server: TrackProcess) -> int:
    """Bytes of the server and of all its processes."""
    process = psutil.Process(server.pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))


async def test_a_lost_media_process_comes_back_and_the_stream_goes_on(
    own: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    units = encoded("vp8", 30, keyframe_every=1000)
    async with own.client("admin", room_admin=True, room=room) as admin, viewer(livekit, room) as watching:
        known = await push.publish_push(admin, room, push.push_spec("encoded_video", stall_end=LONG_S))
        async with push.pushing(admin, known) as pusher:
            await pusher.ready()
            answered = number = 0

            async def feed() -> None:
                nonlocal answered, number
                while True:
                    asked = len(pusher.told("keyframe_request"))
                    key = number == 0 or asked > answered
                    answered = asked
                    data = units[0] if key else units[1 + number % 29]
                    await pusher.send(push.unit(number, data, keyframe=key))
                    number += 1
                    await asyncio.sleep(push.STEP_US / 1e6)

            feeding = asyncio.create_task(feed())
            try:
                live = await until(admin, known, lambda found: found.state == LIVE)
                async with watching.frames(live.track_sid) as frames, asyncio.timeout(push.DEADLINE_S):
                    await frames.get()
                for child in psutil.Process(own.pid).children(recursive=True):
                    if "track_server.media.child" in child.cmdline():
                        child.kill()
                again = await until(
                    admin, live, lambda found: found.state == LIVE and found.track_sid != live.track_sid
                )
                # Not without a keyframe, which the caller is asked for.
                async with watching.frames(again.track_sid) as frames, asyncio.timeout(push.DEADLINE_S):
                    _, frame = await frames.get()
                    assert (frame.width, frame.height) == (WIDTH, HEIGHT)
                    assert number_in(luma(frame)) is not None
            finally:
                await stopped(feeding)
            stats = await pusher.finish()
    assert answered
    assert stats.frames_taken > 0
    assert len(again.lineage) == 2


async def test_a_killed_server_lets_its_callers_begin_again(own: TrackProcess, room: str) -> None:
    async with own.client("admin", room_admin=True, room=room) as admin:
        known = await push.publish_push(
            admin, room, push.push_spec("raw_video", resume_grace=LONG_S, stall_end=2 * LONG_S)
        )
        async with push.pushing(admin, known) as pusher:
            await pusher.ready()
            await pusher.send(push.raw(0, PICTURE))
            live = await until(admin, known, lambda found: found.state == LIVE)
            await own.kill()
            await pusher.over()
    await own.start()
    async with own.client("admin", room_admin=True, room=room) as admin, push.pushing(admin, known) as pusher:
        ready = await pusher.ready()
        assert not ready.resumed
        feeding = await playing(pusher, pictures())
        again = await until(admin, known, lambda found: found.state == LIVE and found.track_sid != live.track_sid)
        await stopped(feeding)
        await pusher.finish()
    assert [entry.track_sid for entry in again.lineage] == [live.track_sid, again.track_sid]
