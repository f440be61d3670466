"""What LiveKit was asked for, given up, and asked for anew."""

import pytest

from track.v1.egress_pb2 import EgressPart, TrackEgress
from track_server.egress.starts import asked_anew


def recording(path: str = "a.ogg", *, room: str = "demo", livekit_id: str = "", status: str = "") -> TrackEgress:
    part = EgressPart(track_sid="TR_a", path=path, livekit_egress_id=livekit_id, livekit_status=status)
    return TrackEgress(egress_id="TEG_b", room=room, parts=[part])


@pytest.mark.parametrize(
    ("other", "anew"),
    [
        (recording(), True),
        (recording(livekit_id="EG_a"), False),
        (recording(livekit_id="EG_a", status="EGRESS_FAILED"), False),
        (recording("b.ogg"), False),
        (recording(room="other"), False),
        (TrackEgress(room="demo"), False),
    ],
)
def test_what_is_asked_for_anew_is_not_taken_for_a_late_start(other: TrackEgress, anew: bool) -> None:
    assert asked_anew(recording(), [other]) is anew
