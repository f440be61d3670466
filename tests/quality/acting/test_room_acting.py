"""What a room's state machine decides is stored, then done, then told; and let go of when its ground is gone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from track.v1 import quality_policy_pb2 as pb
from track.v1.event_pb2 import EventCause, RoomEvent
from track.v1.publication_pb2 import STAGE_OBSERVED, STAGE_REQUESTED, Publication
from track.v1.publication_update_pb2 import RestartStep, RestartTrackRequest, RestartTrackResponse
from track.v1.subscription_pb2 import LayerTerm
from track.v1.track_pb2 import TRACK_TYPE_VIDEO, Track, VideoQuality
from track_server.access.principal import Grants, Principal
from track_server.deadline import Deadline
from track_server.errors import NotSupported, TrackError
from track_server.publishing.book import Book
from track_server.quality.acting import room as acting_room
from track_server.quality.acting.history import ActionHistory
from track_server.quality.acting.room import RoomActing
from track_server.quality.clock import SystemClock
from track_server.quality.core.adapting.action import Action, Move
from track_server.quality.core.adapting.ladder import HIGH, LOW, MEDIUM, ActionKind, Family, Line
from track_server.quality.core.adapting.measure import Measure, Verdict
from track_server.quality.core.adapting.view import View
from track_server.quality.core.assessment import Assessed
from track_server.quality.core.detecting.table import AlertKind
from track_server.quality.policies.policies import Policies
from track_server.rooms.lives import Lives
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms
from track_server.rooms.standing import Standing
from track_server.store.records import StoreError
from track_server.store.sqlite import SqliteStore

ADMIN: Final = Principal("admin", Grants(room="a", room_admin=True))
# LiveKit is not asked anything here.
NOBODY: Any = None
CAM: Final = Track(sid="TR_1", room="a", participant_identity="host", type=TRACK_TYPE_VIDEO)
UPLINK: Final = Line(Family.UPLINK, "host")
DEADLINE_S: Final = 20.0


class Terms:
    """Where limits are set."""

    def __init__(self) -> None:
        self.mine = True
        self.set: dict[tuple[str, str, str], LayerTerm] = {}

    def want(self, owner: str, room: str) -> None:
        """Nothing to do."""

    release = want

    def acting(self, room: str) -> bool:
        """Whether this server has the lease."""
        return self.mine

    def limit(self, owner: str, room: str, identity: str, track_sid: str, term: LayerTerm | None) -> None:
        """Sets one, or takes it back."""
        if term is None:
            self.set.pop((owner, identity, track_sid))
        else:
            self.set[owner, identity, track_sid] = term

    @property
    def qualities(self) -> list[int]:
        """What is left, by the limits there are."""
        return [term.quality for term in self.set.values()]


class Stage:
    """A room with a camera in it, and what becomes of it. ``told``: the events."""

    def __init__(self, store: SqliteStore, policies: Policies) -> None:
        self.store = store
        self.policies = policies
        self.terms = Terms()
        self.told: list[RoomEvent] = []
        self.restarts: list[tuple[str, str, str]] = []
        self.refused: TrackError | None = None
        self.live = LiveRoom("a", 10, lambda room, event: None)
        self.live.model.tracks[CAM.sid] = CAM
        self.history = ActionHistory(store.journal, age_s=3600, most=100)
        self.clock = SystemClock()
        self._number = 0
        means: Any = SimpleNamespace(
            rooms=SimpleNamespace(followed=lambda _: self.live, announce=lambda _, event: self.told.append(event)),
            assessing=SimpleNamespace(clock=self.clock, following=lambda _: contextlib.nullcontext()),
            policies=policies,
            abilities=NOBODY,
            hands=SimpleNamespace(of=lambda _: iter(()), concerns=lambda _: False),
            history=self.history,
            terms=self.terms,
            restarts=self,
            counted=lambda _: None,
        )
        self.room = RoomActing("a", means, lambda _: None)
        policies.listen(lambda _: self.room.policies_changed())

    async def restart(
        self, principal: Principal, request: RestartTrackRequest, deadline: Deadline, cause: EventCause
    ) -> RestartTrackResponse:
        """A track is restarted."""
        self.restarts.append((principal.identity, request.track_sid, cause.rule))
        if self.refused is not None:
            raise self.refused
        return RestartTrackResponse(
            stage=STAGE_OBSERVED, publication=Publication(track_sid="TR_2"), steps=[RestartStep()]
        )

    def restarting(self) -> Action:
        """A restart of the camera."""
        restart = self.action(Move.DOWN, HIGH)
        return replace(restart, line=Line(Family.MEDIA, "host", "TR_1"), kind=ActionKind.RESTART, quality=None)

    def action(self, move: Move, quality: int, *, held: bool = False) -> Action:
        """A next one of the publisher's line."""
        self._number += 1
        return Action(
            number=self._number,
            line=UPLINK,
            move=move,
            kind=ActionKind.CAP_PUBLISHER,
            quality=quality,
            reason="network_loss",
            time_s=self.clock.now().monotonic_s,
            held=held,
            before=Measure(lost=20, packets=100, seconds=5),
        )

    def tick(self, *actions: Action) -> None:
        """The state machine has decided."""
        self.room.ticked(Assessed(actions=actions), self.clock.now())

    async def until(self, *changes: str) -> list[RoomEvent]:
        """The events, once they are of those kinds, in order."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.told) < len(changes):
                await asyncio.sleep(0.005)
        assert [event.WhichOneof("change") for event in self.told] == list(changes)
        return self.told

    async def known(self, holds: Callable[[pb.QualityAction], bool]) -> list[pb.QualityAction]:
        """All that are stored, once that holds of the newest."""
        async with asyncio.timeout(DEADLINE_S):
            while not (found := await self.kept()) or not holds(found[0]):
                await asyncio.sleep(0.005)
        return found

    async def kept(self) -> list[pb.QualityAction]:
        """All that are stored, newest first."""
        return [action async for _, action in self.history.newest("a")]


@contextlib.asynccontextmanager
async def stage(path: Path) -> AsyncIterator[Stage]:
    """See Stage."""
    async with (
        SqliteStore(path / "store.sqlite3") as store,
        Rooms("", NOBODY, NOBODY, linger_s=1, max_events=10, transport_timeout_s=1) as rooms,
        Lives(rooms, Standing(rooms, NOBODY), store, owner="quality", kind="quality_room") as lives,
        Policies(store, Book(store), lives, 10) as policies,
    ):
        kinds = [pb.QUALITY_ACTION_KIND_CAP_PUBLISHER]
        policy = pb.QualityPolicy(room="a", allowed_actions=kinds)
        await policies.set(policy, ADMIN, "", validate_only=False)
        at = Stage(store, policies)
        async with at.room:
            yield at


async def test_it_is_stored_done_told_and_judged(tmp_path: Path) -> None:
    async with stage(tmp_path) as at:
        down = at.action(Move.DOWN, MEDIUM)
        at.tick(down)
        assert not at.terms.set
        taken = (await at.until("quality_action_taken"))[0]
        assert at.terms.qualities == [VideoQuality.VIDEO_QUALITY_MEDIUM]
        assert list(at.terms.set) == [("quality uplink", "", "TR_1")]
        assert taken.cause.rule == "quality_policy"
        assert await at.kept() == [taken.quality_action_taken]
        judged = _judged(down, Verdict.IMPROVED)
        at.tick(judged, at.action(Move.UP, HIGH))
        told = await at.until("quality_action_taken", "quality_action_judged", "quality_action_taken")
        assert told[1].quality_action_judged.action_id == taken.quality_action_taken.action_id
        assert told[1].quality_action_judged.verdict == pb.QUALITY_VERDICT_IMPROVED
        assert not at.terms.set
        up, first = await at.kept()
        assert (up.move, first.verdict) == (pb.QUALITY_MOVE_UP, pb.QUALITY_VERDICT_IMPROVED)


async def test_what_is_held_back_is_told_and_judged_and_not_done(tmp_path: Path) -> None:
    async with stage(tmp_path) as at:
        down = at.action(Move.DOWN, MEDIUM, held=True)
        at.tick(down)
        (taken,) = await at.until("quality_action_taken")
        assert taken.quality_action_taken.held_back
        at.tick(_judged(down, Verdict.NONE))
        await at.until("quality_action_taken", "quality_action_judged")
        assert not at.terms.set


async def test_nothing_is_done_before_it_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acting_room, "_RETRY_S", 0.01)
    async with stage(tmp_path) as at:
        add, tries = at.history.add, 0

        async def failing(room: str, action: pb.QualityAction, *, version: int = 0) -> None:
            nonlocal tries
            tries += 1
            assert not at.terms.set
            if tries < 3:
                raise StoreError("the disk is full")
            await add(room, action, version=version)

        monkeypatch.setattr(at.history, "add", failing)
        at.tick(at.action(Move.DOWN, LOW))
        await at.until("quality_action_taken")
        assert (tries, at.terms.qualities) == (3, [VideoQuality.VIDEO_QUALITY_LOW])


async def test_without_the_lease_nothing_is_done_and_what_was_is_let_go_of(tmp_path: Path) -> None:
    async with stage(tmp_path) as at:
        at.tick(at.action(Move.DOWN, LOW))
        await at.until("quality_action_taken")
        at.terms.mine = False
        at.tick(at.action(Move.DOWN, LOW))
        assert not at.terms.set
        # Nobody will know what came of it.
        told = await at.until("quality_action_taken", "quality_action_judged")
        assert told[1].quality_action_judged.verdict == pb.QUALITY_VERDICT_CANNOT_TELL


async def test_a_participant_that_leaves_takes_its_limits_along(tmp_path: Path) -> None:
    async with stage(tmp_path) as at:
        at.tick(at.action(Move.DOWN, LOW))
        await at.until("quality_action_taken")
        at.room.left("somebody else")
        assert at.terms.set
        at.room.left("host")
        assert not at.terms.set
        await at.until("quality_action_taken", "quality_action_judged")


async def test_a_room_that_is_closed_and_opened_again_begins_anew(tmp_path: Path) -> None:
    async with stage(tmp_path) as at:
        before = at.room.adaptation
        at.tick(at.action(Move.DOWN, LOW))
        await at.until("quality_action_taken")
        at.room.ended()
        assert not at.terms.set
        assert at.room.adaptation is not before
        told = await at.until("quality_action_taken", "quality_action_judged")
        assert told[1].quality_action_judged.verdict == pb.QUALITY_VERDICT_CANNOT_TELL
        # What it does then is nothing that was done before.
        at.tick(at.action(Move.DOWN, MEDIUM))
        told = await at.until("quality_action_taken", "quality_action_judged", "quality_action_taken")
        assert told[2].quality_action_taken.action_id != told[0].quality_action_taken.action_id
        assert at.terms.qualities == [VideoQuality.VIDEO_QUALITY_MEDIUM]


async def test_numbers_of_actions_go_on_over_the_lives_of_the_room(tmp_path: Path) -> None:
    bad = View(
        reasons=frozenset({AlertKind.NETWORK_LOSS}), fresh=Measure(lost=30, packets=200, seconds=1, troubled_s=1)
    )
    numbers = []
    async with stage(tmp_path) as at:
        for second in range(2):
            numbers += [action.number for action in at.room.adaptation.step({UPLINK: bad}, float(second))]
            at.room.ended()
    assert numbers == [1, 2]


async def test_tracks_published_later_have_the_limit_that_holds(tmp_path: Path) -> None:
    async with stage(tmp_path) as at:
        at.tick(at.action(Move.DOWN, LOW))
        await at.until("quality_action_taken")
        at.live.model.tracks["TR_2"] = Track(sid="TR_2", room="a", participant_identity="host", type=TRACK_TYPE_VIDEO)
        at.room.refresh()
        assert {sid for _, _, sid in at.terms.set} == {"TR_1", "TR_2"}
        del at.live.model.tracks["TR_1"]
        at.room.unpublished("TR_1")
        assert {sid for _, _, sid in at.terms.set} == {"TR_2"}


async def test_a_restart_is_made_in_the_name_of_who_set_the_policy(tmp_path: Path) -> None:
    async with stage(tmp_path) as at:
        restart = at.restarting()
        at.tick(restart)
        await at.until("quality_action_taken")
        (found,) = await at.known(lambda found: found.stage == STAGE_OBSERVED)
        assert at.restarts == [("admin", "TR_1", "quality_policy")]
        assert not at.terms.set
        assert (found.quality, found.kind) == (VideoQuality.VIDEO_QUALITY_UNSPECIFIED, pb.QUALITY_ACTION_KIND_RESTART)
        # Its track has another SID; the verdict is that of the action all the same.
        at.room.unpublished("TR_1")
        at.tick(_judged(restart, Verdict.IMPROVED))
        (found,) = await at.known(lambda found: found.verdict == pb.QUALITY_VERDICT_IMPROVED)
        assert found.stage == STAGE_OBSERVED


async def test_a_restart_that_is_refused_says_so(tmp_path: Path) -> None:
    async with stage(tmp_path) as at:
        at.refused = NotSupported("an ingress is restarted by whoever sends it")
        at.tick(at.restarting())
        (found,) = await at.known(lambda found: found.HasField("problem"))
        assert (found.stage, found.problem.message) == (STAGE_REQUESTED, at.refused.message)


def _judged(action: Action, verdict: Verdict) -> Action:
    return replace(action, after=Measure(packets=100, seconds=5), verdict=verdict)
