"""What filters choose, who may block whom, and what a block is about."""

from collections.abc import Iterable
from typing import Any

import pytest
from google.protobuf import timestamp_pb2
from livekit.protocol import models

from track.v1 import track_pb2, tracks_pb2
from track_server.access.principal import Grants, Principal, anonymous
from track_server.errors import InvalidExpression, InvalidField, PermissionDenied
from track_server.moderation.selection import MOST, matching, require_over_others
from track_server.moderation.subjects import Subject
from track_server.rooms.model import RoomModel


def room(tracks: Iterable[tuple[str, str, int]]) -> RoomModel:
    """A room with those tracks: publisher, SID, type."""
    infos: dict[str, models.ParticipantInfo] = {}
    for identity, sid, kind in tracks:
        info = infos.setdefault(identity, models.ParticipantInfo(sid=f"PA_{identity}", identity=identity))
        made: Any = models.TrackInfo(sid=sid, name=sid)
        made.type = kind
        info.tracks.append(made)
    model = RoomModel("r")
    model.replace("RM_r", infos.values(), timestamp_pb2.Timestamp())
    return model


def chosen(model: RoomModel, **filters: Any) -> list[str]:
    return [each.ref.track_sid for each in matching(model, tracks_pb2.MuteTracksRequest(room="r", **filters))]


def test_what_matches_and_is_not_left_out_is_chosen_by_participant_and_sid_without_data_tracks() -> None:
    audio, video, data = models.TrackType.AUDIO, models.TrackType.VIDEO, models.TrackType.DATA
    model = room([("b", "TR_1", audio), ("a", "TR_3", audio), ("a", "TR_2", video), ("a", "TR_4", data)])
    assert chosen(model, filter="true") == ["TR_2", "TR_3", "TR_1"]
    assert chosen(model, except_filter="track.type == TrackType.TRACK_TYPE_VIDEO") == ["TR_3", "TR_1"]
    assert chosen(model, filter='track.participant_identity == "a"', except_filter='track.sid == "TR_2"') == ["TR_3"]
    # An expression that fails does not match.
    assert chosen(model, filter='track.metadata.role == "x"') == []
    assert chosen(model, except_filter='track.metadata.role == "x"') == ["TR_2", "TR_3", "TR_1"]


def test_more_than_a_call_mutes_are_refused_and_faults_name_their_filter() -> None:
    model = room((f"p{n}", f"TR_{n}", models.TrackType.AUDIO) for n in range(MOST + 1))
    assert len(chosen(model, except_filter='track.sid == "TR_0"')) == MOST
    for filters in ({"filter": "true"}, {"except_filter": "false"}):
        with pytest.raises(InvalidField) as refused:
            chosen(model, **filters)
        assert refused.value.field == next(iter(filters))
    with pytest.raises(InvalidExpression) as fault:
        chosen(model, except_filter="track.")
    assert fault.value.field == "except_filter"


@pytest.mark.parametrize(
    ("principal", "identity", "may"),
    [
        (Principal("a", Grants(room="r", room_join=True, can_publish=True)), "a", False),
        (Principal("a", Grants(room="r", room_join=True, can_publish=True)), "", False),
        (Principal("a", Grants(room="r", room_join=True, can_publish=True)), "b", True),
        (Principal("a", Grants(room="r", room_admin=True)), "a", True),
        (Principal("a", Grants(room_list=True)), "a", True),
        (anonymous(), "", True),
    ],
    ids=["itself", "nobody known", "another, once allowed", "admin", "service of that name", "off"],
)
def test_who_may_mute_as_itself_alone_may_not_block(principal: Principal, identity: str, may: bool) -> None:
    if may:
        require_over_others(principal, "r", identity)
    else:
        with pytest.raises(PermissionDenied):
            require_over_others(principal, "r", identity)


def test_a_block_is_about_the_source_and_without_one_about_the_name() -> None:
    def subject(**fields: object) -> Subject:
        fields = {"sid": "TR_1", "participant_identity": "a", "type": track_pb2.TRACK_TYPE_AUDIO, **fields}
        return Subject.of_track(track_pb2.Track(**fields))  # type: ignore[arg-type]

    microphone = track_pb2.TRACK_SOURCE_MICROPHONE
    assert subject(source=microphone, name="x") == subject(source=microphone, name="y", sid="TR_2")
    assert subject(name="x") == subject(name="x", sid="TR_2")
    for other in ({"name": "y"}, {"name": "x", "source": microphone}, {"name": "x", "participant_identity": "b"}):
        assert subject(name="x") != subject(**other)
