"""A hosted session: what it does as its server, its room and its connections change."""

import asyncio
import dataclasses
import time
import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from google.protobuf import json_format
from livekit import api, rtc
from livekit.protocol.models import ParticipantPermission

from tests.livekit_process import LiveKitProcess
from tests.media.peer import DEADLINE_S, MediaPeer, PeerSession, data, pattern, tone
from tests.media.viewer import viewer
from track.media.v1.media_service_pb2 import (
    HOSTED_TRACK_STATE_FAILED,
    HOSTED_TRACK_STATE_PUBLISHED,
    HOSTED_TRACK_STATE_UNPUBLISHED,
    HostedTrackReport,
    SessionEndReason,
    SessionTicket,
)
from track.v1.error_pb2 import ErrorReason
from track.v1.quality_pb2 import QualityLimitation
from track_server.agent import SESSION_ATTRIBUTE
from track_server.media.attachment import Channels
from track_server.media.joins import Joins
from track_server.media.session import Session
from track_server.media.settings import MediaSettings
from track_server.media.wire import Setup, StartSession
from track_server.media.worker import MediaWorker

pytestmark = pytest.mark.usefixtures("worker")


@pytest_asyncio.fixture
async def livekit_api(livekit: LiveKitProcess) -> AsyncIterator[api.LiveKitAPI]:
    client = api.LiveKitAPI(livekit.http_url, livekit.api_key, livekit.api_secret)
    yield client
    await client.aclose()


