"""Which events are shown: by kind and filter, each filter once an event."""

from collections.abc import Iterable

import pytest

from track.v1 import event_pb2, track_pb2
from track_server.errors import InvalidExpression
from track_server.rooms.selection import EventFilter, Selection, change_of

MIC = event_pb2.RoomEvent(
    track_published=track_pb2.Track(sid="TR_1", source=track_pb2.TRACK_SOURCE_MICROPHONE, participant_identity="alice")
)
ALICE = event_pb2.RoomEvent(participant_joined=track_pb2.Participant(identity="alice", attributes={"role": "host"}))
PUBLISHED = event_pb2.EVENT_KIND_TRACK_PUBLISHED
JOINED = event_pb2.EVENT_KIND_PARTICIPANT_JOINED


def test_every_kind_is_a_change_of_the_same_number_and_every_change_a_kind() -> None:
    kinds = {
        name.removeprefix("EVENT_KIND_").lower(): number for name, number in event_pb2.EventKind.items() if number != 0
    }
    changes = event_pb2.RoomEvent.DESCRIPTOR.oneofs_by_name["change"].fields
    assert kinds == {field.name: field.number for field in changes}
    assert {change_of(number) for number in kinds.values()} == set(kinds)


@pytest.mark.parametrize(
    ("kinds", "source", "mic", "alice"),
    [
        ([], "", True, True),
        ([PUBLISHED], "", True, False),
        ([PUBLISHED, JOINED], "", True, True),
        ([], "event.track_published.source == TrackSource.TRACK_SOURCE_MICROPHONE", True, False),
        ([], 'event.participant_joined.attributes["role"] == "host"', False, True),
        ([JOINED], "has(event.track_published)", False, False),
        ([], 'room == "demo"', True, True),
        ([], 'room.startsWith("x")', False, False),
        ([], "has(event.cause)", False, False),
    ],
)
def test_both_the_kind_and_the_filter_must_hold(kinds: Iterable[int], source: str, mic: bool, alice: bool) -> None:
    selection = Selection.of(kinds, source)
    assert (selection.matches("demo", MIC), selection.matches("demo", ALICE)) == (mic, alice)
    assert selection.everything == (not kinds and not source)


@pytest.mark.parametrize(
    "source",
    ["event.nothing == 1", "track.sid == 'x'", "event", "event.track_published.sid.matches(room)", "1 +"],
)
def test_a_filter_that_does_not_compile_or_may_cost_too_much_is_refused_with_its_field(source: str) -> None:
    with pytest.raises(InvalidExpression) as caught:
        Selection.of([], source)
    assert caught.value.field == "filter"


def test_who_has_the_same_filter_has_it_evaluated_once_an_event() -> None:
    one, two = (Selection.of([], 'event.track_published.sid == "TR_1" && room != "once"') for _ in range(2))
    assert one.filter is two.filter
    evaluated: list[event_pb2.RoomEvent] = []

    def predicate(room: str, event: event_pb2.RoomEvent) -> bool:
        evaluated.append(event)
        return True

    shared = Selection(filter=EventFilter(predicate))
    for _ in range(500):
        assert shared.matches("demo", MIC)
        assert shared.matches("demo", ALICE)
    assert evaluated == [MIC, ALICE]


def test_only_the_newest_verdicts_are_remembered() -> None:
    evaluated = 0

    def predicate(room: str, event: event_pb2.RoomEvent) -> bool:
        nonlocal evaluated
        evaluated += 1
        return True

    selection = Selection(filter=EventFilter(predicate))
    events = [event_pb2.RoomEvent() for _ in range(1000)]
    for event in [*events, *events]:
        selection.matches("demo", event)
    assert evaluated == 2000
    selection.matches("demo", events[-1])
    assert evaluated == 2000


class Costly:
    """A filter whose evaluations take ``cost_s`` of the clock each."""

    def __init__(self, cost_s: float) -> None:
        self._cost_s = cost_s
        self._now = 0.0

    def clock(self) -> float:
        return self._now

    def __call__(self, room: str, event: event_pb2.RoomEvent) -> bool:
        self._now += self._cost_s
        return True


def selected(costly: Costly) -> int:
    """How many of 10,000 events it lets through."""
    selection = Selection(filter=EventFilter(costly, costly.clock))
    return sum(selection.matches("demo", event_pb2.RoomEvent()) for _ in range(10_000))


def test_a_quick_filter_is_evaluated_however_often() -> None:
    assert selected(Costly(0.000_1)) == 10_000


def test_a_filter_that_takes_too_long_again_and_again_is_refused() -> None:
    with pytest.raises(InvalidExpression, match="takes too long") as caught:
        selected(Costly(0.05))
    assert caught.value.field == "filter"


def test_a_selection_may_show_what_its_kinds_name() -> None:
    looked_for = frozenset({"subscription_changed"})
    assert Selection().may_show(looked_for)
    assert Selection.of([event_pb2.EVENT_KIND_SUBSCRIPTION_CHANGED, PUBLISHED], "").may_show(looked_for)
    assert not Selection.of([PUBLISHED], "").may_show(looked_for)
