"""The reducer: LiveKit's updates in, the room and its events out."""

from collections.abc import Iterable

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from livekit.protocol import models, rtc

from track.v1 import event_pb2, quality_pb2, track_pb2
from track_server.rooms.model import Binding, RoomModel
from track_server.rooms.room import LiveRoom

NOW = Timestamp(seconds=1)


def info(
    identity: str, *sids: str, sid: str = "", version: int = 0, muted: bool = False, **fields: object
) -> models.ParticipantInfo:
    tracks = [models.TrackInfo(sid=track, type=models.TrackType.AUDIO, muted=muted) for track in sids]
    return models.ParticipantInfo(
        identity=identity,
        sid=sid or f"PA_{identity}",
        state=models.ParticipantInfo.ACTIVE,
        tracks=tracks,
        version=version,
        **fields,  # type: ignore[arg-type]
    )


def gone(identity: str, sid: str = "") -> models.ParticipantInfo:
    return models.ParticipantInfo(
        identity=identity, sid=sid or f"PA_{identity}", state=models.ParticipantInfo.DISCONNECTED
    )


def kinds(events: Iterable[event_pb2.RoomEvent]) -> list[str]:
    return [event.WhichOneof("change") or "" for event in events]


def test_who_comes_with_tracks_is_told_before_them() -> None:
    model = RoomModel("r")
    assert kinds(model.update([info("a", "TR_1", "TR_2")], NOW)) == [
        "participant_joined",
        "track_published",
        "track_published",
    ]


def test_who_goes_is_told_after_the_tracks() -> None:
    model = RoomModel("r")
    model.update([info("a", "TR_1")], NOW)
    assert kinds(model.update([gone("a")], NOW)) == ["track_unpublished", "participant_left"]
    assert not model.tracks
    assert not model.participants


def test_the_same_update_twice_is_no_event() -> None:
    model = RoomModel("r")
    model.update([info("a", "TR_1", version=3)], NOW)
    assert model.update([info("a", "TR_1", version=3)], NOW) == []


def test_an_older_update_is_ignored() -> None:
    model = RoomModel("r")
    model.update([info("a", "TR_1", version=3)], NOW)
    assert model.update([info("a", version=2)], NOW) == []
    assert "TR_1" in model.tracks


def test_a_mute_is_a_mute_and_nothing_else() -> None:
    model = RoomModel("r")
    model.update([info("a", "TR_1")], NOW)
    assert kinds(model.update([info("a", "TR_1", muted=True)], NOW)) == ["track_muted"]
    assert kinds(model.update([info("a", "TR_1")], NOW)) == ["track_unmuted"]


def test_an_identity_that_comes_back_with_a_new_session_left_first() -> None:
    model = RoomModel("r")
    model.update([info("a", "TR_1")], NOW)
    events = model.update([info("a", "TR_2", sid="PA_new")], NOW)
    assert kinds(events) == ["track_unpublished", "participant_left", "participant_joined", "track_published"]
    assert model.update([gone("a")], NOW) == [], "the old session's farewell must not end the new one"


def test_hidden_participants_are_not_there() -> None:
    model = RoomModel("r")
    hidden = info("w", permission=models.ParticipantPermission(hidden=True))
    assert model.update([hidden], NOW) == []
    assert model.replace("RM_1", [hidden], NOW) == []


def test_a_quality_is_an_event_when_the_level_changes() -> None:
    model = RoomModel("r")
    model.update([info("a", "TR_1")], NOW)
    good = rtc.ConnectionQualityInfo(participant_sid="PA_a", quality=models.ConnectionQuality.GOOD, score=3.9)
    assert kinds(model.rate([good], NOW)) == ["quality_changed"]
    better = rtc.ConnectionQualityInfo(participant_sid="PA_a", quality=models.ConnectionQuality.GOOD, score=4.0)
    assert model.rate([better], NOW) == []
    assert abs(model.qualities["a"].score - 4.0) < 1e-6
    poor = rtc.ConnectionQualityInfo(participant_sid="PA_a", quality=models.ConnectionQuality.POOR)
    (event,) = model.rate([poor], NOW)
    assert event.quality_changed.connection_quality == quality_pb2.CONNECTION_QUALITY_POOR
    assert not event.quality_changed.HasField("score"), "a score that was not sent is absent"