async def test_what_is_no_longer_desired_is_unpublished_and_the_rest_stays(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    async with viewer(livekit, room_name) as seen:
        session = await peer.dispatch(settings.agent_name, room_name, pattern("p1"), data("d1"), data("d2"))
        sids = {key: (await session.report_of(key)).track_sid for key in ("p1", "d1", "d2")}
        await seen.publication_of(sids["p1"])
        session.desire(data("d2"))
        for key in ("p1", "d1"):
            await session.report_of(key, HOSTED_TRACK_STATE_UNPUBLISHED)
        await seen.until(lambda: set(seen.data_tracks) == {sids["d2"]} and seen.publication(sids["p1"]) is None)
        session.desire(data("d2"), pattern("p1", attempt=2))
        again = await session.report_of("p1", after=len(session.reports))
        assert again.track_sid != sids["p1"]
        await seen.publication_of(again.track_sid)


async def test_a_higher_attempt_publishes_anew(settings: MediaSettings, peer: MediaPeer, room_name: str) -> None:
    session = await peer.dispatch(settings.agent_name, room_name, tone("a1"), data("d1"))
    first = {key: (await session.report_of(key)).track_sid for key in ("a1", "d1")}
    told = len(session.reports)
    session.desire(tone("a1", attempt=2), data("d1"))
    assert (await session.report_of("a1", after=told)).track_sid not in ("", first["a1"])
    assert [report.publication_id for report in session.reports[told:]] == ["a1"], "the other one was left alone"


async def test_a_track_can_be_published_muted(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    async with viewer(livekit, room_name) as seen:
        session = await peer.dispatch(settings.agent_name, room_name, pattern("p1", muted=True), tone("a1", muted=True))
        for key in ("p1", "a1"):
            assert (await seen.publication_of((await session.report_of(key)).track_sid)).muted


async def test_the_participant_is_an_agent_that_carries_its_session(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    async with viewer(livekit, room_name) as seen:
        session = await peer.dispatch(settings.agent_name, room_name, data("d1"))
        host = await seen.until(lambda: seen.room.remote_participants.get(session.identity))
        assert host.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        assert host.attributes[SESSION_ATTRIBUTE] == session.session_id


async def test_statistics_come_at_the_interval_and_leave_out_what_is_not_measured(
    settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    wanted = (pattern("p1", 320, 180, 15), tone("a1"), data("d1", 20, frame_bytes=50))
    session = await peer.dispatch(settings.agent_name, room_name, *wanted, stats_interval_s=0.5)
    sids = {key: (await session.report_of(key)).track_sid for key in ("p1", "a1", "d1")}

    def complete() -> bool:
        return bool(session.stats) and all(
            stream.HasField("rtt_ms") for track in session.stats[-1].tracks for stream in track.streams
        )

    begin = time.time()
    await session.until(complete)
    first = len(session.stats)
    await session.until(lambda: len(session.stats) >= first + 2)
    tracks = {track.publication_id: track for track in session.stats[-1].tracks}
    before = {track.publication_id: track for track in session.stats[-2].tracks}
    assert {key: track.track_sid for key, track in tracks.items()} == sids
    assert all(begin - 5 < track.measure_time.ToNanoseconds() / 1e9 < time.time() + 1 for track in tracks.values())
    spacing = tracks["p1"].measure_time.ToNanoseconds() - before["p1"].measure_time.ToNanoseconds()
    assert 0.4e9 < spacing < 2e9
    (video,) = tracks["p1"].streams
    assert (video.frame_width, video.frame_height) == (320, 180)
    assert video.frames_sent > before["p1"].streams[0].frames_sent > 0
    assert video.packets_sent > 0
    assert video.bytes_sent > 0
    assert video.packets_lost == 0
    assert 0 <= video.rtt_ms < 500
    assert 0 <= video.jitter_ms < 200
    assert abs(video.remote_time.ToNanoseconds() / 1e9 - time.time()) < 15
    assert video.quality_limitation in (
        QualityLimitation.QUALITY_LIMITATION_NONE,
        QualityLimitation.QUALITY_LIMITATION_CPU,
        QualityLimitation.QUALITY_LIMITATION_BANDWIDTH,
    )
    (sound,) = tracks["a1"].streams
    assert sound.packets_sent > before["a1"].streams[0].packets_sent
    assert not sound.HasField("frames_sent")
    assert not sound.HasField("frame_width")
    assert sound.quality_limitation == QualityLimitation.QUALITY_LIMITATION_UNSPECIFIED
    counters = tracks["d1"].data
    assert counters.frames_pushed > before["d1"].data.frames_pushed
    assert counters.bytes_pushed == 50 * counters.frames_pushed
    assert counters.frames_refused == 0


async def test_media_goes_on_while_the_server_is_away_and_hello_tells_what_there_is(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    async with viewer(livekit, room_name) as seen:
        session = await peer.dispatch(settings.agent_name, room_name, pattern("p1"), data("d1"))
        sids = {key: (await session.report_of(key)).track_sid for key in ("p1", "d1")}
        async with seen.frames(sids["p1"]) as frames:
            await asyncio.wait_for(frames.get(), 30)
            await peer.stop()
            gone = time.time()
            last = gone
            while last < gone + 2:
                last, _ = await asyncio.wait_for(frames.get(), 30)
            await peer.start()
            await session.until(lambda: len(session.hellos) == 2)
        hello = session.hellos[1]
        assert {track.publication_id: track.track_sid for track in hello.tracks} == sids
        assert {track.state for track in hello.tracks} == {HOSTED_TRACK_STATE_PUBLISHED}
        assert hello.worker_id.startswith("AW_")
        assert seen.publication(sids["p1"]) is not None
        assert len(session.reports) == 2, "nothing was published again"


async def test_a_session_that_was_superseded_leaves(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    async with viewer(livekit, room_name) as seen:
        session = await peer.dispatch(settings.agent_name, room_name, data("d1"))
        await session.report_of("d1")
        await seen.until(lambda: session.identity in seen.room.remote_participants)
        await peer.stop()
        session.generation = 2
        await peer.start()
        await seen.until(lambda: session.identity not in seen.room.remote_participants)
        assert len(session.hellos) == 1


async def test_a_new_generation_takes_the_place_of_the_old_one(
    settings: MediaSettings, peer: MediaPeer, livekit_api: api.LiveKitAPI, room_name: str
) -> None:
    session = await peer.dispatch(settings.agent_name, room_name, data("d1"))
    first = await session.report_of("d1")
    session.generation = 2
    await peer.dispatch_again(settings.agent_name, session)
    await ended(session, SessionEndReason.SESSION_END_REASON_DUPLICATE_IDENTITY)
    await session.until(lambda: len(session.hellos) == 2)
    second = await session.report_of("d1", after=1)
    assert second.track_sid != first.track_sid
    assert await data_tracks(livekit_api, room_name) == [second.track_sid]


async def data_tracks(livekit_api: api.LiveKitAPI, room: str) -> list[str]:
    """SIDs of the room's data tracks, from LiveKit: a subscriber's SDK may miss that one of them went."""
    listed = await livekit_api.room.list_participants(api.ListParticipantsRequest(room=room))
    return [track.sid for participant in listed.participants for track in participant.data_tracks]


async def test_the_end_of_a_session_is_told_with_its_reason(
    livekit: LiveKitProcess,
    settings: MediaSettings,
    peer: MediaPeer,
    worker: MediaWorker,
    livekit_api: api.LiveKitAPI,
    room_name: str,
) -> None:
    session = await peer.dispatch(settings.agent_name, room_name, data("d1"))
    await session.report_of("d1")
    await livekit_api.room.delete_room(api.DeleteRoomRequest(room=room_name))
    await ended(session, SessionEndReason.SESSION_END_REASON_ROOM_CLOSED)

    session = await peer.dispatch(settings.agent_name, room_name, data("d1"))
    await session.report_of("d1")
    await livekit_api.room.remove_participant(api.RoomParticipantIdentity(room=room_name, identity=session.identity))
    await ended(session, SessionEndReason.SESSION_END_REASON_PARTICIPANT_REMOVED)

    session = await peer.dispatch(settings.agent_name, room_name, data("d1"))
    await session.report_of("d1")
    async with viewer(livekit, room_name, session.identity):
        await ended(session, SessionEndReason.SESSION_END_REASON_DUPLICATE_IDENTITY)

    session = await peer.dispatch(settings.agent_name, room_name, data("d1"))
    await session.report_of("d1")
    session.stop()
    await ended(session, SessionEndReason.SESSION_END_REASON_STOPPED)

    session = await peer.dispatch(settings.agent_name, room_name, data("d1"))
    await session.report_of("d1")
    for dispatch in await livekit_api.agent_dispatch.list_dispatch(room_name):
        await livekit_api.agent_dispatch.delete_dispatch(dispatch.id, room_name)
    await ended(session, SessionEndReason.SESSION_END_REASON_STOPPED)
    async with asyncio.timeout(45):
        while worker.sessions:
            await asyncio.sleep(0.02)


async def ended(session: PeerSession, reason: SessionEndReason.ValueType) -> None:
    await session.until(lambda: session.ended is not None)
    assert session.ended is not None
    assert session.ended.reason == reason, session.ended


async def test_a_permission_that_is_taken_away_fails_what_it_covered(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, livekit_api: api.LiveKitAPI, room_name: str
) -> None:
    async with viewer(livekit, room_name) as seen:
        session = await peer.dispatch(settings.agent_name, room_name, tone("a1"), data("d1"))
        sids = {key: (await session.report_of(key)).track_sid for key in ("a1", "d1")}
        await permit(livekit_api, session.identity, room_name, can_publish=False, can_publish_data=True)
        failed = await session.report_of("a1", HOSTED_TRACK_STATE_FAILED)
        assert failed.problem.reason == ErrorReason.ERROR_REASON_TARGET_PERMISSION
        assert sids["d1"] in seen.data_tracks
        session.desire(tone("a1", attempt=2), data("d1"))
        await session.until(lambda: len([r for r in session.reports if r.state == HOSTED_TRACK_STATE_FAILED]) == 2)
        await permit(livekit_api, session.identity, room_name, can_publish=True, can_publish_data=True)
        await seen.publication_of(await published_again(session))


async def published_again(session: PeerSession) -> str:
    """Desires it until it is published, and returns the SID: the SDK hears of a permission a moment after LiveKit."""
    attempt = 3
    while True:
        told = len(session.reports)
        session.desire(tone("a1", attempt=attempt), data("d1"))

        def answer(told: int = told) -> list[HostedTrackReport]:
            return [report for report in session.reports[told:] if report.publication_id == "a1"]

        await session.until(answer)
        if answer()[0].state == HOSTED_TRACK_STATE_PUBLISHED:
            return answer()[0].track_sid
        attempt += 1


async def permit(
    livekit_api: api.LiveKitAPI, identity: str, room: str, *, can_publish: bool, can_publish_data: bool
) -> None:
    permission = ParticipantPermission(can_publish=can_publish, can_publish_data=can_publish_data)
    await livekit_api.room.update_participant(
        api.UpdateParticipantRequest(room=room, identity=identity, permission=permission)
    )


async def test_a_full_reconnect_is_told_with_the_new_sids(
    livekit: LiveKitProcess, peer: MediaPeer, livekit_api: api.LiveKitAPI, room_name: str
) -> None:
    known = peer.adopt(room_name, pattern("p1", 160, 90, 10), tone("a1"), data("d1"))
    token = api.AccessToken(livekit.api_key, livekit.api_secret).with_identity(known.identity).with_kind("agent")
    token.with_grants(api.VideoGrants(room_join=True, room=room_name, can_subscribe=False))
    start = StartSession(uuid.uuid4().hex, "AW_test", "", token.to_jwt(), peer.ticket(known))
    setup = Setup(livekit.url, livekit.api_key, livekit.api_secret, "", [], 20.0, "info", True)
    channels = Channels()
    ticket = json_format.Parse(start.ticket, SessionTicket())
    session = Session(start, ticket, setup, channels, Joins(), lambda _: None)
    running = asyncio.create_task(session.run())
    try:
        async with viewer(livekit, room_name) as seen:
            first = {key: (await known.report_of(key)).track_sid for key in ("p1", "a1", "d1")}
            told = len(known.reports)
            await session._room.simulate_scenario(rtc.SimulateScenarioKind.SIMULATE_FULL_RECONNECT)
            # LiveKit takes the job for over, because the participant that it was given to is gone.
            await session.terminate()
            second = {key: (await known.report_of(key, after=told)).track_sid for key in ("p1", "a1", "d1")}
            assert not set(first.values()) & set(second.values())
            for key in ("p1", "a1"):
                await seen.publication_of(second[key])
            async with asyncio.timeout(DEADLINE_S):
                while await data_tracks(livekit_api, room_name) != [second["d1"]]:
                    await asyncio.sleep(0.05)
            assert known.ended is None
            known.stop()
            await running
    finally:
        running.cancel()
        await asyncio.wait([running])
        await channels.aclose()


async def test_a_session_whose_server_stays_away_leaves(
    livekit: LiveKitProcess, settings: MediaSettings, peer: MediaPeer, room_name: str
) -> None:
    settings = dataclasses.replace(settings, agent_name=f"media-{uuid.uuid4().hex[:8]}", orphan_timeout_s=1.0)
    async with MediaWorker(settings) as worker, viewer(livekit, room_name) as seen:
        await worker.registered()
        session = await peer.dispatch(settings.agent_name, room_name, data("d1"))
        await session.report_of("d1")
        await seen.until(lambda: session.identity in seen.room.remote_participants)
        await peer.stop()
        await seen.until(lambda: session.identity not in seen.room.remote_participants)
