"""What changed from one look at LiveKit's debug view to the next."""

from google.protobuf.timestamp_pb2 import Timestamp
from livekit.protocol import models

from track.v1 import event_pb2, publication_pb2
from track_server.livekit.debug import DownTrack, read
from track_server.rooms.downtracks import Pair, Received, changes, old, received
from track_server.rooms.model import RoomModel

VIDEO, AUDIO = models.TrackType.VIDEO, models.TrackType.AUDIO


def room(*identities: str) -> RoomModel:
    """Alice publishes a camera and a microphone; the others are there."""
    tracks = [models.TrackInfo(sid="TR_cam", type=VIDEO), models.TrackInfo(sid="TR_mic", type=AUDIO)]
    active = models.ParticipantInfo.ACTIVE
    model = RoomModel("r")
    infos = [models.ParticipantInfo(identity="alice", sid="PA_alice", state=active, tracks=tracks)]
    infos += [models.ParticipantInfo(identity=name, sid=f"PA_{name}", state=active) for name in identities]
    model.replace("RM_1", infos, Timestamp(seconds=1))
    return model


def copy(who: str, sid: str = "TR_cam", layer: int = 0, *, bound: bool = True, disabled: bool = False) -> DownTrack:
    return DownTrack(sid, who, bound, layer, disabled, subscriber_sid=f"PA_{who}")


def told(events: list[event_pb2.RoomEvent]) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for event in events:
        if event.HasField("subscription_changed"):
            change = event.subscription_changed
            assert change.stage == publication_pb2.STAGE_OBSERVED
            assert change.evidence == publication_pb2.EVIDENCE_DEBUG_VIEW
            found.append((change.participant_identity, change.track_sid, change.subscribed))
        else:
            layer = event.received_layer_changed
            number = layer.spatial_layer if layer.HasField("spatial_layer") else None
            found.append((layer.participant_identity, layer.track_sid, "layer", number))
    return found


def test_a_new_subscription_and_its_layer_are_told_once() -> None:
    model = room("bob")
    after = received([copy("bob", layer=1), copy("bob", "TR_mic", -1)], model)
    assert told(changes({}, after, model)) == [
        ("bob", "TR_cam", True),
        ("bob", "TR_cam", "layer", 1),
        ("bob", "TR_mic", True),
    ]
    assert changes(after, after, model) == []


def test_another_layer_is_told_and_none_is_absent() -> None:
    model = room("bob")
    low, high, off = (received([copy("bob", layer=layer)], model) for layer in (0, 2, -1))
    assert told(changes(low, high, model)) == [("bob", "TR_cam", "layer", 2)]
    assert told(changes(high, off, model)) == [("bob", "TR_cam", "layer", None)]
    paused = received([copy("bob", layer=2, disabled=True)], model)
    assert told(changes(high, paused, model)) == [("bob", "TR_cam", "layer", None)]


def test_an_unsubscription_is_told_and_what_went_with_participant_or_track_is_not() -> None:
    model = room("bob", "carol")
    before = received([copy("bob"), copy("carol"), copy("carol", "TR_mic")], model)
    after = received([copy("carol")], model)
    assert told(changes(before, after, model)) == [("bob", "TR_cam", False), ("carol", "TR_mic", False)]
    assert told(changes(before, {}, room("carol"))) == [("carol", "TR_cam", False), ("carol", "TR_mic", False)]
    without = RoomModel("r")
    assert changes(before, {}, without) == []


def test_hidden_subscribers_and_those_that_the_room_does_not_know_yet_are_left_out() -> None:
    model = room("bob")
    copies = [copy("track-watcher-1"), copy("carol"), copy("bob", "TR_new"), copy("bob", bound=False)]
    assert received(copies, model) == {}


def test_a_session_that_came_back_is_another_subscriber() -> None:
    model = room("bob")
    before = {Pair("PA_old", "TR_cam"): Received("bob", 0)}
    after = received([copy("bob")], model)
    assert told(changes(before, after, model)) == [("bob", "TR_cam", True), ("bob", "TR_cam", "layer", 0)]


def test_what_was_there_when_somebody_began_to_listen_is_not_told_and_what_came_is() -> None:
    model = room("bob", "carol")
    after = received([copy("bob"), copy("carol")], model)
    silent = frozenset({"PA_bob", "TR_cam", "PA_alice", "TR_mic"})
    before = old(after, silent, set())
    assert told(changes(before, after, model)) == [("carol", "TR_cam", True), ("carol", "TR_cam", "layer", 0)]
    # What this service asked for did not just happen to be there.
    assert set(old(after, silent, {("bob", "TR_cam")})) == set()


def test_of_the_debug_view_only_the_rooms_that_are_asked_for_are_read() -> None:
    down = {"SubscriberID": "PA_bob", "BindState": 2, "CurrentSpatialLayer": 1}
    published = {"TR_cam": {"DownTracks": [down, down | {"SubscriberID": "PA_gone"}]}}
    people = {
        "alice": {"ID": "PA_alice", "UpTrackManager": {"PublishedTracks": published}},
        "bob": {"ID": "PA_bob", "UpTrackManager": {"PublishedTracks": {}}},
    }
    found = read([{"Name": "r", "Participants": people}, {"Name": "other", "Participants": people}], {"r", "none"})
    assert found == {"r": [DownTrack("TR_cam", "bob", True, 1, subscriber_sid="PA_bob")], "none": []}
