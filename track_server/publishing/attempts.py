"""The tries to publish, as a publication tells them. Pure: every function returns a copy."""

from collections.abc import Collection, Sequence
from typing import Final

from google.protobuf import timestamp_pb2

from track.v1 import error_pb2, publication_pb2
from track.v1.publication_pb2 import (
    FallbackStep,
    Publication,
    PublicationAttempt,
    PublicationRoute,
    PublicationSpec,
    VideoCodec,
)
from track_server.durations import seconds_of
from track_server.errors import PublishFailed
from track_server.publishing import ladder
from track_server.publishing.ladder import Outlook
from track_server.publishing.lifecycle import LIVE, STARTING
from track_server.publishing.spec.kinds import AUDIO, VIDEO

KEPT: Final = 16
"""How many tries a publication remembers: as many as a ladder can have."""

_FALLBACK: Final = publication_pb2.DEGRADED_REASON_FALLBACK
# In the order in which one is taken in the place of another; and whether it is sent in several layers by simulcast.
_CODECS: Final = {
    VideoCodec.VIDEO_CODEC_VP8: ("video/vp8", True),
    VideoCodec.VIDEO_CODEC_H264: ("video/h264", True),
    VideoCodec.VIDEO_CODEC_VP9: ("video/vp9", False),
    VideoCodec.VIDEO_CODEC_AV1: ("video/av1", False),
}


def wanted_now(publication: Publication) -> PublicationSpec:
    """What is published now: what was asked for, with the steps down that were needed."""
    if not ladder.steps_of(publication.attempts):
        return publication.spec
    spec, attempt = PublicationSpec(), publication.attempts[-1]
    spec.CopyFrom(publication.spec)
    if publication.type == VIDEO:
        spec.video.CopyFrom(attempt.video)
    elif publication.type == AUDIO:
        spec.audio.CopyFrom(attempt.audio)
    return spec


def failed(
    publication: Publication, problem: error_pb2.Problem, now: timestamp_pb2.Timestamp, *, seen: bool = True
) -> Publication:
    """With the try that failed just now. ``seen``: whether its track, where it has one, ever was in the room."""
    result = _copy(publication)
    attempts = result.attempts
    if not attempts or attempts[-1].HasField("problem") or (seen and _held(result, problem, now)):
        _begin(result, wanted_now(result), ladder.steps_of(attempts), _taken_time(result, now))
    attempts[-1].problem.CopyFrom(problem)
    return result


def next_try(publication: Publication, now: timestamp_pb2.Timestamp, chance: float) -> tuple[Publication, float] | None:
    """With the try that follows on the one that failed just now, and the pause before it in seconds; None: none does.

    Where nothing less is possible, only what was live before is tried again as it was. ``chance``: from 0 to 1, at
    random.
    """
    attempts, spec, was_live = publication.attempts, wanted_now(publication), bool(publication.lineage)
    prospect = ladder.outlook(attempts[-1].problem, was_live=was_live)
    pause_s = ladder.delay_s(len(ladder.failed_in_a_row(attempts)), chance)
    if prospect is Outlook.HOPELESS or not ladder.may_try_again(spec, attempts, seconds_of(now), pause_s):
        return None
    steps = ladder.steps_of(attempts)
    if prospect is Outlook.LOWER:
        step = ladder.next_step(spec, publication.type, steps)
        if step is not None:
            steps, spec = (*steps, step), ladder.lowered(spec, publication.type, step)
        elif not was_live:
            return None
    result = _copy(publication)
    begin = timestamp_pb2.Timestamp()
    begin.FromNanoseconds(now.ToNanoseconds() + round(pause_s * 1e9))
    _begin(result, spec, steps, begin)
    return result, pause_s


