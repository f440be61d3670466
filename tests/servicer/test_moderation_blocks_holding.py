"""Moderation blocks hold: against clients that unmute themselves, over other tracks, restarts and LiveKit's absence."""

import array
import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator

from google.protobuf import json_format
from livekit import rtc

from tests import moderation_calls as calls
from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.media.viewer import viewer
from tests.moderation_calls import ENFORCED, SET, block, come_true, listed, moved, watching, whole
from tests.participants import Joined, camera, microphone, participant
from tests.publications import DEADLINE_S, LIVE, TONE, publish, until
from tests.servicer.records import record
from tests.servicer.restarting import restart
from tests.track_process import Client
from track.v1 import access_pb2, publication_pb2, track_pb2
from track.v1.audit_pb2 import AuditEntry
from track.v1.publication_update_pb2 import RestartLevel

FRAME_S = 0.01


async def test_a_client_that_unmutes_itself_is_muted_again_and_all_are_told(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice, viewer(livekit, room) as seen:
        mic = await microphone(alice)
        remote = await seen.publication_of(mic.sid)
        async with watching(admin, room) as events:
            (held,) = await block(admin, room, mic.sid, reason="shouting")
            assert held.block_id.startswith("BLK_")
            assert (held.participant_identity, held.type, held.source) == (
                "alice",
                track_pb2.TRACK_TYPE_AUDIO,
                track_pb2.TRACK_SOURCE_MICROPHONE,
            )
            assert (held.reason, held.creator_identity, held.enforcements) == ("shouting", "admin", 0)
            assert list(held.track_sids) == [mic.sid]
            was_set = await whole(events, "moderation_block_changed", moved(SET))
            assert was_set.moderation_block_changed.block.block_id == held.block_id
            assert (was_set.cause.principal_identity, was_set.cause.reason) == ("admin", "shouting")
            by_call = await whole(events, "track_muted")
            assert (by_call.cause.principal_kind, by_call.cause.rule) == (access_pb2.PRINCIPAL_KIND_ADMIN, "")
            await come_true(lambda: mic.muted and remote.muted)

            calls.unmute_self(mic)
            by_itself = await whole(events, "track_unmuted")
            assert not by_itself.HasField("cause")
            again = await whole(events, "track_muted")
            assert (again.cause.rule, again.cause.reason) == ("moderation_block", "shouting")
            enforced = await whole(events, "moderation_block_changed", moved(ENFORCED))
            assert enforced.moderation_block_changed.block.enforcements == 1
            assert enforced.cause.rule == "moderation_block"
            await come_true(lambda: mic.muted and remote.muted)
            assert await _enforced(admin, room, 1)

        async def recorded() -> list[AuditEntry]:
            return [row for row in await record(admin, room) if row.method == "moderation_block"]

        rows = await come_true(recorded)
        assert [(row.targets[0].participant_identity, row.targets[0].track_sid) for row in rows] == [("alice", mic.sid)]
        assert (rows[0].request["block_id"], rows[0].request["reason"]) == (held.block_id, "shouting")
        async with watching(admin, room) as events:
            (shown,) = events.seen[0].snapshot.moderation_blocks
            assert (shown.block_id, shown.enforcements) == (held.block_id, 1)


async def test_a_client_that_unmutes_in_a_loop_is_not_heard_ends_muted_and_is_told_of_in_bounds(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "alice") as alice,
        participant(livekit, room, "bob") as bob,
        heard(alice, bob) as (mic, levels),
        watching(admin, room) as events,
    ):
        await come_true(lambda: max(levels.values(), default=0.0) > 5000)
        await block(admin, room, mic.sid)
        await come_true(lambda: mic.muted and not _loud(levels))
        begun = time.monotonic()

        async def hardly_heard() -> bool:
            since = time.monotonic()
            for _ in range(150):
                calls.unmute_self(mic)
                await asyncio.sleep(0.01)
            during = [level for at, level in levels.items() if at >= since]
            return sum(during) * FRAME_S / (time.monotonic() - since) < 1000

        # Not each time: how soon it is muted again is a matter of how busy the machine is.
        await come_true(hardly_heard)

        async def quiet() -> bool:
            before = (await calls.blocks(admin, room))[0].enforcements
            await asyncio.sleep(1.5)
            return before == (await calls.blocks(admin, room))[0].enforcements and mic.muted

        await come_true(quiet)
        assert await calls.muted(admin, room, mic.sid)
        await come_true(lambda: not _loud(levels))
        (held,) = await calls.blocks(admin, room)
        assert held.enforcements > 0
        last = await whole(
            events, "moderation_block_changed", lambda change: change.block.enforcements == held.enforcements
        )
        assert last.moderation_block_changed.state == ENFORCED

        async def recorded() -> bool:
            rows = [row for row in await record(admin, room) if row.method == "moderation_block"]
            times = [int(json_format.MessageToDict(row.request)["times"]) for row in rows]
            # About one a second.
            return sum(times) == held.enforcements and len(rows) <= 30 + time.monotonic() - begun

        await come_true(recorded)


