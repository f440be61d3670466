"""What the room has shown of tracks: which are missed for too long, and which of two says that both are muted."""

import pytest

from track.v1.publication_pb2 import Publication
from track.v1.track_pb2 import Track
from track_server.publishing.sightings import VANISHED_GRACE_S, Sightings


def publication(*, muted: bool = False) -> Publication:
    return Publication(publication_id="PUB_a", muted=muted)


def track(sid: str, *, muted: bool = False) -> Track:
    return Track(sid=sid, muted=muted)


def test_a_track_that_vanishes_is_given_a_moment_and_each_time_anew() -> None:
    sightings = Sightings()
    assert not sightings.vanished(publication(), 100.0)
    assert not sightings.vanished(publication(), 100.0 + VANISHED_GRACE_S * 0.9)
    assert sightings.vanished(publication(), 100.0 + VANISHED_GRACE_S)
    for back in (lambda: sightings.moved("PUB_a"), lambda: sightings.muted(publication(), track("TR_a"), None)):
        assert not sightings.vanished(publication(), 200.0)
        back()
        assert not sightings.vanished(publication(), 200.0 + VANISHED_GRACE_S)
        sightings.moved("PUB_a")


def test_a_track_was_shown_once_it_was_in_the_room() -> None:
    sightings = Sightings()
    assert not sightings.shown("TR_a")
    sightings.muted(publication(), track("TR_a"), None)
    assert sightings.shown("TR_a")


@pytest.mark.parametrize("muted", [False, True])
def test_one_track_alone_says_whether_the_publication_is_muted(muted: bool) -> None:
    assert Sightings().muted(publication(muted=not muted), track("TR_a", muted=muted), None) is muted


@pytest.mark.parametrize("muted", [False, True])
def test_of_two_tracks_the_one_that_has_changed_says_whether_both_are_muted(muted: bool) -> None:
    known = publication(muted=not muted)
    for changed in ("TR_old", "TR_new"):
        sightings = Sightings()
        assert sightings.muted(known, track("TR_new", muted=not muted), track("TR_old", muted=not muted)) is not muted
        new, old = (track(sid, muted=muted if sid == changed else not muted) for sid in ("TR_new", "TR_old"))
        assert sightings.muted(known, new, old) is muted


@pytest.mark.parametrize("muted", [False, True])
def test_a_new_track_that_was_begun_otherwise_than_the_publication_says_nothing(muted: bool) -> None:
    known = publication(muted=muted)
    assert Sightings().muted(known, track("TR_new", muted=not muted), track("TR_old", muted=muted)) is muted
