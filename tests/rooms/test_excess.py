"""What others publish beyond the limits: told once, and again after it was within."""

from google.protobuf.timestamp_pb2 import Timestamp
from livekit.protocol import models

from track.v1 import event_pb2
from track_server.config.limits import LimitSettings
from track_server.rooms.excess import excesses
from track_server.rooms.model import RoomModel
from track_server.rooms.room import LiveRoom

NOW = Timestamp(seconds=1)
LIMITS = LimitSettings(max_tracks_per_participant=2, max_tracks_per_room=3, max_video_pixels=640 * 360)


def participant(identity: str, *tracks: models.TrackInfo) -> models.ParticipantInfo:
    state = models.ParticipantInfo.ACTIVE
    return models.ParticipantInfo(identity=identity, sid=f"PA_{identity}", state=state, tracks=tracks)


def sound(number: int) -> models.TrackInfo:
    return models.TrackInfo(sid=f"TR_{number}", type=models.TrackType.AUDIO)


def picture(sid: str, width: int, height: int) -> models.TrackInfo:
    return models.TrackInfo(sid=sid, type=models.TrackType.VIDEO, width=width, height=height)


def found(*participants: models.ParticipantInfo) -> set[tuple[str, int, int, str, str]]:
    model = RoomModel("r")
    model.update(participants, NOW)
    return {
        (one.limit, one.limit_value, one.value, one.participant_identity, one.track_sid)
        for track in model.tracks.values()
        for one in excesses(model, LIMITS, track).values()
        if one is not None
    }


def test_up_to_the_limits_nothing_is_told() -> None:
    assert not found(participant("a", sound(1), picture("TR_2", 640, 360)), participant("b", sound(3)))


def test_too_many_tracks_of_a_participant_and_of_the_room_name_what_was_seen() -> None:
    assert found(participant("a", sound(1), sound(2), sound(3)), participant("b", sound(4))) == {
        ("max_tracks_per_participant", 2, 3, "a", ""),
        ("max_tracks_per_room", 3, 4, "", ""),
    }


def test_a_video_that_is_too_large_is_named() -> None:
    assert found(participant("a", picture("TR_1", 641, 360))) == {("max_video_pixels", 230_400, 230_760, "a", "TR_1")}


async def test_it_is_told_once_and_again_after_it_was_within() -> None:
    told: list[event_pb2.LimitExceeded] = []

    def happened(_: str, event: event_pb2.RoomEvent) -> None:
        track = event.track_published if event.HasField("track_published") else event.track_unpublished
        if track.sid:
            told.extend(room.exceed(excesses(room.model, LIMITS, track)))

    room = LiveRoom("r", 100, happened)

    def see(*tracks: models.TrackInfo) -> list[str]:
        told.clear()
        room.update([participant("a", *tracks)])
        return [one.limit for one in told]

    assert see(sound(1), sound(2)) == []
    assert see(sound(1), sound(2), sound(3)) == ["max_tracks_per_participant"]
    assert see(sound(1), sound(2), sound(3), sound(4)) == ["max_tracks_per_room"]
    assert see(sound(1), sound(2), sound(3)) == []
    assert {key[0] for key in room.exceeded} == {"max_tracks_per_participant"}
    assert see(sound(1)) == []
    assert not room.exceeded
    assert see(sound(1), sound(2), sound(3)) == ["max_tracks_per_participant"]
    assert see(picture("TR_9", 10_000, 10_000)) == ["max_video_pixels"]
    assert see() == []
    assert not room.exceeded
