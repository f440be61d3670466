"""Commands to a companion: what many tests send and compare with."""

from livekit import rtc

from tests.clients.apps import CAMERA
from track.control.v1 import control_pb2 as control
from track.v1 import track_pb2

DONE = control.COMMAND_STATUS_DONE
ACCEPTED = control.COMMAND_STATUS_ACCEPTED
DEADLINE_S = 45.0
PLAN = control.Publish(publication_id="PUB_1", spec=CAMERA)
PLAN.spec.source = track_pb2.TRACK_SOURCE_CAMERA


def own_tracks(joined: rtc.Room) -> list[str]:
    """SIDs of what the participant publishes, as its SDK knows it."""
    return list(joined.local_participant.track_publications)
