"""The course of a recording, from what is known to what is done next."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from track.v1 import egress_pb2 as pb
from track.v1.egress_pb2 import EgressPart, TrackEgress
from track.v1.publication_pb2 import PUBLICATION_STATE_ENDED, PUBLICATION_STATE_LIVE, Publication
from track.v1.track_pb2 import Track
from track_server.egress import course
from track_server.egress.course import Begin, Finish, Halt, Look, Rest, Retry, Scene, Step
from track_server.egress.scene import scene_of

NOW = Timestamp(seconds=1_000_000)


def part(status: str = "EGRESS_ACTIVE", sid: str = "TR_a", audio: str = "", *, livekit_id: str = "EG_a") -> EgressPart:
    result = EgressPart(track_sid=sid, audio_track_sid=audio, livekit_egress_id=livekit_id, livekit_status=status)
    if status in ("EGRESS_ACTIVE", "EGRESS_COMPLETE"):
        result.start_time.seconds = 1
    return result


def egress(*parts: EgressPart, **fields: object) -> TrackEgress:
    return TrackEgress(egress_id="TEG_a", track_sid="TR_a", parts=parts, **fields)  # type: ignore[arg-type]


A = Scene("TR_a")
GONE = Scene(over=course.TRACK_ENDED)
PUBLICATION = {"publication_id": "PUB_a"}


@pytest.mark.parametrize(
    ("now", "scene", "step"),
    [
        (egress(), A, Begin("TR_a", "")),
        (egress(), Scene("TR_a", "TR_b"), Begin("TR_a", "TR_b")),
        (egress(), GONE, Finish(course.TRACK_ENDED)),
        (egress(**PUBLICATION), Scene(), Rest()),
        (egress(**PUBLICATION), Scene("TR_a", audio_awaited=True), Rest()),
        (egress(part(livekit_id="", status="")), A, Look()),
        (egress(part(livekit_id="", status="")), GONE, Look()),
        (egress(part()), A, Rest()),
        (egress(part()), Scene("TR_a", "TR_b"), Halt(None)),
        (egress(part(audio="TR_b")), Scene("TR_a"), Rest()),
        (egress(part(audio="TR_b")), Scene("TR_a", "TR_c"), Halt(None)),
        (egress(part()), GONE, Halt(course.TRACK_ENDED)),
        (egress(part()), Scene(over=course.ROOM_CLOSED), Halt(course.ROOM_CLOSED)),
        (egress(part(), **PUBLICATION), Scene("TR_b"), Halt(None)),
        (egress(part(), **PUBLICATION), Scene(), Halt(None)),
        (egress(part(), end_cause=course.STOPPED), A, Halt(course.STOPPED)),
        (egress(part("EGRESS_COMPLETE"), end_cause=course.STOPPED), A, Finish(course.STOPPED)),
        (egress(part("EGRESS_COMPLETE")), A, Finish(course.BY_LIVEKIT)),
        (egress(part("EGRESS_LIMIT_REACHED")), A, Finish(course.BY_LIVEKIT)),
        (egress(part("EGRESS_COMPLETE")), GONE, Finish(course.TRACK_ENDED)),
        (egress(part("EGRESS_COMPLETE"), **PUBLICATION), Scene("TR_b"), Begin("TR_b", "")),
        (egress(part("EGRESS_COMPLETE"), **PUBLICATION), Scene(), Rest()),
        (egress(part("EGRESS_FAILED")), A, Finish(course.BROKE)),
        (egress(part("EGRESS_FAILED"), rule_name="r"), A, Retry(2.0)),
        (egress(part("EGRESS_FAILED"), part("EGRESS_FAILED"), rule_name="r"), A, Retry(4.0)),
        (egress(part("EGRESS_FAILED"), rule_name="r", next_try_time=Timestamp(seconds=1005)), A, Rest(5.0)),
        (egress(part("EGRESS_FAILED"), rule_name="r", next_try_time=Timestamp(seconds=999)), A, Begin("TR_a", "")),
        (egress(part("EGRESS_FAILED"), rule_name="r", next_try_time=NOW), GONE, Finish(course.TRACK_ENDED)),
        (egress(*[part("EGRESS_FAILED")] * course.MAX_FAILURES, rule_name="r"), A, Finish(course.BROKE)),
        (egress(part("EGRESS_FAILED"), **PUBLICATION), A, Finish(course.BROKE)),
        (egress(part("EGRESS_COMPLETE", "TR_0"), part("EGRESS_FAILED"), **PUBLICATION), A, Retry(2.0)),
    ],
)  # fmt: skip
def test_the_next_step(now: TrackEgress, scene: Scene, step: Step) -> None:
    assert course.next_step(now, scene, 1000.0, part_over_s=60.0) == step


def test_that_the_track_is_gone_may_be_told_a_moment_later() -> None:
    assert course.next_step(egress(part("EGRESS_COMPLETE")), A, 1000.0, part_over_s=0.5) == Rest(1.5)
    assert course.next_step(egress(part("EGRESS_COMPLETE")), GONE, 1000.0, part_over_s=0.5) == Finish(
        course.TRACK_ENDED
    )


def test_pauses_grow_to_a_minute() -> None:
    assert [course.pause_s(tries) for tries in (1, 2, 5, 6, 100)] == [2.0, 4.0, 32.0, 60.0, 60.0]


@pytest.mark.parametrize(
    ("parts", "cause", "state", "end_cause"),
    [
        ([part("EGRESS_COMPLETE")], course.STOPPED, course.COMPLETE, course.STOPPED),
        ([], course.STOPPED, course.ABORTED, course.STOPPED),
        ([part("EGRESS_ABORTED")], course.TRACK_ENDED, course.ABORTED, course.TRACK_ENDED),
        ([part("EGRESS_COMPLETE"), part("EGRESS_ABORTED")], course.ROOM_CLOSED, course.COMPLETE, course.ROOM_CLOSED),
        ([part("EGRESS_FAILED")], course.BROKE, course.FAILED, course.BROKE),
        ([part("EGRESS_COMPLETE"), part("EGRESS_FAILED")], course.BROKE, course.FAILED, course.BROKE),
        # It never recorded, and its track is gone: that is why.
        ([part("EGRESS_FAILED")], course.TRACK_ENDED, course.ABORTED, course.TRACK_ENDED),
    ],
)
def test_how_it_ends(parts: list[EgressPart], cause: int, state: int, end_cause: int) -> None:
    ended = course.finished(egress(*parts), cause, NOW)  # type: ignore[arg-type]  # it is one of the enum
    assert (ended.state, ended.end_cause, ended.end_time) == (state, end_cause, NOW)
    assert ended.HasField("problem") == (state == course.FAILED)
    assert course.ended(ended)


def test_a_recording_whose_file_could_not_be_finished_failed_whatever_ended_it() -> None:
    lost = part("EGRESS_FAILED")
    lost.start_time.seconds, lost.error = 1, "upload failed"
    ended = course.finished(egress(lost), course.STOPPED, NOW)
    assert (ended.state, ended.end_cause) == (course.FAILED, course.BROKE)
    assert "upload failed" in ended.problem.message


def test_a_part_takes_what_livekit_tells_until_it_is_over() -> None:
    told = part("EGRESS_COMPLETE")
    told.files.add(filename="a.ogg")
    after = course.with_part(egress(part("EGRESS_STARTING"), state=course.STARTING), told)
    assert (after.parts[0].livekit_status, after.parts[0].files[0].filename) == ("EGRESS_COMPLETE", "a.ogg")
    assert course.with_part(after, part("EGRESS_ACTIVE")) == after
    for status, state in (("EGRESS_ACTIVE", course.ACTIVE), ("EGRESS_ENDING", course.ENDING)):
        assert course.with_part(egress(part("EGRESS_STARTING"), state=course.STARTING), part(status)).state == state
    stopping = egress(part(), state=course.ENDING, end_cause=course.STOPPED)
    assert course.with_part(stopping, part("EGRESS_ACTIVE")).state == course.ENDING


def test_secrets_are_needed_as_long_as_livekit_may_be_asked_again() -> None:
    assert course.needs_secrets(egress())
    assert not course.needs_secrets(egress(part()))
    assert course.needs_secrets(egress(part(), **PUBLICATION))
    assert course.needs_secrets(egress(part(), rule_name="r"))
    assert not course.needs_secrets(egress(part(), rule_name="r", end_cause=course.STOPPED))
    assert not course.needs_secrets(egress(rule_name="r", state=pb.EGRESS_STATE_FAILED))


def test_what_there_is_to_record() -> None:
    tracks = {sid: Track(sid=sid) for sid in ("TR_a", "TR_b")}
    live = Publication(track_sid="TR_b", state=PUBLICATION_STATE_LIVE)
    away = Publication(track_sid="TR_c", state=PUBLICATION_STATE_LIVE)
    over = Publication(track_sid="TR_b", state=PUBLICATION_STATE_ENDED)
    book = {"live": live, "away": away, "over": over}

    def scene(**fields: object) -> Scene:
        return scene_of(TrackEgress(**fields), tracks, lambda room, key: book.get(key))  # type: ignore[arg-type]

    assert scene(track_sid="TR_a") == A
    assert scene(track_sid="TR_c") == GONE
    assert scene(track_sid="TR_a", audio_track_sid="TR_b") == Scene("TR_a", "TR_b")
    # What was asked for with sound does not begin without; what has begun goes on.
    assert scene(track_sid="TR_a", audio_track_sid="TR_c") == GONE
    assert scene(track_sid="TR_a", audio_track_sid="TR_c", parts=[part()]) == A
    assert scene(publication_id="live") == Scene("TR_b")
    assert scene(publication_id="away") == Scene()
    assert scene(publication_id="over") == GONE
    assert scene(publication_id="unknown") == GONE
    assert scene(track_sid="TR_a", audio_publication_id="live") == Scene("TR_a", "TR_b")
    assert scene(track_sid="TR_a", audio_publication_id="away") == Scene("TR_a", "", audio_awaited=True)
    assert scene(track_sid="TR_a", audio_publication_id="over") == GONE
    assert scene(track_sid="TR_a", audio_publication_id="over", parts=[part()]) == A
    assert scene_of(TrackEgress(track_sid="TR_a"), None, lambda room, key: None) == Scene(over=course.ROOM_CLOSED)
