"""PullMedia: live tracks as streams to callers."""

import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from track.media.v1.media_service_pb2 import PullSessionStats
from track.v1 import track_pb2
from track.v1.pull_pb2 import PullMediaRequest
from track_server.access.access import Access
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.access.revocation import StandingEffect
from track_server.access.rules import is_admin
from track_server.config.limits import LimitSettings
from track_server.errors import LimitExceeded, ParticipantNotFound, PermissionDenied, TargetPermission, TrackError
from track_server.lifetime import Closing, Tasks
from track_server.limits.counts import Counts
from track_server.livekit.api import LiveKitApi
from track_server.livekit.tokens import TokenMint
from track_server.localsocket.socket import LocalSocket
from track_server.private_tracks.admission import Admission
from track_server.private_tracks.restrictions import Restrictions
from track_server.publishing.book import Book
from track_server.publishing.placement import OwnWorkers
from track_server.pulling.carrier import Carrier
from track_server.pulling.sight import Prospect
from track_server.pulling.stream import PullStream
from track_server.pulling.wanted import refuse_contradictions
from track_server.rooms.reading import Reader
from track_server.rooms.rooms import Rooms

IDENTITY_PREFIX: Final = "track-pull-"
"""With which the identities of the hidden participants begin."""
_RETRY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Means:
    """What pulls work with. ``own``: the media workers of this server, on this machine.

    ``stats_interval``: how often a room's statistics are wanted, in seconds; None: not at all. ``on_stats``: told of a
    session's statistics, with the room and the identity of its participant; ``on_left``: that there will be no more.
    """

    rooms: Rooms
    reader: Reader
    api: LiveKitApi
    tokens: TokenMint
    socket: LocalSocket
    own: OwnWorkers
    book: Book
    restrictions: Restrictions
    admission: Admission
    stats_interval: Callable[[str], float | None]
    on_stats: Callable[[str, str, PullSessionStats], None]
    on_left: Callable[[str, str], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Running:
    """A stream, and what it rests on."""

    room: str
    principal: Principal
    questions: list[Question]
    stream: PullStream


class Pulls(Closing):
    """Answers PullMedia, `async with`."""

    def __init__(self, means: Means, access: Access, limits: LimitSettings) -> None:
        self._means = means
        self._access = access
        self._all = Counts(limits.max_pulls)
        self._of_rooms = Counts(limits.max_pulls_per_room)
        self._of_principals = Counts(limits.max_pulls_per_principal)
        self._running: set[_Running] = set()
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Ends what is still under way. May be called twice."""
        await self._tasks.aclose()

    def __call__(self) -> Iterable[StandingEffect]:
        """See Revocation.add."""
        return [
            _standing(found.principal, question, found.stream)
            for found in self._running
            for question in found.questions
        ]

    def refresh_stats(self, room: str) -> None:
        """Tells the room's sessions how often statistics are wanted now."""
        for running in self._running:
            if running.room == room:
                running.stream.measure(self._means.stats_interval(room))

    async def pull(self, principal: Principal, request: PullMediaRequest) -> AsyncGenerator[bytes]:
        """Serialised PullMediaResponses, until the track has ended, or nobody reads any more.

        Raises InvalidField, InvalidOptions, RoomNotFound, ParticipantNotFound, TrackNotFound, PublicationNotFound,
        PublicationEnded, NotForDataTracks, PermissionDenied, TargetPermission, EncryptionKeyNeeded, NotSupported,
        LimitExceeded, WorkerUnavailable.
        """
        refuse_contradictions(request)
        behalf = request.participant_identity or principal.identity
        async with self._means.rooms.watch(request.room) as live:
            known = await self._known(live.model.participants, request.room, behalf)
            prospect = Prospect(request, live, self._means.book, self._means.restrictions, behalf, known)
            questions = prospect.questions()
            for question in questions:
                await self._access.require(principal, question)
            named = request.participant_identity not in ("", principal.identity)
            if named and known is None:
                raise ParticipantNotFound(f"no participant {behalf!r} in the room", field="participant_identity")
            try:
                prospect.check(principal, admin=is_admin(principal, request.room))
            except TargetPermission as error:
                self._access.refused(principal, questions[0], error.message)
                raise
            with self._counted(principal, request.room):
                identity = f"{IDENTITY_PREFIX}{secrets.token_hex(8)}"
                stream = PullStream(prospect, lambda: self._carrier(request.room, identity))
                stream.measure(self._means.stats_interval(request.room))
                running = _Running(request.room, principal, questions, stream)
                self._running.add(running)
                try:
                    async with (
                        self._means.admission.admit(request.room, identity, behalf, prospect.publishers()),
                        aclosing(stream.responses()) as responses,
                    ):
                        async for response in responses:
                            yield response
                finally:
                    self._running.discard(running)
                    self._means.on_left(request.room, identity)
                    if stream.lost:
                        self._tasks.spawn(self._remove(request.room, identity), name=f"remove {identity}")

    def _carrier(self, room: str, identity: str) -> Carrier:
        means = self._means
        return Carrier(
            means.socket, means.own, means.tokens, room, identity, lambda stats: means.on_stats(room, identity, stats)
        )

    async def _known(
        self, participants: Mapping[str, track_pb2.Participant], room: str, identity: str
    ) -> track_pb2.Participant | None:
        """The participant, one included that has only just joined, or is hidden."""
        if not identity:
            return None
        return participants.get(identity) or await self._means.reader.participant(room, identity)

    async def _remove(self, room: str, identity: str) -> None:
        """A process that was killed says no goodbye, and LiveKit would keep its participant for a while."""
        with contextlib.suppress(TrackError):
            await self._means.api.remove_participant(room, identity)

    @contextlib.contextmanager
    def _counted(self, principal: Principal, room: str) -> Iterator[None]:
        """Raises LimitExceeded where there are as many as may be: each takes a session of a media worker."""
        subject = f"principal {principal.identity}".rstrip()
        counts: list[tuple[Counts, Hashable, str, str]] = [
            (self._of_principals, principal.scope, "max_pulls_per_principal", subject),
            (self._of_rooms, room, "max_pulls_per_room", f"room {room}"),
            (self._all, None, "max_pulls", "server"),
        ]
        with contextlib.ExitStack() as stack:
            for counted, key, limit, of in counts:
                if not counted.enter(key):
                    raise LimitExceeded(limit, counted.most, of, retry_delay_s=_RETRY_S)
                stack.callback(counted.leave, key)
            yield


def _standing(principal: Principal, question: Question, stream: PullStream) -> StandingEffect:
    async def end(error: PermissionDenied) -> None:
        stream.refuse(error)

    return StandingEffect(principal, question, end)
