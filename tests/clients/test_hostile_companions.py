"""Companions that lie: their participants' clients are not this service's, and nothing that they say acts on others."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import grpc
import pytest
from livekit import rtc

from tests.livekit_process import LiveKitProcess
from tests.participants import Joined, camera, participant
from tests.refusals import refusal
from tests.track_process import Client, TrackProcess
from track.v1 import error_pb2, publication_update_pb2, track_pb2, tracks_pb2
from track.v1 import publication_pb2 as pb

METHOD = "track.control.v1"
DEADLINE_S = 45.0
CAMERA = pb.PublicationSpec(
    device=pb.DeviceInput(kind=pb.DEVICE_KIND_CAMERA),
    video=pb.VideoOptions(width=320, height=180, frames_per_second=10),
    fallback=pb.FallbackOptions(max_attempts=1),
)


class Liar:
    """A companion that is asked for anything, and answers DONE with what it is told to say."""

    def __init__(self, joined: rtc.Room) -> None:
        self.result: dict[str, object] = {}
        self.raw: dict[str, object] = {}
        joined.local_participant.register_rpc_method(METHOD, self._answer)

    async def _answer(self, call: rtc.RpcInvocationData) -> str:
        command = json.loads(json.loads(call.payload)["command"])
        if "getCapabilities" in command:
            able = {"actions": ["publish"], "devices": ["DEVICE_KIND_CAMERA"], "sendCodecs": ["vp8"]}
            return json.dumps({"status": "COMMAND_STATUS_DONE", "result": {"capabilities": able}})
        if "unpublish" in command:
            return json.dumps({"status": "COMMAND_STATUS_DONE"})
        return json.dumps({"status": "COMMAND_STATUS_DONE", "result": self.result} | self.raw)


@contextlib.asynccontextmanager
async def bobs_camera(livekit: LiveKitProcess, room: str) -> AsyncIterator[rtc.LocalTrackPublication]:
    """A track of another participant."""
    async with participant(livekit, room, "bob") as bob, camera(bob) as published:
        yield published


async def known(client: Client, room: str, sid: str) -> track_pb2.Track:
    """The track, once TrackService knows it."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            listed = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room))
            for track in listed.tracks:
                if track.sid == sid:
                    return track
            await asyncio.sleep(0.05)


async def test_a_companion_that_claims_the_track_of_another_participant_is_not_believed(
    track: TrackProcess, livekit: LiveKitProcess, admin: Client, alice: Joined, room: str
) -> None:
    liar = Liar(alice)
    async with bobs_camera(livekit, room) as bobs, track.client("alice", room_join=True, room=room) as caller:
        await known(admin, room, bobs.sid)
        liar.result = {"trackSid": bobs.sid}
        refused = await refusal(caller.PublishTrack(pb.PublishTrackRequest(room=room, spec=CAMERA), timeout=DEADLINE_S))
        assert refused.reason == "COMPANION_FAILED"
        assert (await known(admin, room, bobs.sid)).publication_id == ""
        # By no publication of her own is it hers.
        unpublish = pb.UnpublishTrackRequest(room=room, track_sid=bobs.sid)
        refused = await refusal(caller.UnpublishTrack(unpublish, timeout=DEADLINE_S))
        assert refused.code == grpc.StatusCode.PERMISSION_DENIED
        await known(admin, room, bobs.sid)


async def test_a_restart_does_not_lead_to_the_track_of_another_participant(
    track: TrackProcess, livekit: LiveKitProcess, admin: Client, alice: Joined, room: str
) -> None:
    liar = Liar(alice)
    async with bobs_camera(livekit, room) as bobs, camera(alice) as own:
        await known(admin, room, bobs.sid)
        await known(admin, room, own.sid)
        liar.result = {"trackSid": bobs.sid}
        async with track.client("alice", room_join=True, room=room) as caller:
            answer = await caller.RestartTrack(
                publication_update_pb2.RestartTrackRequest(
                    room=room, track_sid=own.sid, level=publication_update_pb2.RESTART_LEVEL_REPUBLISH
                ),
                timeout=DEADLINE_S,
            )
        (step,) = answer.steps
        assert step.problem.reason == error_pb2.ERROR_REASON_COMPANION_FAILED
        assert answer.evidence == pb.EVIDENCE_UNSPECIFIED


@pytest.mark.parametrize(
    "reply",
    [
        {"status": 77},
        {"consent": 77},
        {"result": {"trackSid": "TR_" + "x" * 8000}},
        {"result": {"trackSid": "\u0000"}},
    ],
    ids=lambda reply: next(iter(reply)),
)
async def test_a_companion_that_answers_what_is_none_fails_the_call(
    admin: Client, alice: Joined, room: str, reply: dict[str, object]
) -> None:
    Liar(alice).raw = reply
    request = pb.PublishTrackRequest(room=room, participant_identity="alice", spec=CAMERA)
    refused = await refusal(admin.PublishTrack(request, timeout=DEADLINE_S))
    assert refused.reason == "COMPANION_FAILED"
    listed = await admin.ListPublications(pb.ListPublicationsRequest(room=room))
    assert not [found for found in listed.publications if found.state != pb.PUBLICATION_STATE_ENDED]
