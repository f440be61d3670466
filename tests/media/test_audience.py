"""What a session says to LiveKit about who may subscribe."""

from track.media.v1.media_service_pb2 import SessionAudience, TrackAudience
from track_server.media.audience import permissions_of

SIDS = {"public": "TR_public", "private": "TR_private", "data": "DTR_data"}


def audience(*everybody: str, **restricted: list[str]) -> SessionAudience:
    return SessionAudience(
        everybody=everybody,
        restricted=[
            TrackAudience(publication_id=key, participant_identities=identities)
            for key, identities in restricted.items()
        ],
    )


def test_who_may_have_every_private_track_may_have_all() -> None:
    said = permissions_of(audience("ann", "ben", private=["ann", "absent"]), SIDS, {"private"})
    assert said == {"ann": None, "absent": None, "ben": frozenset({"TR_public"})}


def test_the_data_of_a_participant_goes_to_nobody_who_may_not_have_all_of_it() -> None:
    # The SDK's process would not survive a data track in the list.
    said = permissions_of(audience("ann", "ben", data=["ann"]), SIDS, {"data"})
    assert said == {"ann": None, "ben": frozenset({"TR_public", "TR_private"})}


def test_what_is_restricted_but_not_told_of_yet_is_for_nobody() -> None:
    said = permissions_of(audience("ann", data=["ann"]), SIDS, {"data", "private"})
    assert said == {"ann": frozenset({"TR_public"})}


def test_what_is_not_in_the_room_yet_is_not_given_to_whom_it_is_not_meant_for() -> None:
    said = permissions_of(audience("ann", "ben", private=["ann"], later=["ben"]), SIDS, {"private", "later"})
    assert said == {"ann": frozenset({"TR_public", "TR_private"}), "ben": frozenset({"TR_public"})}
    assert permissions_of(audience("ben", private=[]), {"private": "TR_private"}, {"private"}) == {}
