"""Mode `service` out of the box: TrackService in front of a real LiveKit server, decided by the example's rules."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from tests.conftest import StartPermissions, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import microphone, participant
from tests.permission_process import EXAMPLE
from tests.publications import until_listed
from tests.refusals import Refusal, read, refusal
from track.v1 import egress_pb2, metadata_pb2, publication_pb2, server_info_pb2
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

CREW = """
[[rule]]
name = "the crew may read"
permissions = ["READ_TRACKS"]
when = "true"

[[rule]]
name = "scribes name the tracks of hosts"
permissions = ["WRITE_METADATA"]
when = '''
check.principal.identity == "scribe"
&& (check.participant_identity == "" || check.participant_identity.startsWith("host"))
'''

[[rule]]
name = "stewards set schemas, in their room"
permissions = ["WRITE_SCHEMAS"]
when = 'check.principal.identity == "steward" && check.room != ""'

[[rule]]
name = "nobody records"
permissions = ["RECORD"]
when = "true"
effect = "deny"
reason = "nothing is recorded here"
"""


async def until_denied(call: Callable[[], Awaitable[Any]]) -> Refusal:
    """Makes the call until TrackService has heard of the new rules; returns the denial."""
    async with asyncio.timeout(45):
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


@pytest.mark.deadline(120)
async def test_the_rules_decide_about_metadata_schemas_and_recordings_whatever_the_grants(
    livekit: LiveKitProcess, start_permissions: StartPermissions, start_track: StartTrack, room_name: str
) -> None:
    permissions = await start_permissions(CREW)
    track = await start_track(livekit, {**permissions.track_settings, "TRACK_MEDIA_WORKERS": "0"})
    denied = grpc.StatusCode.PERMISSION_DENIED
    schema = metadata_pb2.MetadataSchema(name="n", json_schema="true")
    output = egress_pb2.EgressOutput(file=egress_pb2.EgressFile(filepath="recordings/a"))
    async with (
        existing_room(livekit, room_name),
        participant(livekit, room_name, "host-1") as host,
        participant(livekit, room_name, "guest") as guest,
        track.client("scribe", room_join=True, room=room_name, can_publish=False) as scribe,
        track.client("steward", room_join=True, room=room_name) as steward,
        track.client("operator", room_admin=True, room_record=True, room=room_name) as operator,
    ):
        theirs, others = (await microphone(host)).sid, (await microphone(guest)).sid
        await until_listed(scribe, room_name, theirs, others)

        def named(client: Any, sid: str) -> Any:
            request = metadata_pb2.SetTrackMetadataRequest(room=room_name, track_sid=sid)
            request.replace.update({"role": "host"})
            return client.SetTrackMetadata(request, timeout=45)

        def set_schema(client: Any, room: str) -> Any:
            request = metadata_pb2.SetMetadataSchemaRequest(room=room, schema=schema, validate_only=True)
            return client.SetMetadataSchema(request, timeout=45)

        answer = await named(scribe, theirs)
        assert answer.metadata.metadata["role"] == "host"
        assert (await refusal(named(scribe, others))).code is denied
        assert (await refusal(named(operator, theirs))).code is denied
        await set_schema(steward, room_name)
        assert (await refusal(set_schema(operator, room_name))).code is denied
        assert (await refusal(set_schema(steward, ""))).code is denied
        record = egress_pb2.StartTrackEgressRequest(room=room_name, track_sid=theirs, output=output)
        refused = await refusal(operator.StartTrackEgress(record, timeout=45))
        assert (refused.code, refused.message) == (denied, "nothing is recorded here")
