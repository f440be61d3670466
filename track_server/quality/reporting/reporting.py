"""ReportTrackStats: takes what a participant's client measured, sample by sample."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from track.v1 import access_pb2
from track.v1.quality_stats_pb2 import ReportTrackStatsRequest, ReportTrackStatsResponse, TrackStats
from track_server.access.access import Access
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.errors import InvalidField, LimitExceeded, ParticipantNotFound, TrackError, TrackNotFound
from track_server.limits.rates import Rates
from track_server.quality.clock import Moment
from track_server.quality.core.measuring.reading import Source
from track_server.quality.live.assessing import Assessing
from track_server.quality.reporting.clients import Clients
from track_server.quality.sources.client import ClientStats
from track_server.rooms.reading import Reader
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms

MESSAGES_PER_S: Final = 1.0
"""Of each participant, over all its streams: WebRTC's own reports come no more often."""

BURST_S: Final = 5.0
"""So many seconds' worth may come at once."""

MAX_PROBLEMS: Final = 100
"""Of so many refused samples the response says why."""

_LIMIT: Final = "max_stats_messages_per_second_per_participant"
# LiveKit's signalling tells of who joins without publishing up to 3 s later.
_SEEN_S: Final = 5.0
# A message of 200 samples takes tens of milliseconds: others have their turn in between.
_AT_A_TIME: Final = 20


class StatsReporting:
    """Answers ReportTrackStats. While a stream is open its room is followed."""

    def __init__(self, rooms: Rooms, reader: Reader, access: Access, assessing: Assessing) -> None:
        self._rooms = rooms
        self._reader = reader
        self._access = access
        self._assessing = assessing
        self._clients = Clients(assessing, Source.REPORTED, batched=True)
        self._rates = Rates(MESSAGES_PER_S, burst_s=BURST_S)

    async def report(
        self, principal: Principal, requests: AsyncIterator[ReportTrackStatsRequest]
    ) -> ReportTrackStatsResponse:
        """Takes samples until the caller ends the stream, or the room closes.

        The first request has a room. Raises InvalidField, RoomNotFound, PermissionDenied, ParticipantNotFound,
        LimitExceeded, LiveKitUnavailable; what ends the stream later tells in its metadata what became of the samples
        before.
        """
        first = await anext(requests)
        identity = first.participant_identity or principal.identity
        if not identity:
            raise InvalidField("say whose client measured", field="participant_identity")
        async with self._rooms.watch(first.room) as live:
            await self._access.require(principal, Question(access_pb2.PERMISSION_REPORT_STATS, first.room, identity))
            if await self._reader.participant(first.room, identity) is None:
                raise ParticipantNotFound(f"no participant {identity!r} in the room", field="participant_identity")
            await live.until(lambda: identity in live.model.participants, _SEEN_S)
            with self._assessing.following(first.room):
                report = _Report(live, identity, self._assessing, self._clients)
                request: ReportTrackStatsRequest | None = first
                try:
                    while request is not None:
                        self._check(first, request, identity)
                        await report.take(request)
                        request = await _next(requests, live)
                except TrackError as error:
                    error.metadata.update(report.so_far())
                    raise
        return report.response

    def _check(self, first: ReportTrackStatsRequest, request: ReportTrackStatsRequest, identity: str) -> None:
        if request.room not in ("", first.room):
            raise InvalidField("a stream is about one room: begin another one", field="room")
        if request.participant_identity not in ("", identity):
            raise InvalidField("a stream is about one participant: begin another one", field="participant_identity")
        if request is first and not request.samples:
            return  # It names the room, and no more.
        key, now_s = (first.room, identity), self._assessing.clock.now().monotonic_s
        if wait_s := self._rates.take(key, now_s):
            raise LimitExceeded(
                _LIMIT,
                MESSAGES_PER_S,
                f"participant {identity} of room {first.room}",
                advice="put the samples of a second into one message",
                retry_delay_s=wait_s,
            )


class _Report:
    """One stream: what became of its samples."""

    def __init__(self, live: LiveRoom, identity: str, assessing: Assessing, clients: Clients) -> None:
        self.response = ReportTrackStatsResponse()
        self._live = live
        self._identity = identity
        self._assessing = assessing
        self._clients = clients
        self._messages = 0

    def so_far(self) -> dict[str, str]:
        """What became of the samples before the message that ends the stream, and which one that is."""
        return {
            "message": str(self._messages + 1),
            "taken_samples": str(self.response.taken_samples),
            "refused_samples": str(self.response.refused_samples),
        }

    async def take(self, request: ReportTrackStatsRequest) -> None:
        """The samples of one message, each for itself."""
        now = self._assessing.clock.now()
        if client := self._client():
            client.place(request.samples, now)
        self._messages += 1
        for index, sample in enumerate(request.samples):
            if index % _AT_A_TIME == _AT_A_TIME - 1:
                await asyncio.sleep(0)
            try:
                self._take(sample, now)
            except TrackError as error:
                self._refuse(error, index)
            else:
                self.response.taken_samples += 1

    def _take(self, sample: TrackStats, now: Moment) -> None:
        """Raises ParticipantNotFound, TrackNotFound, StatsRefused."""
        client = self._client()
        if client is None:
            raise ParticipantNotFound(f"no participant {self._identity!r} in the room")
        flow, readings = client.take(sample, self._live.model.tracks, now)
        if not self._assessing.add(self._live.name, flow, readings):
            raise TrackNotFound(f"no track {sample.track_sid!r} in the room", field="track_sid")

    def _client(self) -> ClientStats | None:
        participant = self._live.model.participants.get(self._identity)
        return None if participant is None else self._clients.of(self._live, participant)

    def _refuse(self, error: TrackError, index: int) -> None:
        self.response.refused_samples += 1
        if len(self.response.problems) < MAX_PROBLEMS:
            field = f"samples[{index}]"
            problem = error.problem(f"{field}.{error.field}" if error.field else field)
            problem.metadata["message"] = str(self._messages)
            self.response.problems.append(problem)


async def _next(requests: AsyncIterator[ReportTrackStatsRequest], live: LiveRoom) -> ReportTrackStatsRequest | None:
    """The next message; None where the caller ended the stream, or the room closed."""

    async def read() -> ReportTrackStatsRequest | None:
        return await anext(requests, None)

    reading = asyncio.create_task(read(), name=f"statistics for {live.name}")
    closing = asyncio.create_task(live.wait_closed(), name=f"closing of {live.name}")
    try:
        await asyncio.wait({reading, closing}, return_when=asyncio.FIRST_COMPLETED)
        return reading.result() if reading.done() else None
    finally:
        reading.cancel()
        closing.cancel()
        await asyncio.gather(reading, closing, return_exceptions=True)
