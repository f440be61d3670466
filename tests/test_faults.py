"""What is wrong with a message, in words for the caller."""

import pytest
from google.protobuf.message import Message
from protovalidate import Validator

from track.v1 import publication_pb2, subscription_pb2, track_pb2
from track_server.faults import fault_of, path_of


@pytest.mark.parametrize(
    ("message", "path", "fault"),
    [
        (
            publication_pb2.FileInput(uri="a", type=track_pb2.TRACK_TYPE_DATA),
            "type",
            "must not be TRACK_TYPE_DATA",
        ),
        (
            subscription_pb2.SubscriptionSettings(quality=track_pb2.VIDEO_QUALITY_OFF),
            "quality",
            "must be one of LOW, MEDIUM and HIGH",
        ),
        (publication_pb2.DeviceInput(), "kind", "must be set"),
    ],
)
def test_enums_are_told_by_name(message: Message, path: str, fault: str) -> None:
    (violation,) = Validator().collect_violations(message)
    assert (path_of(violation), fault_of(violation)) == (path, fault)
