"""What LiveKit does not take as it was asked for is published with steps down, or fails with all its tries told."""

from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_rooms import existing_room
from tests.publications import LIVE, pattern, publish, until
from tests.receivers import receiver
from track.v1 import error_pb2, tracks_pb2
from track.v1 import publication_pb2 as pb

VP8, H264, VP9 = pb.VIDEO_CODEC_VP8, pb.VIDEO_CODEC_H264, pb.VIDEO_CODEC_VP9


async def tries_of(call: Any) -> list[pb.PublicationAttempt]:
    """The tries that a failure tells of."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # has what is needed
    assert status is not None
    told = pb.PublicationAttempts()
    (detail,) = [each for each in status.details if each.Is(told.DESCRIPTOR)]
    detail.Unpack(told)
    return list(told.attempts)


async def test_another_codec_is_taken_where_livekit_does_not_have_the_one_asked_for(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit({"room": {"enabled_codecs": [{"mime": "audio/opus"}, {"mime": "video/VP8"}]}})
    track = await start_track(livekit)
    async with (
        existing_room(livekit, room_name),
        track.client("admin", room_admin=True, room=room_name) as client,
        receiver(livekit, room_name, "viewer") as viewer,
    ):
        known = await publish(client, room_name, pattern(codec=H264), "host")
        assert known.degraded == pb.DEGRADED_REASON_FALLBACK
        assert known.spec.video.codec == H264, "what was asked for"
        first, second = known.attempts
        assert (first.number, first.video.codec, list(first.steps)) == (1, H264, [])
        assert first.problem.reason == error_pb2.ERROR_REASON_PUBLISH_FAILED
        assert (second.number, second.video.codec, list(second.steps)) == (2, VP8, [pb.FALLBACK_STEP_CODEC])
        assert not second.HasField("problem")
        await viewer.receives(known.track_sid)
        found = await client.GetTrack(tracks_pb2.GetTrackRequest(room=room_name, track_sid=known.track_sid))
        assert found.track.mime_type.lower() == "video/vp8"
        asked = pattern(codec=VP9)
        asked.fallback.steps.append(pb.FALLBACK_STEP_SIZE)
        request = pb.PublishTrackRequest(room=room_name, spec=asked)
        (told,) = await tries_of(client.PublishTrack(request, timeout=45))
        assert told.video.codec == VP9
        assert told.problem.reason == error_pb2.ERROR_REASON_PUBLISH_FAILED
        plain = await publish(client, room_name, pattern(), "other")
        assert not plain.degraded
        assert not plain.attempts
        # A lost worker changes nothing about it.
        track.worker.kill()
        back = await until(client, known, lambda found: found.state == LIVE and len(found.lineage) > 1)
        assert back.attempts == known.attempts
        assert back.degraded == known.degraded
        await viewer.receives(back.track_sid)


async def test_what_no_try_can_change_is_tried_once(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit({"room": {"enabled_codecs": [{"mime": "audio/opus"}]}})
    track = await start_track(livekit)
    async with (
        existing_room(livekit, room_name),
        track.client("admin", room_admin=True, room=room_name) as client,
    ):
        request = pb.PublishTrackRequest(room=room_name, spec=pattern())
        assert len(await tries_of(client.PublishTrack(request, timeout=45))) == 1
        request.validate_only = True
        assert len(await tries_of(client.PublishTrack(request, timeout=45))) == 1
