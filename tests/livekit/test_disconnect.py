"""What LiveKit's goodbye means: who ended the session, and whether a new one makes sense."""

import pytest
from livekit.protocol import models, rtc

from track_server.livekit.disconnect import SignalClosed, broken, closed_by_us, sent_away

_GONE = [
    models.CLIENT_INITIATED,
    models.DUPLICATE_IDENTITY,
    models.PARTICIPANT_REMOVED,
    models.ROOM_DELETED,
    models.ROOM_CLOSED,
]


@pytest.mark.parametrize("reason", models.DisconnectReason.values())
def test_plain_goodbye_is_final_only_where_we_or_the_room_are_meant(reason: models.DisconnectReason) -> None:
    end = sent_away(rtc.LeaveRequest(reason=reason, action=rtc.LeaveRequest.DISCONNECT))
    assert (end.reason, end.by_server, end.can_reconnect) == (reason, True, reason not in _GONE)


@pytest.mark.parametrize(
    "leave",
    [
        rtc.LeaveRequest(action=rtc.LeaveRequest.RESUME),
        rtc.LeaveRequest(action=rtc.LeaveRequest.RECONNECT),
        rtc.LeaveRequest(can_reconnect=True),
    ],
)
def test_goodbye_that_asks_us_back_is_not_final(leave: rtc.LeaveRequest) -> None:
    leave.reason = models.ROOM_CLOSED
    assert sent_away(leave).can_reconnect


def test_lost_connection_may_be_tried_again_and_our_own_end_not() -> None:
    assert (broken("lost").by_server, broken("lost").can_reconnect) == (False, True)
    assert (closed_by_us().by_server, closed_by_us().can_reconnect) == (False, False)


def test_closed_tells_the_reason_by_name() -> None:
    assert str(SignalClosed(broken("no network"))) == "SIGNAL_CLOSE: no network"
