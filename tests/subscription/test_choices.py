"""Manual choices in memory and in the store."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from track.v1 import event_pb2
from track.v1.subscription_pb2 import SubscriptionSettings
from track.v1.track_pb2 import TRACK_SOURCE_CAMERA, TRACK_TYPE_VIDEO, Track
from track_server.access.principal import Grants, Principal
from track_server.publishing.book import Book
from track_server.rooms import likeness
from track_server.rooms.lives import Lives
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.rooms.standing import Standing
from track_server.store.records import StoreError
from track_server.store.sqlite import SqliteStore
from track_server.subscription.choice import Choice
from track_server.subscription.choices import Choices
from track_server.subscription.following import Following

ALICE = Principal("alice", Grants(room="a", room_join=True, can_subscribe=True))
CAMERA = Track(
    sid="TR_1", room="a", participant_identity="bob", type=TRACK_TYPE_VIDEO, source=TRACK_SOURCE_CAMERA, name="cam"
)
SETTINGS = SubscriptionSettings(priority=90, width=640, height=360)
# LiveKit is not asked anything here.
NOBODY: Any = None


def choice(identity: str = "alice", *, subscribe: bool = True, expire_time: float | None = None) -> Choice:
    """Of that subscriber."""
    return Choice(identity, "TR_1", subscribe, SETTINGS, expire_time, ALICE, by_admin=False)


@contextlib.asynccontextmanager
async def kept(path: Path) -> AsyncIterator[tuple[Choices, LiveRoom, SqliteStore]]:
    """Those in the store, and the room with the camera."""
    async with (
        SqliteStore(path / "store.sqlite3") as store,
        Rooms("", NOBODY, NOBODY, linger_s=1, max_events=10, transport_timeout_s=1) as rooms,
        Lives(rooms, Standing(rooms, NOBODY), store, owner="choices", kind="choices_room") as lives,
        Choices(store, Book(store), lives) as choices,
    ):
        await choices.load()
        live = LiveRoom("a", 10, lambda room, event: None)
        live.model.tracks["TR_1"] = CAMERA
        yield choices, live, store


async def test_a_choice_is_read_again_as_it_was_made_until_it_is_released(tmp_path: Path) -> None:
    made = choice(expire_time=4_000_000_000.0)
    async with kept(tmp_path) as (choices, live, _):
        told: list[tuple[str, str, str]] = []
        choices.listen(lambda *place: told.append(place))
        await choices.choose(live, CAMERA, made)
        await choices.choose(live, CAMERA, choice("carol", subscribe=False))
        assert told == [("a", "alice", "TR_1"), ("a", "carol", "TR_1")]
    async with kept(tmp_path) as (choices, live, _):
        assert choices.of("a", "alice", "TR_1") == made
        assert choices.of("a", "alice", "TR_2") is choices.of("b", "alice", "TR_1") is None
        ((chosen, _), _) = choices.all()
        assert (chosen.track_sid, chosen.likeness.participant_identity, chosen.likeness.name) == ("TR_1", "bob", "cam")
        assert await choices.release("a", "alice", "TR_1") == made
        assert await choices.release("a", "alice", "TR_1") is None
        assert choices.concerns("a")
        await choices.release("a", "carol", "TR_1")
        assert not choices.concerns("a")
    async with kept(tmp_path) as (choices, _, _):
        assert not list(choices.all())


async def test_one_whose_time_has_come_is_not_there(tmp_path: Path) -> None:
    async with kept(tmp_path) as (choices, live, _):
        await choices.choose(live, CAMERA, choice(expire_time=1.0))
        assert choices.of("a", "alice", "TR_1") is None
    async with kept(tmp_path) as (choices, _, _):
        assert not choices.concerns("a")


async def test_what_cannot_be_stored_is_not_chosen(tmp_path: Path) -> None:
    async with kept(tmp_path) as (choices, live, store):
        before = choice()
        await choices.choose(live, CAMERA, before)
        await store.aclose()
        with pytest.raises(StoreError):
            await choices.choose(live, CAMERA, choice(subscribe=False))
        assert choices.of("a", "alice", "TR_1") is before
        with pytest.raises(StoreError):
            await choices.choose(live, CAMERA, choice("carol"))
        assert choices.of("a", "carol", "TR_1") is None
        with pytest.raises(StoreError):
            await choices.release("a", "alice", "TR_1")
        assert choices.of("a", "alice", "TR_1") is before


@pytest.mark.parametrize("moments_before", [True, False])
async def test_what_comes_just_before_its_like_is_gone_is_its_return_and_what_was_there_for_long_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moments_before: bool
) -> None:
    if not moments_before:
        monkeypatch.setattr(likeness, "_TURN_S", 0.0)
    again = Track()
    again.CopyFrom(CAMERA)
    again.sid = "TR_2"
    async with kept(tmp_path) as (choices, live, _), Following(choices) as following:
        await choices.choose(live, CAMERA, choice())
        following.look(live)
        live.model.tracks["TR_2"] = again
        live.model._sids["bob"] = {"TR_1", "TR_2"}
        following.happened(live, event_pb2.RoomEvent(track_published=again))
        assert choices.of("a", "alice", "TR_2") is None
        del live.model.tracks["TR_1"]
        live.model._sids["bob"] = {"TR_2"}
        following.happened(live, event_pb2.RoomEvent(track_unpublished=CAMERA))
        assert (choices.of("a", "alice", "TR_2") is not None) is moments_before
        assert await choices.release("a", "alice", "TR_2" if moments_before else "TR_1") == choice()