async def test_a_score_is_told_to_listeners_where_it_is_no_event() -> None:
    """Rules read it."""
    told: list[event_pb2.RoomEvent] = []
    room = LiveRoom("r", 100, lambda _, event: told.append(event))
    room.update([info("a", "TR_1")])

    def rate(score: float) -> list[float]:
        told.clear()
        good = models.ConnectionQuality.GOOD
        room.rate([rtc.ConnectionQualityInfo(participant_sid="PA_a", quality=good, score=score)])
        return [round(event.quality_changed.score, 3) for event in told]

    assert rate(3.9) == [3.9]
    before = room.log.end
    assert rate(3.9) == []
    assert rate(4.0) == [4.0]
    assert room.log.end == before


def test_a_binding_may_come_before_or_after_its_track() -> None:
    model = RoomModel("r")
    model.bind("TR_1", Binding("PUB_1"), NOW)
    model.update([info("a", "TR_1", "TR_2")], NOW)
    assert model.tracks["TR_1"].publication_id == "PUB_1"
    assert kinds(model.bind("TR_2", Binding("PUB_2"), NOW)) == ["track_updated"]
    assert model.tracks["TR_2"].publication_id == "PUB_2"
    assert model.update([info("a", "TR_1", "TR_2")], NOW) == []


def test_metadata_of_a_track_is_there_from_its_first_event_on() -> None:
    known: dict[str, Struct] = {}
    model = RoomModel("r", lambda track: known.get(track.publication_id or track.sid))
    known["TR_1"] = Struct()
    known["TR_1"]["role"] = "presenter"
    (*_, published) = model.update([info("a", "TR_1", "TR_2")], NOW)
    assert model.tracks["TR_1"].metadata["role"] == "presenter"
    assert not published.track_published.HasField("metadata")
    known["PUB_2"] = known.pop("TR_1")
    assert kinds(model.bind("TR_2", Binding("PUB_2"), NOW)) == ["track_updated"]
    assert model.tracks["TR_2"].metadata["role"] == "presenter"
    assert kinds(model.describe(["TR_1", "TR_2", "TR_gone"], NOW)) == ["track_updated"]
    assert not model.tracks["TR_1"].HasField("metadata")
    assert model.describe(["TR_1"], NOW) == []


def test_sources_and_types_are_converted_not_cast() -> None:
    model = RoomModel("r")
    track = models.TrackInfo(
        sid="TR_1",
        type=models.TrackType.VIDEO,
        source=models.TrackSource.SCREEN_SHARE,
        encryption=models.Encryption.GCM,
    )
    model.update([models.ParticipantInfo(identity="a", sid="PA_a", tracks=[track])], NOW)
    found = model.tracks["TR_1"]
    assert found.type == track_pb2.TRACK_TYPE_VIDEO
    assert found.source == track_pb2.TRACK_SOURCE_SCREEN_SHARE
    assert found.encryption == track_pb2.ENCRYPTION_GCM


ROOMS = st.dictionaries(st.sampled_from("abcd"), st.sets(st.sampled_from(["1", "2", "3"]), max_size=3), max_size=4)


@given(st.lists(ROOMS, max_size=6))
def test_replayed_events_give_the_room_that_livekit_tells(history: list[dict[str, set[str]]]) -> None:
    model = RoomModel("r")
    tracks: set[str] = set()
    people: set[str] = set()
    for room in history:
        infos = [info(identity, *(f"TR_{identity}{sid}" for sid in sids)) for identity, sids in room.items()]
        for event in model.replace("RM_1", infos, NOW):
            match event.WhichOneof("change"):
                case "track_published":
                    assert event.track_published.participant_identity in people
                    assert event.track_published.sid not in tracks
                    tracks.add(event.track_published.sid)
                case "track_unpublished":
                    tracks.remove(event.track_unpublished.sid)
                case "participant_joined":
                    people.add(event.participant_joined.identity)
                case "participant_left":
                    people.remove(event.participant_left.identity)
        assert tracks == {f"TR_{identity}{sid}" for identity, sids in room.items() for sid in sids} == set(model.tracks)
        assert people == set(room) == set(model.participants)


def test_the_room_itself_is_told_when_it_is_another_than_it_was() -> None:
    model = RoomModel("room")
    assert model.state is None
    first = models.Room(sid="RM_1", metadata="one")
    assert model.settle(first, NOW) == []
    version = model.version
    assert model.settle(first, NOW) == []
    assert model.version == version
    (event,) = model.settle(models.Room(sid="RM_1", metadata="one", active_recording=True, num_participants=3), NOW)
    assert event.room_updated == event_pb2.RoomState(sid="RM_1", metadata="one", active_recording=True)
    assert model.settle(models.Room(sid="RM_1", metadata="one", active_recording=True), NOW) == []
    assert model.version > version
