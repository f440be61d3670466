"""Whose client is asked, and who is not waited for."""

import pytest

from track.v1 import track_pb2
from track_server.control.commands import Target
from track_server.control.targets import connection_of
from track_server.errors import CompanionMissing

ASKED = (track_pb2.PARTICIPANT_KIND_STANDARD, track_pb2.PARTICIPANT_KIND_AGENT)


@pytest.mark.parametrize("kind", track_pb2.ParticipantKind.values())
def test_apps_and_agents_alone_are_asked(kind: "track_pb2.ParticipantKind.ValueType") -> None:
    participant = track_pb2.Participant(identity="alice", sid="PA_1", kind=kind)
    if kind in ASKED:
        assert connection_of("room", participant) == Target("room", "alice", "PA_1")
    else:
        with pytest.raises(CompanionMissing):
            connection_of("room", participant)


def test_who_is_not_there_cannot_be_asked() -> None:
    with pytest.raises(CompanionMissing):
        connection_of("room", None)
