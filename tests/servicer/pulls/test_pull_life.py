"""Pulled streams: readers that are slow or gone, lost processes, restarts, rooms that close, limits."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import grpc
import psutil
import pytest
import pytest_asyncio

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import delete_room
from tests.participants import camera, microphone, participant
from tests.publications import TONE, pattern, publish, until_listed
from tests.servicer import pushing as push
from tests.servicer.limited import EXHAUSTED
from tests.servicer.pulls import pulling as pull
from tests.servicer.pulls.pulling import FRAMES, MATROSKA, OGG, WAV
from tests.track_process import Client, TrackProcess
from track.v1 import publication_update_pb2

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
WIDTH, HEIGHT = 640, 360
FRAME_BYTES = WIDTH * HEIGHT * 3 // 2


@pytest_asyncio.fixture
async def own(start_track: StartTrack, livekit: LiveKitProcess) -> AsyncIterator[TrackProcess]:
    """A server whose processes may be measured and killed."""
    yield await start_track(livekit)


def memory(server: TrackProcess) -> int:
    """Bytes of the server and of all its processes."""
    process = psutil.Process(server.pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))


def kill_children(server: TrackProcess) -> None:
    """Kills what hosts sessions."""
    for child in psutil.Process(server.pid).children(recursive=True):
        if "track_server.media.child" in child.cmdline():
            child.kill()


async def test_for_a_reader_that_stops_frames_are_left_out_and_nothing_grows(
    own: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        own.client("admin", room_admin=True, room=room) as admin,
        own.client("other", room_admin=True, room=room) as other,
    ):
        seen = await publish(admin, room, pattern(WIDTH, HEIGHT, 20))
        async with pull.pulling(admin, room, track_sid=seen.track_sid, frames=FRAMES) as slow:
            await slow.until(lambda got: len(got.media) >= 5)
            # It reads no more, while another gets so much that all buffers on the way must overflow.
            async with pull.pulling(other, room, track_sid=seen.track_sid, frames=FRAMES) as fast:
                await fast.until(lambda got: len(got.media) >= 20)
                fast.media.clear()
                before = memory(own)
                for _ in range(8):
                    await fast.until(lambda got: len(got.media) >= 20)
                    fast.media.clear()
                grown = memory(own) - before
            assert grown < 40e6, f"{grown / 1e6:.0f} MB"
            # Reading again, it gets the frames of now, and is told how many there were between.
            await slow.until(lambda got: bool(got.stats) and got.stats[-1].frames_dropped > 20)
            read = len(slow.media)
            await slow.until(lambda got: len(got.media) > read + 10)
            stamps = [each.video.timestamp_us for each in slow.media]
    assert stamps == sorted(stamps)
    steps = [after - before for before, after in itertools.pairwise(stamps)]
    assert max(steps) > 1_000_000
    await pull.nobody_hidden(livekit, room)


@pytest.mark.parametrize("way", ["cancels", "hangs up"])
async def test_a_caller_that_is_gone_leaves_nobody_in_the_room(
    admin: Client, track: TrackProcess, livekit: LiveKitProcess, room: str, way: str
) -> None:
    tone = await publish(admin, room, TONE)
    if way == "cancels":
        async with pull.pulling(admin, room, track_sid=tone.track_sid, container=OGG) as got:
            await got.until(lambda so_far: len(so_far.media) >= 2)
            assert len(await pull.hidden(livekit, room)) == 1
    else:
        async with contextlib.AsyncExitStack() as stack:
            leaver = await stack.enter_async_context(track.client("admin", room_admin=True, room=room))
            got = await stack.enter_async_context(pull.pulling(leaver, room, track_sid=tone.track_sid, container=WAV))
            await got.until(lambda so_far: len(so_far.media) >= 2)
            assert len(await pull.hidden(livekit, room)) == 1
    await pull.nobody_hidden(livekit, room)


async def test_a_caller_that_is_gone_while_its_session_joins_leaves_nobody_in_the_room(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    tone = await publish(admin, room, TONE)
    # The first starts what the others need: these are then cut off in the middle of joining, one or the other.
    await pull.pulled(admin, room, 0.2, track_sid=tone.track_sid, container=OGG)
    for step in range(10):
        async with pull.pulling(admin, room, track_sid=tone.track_sid, container=OGG) as got:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(got.read(), 0.02 + 0.01 * step)
    # This one joins after them all.
    await pull.pulled(admin, room, 0.2, track_sid=tone.track_sid, container=OGG)
    # LiveKit itself throws out after 15 to 35 s who does not answer.
    async with asyncio.timeout(10):
        await pull.nobody_hidden(livekit, room)


async def test_when_the_media_process_is_lost_frames_go_on_and_containers_end_with_a_retry(
    own: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        own.client("admin", room_admin=True, room=room) as admin,
        participant(livekit, room, "alice") as alice,
        camera(alice) as filmed,
    ):
        sound = await microphone(alice)
        await until_listed(admin, room, filmed.sid, sound.sid)
        async with (
            pull.pulling(admin, room, track_sid=filmed.sid, frames=FRAMES) as frames,
            pull.pulling(admin, room, track_sid=filmed.sid, container=MATROSKA) as file,
        ):
            await frames.until(lambda got: len(got.media) >= 5)
            await file.until(lambda got: len(got.media) >= 2)
            kill_children(own)
            refused = await file.refused()
            assert (refused.code, refused.reason) == (UNAVAILABLE, "WORKER_UNAVAILABLE")
            assert refused.retry_s is not None
            assert pull.contents(file.data).codecs == {"video": "vp8"}
            before = len(frames.media)
            await frames.until(lambda got: len(got.media) > before + 10)
            stamps = [each.video.timestamp_us for each in frames.media]
            assert stamps == sorted(set(stamps))
            assert frames.order.count("started") == 1
            # What was delivered before counts on.
            told = len(frames.stats)
            await frames.until(lambda got: len(got.stats) > told + 1)
            assert frames.stats[-1].frames_delivered > before
            assert len(await pull.hidden(livekit, room)) == 1
    await pull.nobody_hidden(livekit, room)


async def test_a_draining_server_ends_its_streams_and_leaves_the_room(
    own: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with own.client("admin", room_admin=True, room=room) as admin, participant(livekit, room, "alice") as alice:
        sound = await microphone(alice)
        await until_listed(admin, room, sound.sid)
        async with pull.pulling(admin, room, track_sid=sound.sid, container=WAV) as got:
            await got.until(lambda so_far: len(so_far.media) >= 2)
            stopping = asyncio.create_task(own.stop())
            refused = await got.refused()
            assert (refused.code, refused.reason) == (UNAVAILABLE, "DRAINING")
            assert refused.retry_s is not None
            assert await stopping == 0
        await pull.nobody_hidden(livekit, room)


async def test_a_killed_server_leaves_nobody_in_the_room(own: TrackProcess, livekit: LiveKitProcess, room: str) -> None:
    async with own.client("admin", room_admin=True, room=room) as admin, participant(livekit, room, "alice") as alice:
        sound = await microphone(alice)
        await until_listed(admin, room, sound.sid)
        async with pull.pulling(admin, room, track_sid=sound.sid, container=WAV) as got:
            await got.until(lambda so_far: len(so_far.media) >= 2)
            await own.kill()
        await pull.nobody_hidden(livekit, room)


async def test_when_livekit_is_lost_the_stream_may_be_begun_again_and_nobody_is_blamed(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    server = await start_track(livekit)
    async with (
        server.client("admin", room_admin=True, room=room_name) as admin,
        participant(livekit, room_name, "alice") as alice,
    ):
        sound = await microphone(alice)
        await until_listed(admin, room_name, sound.sid)
        async with pull.pulling(admin, room_name, track_sid=sound.sid, container=WAV) as got:
            await got.until(lambda so_far: len(so_far.media) >= 2)
            await livekit.kill()
            # LiveKit's SDK tries to come back for a quarter of a minute.
            refused = await got.refused()
            assert refused.code is UNAVAILABLE
            assert refused.retry_s is not None


async def test_a_publication_is_pulled_across_its_restart(eager: TrackProcess, restarter: Client, room: str) -> None:
    camera_, tone = await asyncio.gather(
        publish(restarter, room, pattern(), "host"), publish(restarter, room, TONE, "host")
    )
    async with (
        pull.pulling(restarter, room, publication_id=camera_.publication_id, frames=FRAMES) as frames,
        pull.pulling(restarter, room, publication_id=tone.publication_id, container=WAV) as file,
        pull.pulling(restarter, room, track_sid=tone.track_sid, container=OGG) as once,
    ):
        for got in (frames, file, once):
            await got.until(lambda so_far: len(so_far.media) >= 3)
        for known in (camera_, tone):
            request = publication_update_pb2.RestartTrackRequest(
                room=room, publication_id=known.publication_id, level=publication_update_pb2.RESTART_LEVEL_REPUBLISH
            )
            answer = await restarter.RestartTrack(request, timeout=push.DEADLINE_S)
            assert answer.publication.track_sid != known.track_sid
        # Who asked for the track alone is told that it has ended.
        assert (await once.to_the_end()).reason == pull.TRACK_ENDED
        counts = len(frames.media), len(file.media)
        await frames.until(lambda so_far: len(so_far.media) > counts[0] + 30)
        await file.until(lambda so_far: len(so_far.media) > counts[1] + 100)
        stamps = [each.video.timestamp_us for each in frames.media]
    assert stamps == sorted(set(stamps))
    assert file.order.count("started") == 1
    assert file.order.count("chunk") > 100


async def test_a_publication_that_waits_for_its_frames_is_pulled_once_they_come(admin: Client, room: str) -> None:
    known = await push.publish_push(admin, room, push.push_spec("pcm"))
    async with (
        pull.pulling(admin, room, publication_id=known.publication_id, container=WAV) as got,
        push.pushing(admin, known) as pusher,
    ):
        await pusher.ready()
        assert not got.order
        playing = asyncio.create_task(pusher.play(push.sound(0.1 * step, 0.1, 48_000, 500) for step in range(600)))
        await got.until(lambda so_far: len(so_far.media) >= 50)
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        await pusher.finish()
        assert (await got.to_the_end()).reason == pull.TRACK_ENDED


@pytest.mark.parametrize("kind", ["frames", "container"])
async def test_when_livekit_closes_the_room_the_stream_has_ended(
    admin: Client, livekit: LiveKitProcess, room: str, kind: str
) -> None:
    async with participant(livekit, room, "alice") as alice:
        sound = await microphone(alice)
        await until_listed(admin, room, sound.sid)
        form = {"frames": FRAMES} if kind == "frames" else {"container": OGG}
        async with pull.pulling(admin, room, track_sid=sound.sid, **form) as got:
            await got.until(lambda so_far: len(so_far.media) >= 2)
            await delete_room(livekit, room)
            # The participant leaves with its room, and its track with it: which of the two is told first is LiveKit's.
            assert (await got.to_the_end()).reason in (pull.ROOM_CLOSED, pull.TRACK_ENDED)


@pytest.mark.parametrize(
    ("setting", "limit", "subject"),
    [
        ("TRACK_MAX_PULLS", "max_pulls", "server"),
        ("TRACK_MAX_PULLS_PER_ROOM", "max_pulls_per_room", "room {room}"),
        ("TRACK_MAX_PULLS_PER_PRINCIPAL", "max_pulls_per_principal", "principal admin"),
        ("TRACK_WORKER_MAX_SESSIONS", "worker_max_sessions", "media workers"),
    ],
)
async def test_the_last_place_is_had_and_the_next_pull_is_refused(
    start_track: StartTrack, livekit: LiveKitProcess, room: str, setting: str, limit: str, subject: str
) -> None:
    server = await start_track(livekit, {setting: "1"})
    async with (
        server.client("admin", room_admin=True, room=room) as admin,
        participant(livekit, room, "alice") as alice,
    ):
        sound = await microphone(alice)
        await until_listed(admin, room, sound.sid)
        async with pull.pulling(admin, room, track_sid=sound.sid, container=WAV) as got:
            await got.until(lambda so_far: len(so_far.media) >= 1)
            refused = await pull.refusal_of(admin, room, track_sid=sound.sid, container=WAV)
            assert (refused.code, refused.reason) == (EXHAUSTED, "LIMIT_EXCEEDED")
            assert refused.quota == (limit, 1, subject.format(room=room))
            assert refused.retry_s is not None
        # The place of one that is over is free again.
        async with asyncio.timeout(pull.DEADLINE_S):
            while not await begins(admin, room, sound.sid):
                await asyncio.sleep(0.1)


async def begins(client: Client, room: str, sid: str) -> bool:
    """Whether a stream begins."""
    async with pull.pulling(client, room, track_sid=sid, container=WAV) as got:
        try:
            await got.until(lambda so_far: bool(so_far.media))
        except grpc.aio.AioRpcError as error:
            if error.code() is EXHAUSTED:
                return False
            raise
    return True


async def test_without_a_media_worker_of_its_own_a_server_pulls_nothing(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    server = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with (
        server.client("admin", room_admin=True, room=room) as admin,
        participant(livekit, room, "alice") as alice,
    ):
        sound = await microphone(alice)
        await until_listed(admin, room, sound.sid)
        refused = await pull.refusal_of(admin, room, track_sid=sound.sid, container=WAV)
    assert (refused.code, refused.reason) == (UNAVAILABLE, "WORKER_UNAVAILABLE")
    assert refused.retry_s is not None
