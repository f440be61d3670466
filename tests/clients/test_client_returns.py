"""Publications by clients that go away and come back, and over a death of the server."""

import asyncio
import contextlib
from typing import Any

from livekit import rtc
from livekit.rtc._proto import room_pb2 as rtc_room

import track_control
from tests.clients.apps import CAMERA, attached, public_key
from tests.clients.publications import (
    DEADLINE_S,
    RESTARTING,
    publish,
    rejoined,
    struct_metadata,
    until,
    while_asked,
)
from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.media.viewer import viewer
from tests.participants import Joined, participant
from tests.publications import ENDED, LIVE, until_listed
from tests.track_process import Client
from track.v1 import error_pb2, tracks_pb2
from track.v1 import publication_pb2 as pb


async def test_who_comes_back_gets_track_mute_and_metadata_back(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    key = await public_key(admin)
    asked: list[tuple[bool, bool]] = []

    def consent(given: track_control.Request) -> bool:
        asked.append((given.fields.get("restored", False), given.fields.get("muted", False)))
        return True

    spec = pb.PublicationSpec()
    spec.CopyFrom(CAMERA)
    spec.metadata.update({"role": "presenter"})
    async with viewer(livekit, room) as seen:
        async with rejoined(livekit, room, key, consent=consent):
            first = await publish(admin, room, spec)
            mute = tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid=first.track_sid)])
            await admin.MuteTracks(mute, timeout=DEADLINE_S)
            await until(admin, first, lambda found: found.muted)
        away = await until(admin, first, lambda found: found.state == RESTARTING)
        assert not away.track_sid
        assert away.muted
        async with rejoined(livekit, room, key, consent=consent) as (alice, _):
            back = await until(admin, first, lambda found: found.state == LIVE)
            assert back.track_sid != first.track_sid
            assert back.muted
            assert [entry.track_sid for entry in back.lineage] == [first.track_sid, back.track_sid]
            assert list(alice.local_participant.track_publications) == [back.track_sid]
            assert (await seen.publication_of(back.track_sid)).muted
            await until_listed(admin, room, back.track_sid)
            listed = await admin.ListTracks(
                tracks_pb2.ListTracksRequest(room=room, filter='track.metadata.role == "presenter"')
            )
            (track,) = listed.tracks
            assert (track.sid, track.publication_id, track.muted) == (back.track_sid, back.publication_id, True)
            assert track.metadata == struct_metadata(role="presenter")
    assert asked == [(False, False), (True, True)]


async def test_a_connection_made_anew_by_the_sdk_keeps_the_publication(admin: Client, room: str, alice: Joined) -> None:
    async with attached(alice, await public_key(admin)):
        first = await publish(admin, room)
        sid = alice.local_participant.sid
        await alice.simulate_scenario(rtc_room.SIMULATE_FULL_RECONNECT)
        back = await until(admin, first, lambda found: found.state == LIVE and found.track_sid != first.track_sid)
        assert alice.local_participant.sid != sid
        assert list(alice.local_participant.track_publications) == [back.track_sid]
        await until_listed(admin, room, back.track_sid)


async def test_who_comes_back_without_a_companion_is_waited_for(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    key = await public_key(admin)
    async with rejoined(livekit, room, key):
        first = await publish(admin, room)
    async with participant(livekit, room, "alice") as alice:
        missing = error_pb2.ERROR_REASON_COMPANION_MISSING
        await until(admin, first, lambda found: found.problem.reason == missing)
        async with attached(alice, key):
            back = await until(admin, first, lambda found: found.state == LIVE)
            assert not back.HasField("problem")


async def test_a_server_killed_in_the_middle_finds_everything_again(
    livekit: LiveKitProcess, room: str, start_track: StartTrack, alice: Joined
) -> None:
    track = await start_track(livekit, {"TRACK_CLIENT_RETURN_SECONDS": "5", "TRACK_MEDIA_WORKERS": "0"})
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    asked: list[str] = []

    def consent(given: track_control.Request) -> Any:
        asked.append(given.fields["spec"]["name"])
        return answer if given.fields["spec"]["name"] == "mic" else True

    mic = pb.PublicationSpec(name="mic", device=pb.DeviceInput(kind=pb.DEVICE_KIND_MICROPHONE))
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(track.client("admin", room_admin=True, room=room))
        key = await public_key(first)
        devices = {"CAMERA": lambda _: rtc.VideoSource(320, 180), "MICROPHONE": lambda _: rtc.AudioSource(48000, 1)}
        await stack.enter_async_context(attached(alice, key, devices=devices, consent=consent))
        live = await publish(first, room)
        async with while_asked(first, room, mic) as (pending, _):
            await track.kill()
        await track.start()
        admin = await stack.enter_async_context(track.client("admin", room_admin=True, room=room))
        assert await public_key(admin) == key
        answer.set_result(True)
        pending = await until(admin, pending, lambda found: found.state == LIVE)
        live = await until(admin, live, lambda found: found.state == LIVE)
        await until_listed(admin, room, live.track_sid)
        assert set(alice.local_participant.track_publications) == {live.track_sid, pending.track_sid}
        assert live.lineage[0].track_sid == live.track_sid
        assert len(asked) == 2
        # Who does not come back in time has ended it.
        await alice.disconnect()
        ended = await until(admin, live, lambda found: found.state == ENDED)
        assert ended.end_cause == pb.PUBLICATION_END_CAUSE_CLIENT
        assert ended.problem.reason == error_pb2.ERROR_REASON_PARTICIPANT_NOT_FOUND
