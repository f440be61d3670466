"""ReportSubscriberState: for oneself, or by an admin; what is refused, what is merged, and what ends."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.livekit_process import LiveKitProcess
from tests.participants import camera, microphone, participant
from tests.refusals import refusal
from tests.subscriptions import listed
from tests.track_process import Client, TrackProcess
from track.v1 import subscription_pb2 as pb

DEADLINE_S = 45.0


def request(room: str, identity: str = "", **state: Any) -> pb.ReportSubscriberStateRequest:
    """A report of that state."""
    return pb.ReportSubscriberStateRequest(room=room, participant_identity=identity, state=pb.SubscriberState(**state))


async def test_reports_are_merged_and_end_with_their_track_and_their_connection(
    livekit: LiveKitProcess, track: TrackProcess, admin: Client, room: str
) -> None:
    async with participant(livekit, room, "bob") as bob, track.client("alice", room_join=True, room=room) as caller:
        async with participant(livekit, room, "alice"), camera(bob) as first, camera(bob, "second") as second:
            for sid in (first.sid, second.sid):
                await listed(admin, room, sid)
            sizes = [pb.TrackViewport(track_sid=sid, width=640, height=360) for sid in (first.sid, second.sid)]
            answer = await caller.ReportSubscriberState(
                request(room, receive_codecs=["VP8"], viewports=sizes, max_decode_width=1920, max_decode_height=1080)
            )
            assert answer.state.receive_codecs == ["vp8"]
            assert answer.report_time.seconds > 0
            hidden = pb.TrackViewport(track_sid=first.sid, visible=False)
            # By an admin, about another one.
            state = (
                await admin.ReportSubscriberState(
                    request(room, "alice", viewports=[hidden], downlink_bps=500_000, cpu_load=0.5)
                )
            ).state
            assert sorted(state.viewports, key=lambda each: each.track_sid == first.sid) == [sizes[1], hidden]
            assert (state.downlink_bps, state.cpu_load, state.max_decode_height) == (500_000, 0.5, 1080)
            await bob.local_participant.unpublish_track(second.sid)
            await _until(caller, room, lambda state: [each.track_sid for each in state.viewports] == [first.sid])
        async with participant(livekit, room, "alice"):
            # Another connection, of which nothing is known.
            await _until(caller, room, lambda state: state == pb.SubscriberState())


async def _until(caller: Client, room: str, holds: Any) -> None:
    state = None
    async with asyncio.timeout(DEADLINE_S):
        while state is None or not holds(state):
            await asyncio.sleep(0.05)
            state = (await caller.ReportSubscriberState(request(room))).state


@pytest.mark.parametrize(
    ("state", "field"),
    [
        ({"cpu_load": 1.5}, "state.cpu_load"),
        ({"cpu_load": float("nan")}, "state.cpu_load"),
        ({"downlink_bps": 0}, "state.downlink_bps"),
        ({"max_decode_width": 640}, "state"),
        ({"max_decode_width": 20_000, "max_decode_height": 1}, "state.max_decode_width"),
        ({"receive_codecs": [""]}, "state.receive_codecs[0]"),
        ({"viewports": [{"track_sid": "x"}]}, "state.viewports[0].track_sid"),
        ({"viewports": [{"track_sid": "TR_a", "width": 1}]}, "state.viewports[0]"),
        ({"viewports": [{"track_sid": "TR_a", "adaptive_width": 1}]}, "state.viewports[0]"),
        ({"viewports": [{"track_sid": "TR_a", "width": -1, "height": 1}]}, "state.viewports[0].width"),
        ({"viewports": [{"track_sid": "TR_a"}, {"track_sid": "TR_a"}]}, "state"),
    ],
    ids=str,
)
async def test_values_out_of_their_range_are_refused_with_their_field(
    admin: Client, room: str, state: dict[str, Any], field: str
) -> None:
    refused = await refusal(admin.ReportSubscriberState(request(room, "alice", **state)))
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields[0] == field


async def test_who_may_report_about_whom_and_which_tracks(
    livekit: LiveKitProcess, track: TrackProcess, admin: Client, room: str
) -> None:
    async with (
        participant(livekit, room, "alice") as alice,
        participant(livekit, room, "deaf", can_subscribe=False),
        participant(livekit, room, "bob") as bob,
        camera(bob) as cam,
        camera(alice, "own") as own,
        track.client("eve", room_join=True, room=room) as eve,
        track.client("alice", room_join=True, room=room, can_subscribe=False) as mute,
        track.client("alice", room_join=True, room=room) as caller,
    ):
        mic = await microphone(bob)
        for sid in (cam.sid, own.sid, mic.sid):
            await listed(admin, room, sid)

        async def refused(client: Client, asked: pb.ReportSubscriberStateRequest) -> tuple[str, tuple[str, ...]]:
            found = await refusal(client.ReportSubscriberState(asked))
            return found.reason, found.fields

        # A report that speaks for another participant.
        assert await refused(eve, request(room, "alice", cpu_load=0.5)) == ("PERMISSION_DENIED", ())
        assert await refused(mute, request(room, cpu_load=0.5)) == ("PERMISSION_DENIED", ())
        assert await refused(admin, request(room, "nobody")) == ("PARTICIPANT_NOT_FOUND", ("participant_identity",))
        assert await refused(eve, request(room)) == ("PARTICIPANT_NOT_FOUND", ("participant_identity",))
        assert await refused(admin, request(room, "deaf")) == ("TARGET_PERMISSION", ("participant_identity",))
        for sid, reason in (
            ("TR_none", "TRACK_NOT_FOUND"),
            (mic.sid, "INVALID_OPTIONS"),
            (own.sid, "INVALID_OPTIONS"),
        ):
            shown = [pb.TrackViewport(track_sid=cam.sid), pb.TrackViewport(track_sid=sid)]
            assert await refused(caller, request(room, viewports=shown)) == (reason, ("state.viewports[1].track_sid",))
        # Nothing of all that was taken.
        assert (await caller.ReportSubscriberState(request(room))).state == pb.SubscriberState()
