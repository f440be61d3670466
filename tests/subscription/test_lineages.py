"""Which track is the one that was chosen, over its SIDs."""

from track.v1.track_pb2 import TRACK_SOURCE_CAMERA, TRACK_TYPE_VIDEO, Track
from track_server.subscription.choice import Choice, Chosen
from track_server.subscription.lineages import Lineage, Lineages


def camera(sid: str, identity: str = "alice", name: str = "", publication_id: str = "") -> Track:
    """A camera in the room."""
    return Track(
        sid=sid,
        room="a",
        participant_identity=identity,
        name=name,
        type=TRACK_TYPE_VIDEO,
        source=TRACK_SOURCE_CAMERA,
        publication_id=publication_id,
    )


def added(lineages: Lineages[Choice], track: Track) -> Lineage[Choice]:
    """Something was chosen of it."""
    return lineages.add(Chosen.of(track))


def test_a_track_of_the_same_publisher_kind_and_name_is_the_one_that_went() -> None:
    lineages = Lineages[Choice]()
    chosen = added(lineages, camera("TR_1"))
    assert lineages.returned(camera("TR_2")) is None  # it has not gone
    lineages.gone(chosen, "TR_1", frozenset())
    for other in (
        camera("TR_2", "bob"),
        camera("TR_2", name="other"),
        camera("TR_2", publication_id="PUB_1"),
        Track(room="a", sid="TR_2", participant_identity="alice", type=TRACK_TYPE_VIDEO),
    ):
        assert lineages.returned(other) is None
    assert lineages.returned(camera("TR_2")) is chosen
    lineages.moved(chosen, "TR_2")
    lineages.gone(chosen, "TR_1", frozenset())
    assert lineages.of_sid("TR_1") is None
    assert lineages.of_sid("TR_2") is chosen
    assert chosen.chosen.key == "TR_1"
    assert chosen.away_since is None


def test_one_that_was_there_beside_it_is_not_its_return_and_of_two_the_first_that_went_comes_first() -> None:
    lineages = Lineages[Choice]()
    first, second = added(lineages, camera("TR_1")), added(lineages, camera("TR_2"))
    lineages.gone(first, "TR_1", frozenset({"TR_2", "TR_3"}))
    assert lineages.returned(camera("TR_3")) is None
    lineages.gone(second, "TR_2", frozenset())
    first.away_since, second.away_since = 100.0, 101.0
    assert lineages.returned(camera("TR_4")) is first
    assert lineages.returned(camera("TR_3")) is second


def test_a_publication_is_known_under_its_old_track_until_that_is_gone() -> None:
    lineages = Lineages[Choice]()
    chosen = added(lineages, camera("TR_1", publication_id="PUB_1"))
    assert lineages.of_key("PUB_1") is chosen
    lineages.moved(chosen, "TR_2")
    assert lineages.of_sid("TR_1") is lineages.of_sid("TR_2") is chosen
    lineages.gone(chosen, "TR_1", frozenset())
    assert lineages.of_sid("TR_1") is None
    # Its own track may be away for a while: its publication tells when that is for good.
    lineages.gone(chosen, "TR_2", frozenset())
    assert lineages.of_sid("TR_2") is chosen
    assert chosen.away_since is None
    lineages.remove(chosen)
    assert not lineages
    assert lineages.of_sid("TR_2") is None


def test_what_a_restart_finds_gone_is_away_and_publications_are_not() -> None:
    lineages = Lineages[Choice]()
    gone, there = added(lineages, camera("TR_1")), added(lineages, camera("TR_2", "bob"))
    added(lineages, camera("TR_3", "host", publication_id="PUB_1"))
    assert lineages.absent(["TR_2"]) == [gone]
    assert there.away_since is None