def fitted(publication: Publication, mime_types: Collection[str] | None, now: timestamp_pb2.Timestamp) -> Publication:
    """In a codec that LiveKit's configuration has, by the ladder's step. ``mime_types``: those that LiveKit named in
    lower case, or None where it is not known.

    It is not tried in another one: LiveKit would show no track, and none of the connection's later ones. Raises
    PublishFailed where none of LiveKit's is allowed, or it has none.
    """
    asked = wanted_now(publication)
    hosted = publication.route == PublicationRoute.PUBLICATION_ROUTE_HOSTED and publication.type == VIDEO
    if mime_types is None or not hosted or _CODECS[asked.video.codec][0] in mime_types:
        return publication
    name = VideoCodec.Name(asked.video.codec).removeprefix("VIDEO_CODEC_")
    error = PublishFailed(f"LiveKit's configuration does not have codec {name}", field="spec.video.codec")
    result = failed(publication, error.problem(), now, seen=False)
    codec = next((codec for codec, (mime_type, _) in _CODECS.items() if mime_type in mime_types), None)
    if codec is None or not ladder.may_change_codec(asked):
        error.detail = told(result)
        raise error
    spec = PublicationSpec()
    spec.CopyFrom(asked)
    spec.video.codec = codec
    spec.video.ClearField("scalability_mode")
    if not _CODECS[codec][1]:
        spec.video.simulcast = False
        spec.video.ClearField("layers")
    _begin(result, spec, (*ladder.steps_of(result.attempts), FallbackStep.FALLBACK_STEP_CODEC), now)
    return with_condition(result)


def with_condition(publication: Publication) -> Publication:
    """Degraded by what its tries tell; another reason than FALLBACK stays."""
    result = _copy(publication)
    if result.degraded in (publication_pb2.DEGRADED_REASON_UNSPECIFIED, _FALLBACK):
        lowered = bool(ladder.steps_of(result.attempts))
        result.degraded = _FALLBACK if lowered else publication_pb2.DEGRADED_REASON_UNSPECIFIED
    return result


def anew(publication: Publication) -> Publication:
    """Something else is asked for: it is tried without steps down again."""
    result = _copy(publication)
    result.ClearField("attempts")
    return with_condition(result)


def back_to(publication: Publication, before: Publication) -> Publication:
    """The spec and the tries that it had before, in its state of now."""
    result = _copy(publication)
    result.spec.CopyFrom(before.spec)
    del result.attempts[:]
    result.attempts.extend(before.attempts)
    result.degraded = before.degraded
    return result


def told(publication: Publication) -> publication_pb2.PublicationAttempts:
    """The tries, as a detail of the failure of a call."""
    return publication_pb2.PublicationAttempts(attempts=publication.attempts)


def _begin(
    publication: Publication,
    spec: PublicationSpec,
    steps: "Sequence[FallbackStep.ValueType]",
    begin: timestamp_pb2.Timestamp,
) -> None:
    number = publication.attempts[-1].number + 1 if publication.attempts else 1
    attempt = PublicationAttempt(number=number, begin_time=begin, steps=steps)
    if publication.type == VIDEO:
        attempt.video.CopyFrom(spec.video)
    elif publication.type == AUDIO:
        attempt.audio.CopyFrom(spec.audio)
    publication.attempts.append(attempt)
    del publication.attempts[:-KEPT]


def _held(publication: Publication, problem: error_pb2.Problem, now: timestamp_pb2.Timestamp) -> bool:
    """Whether the last try succeeded for good, so that ``problem`` is another one.

    What is in the room for less than the ladder's deadline has failed as those before: it would come and go for ever.
    A file that is played once breaks off where it did before, however late that is.
    """
    file = publication.spec.file
    if problem.reason in ladder.OF_THE_INPUT and file.uri and not file.loop and "://" not in file.uri:
        return False
    begun = publication.attempts[-1].begin_time.ToNanoseconds()
    times = (move.time for move in publication.moves if move.state == LIVE)
    came = next((time for time in times if time.ToNanoseconds() >= begun), None)
    return came is not None and seconds_of(now) - seconds_of(came) >= ladder.ladder_of(publication.spec).deadline_s


def _taken_time(publication: Publication, now: timestamp_pb2.Timestamp) -> timestamp_pb2.Timestamp:
    """When the try that was not written down began: when it was last taken, as far as is known."""
    return next((move.time for move in reversed(publication.moves) if move.state == STARTING), now)


def _copy(publication: Publication) -> Publication:
    result = Publication()
    result.CopyFrom(publication)
    return result
