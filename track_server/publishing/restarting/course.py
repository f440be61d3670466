"""One restart on its way: level after level, until media flows."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from google.protobuf import timestamp_pb2

from track.v1 import publication_pb2, quality_pb2, track_pb2
from track.v1 import publication_update_pb2 as pb
from track_server.deadline import Deadline
from track_server.durations import duration_of
from track_server.errors import CompanionMissing, Internal, NotSupported, PublicationEnded, PublishFailed, TrackError
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.meters import Meter
from track_server.publishing.progress import has_sid
from track_server.publishing.restarting.flowing import Down, look, patience_s
from track_server.publishing.restarting.levels import Level, MediaFlow, is_enough
from track_server.publishing.restarting.steps import Steps, Subject
from track_server.rooms.room import LiveRoom

log = structlog.get_logger(__name__)

LEVEL_S = 30.0
"""A level that was begun is carried through so long, whether or not its caller is still there."""
_QUALITY_S = 3.0


class Quality(Protocol):
    """Reports the quality of tracks: see quality.Quality."""

    async def report(self, room: LiveRoom, track_sid: str, *, wait_s: float) -> quality_pb2.GetQualityReportResponse:
        """Of one track, now."""


@dataclass(slots=True)
class Course:
    """What is to be done, and its answer so far. ``explicit``: the one level was asked for."""

    subject: Subject
    levels: tuple[Level, ...]
    explicit: bool
    answer: pb.RestartTrackResponse = field(
        default_factory=lambda: pb.RestartTrackResponse(stage=publication_pb2.STAGE_REQUESTED)
    )
    refused: TrackError | None = None
    """Nothing was done so far at any level, the last time because of that."""


class Runner:
    """Carries courses out."""

    def __init__(self, steps: Steps, quality: Quality) -> None:
        self._steps = steps
        self._quality = quality

    async def run(self, course: Course, deadline: Deadline) -> None:
        """Returns once a level was enough, or the last was carried out; no other one is begun after the deadline."""
        subject, answer = course.subject, course.answer
        async with self._steps.metering(subject) as meter:
            await self._measure(subject, answer.quality_before, 0.0)
            for level in course.levels:
                if await self._level(course, level, meter) or deadline.remaining_s() <= 0:
                    break

    async def measure_after(self, course: Course, deadline: Deadline) -> None:
        """Fills in the quality after it, if that can be known in time."""
        if course.refused is None and deadline.remaining_s() > 0:
            wait_s = min(_QUALITY_S, deadline.remaining_s())
            await self._measure(course.subject, course.answer.quality_after, wait_s)

    def answer(self, course: Course) -> pb.RestartTrackResponse:
        """How far it got."""
        answer = pb.RestartTrackResponse()
        answer.CopyFrom(course.answer)
        publication = self._steps.current(course.subject)
        if publication is not None:
            answer.publication.CopyFrom(publication)
        return answer

    async def _level(self, course: Course, level: Level, meter: Meter | None) -> bool:
        """Carries out one level; says whether it was enough."""
        subject, answer = course.subject, course.answer
        begun = time.monotonic()
        untouched = not answer.steps or course.refused is not None
        course.refused = None
        # In the answer from now on: the deadline may come before its end.
        step = answer.steps.add(level=level)
        answer.stage = publication_pb2.STAGE_REQUESTED
        answer.evidence = publication_pb2.EVIDENCE_UNSPECIFIED
        problem: TrackError | None = None
        enough = False
        try:
            done = await self._steps.do(level, subject, meter, Deadline.after(LEVEL_S))
        except TrackError as error:
            problem = error
            if untouched and isinstance(error, NotSupported | CompanionMissing):
                course.refused = error
        except Exception:
            log.exception("restart_broke", room=subject.live.name, level=pb.RestartLevel.Name(level))
            problem = Internal("the restart broke")
        else:
            # Of what is muted nothing was to flow.
            if done.gap is not None and not self._muted(subject):
                answer.gap.CopyFrom(done.gap)
            flow = await self._flow(subject, meter)
            took_effect = done.evidence != publication_pb2.EVIDENCE_UNSPECIFIED
            enough = is_enough(level, flow, muted=self._muted(subject), took_effect=took_effect)
            evidence = done.evidence
            if enough and not took_effect and not course.explicit:
                # What was wanted is seen all the same.
                evidence = publication_pb2.EVIDENCE_HOSTED_SESSION if flow.sent else publication_pb2.EVIDENCE_DEBUG_VIEW
                took_effect = True
            step.evidence = answer.evidence = evidence
            answer.stage = publication_pb2.STAGE_OBSERVED if took_effect else publication_pb2.STAGE_ACKNOWLEDGED
            if not (enough and took_effect):
                problem = PublishFailed(_why(flow))
        publication = self._steps.current(subject)
        over = publication is not None and publication.state == ENDED
        if publication is not None and over and not publication.HasField("problem"):
            problem = PublicationEnded("the publication has ended")
        if problem is not None:
            step.problem.CopyFrom(problem.problem())
        step.duration.CopyFrom(duration_of(time.monotonic() - begun))
        log.info(
            "track_restarted",
            room=subject.live.name,
            publication_id=subject.publication_id,
            track_sid=self._steps.sid(subject),
            level=pb.RestartLevel.Name(level),
            problem=problem.message if problem is not None else None,
        )
        return enough or over

    async def _flow(self, subject: Subject, meter: Meter | None) -> MediaFlow:
        publication = self._steps.current(subject)
        if self._muted(subject):
            return MediaFlow(None)

        def sid() -> str:
            if meter is not None and publication is not None and not has_sid(publication):
                # Messages have no SID, and are seen by their session alone.
                return meter.sent[0]
            return self._steps.sid(subject)

        down: Down = lambda sid: self._steps.down(subject, sid)  # noqa: E731
        video = subject.type == track_pb2.TRACK_TYPE_VIDEO
        flow = await look(meter, down, sid, Deadline.after(patience_s(publication)), video=video)
        if not flow.sent and publication is not None and publication.spec.push.HasField("data"):
            # Whoever pushes data sends it when there is some.
            return MediaFlow(None)
        return flow

    async def _measure(self, subject: Subject, into: quality_pb2.TrackQualityReport, wait_s: float) -> None:
        """Fills in the quality, where it is known after so long."""
        sid = self._steps.sid(subject)
        if sid not in subject.live.model.tracks:
            return
        try:
            answer = await self._quality.report(subject.live, sid, wait_s=wait_s)
        except TrackError:
            return
        if answer.report.samples:
            into.CopyFrom(answer.report)

    def _muted(self, subject: Subject) -> bool:
        """Whether no media is to flow."""
        publication = self._steps.current(subject)
        if publication is not None:
            return publication.muted or publication.degraded == publication_pb2.DEGRADED_REASON_STALLED
        track = subject.live.model.tracks.get(self._steps.sid(subject))
        return track is not None and track.muted


def _why(flow: MediaFlow) -> str:
    if flow.sent is False:
        return "the publisher sends no media"
    if flow.starved:
        return f"{flow.starved} of {flow.starved + flow.served} subscribers are sent no media"
    return "no effect was seen"


def cooled_down(answer: pb.RestartTrackResponse, cooldown_s: float) -> None:
    """Says until when the track is not restarted again."""
    end = timestamp_pb2.Timestamp()
    end.FromNanoseconds(time.time_ns() + round(cooldown_s * 1e9))
    answer.cooldown_end_time.CopyFrom(end)


def now_s() -> float:
    """Seconds on the event loop's clock."""
    return asyncio.get_running_loop().time()
