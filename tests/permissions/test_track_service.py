"""Mode `service` out of the box: TrackService in front of a real LiveKit server, decided by the example's rules."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from tests.conftest import StartPermissions, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.permission_process import EXAMPLE
from tests.refusals import Refusal, read, refusal
from track.v1 import publication_pb2, server_info_pb2
from track.v1.tracks_pb2 import ListTracksRequest

BOUNDED = """
[[rule]]
name = "small pictures"
permissions = ["PUBLISH"]
when = 'check.principal.grants.room_admin'
max_width = 640
max_height = 360
"""
CLOSED = '[[rule]]\nname = "closed"\nwhen = "true"\neffect = "deny"\nreason = "closed for today"\n'


async def until_denied(call: Callable[[], Awaitable[Any]]) -> Refusal:
    """Makes the call until TrackService has heard of the new rules; returns the denial."""
    async with asyncio.timeout(20):
        while True:
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                    return read(error)
            await asyncio.sleep(0.02)


@pytest.mark.deadline(120)
async def test_the_rules_decide_what_callers_of_track_service_may_do(
    livekit: LiveKitProcess, start_permissions: StartPermissions, start_track: StartTrack, room_name: str
) -> None:
    permissions = await start_permissions()
    track = await start_track(livekit, {**permissions.track_settings, "TRACK_MEDIA_WORKERS": "0"})
    publish = publication_pb2.PublishTrackRequest(
        room=room_name,
        create_room=True,
        participant_identity="stage",
        spec=publication_pb2.PublicationSpec(
            test_pattern=publication_pb2.TestPatternInput(),
            video=publication_pb2.VideoOptions(width=1280, height=720),
        ),
        validate_only=True,
    )
    async with (
        track.client("alice", room_join=True, room=room_name) as alice,
        track.client("operator", room_admin=True, room=room_name) as operator,
    ):
        await alice.GetServerInfo(server_info_pb2.GetServerInfoRequest())
        # That there is no such room is told to whoever may read it.
        refused = await refusal(alice.ListTracks(ListTracksRequest(room=room_name)))
        assert refused.code is grpc.StatusCode.NOT_FOUND
        refused = await refusal(alice.ListTracks(ListTracksRequest(room="another")))
        assert refused.code is grpc.StatusCode.PERMISSION_DENIED
        assert (await refusal(alice.PublishTrack(publish))).code is grpc.StatusCode.PERMISSION_DENIED
        await operator.PublishTrack(publish)

        await permissions.rewrite(BOUNDED + EXAMPLE.read_text())
        refused = await until_denied(lambda: operator.PublishTrack(publish))
        assert refused.fields == ("spec.video.width",)
        publish.spec.ClearField("video")
        answer = await operator.PublishTrack(publish)
        video = answer.publication.spec.video
        assert 0 < video.width <= 640
        assert 0 < video.height <= 360

        await permissions.rewrite(CLOSED)
        refused = await until_denied(lambda: alice.ListTracks(ListTracksRequest(room=room_name)))
        assert refused.message == "closed for today"