def _loud(levels: dict[float, float]) -> bool:
    """Whether there was anything to hear in the last half second. Where nothing comes there is not."""
    since = time.monotonic() - 0.5
    return any(level > 100 for at, level in levels.items() if at > since)


@contextlib.asynccontextmanager
async def heard(
    speaker: Joined, listener: rtc.Room
) -> AsyncIterator[tuple[rtc.LocalTrackPublication, dict[float, float]]]:
    """A microphone with a steady tone, and the levels of what another participant hears, by the time: FRAME_S each."""
    source = rtc.AudioSource(48000, 1)
    tone = array.array("h", [round(12000 * math.sin(2 * math.pi * 500 * n / 48000)) for n in range(480)]).tobytes()
    subscribed: asyncio.Future[rtc.RemoteTrack] = asyncio.get_running_loop().create_future()
    levels: dict[float, float] = {}

    def take(track: rtc.RemoteTrack, *_: object) -> None:
        if not subscribed.done():
            subscribed.set_result(track)

    listener.on("track_subscribed", take)

    async def speak() -> None:
        while True:
            await source.capture_frame(rtc.AudioFrame(tone, 48000, 1, 480))

    async def listen() -> None:
        stream = rtc.AudioStream(await subscribed)
        try:
            async for event in stream:
                samples = array.array("h", bytes(event.frame.data))
                level = math.sqrt(sum(value * value for value in samples) / max(1, len(samples)))
                levels[time.monotonic()] = level
        finally:
            await stream.aclose()

    track = rtc.LocalAudioTrack.create_audio_track("mic", source)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    published = await speaker.local_participant.publish_track(track, options)
    tasks = [asyncio.create_task(speak()), asyncio.create_task(listen())]
    try:
        await speaker.announced(published.sid)
        yield published, levels
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_block_holds_over_renaming_and_reconnects_and_only_what_it_is_about(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        (held,) = await block(admin, room, mic.sid)
        await alice.local_participant.unpublish_track(mic.sid)
        renamed = await microphone(alice, name="another name")
        await come_true(lambda: renamed.muted)
        await come_true(lambda: _enforced(admin, room, 1))
    async with participant(livekit, room, "alice") as alice, camera(alice) as cam:
        back = await microphone(alice)
        await come_true(lambda: back.muted)
        await come_true(lambda: _enforced(admin, room, 2))
        (shown,) = await calls.blocks(admin, room, "alice")
        assert (shown.block_id, list(shown.track_sids), shown.enforcements) == (held.block_id, [back.sid], 2)
        assert not cam.muted
        async with participant(livekit, room, "bob") as bob:
            other = await microphone(bob)
            await listed(admin, room, other.sid)
            assert not other.muted
        assert await calls.blocks(admin, room, "bob") == []


async def _enforced(client: Client, room: str, times: int) -> bool:
    return [found.enforcements for found in await calls.blocks(client, room)] == [times]


async def test_a_hosted_publication_stays_muted_over_its_restart_and_another_one_of_its_kind_is_muted(
    restarter: Client, room: str
) -> None:
    first = await publish(restarter, room, TONE, identity="host")
    (held,) = await block(restarter, room, first.track_sid)
    await until(restarter, first, lambda found: found.muted)
    await restart(restarter, first, RestartLevel.RESTART_LEVEL_REPUBLISH)
    again = await until(restarter, first, lambda found: found.state == LIVE and found.track_sid != first.track_sid)
    assert again.muted
    await come_true(lambda: calls.muted(restarter, room, again.track_sid))
    await restarter.UnpublishTrack(
        publication_pb2.UnpublishTrackRequest(room=room, publication_id=first.publication_id), timeout=DEADLINE_S
    )
    other = await publish(restarter, room, TONE, identity="host")
    await come_true(lambda: calls.muted(restarter, room, other.track_sid))
    await until(restarter, other, lambda found: found.muted)
    (shown,) = await calls.blocks(restarter, room)
    assert (shown.block_id, list(shown.track_sids)) == (held.block_id, [other.track_sid])


async def test_a_block_that_is_set_while_livekit_is_away_is_kept_and_holds_when_it_is_back(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with (
        existing_room(livekit, room_name),
        participant(livekit, room_name, "alice") as alice,
        track.client("admin", room_admin=True, room=room_name) as admin,
        watching(admin, room_name),
    ):
        mic = await microphone(alice)
        await listed(admin, room_name, mic.sid)
        livekit.pause()
        try:
            (result,) = await calls.mute(admin, room_name, mic.sid, block=True)
        finally:
            livekit.resume()
        assert result.stage in (publication_pb2.STAGE_REQUESTED, publication_pb2.STAGE_OBSERVED)
        assert result.block.block_id
        await come_true(lambda: mic.muted)
