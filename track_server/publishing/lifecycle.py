"""The life cycle of a publication: the legal moves, and what each changes. Pure: every function returns a copy."""

from collections.abc import Mapping
from typing import Final

from google.protobuf import timestamp_pb2

from track.v1 import error_pb2, publication_pb2
from track.v1.publication_pb2 import Publication, PublicationEndCause, PublicationState

PENDING: Final = PublicationState.PUBLICATION_STATE_PENDING
STARTING: Final = PublicationState.PUBLICATION_STATE_STARTING
LIVE: Final = PublicationState.PUBLICATION_STATE_LIVE
RESTARTING: Final = PublicationState.PUBLICATION_STATE_RESTARTING
ENDED: Final = PublicationState.PUBLICATION_STATE_ENDED

MOVES: Final[Mapping[int, frozenset[int]]] = {
    PENDING: frozenset({STARTING, ENDED}),
    STARTING: frozenset({LIVE, RESTARTING, ENDED}),
    LIVE: frozenset({RESTARTING, ENDED}),
    RESTARTING: frozenset({STARTING, ENDED}),
    ENDED: frozenset(),
}

KEPT: Final = 32
"""How many moves and SIDs a publication remembers."""
REMEMBERED_S: Final = 3600
"""How long an ended publication can be read."""


class IllegalMoveError(Exception):
    """A fault of ours: the life cycle has no such move."""


def begin(publication: Publication, now: timestamp_pb2.Timestamp) -> Publication:
    """A new publication, PENDING."""
    result = _copy(publication)
    result.create_time.CopyFrom(now)
    _enter(result, PENDING, now, "")
    return result


def move(
    publication: Publication, state: PublicationState.ValueType, now: timestamp_pb2.Timestamp, detail: str = ""
) -> Publication:
    """``publication`` in ``state`` (not LIVE, not ENDED: see ``live`` and ``end``)."""
    result = _copy(publication)
    _leave_room(result, now)
    _enter(result, state, now, detail)
    return result


def passed(before: Publication | None, after: Publication) -> list[Publication]:
    """``after`` as it was at each move that it has made since ``before``; the last one is ``after`` itself."""
    known = before.moves[-1] if before is not None and before.moves else None
    moves = list(after.moves)
    last = moves.index(known) if known in moves else len(moves) - 1
    between = []
    for count in range(last + 2, len(moves)):
        step = _copy(after)
        del step.moves[count:]
        step.state = step.moves[-1].state
        between.append(step)
    return [*between, after]


def begun_anew(publication: Publication, now: timestamp_pb2.Timestamp, detail: str) -> Publication:
    """STARTING, also where it was LIVE: then that it is RESTARTING, and why, is among its moves."""
    if publication.state != LIVE:
        return publication
    return move(move(publication, RESTARTING, now, detail), STARTING, now)


def live(publication: Publication, track_sid: str, now: timestamp_pb2.Timestamp) -> Publication:
    """In the room as ``track_sid``. A publication that is LIVE already gets a new SID in its lineage.

    Data messages have none: "".
    """
    result = _copy(publication)
    if result.state == LIVE and result.track_sid == track_sid:
        _leave(result, {track_sid}, now)
        return result
    _leave_room(result, now)
    if result.state != LIVE:
        _enter(result, LIVE, now, "")
    result.track_sid = track_sid
    result.ClearField("problem")
    if track_sid:
        result.lineage.append(publication_pb2.PublicationSid(track_sid=track_sid, begin_time=now))
    del result.lineage[:-KEPT]
    return result


def succeeded(publication: Publication, track_sid: str, now: timestamp_pb2.Timestamp) -> Publication:
    """A LIVE publication in the room as ``track_sid`` from now on, and for a while as the track before as well."""
    result = _copy(publication)
    if result.state == LIVE and result.track_sid != track_sid:
        result.track_sid = track_sid
        result.ClearField("problem")
        if not any(entry.track_sid == track_sid and not entry.HasField("end_time") for entry in result.lineage):
            result.lineage.append(publication_pb2.PublicationSid(track_sid=track_sid, begin_time=now))
        del result.lineage[:-KEPT]
    return result


def left(publication: Publication, now: timestamp_pb2.Timestamp, *, beside: str = "") -> Publication:
    """Of its tracks none is there any more but that of its SID, and that of the SID ``beside`` it."""
    result = _copy(publication)
    _leave(result, {result.track_sid, beside}, now)
    return result


def there(publication: Publication) -> list[str]:
    """SIDs of its tracks in the room: two while one takes over from the other, else one or none."""
    return [entry.track_sid for entry in publication.lineage if not entry.HasField("end_time")]


def changed(publication: Publication, spec: publication_pb2.PublicationSpec) -> Publication:
    """The same state, with another spec."""
    result = _copy(publication)
    result.spec.CopyFrom(spec)
    return result


def end(
    publication: Publication,
    cause: PublicationEndCause.ValueType,
    now: timestamp_pb2.Timestamp,
    *,
    detail: str = "",
    problem: error_pb2.Problem | None = None,
) -> Publication:
    """Over. ``problem`` tells why where it FAILED or its permission was revoked; otherwise an old one is cleared."""
    result = move(publication, ENDED, now, detail)
    result.end_cause = cause
    result.ClearField("problem")
    if problem is not None:
        result.problem.CopyFrom(problem)
    result.expire_time.CopyFrom(timestamp_pb2.Timestamp(seconds=now.seconds + REMEMBERED_S, nanos=now.nanos))
    return result


def troubled(publication: Publication, problem: error_pb2.Problem) -> Publication:
    """The same state, with what went wrong last."""
    result = _copy(publication)
    result.problem.CopyFrom(problem)
    return result


def untroubled(publication: Publication) -> Publication:
    """The same state, with nothing wrong any more."""
    result = _copy(publication)
    result.ClearField("problem")
    return result


def muted(publication: Publication, value: bool) -> Publication:
    """Muted or not."""
    result = _copy(publication)
    result.muted = value
    return result


def stalled(publication: Publication, *, value: bool) -> Publication:
    """Nobody pushes frames, or somebody does again; other reasons to be degraded are kept."""
    result = _copy(publication)
    if value:
        result.degraded = publication_pb2.DEGRADED_REASON_STALLED
    elif result.degraded == publication_pb2.DEGRADED_REASON_STALLED:
        less = bool(result.attempts) and bool(result.attempts[-1].steps)
        result.degraded = (
            publication_pb2.DEGRADED_REASON_FALLBACK if less else publication_pb2.DEGRADED_REASON_UNSPECIFIED
        )
    return result


def _copy(publication: Publication) -> Publication:
    result = Publication()
    result.CopyFrom(publication)
    return result


def _leave_room(publication: Publication, now: timestamp_pb2.Timestamp) -> None:
    publication.track_sid = ""
    _leave(publication, set(), now)


def _leave(publication: Publication, there: set[str], now: timestamp_pb2.Timestamp) -> None:
    """Its other tracks than those ``there`` are gone."""
    for entry in publication.lineage:
        if entry.track_sid not in there and not entry.HasField("end_time"):
            entry.end_time.CopyFrom(now)


def _enter(
    publication: Publication, state: PublicationState.ValueType, now: timestamp_pb2.Timestamp, detail: str
) -> None:
    if publication.state and state not in MOVES[publication.state]:
        names = PublicationState.Name(publication.state), PublicationState.Name(state)
        raise IllegalMoveError(f"{publication.publication_id}: {' -> '.join(names)}")
    publication.state = state
    publication.moves.append(publication_pb2.PublicationMove(state=state, time=now, detail=detail))
    del publication.moves[:-KEPT]
