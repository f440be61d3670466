"""What a session says to LiveKit about who may subscribe."""

import asyncio
from typing import Any, cast

from livekit import rtc

from track.media.v1.media_service_pb2 import DesiredTrack, SessionAudience, SessionDesired, TrackAudience
from track_server.media.audience import AudienceTeller, permissions_of

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
    said = permissions_of(audience("ann", "ben", private=["ann", "absent"]), SIDS.items(), {"private"})
    assert said == {"ann": None, "absent": None, "ben": frozenset({"TR_public"})}


def test_the_data_of_a_participant_goes_to_nobody_who_may_not_have_all_of_it() -> None:
    # The SDK's process would not survive a data track in the list.
    said = permissions_of(audience("ann", "ben", data=["ann"]), SIDS.items(), {"data"})
    assert said == {"ann": None, "ben": frozenset({"TR_public", "TR_private"})}


def test_what_is_restricted_but_not_told_of_yet_is_for_nobody() -> None:
    said = permissions_of(audience("ann", data=["ann"]), SIDS.items(), {"data", "private"})
    assert said == {"ann": frozenset({"TR_public"})}


def test_what_is_not_in_the_room_yet_is_not_given_to_whom_it_is_not_meant_for() -> None:
    said = permissions_of(audience("ann", "ben", private=["ann"], later=["ben"]), SIDS.items(), {"private", "later"})
    assert said == {"ann": frozenset({"TR_public", "TR_private"}), "ben": frozenset({"TR_public"})}
    assert permissions_of(audience("ben", private=[]), [("private", "TR_private")], {"private"}) == {}


class Failing:
    """Stands for a room of the SDK, and for its participant, that fails at first."""

    def __init__(self, failures: int) -> None:
        self.local_participant = self
        self.failures = failures
        self.said: list[list[str]] = []

    def set_track_subscription_permissions(self, *, participant_permissions: Any, **_: Any) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the SDK is not well")
        self.said.append([each.participant_identity for each in participant_permissions])

    async def set_attributes(self, _: dict[str, str]) -> None:
        """Answers."""


async def test_what_the_sdk_failed_to_say_is_said_again_and_the_track_waits_for_it() -> None:
    room = Failing(1)
    joined: asyncio.Future[rtc.Room] = asyncio.get_running_loop().create_future()
    joined.set_result(cast(rtc.Room, cast(Any, room)))
    told: list[int] = []
    telling = AudienceTeller(joined, dict, told.append)
    restricted = DesiredTrack(publication_id="private", restricted=True)
    said = audience("ann", "ben", private=["ann"])
    said.revision = 7
    telling.want(SessionDesired(tracks=[restricted], audience=said))
    running = asyncio.create_task(telling.run())
    try:
        async with asyncio.timeout(45):
            await telling.passage("private")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert (room.failures, room.said, told) == (0, [["ann"]], [7])


async def test_nothing_is_opened_while_a_private_track_is_still_being_taken_away() -> None:
    sdk = Failing(0)
    room = cast(rtc.Room, cast(Any, sdk))
    joined: asyncio.Future[rtc.Room] = asyncio.get_running_loop().create_future()
    told: list[int] = []
    telling = AudienceTeller(joined, dict, told.append)
    said = audience("ann", "ben", private=["ann"])
    said.revision = 7
    telling.want(SessionDesired(tracks=[DesiredTrack(publication_id="private", restricted=True)], audience=said))
    assert await telling._tell(room)
    telling.want(SessionDesired(audience=SessionAudience(revision=8)))
    assert await telling._tell(room)
    assert (sdk.said, told) == ([["ann"]], [7])
    telling.left("private")
    assert await telling._tell(room)
    assert (sdk.said, told) == ([["ann"], []], [7, 8])


async def test_a_private_track_on_its_way_out_is_not_opened_by_what_becomes_of_another() -> None:
    sids = {"public": "TR_public", "other": "TR_other"}
    sdk = Failing(0)
    joined: asyncio.Future[rtc.Room] = asyncio.get_running_loop().create_future()
    telling = AudienceTeller(joined, sids.items, lambda _: None)
    room = cast(rtc.Room, cast(Any, sdk))
    other = DesiredTrack(publication_id="other", restricted=True)
    private = DesiredTrack(publication_id="private", restricted=True)
    telling.want(SessionDesired(tracks=[private, other], audience=audience("ann", "ben", private=[], other=["ann"])))
    telling.want(SessionDesired(tracks=[other], audience=audience("ann", "ben", other=["ann"])))
    assert await telling._tell(room)
    # Everything would be the private one, too.
    assert telling._said == {"ann": frozenset(sids.values()), "ben": frozenset({"TR_public"})}
    telling.left("private")
    assert await telling._tell(room)
    assert telling._said == {"ann": None, "ben": frozenset({"TR_public"})}
