"""How events read in the demo."""

import pytest

from track.v1 import event_pb2, publication_pb2, quality_alert_pb2, quality_pb2
from track.v1.event_pb2 import RoomEvent
from track_server.demo.wording import ABSENT, describe

_CHANGES = [field.name for field in RoomEvent.DESCRIPTOR.oneofs_by_name["change"].fields]


@pytest.mark.parametrize("change", _CHANGES)
def test_every_event_of_the_contract_says_whom_it_is_about(change: str) -> None:
    event = RoomEvent()
    about = getattr(event, change)
    about.SetInParent()
    names = [field.name for field in about.DESCRIPTOR.fields]
    if "participant_identity" in names:
        about.participant_identity = "alice"
    text = describe(event)
    assert ("alice" in text) == ("participant_identity" in names), text


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            RoomEvent(
                quality_alert_started=quality_alert_pb2.QualityAlert(
                    alert_id="QA_1",
                    kind=quality_alert_pb2.QUALITY_ALERT_KIND_NETWORK_LOSS,
                    track_sid="TR_1",
                    hop=quality_alert_pb2.QUALITY_HOP_DOWNLINK,
                    participant_identity="bob",
                )
            ),
            "alert_id=QA_1 kind=NETWORK_LOSS track_sid=TR_1 hop=DOWNLINK participant_identity=bob",
        ),
        (
            RoomEvent(
                subscription_changed=event_pb2.SubscriptionChanged(
                    participant_identity="bob", track_sid="TR_1", stage=publication_pb2.STAGE_OBSERVED
                )
            ),
            "bob receives no more of TR_1: observed",
        ),
        (
            RoomEvent(
                received_layer_changed=event_pb2.ReceivedLayerChanged(
                    participant_identity="bob", track_sid="TR_1", spatial_layer=0
                )
            ),
            "bob gets layer 0 of TR_1",
        ),
        (
            RoomEvent(
                quality_level_changed=event_pb2.QualityLevelChanged(
                    track_sid="TR_1",
                    participant_identity="bob",
                    level=quality_pb2.QUALITY_LEVEL_POOR,
                    previous_level=quality_pb2.QUALITY_LEVEL_GOOD,
                )
            ),
            "track_sid=TR_1 participant_identity=bob level=POOR previous_level=GOOD",
        ),
        (RoomEvent(policy_changed=event_pb2.PolicyChanged(name="small", removed=True)), "name=small removed=true"),
        (RoomEvent(), ABSENT),
    ],
)
def test_an_event_reads_as_a_line(event: RoomEvent, text: str) -> None:
    assert describe(event) == text
