"""Publications by Ingress where no Ingress can be had, which is found out after whether the caller may have one."""

import grpc
import pytest

from tests.refusals import refusal
from tests.servicer.ingresses import DEADLINE_S, RTMP, WHIP, ask
from tests.servicer.principals import bearing
from tests.track_process import Client, TrackProcess
from track.v1 import access_pb2, token_pb2, track_pb2
from track.v1 import publication_pb2 as pb


async def test_without_redis_it_is_refused_and_nothing_is_left(track: TrackProcess, room: str, admin: Client) -> None:
    for spec in (RTMP, WHIP):
        for validate_only in (False, True):
            refused = await refusal(ask(admin, room, spec, validate_only=validate_only))
            assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INGRESS_UNAVAILABLE")
            assert "Ingress" in refused.message
    assert not (await admin.ListPublications(pb.ListPublicationsRequest(room=room))).publications


@pytest.mark.parametrize("mine", ["microphone", "camera"])
async def test_who_may_publish_one_source_alone_may_not_have_an_ingress_which_publishes_two(
    track: TrackProcess, room: str, mine: str
) -> None:
    sound = pb.PublicationSpec(ingress=RTMP.ingress, source=track_pb2.TRACK_SOURCE_MICROPHONE)
    spec = sound if mine == "microphone" else RTMP
    async with track.client("alice", room_join=True, room=room, can_publish_sources=[mine]) as alice:
        refused = await refusal(ask(alice, room, spec))
        assert refused.code == grpc.StatusCode.PERMISSION_DENIED
    async with track.client("alice", room_join=True, room=room, can_publish_sources=["microphone", "camera"]) as alice:
        refused = await refusal(ask(alice, room, spec))
        assert refused.reason == "INGRESS_UNAVAILABLE"


async def test_what_comes_unknown_to_an_ingress_is_within_no_bounds(
    track: TrackProcess, room: str, admin: Client
) -> None:
    request = token_pb2.CreateTrackTokenRequest(
        room=room,
        operation=access_pb2.TRACK_OPERATION_PUBLISH,
        participant_identity="alice",
        bounds=token_pb2.PublishBounds(max_width=1280, max_height=720),
    )
    token = (await admin.CreateTrackToken(request, timeout=DEADLINE_S)).token
    sound = pb.PublicationSpec(ingress=RTMP.ingress, source=track_pb2.TRACK_SOURCE_MICROPHONE)
    async with bearing(track, token) as alice:
        for spec, field in ((WHIP, "spec.ingress.enable_transcoding"), (sound, "spec.video")):
            refused = await refusal(ask(alice, room, spec))
            assert (refused.code, refused.fields) == (grpc.StatusCode.PERMISSION_DENIED, (field,))
        # What is encoded anew is encoded within them.
        assert (await refusal(ask(alice, room, RTMP))).reason == "INGRESS_UNAVAILABLE"
