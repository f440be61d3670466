"""The parts of a recording as it gets them: asked for, taken, given up. Pure, but for the time of day."""

import time

from google.protobuf.timestamp_pb2 import Timestamp

from track.v1.egress_pb2 import EgressEndCause, EgressOutput, EgressPart, TrackEgress
from track.v1.error_pb2 import Problem
from track.v1.track_pb2 import TRACK_TYPE_VIDEO, Track
from track_server.egress import course, outputs, paths
from track_server.livekit.egress import Recording
from track_server.rooms.room import LiveRoom, now


def copy_of(egress: TrackEgress) -> TrackEgress:
    """It, to be changed: messages of the book are not."""
    result = TrackEgress()
    result.CopyFrom(egress)
    return result


def part_for(output: EgressOutput, track: Track, audio_sid: str, live: LiveRoom, number: int) -> EgressPart:
    """The part of that number, from 1, as LiveKit is to be asked for it. Raises InvalidField."""
    path = ""
    if output.HasField("file"):
        values = paths.values_of(track, live.name, live.model.sid)
        path = paths.filled(output.file.filepath, values, number, "output.file.filepath")
    return EgressPart(track_sid=track.sid, audio_track_sid=audio_sid, path=path, request_time=now())


def with_next(
    egress: TrackEgress, output: EgressOutput, live: LiveRoom, track_sid: str, audio_sid: str
) -> tuple[TrackEgress, Recording]:
    """It with one part more, of tracks that are in the room, and what LiveKit is asked for that. ``output``: whole.

    Raises InvalidField.
    """
    track = live.model.tracks[track_sid]
    part = part_for(output, track, audio_sid, live, len(egress.parts) + 1)
    asked = copy_of(egress)
    asked.parts.append(part)
    asked.state = course.STARTING
    asked.track_sid, asked.audio_track_sid = track_sid, audio_sid or egress.audio_track_sid
    asked.ClearField("next_try_time")
    video = track.type == TRACK_TYPE_VIDEO
    return asked, Recording(
        egress.room,
        track_sid if video else "",
        audio_sid if video else track_sid,
        outputs.at_path(output, part.path),
    )


def taken(egress: TrackEgress, told: EgressPart) -> TrackEgress:
    """It once LiveKit has taken its last part. ``told``: what LiveKit tells of that."""
    result = copy_of(egress)
    result.parts[-1].livekit_egress_id = told.livekit_egress_id
    result.parts[-1].livekit_status = "EGRESS_STARTING"
    return course.with_part(result, told)


def without_untaken(egress: TrackEgress) -> TrackEgress:
    """It without a last part that LiveKit has not taken."""
    result = copy_of(egress)
    part = course.running(egress)
    if part is not None and not part.livekit_egress_id:
        del result.parts[-1]
    return result


def to_be_tried(egress: TrackEgress, problem: Problem, pause_s: float) -> TrackEgress:
    """It, waiting to be tried again, for that reason."""
    result = copy_of(egress)
    result.state = course.WAITING
    result.problem.CopyFrom(problem)
    result.next_try_time.CopyFrom(_after(pause_s))
    return result


def told_to_end(egress: TrackEgress, cause: "EgressEndCause.ValueType") -> TrackEgress:
    """It, ending for that reason."""
    result = copy_of(egress)
    result.state, result.end_cause = course.ENDING, cause
    result.ClearField("next_try_time")
    return result


def _after(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(time.time_ns() + round(seconds * 1e9))
    return stamp
