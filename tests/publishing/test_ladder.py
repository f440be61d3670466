"""The ladder: what is tried next, when, and how the tries are told."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from track.v1 import error_pb2, publication_pb2, track_pb2
from track.v1.publication_pb2 import FallbackStep, Publication, PublicationSpec
from track_server.access.bounds import Bounds
from track_server.errors import MediaInvalid, MediaNotFound, PublishFailed, TargetPermission, TrackError
from track_server.publishing import attempts, ladder, lifecycle
from track_server.publishing.ladder import BITRATE, CODEC, FRAME_RATE, SIMULCAST, SIZE, Outlook
from track_server.publishing.spec import complete, type_of
from track_server.publishing.spec.fallback import DEFAULT_MAX_ATTEMPTS
from track_server.publishing.spec.kinds import Stream

VIDEO = track_pb2.TRACK_TYPE_VIDEO
AUDIO = track_pb2.TRACK_TYPE_AUDIO
DATA = track_pb2.TRACK_TYPE_DATA
VP8, H264 = publication_pb2.VIDEO_CODEC_VP8, publication_pb2.VIDEO_CODEC_H264
REFUSED = PublishFailed("no").problem()


def video(**options: Any) -> PublicationSpec:
    spec = PublicationSpec(
        test_pattern=publication_pb2.TestPatternInput(), video=publication_pb2.VideoOptions(**options)
    )
    return complete(spec, "PUB_1", None)


def sound(**options: Any) -> PublicationSpec:
    spec = PublicationSpec(tone=publication_pb2.ToneInput(), audio=publication_pb2.AudioOptions(**options))
    return complete(spec, "PUB_1", None)


def at(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(round(seconds * 1e9))
    return stamp


def begun(spec: PublicationSpec, seconds: float = 100.0) -> Publication:
    """A publication that a worker has taken."""
    publication = Publication(
        publication_id="PUB_1",
        spec=spec,
        type=type_of(spec, None),
        route=publication_pb2.PUBLICATION_ROUTE_HOSTED,
    )
    return lifecycle.move(lifecycle.begin(publication, at(seconds)), lifecycle.STARTING, at(seconds))


def all_steps(publication: Publication, problem: error_pb2.Problem = REFUSED) -> Publication:
    """It after failing until nothing is tried any more."""
    now = 300.0
    while True:
        publication = attempts.failed(publication, problem, at(now))
        again = attempts.next_try(publication, at(now), 1.0)
        if again is None:
            return publication
        publication, pause_s = again
        now += pause_s


@pytest.mark.parametrize(
    ("spec", "steps"),
    [
        (video(codec=H264), [CODEC, SIMULCAST, SIZE, FRAME_RATE]),
        (video(), [SIMULCAST, SIZE, FRAME_RATE, BITRATE]),
        (video(width=320, height=180), [SIZE, FRAME_RATE, BITRATE]),
        (video(width=320, height=180, frames_per_second=5), [SIZE]),
        (video(width=320, height=180, frames_per_second=5, max_bitrate_bps=200_000), [SIZE, BITRATE]),
        (video(width=16, height=16, frames_per_second=5, max_bitrate_bps=50_000), []),
        (sound(), [BITRATE]),
        (sound(max_bitrate_bps=6_000), []),
        (complete(PublicationSpec(data=publication_pb2.DataInput()), "PUB_1", None), []),
    ],
)
def test_the_steps_are_those_that_change_something(spec: PublicationSpec, steps: list[int]) -> None:
    done = all_steps(begun(spec))
    assert list(done.attempts[-1].steps) == steps
    assert [attempt.number for attempt in done.attempts] == list(range(1, len(steps) + 2))
    assert all(attempt.HasField("problem") for attempt in done.attempts)


def test_each_step_is_on_top_of_those_before() -> None:
    tried = all_steps(begun(video(codec=H264))).attempts
    assert [(each.video.codec, each.video.simulcast, each.video.width) for each in tried] == [
        (H264, True, 1280),
        (VP8, True, 1280),
        (VP8, False, 1280),
        (VP8, False, 640),
        (VP8, False, 640),
    ]
    assert [each.video.frames_per_second for each in tried] == [30, 30, 30, 30, 15]
    assert all_steps(begun(sound(max_bitrate_bps=10_000))).attempts[1].audio.max_bitrate_bps == 6_000


def test_the_declared_steps_are_taken_in_their_order_and_no_others() -> None:
    spec = video(codec=H264)
    spec.fallback.steps[:] = [SIZE, SIZE, BITRATE, CODEC]
    tried = all_steps(begun(spec)).attempts
    assert list(tried[-1].steps) == [SIZE, SIZE, BITRATE, CODEC]
    assert (tried[-1].video.width, tried[-1].video.height) == (320, 180)


@pytest.mark.parametrize("most", [1, 2, 16])
def test_there_are_no_more_tries_than_declared(most: int) -> None:
    spec = video(codec=H264)
    spec.fallback.max_attempts = most
    assert len(all_steps(begun(spec)).attempts) == min(most, 6)


def test_no_try_begins_after_the_deadline_from_the_first_failure_on() -> None:
    spec = video(codec=H264)
    spec.fallback.deadline.CopyFrom(Duration(seconds=1))
    publication = attempts.failed(begun(spec), REFUSED, at(110))
    again = attempts.next_try(publication, at(110), 0.0)
    assert again is not None, "the time that the first try took does not count"
    publication = attempts.failed(again[0], REFUSED, at(111.2))
    assert attempts.next_try(publication, at(111.2), 0.0) is None


@pytest.mark.parametrize(
    ("error", "was_live", "outlook"),
    [
        (TargetPermission("no"), False, Outlook.HOPELESS),
        (TargetPermission("no"), True, Outlook.HOPELESS),
        (MediaNotFound("no"), False, Outlook.HOPELESS),
        (MediaNotFound("no"), True, Outlook.PASSING),
        (PublishFailed("no"), False, Outlook.LOWER),
        (PublishFailed("no"), True, Outlook.LOWER),
    ],
)
def test_what_no_try_can_change_is_not_tried_again(error: TrackError, was_live: bool, outlook: Outlook) -> None:
    assert ladder.outlook(error.problem(), was_live=was_live) is outlook


def test_what_was_live_is_tried_again_as_it_was_where_its_file_cannot_be_read() -> None:
    publication = lifecycle.live(begun(video()), "TR_1", at(101))
    publication = lifecycle.move(publication, lifecycle.RESTARTING, at(102))
    publication = lifecycle.move(publication, lifecycle.STARTING, at(102))
    done = all_steps(publication, MediaNotFound("gone").problem())
    assert len(done.attempts) == DEFAULT_MAX_ATTEMPTS
    assert not any(attempt.steps for attempt in done.attempts)


def test_what_succeeded_keeps_its_steps_and_a_later_trouble_has_a_budget_of_its_own() -> None:
    publication = attempts.failed(begun(video(codec=H264)), REFUSED, at(101))
    again = attempts.next_try(publication, at(101), 0.0)
    assert again is not None
    publication = attempts.with_condition(lifecycle.live(again[0], "TR_1", at(102)))
    assert publication.degraded == publication_pb2.DEGRADED_REASON_FALLBACK
    assert publication.spec.video.codec == H264
    assert attempts.wanted_now(publication).video.codec == VP8
    publication = lifecycle.move(publication, lifecycle.RESTARTING, at(200))
    publication = lifecycle.move(publication, lifecycle.STARTING, at(201))
    publication = attempts.failed(publication, REFUSED, at(202))
    assert [attempt.number for attempt in publication.attempts] == [1, 2, 3]
    assert list(publication.attempts[-1].steps) == [CODEC]
    assert len(ladder.failed_in_a_row(publication.attempts)) == 1
    assert attempts.next_try(publication, at(202), 0.0) is not None


def breaking(spec: PublicationSpec, every_s: float, problem: error_pb2.Problem) -> list[float]:
    """When it fails, which it does so long after it came into the room, until nothing is tried any more; 50 at most."""
    publication, now, failures = begun(spec), 100.0, list[float]()
    while len(failures) < 50:
        now += every_s
        failures.append(now)
        publication = attempts.failed(
            lifecycle.live(publication, f"TR_{len(failures)}", at(now - every_s)), problem, at(now)
        )
        again = attempts.next_try(publication, at(now), 0.0)
        if again is None:
            break
        publication = lifecycle.begun_anew(again[0], at(now), "")
        now += again[1]
    return failures


def played(uri: str, *, loop: bool = False) -> PublicationSpec:
    spec = PublicationSpec(file=publication_pb2.FileInput(uri=uri, loop=loop))
    return complete(spec, "PUB_1", Stream(VIDEO, 320, 180, 15.0, 600.0))


@pytest.mark.parametrize("spec", [video(), played("a.mp4"), played("http://host/a.mp4")], ids=["own", "file", "url"])
@pytest.mark.parametrize("problem", [REFUSED, MediaInvalid("no").problem()], ids=["refused", "unreadable"])
def test_what_comes_into_the_room_and_breaks_at_once_does_not_do_so_for_ever(
    spec: PublicationSpec, problem: error_pb2.Problem
) -> None:
    assert len(breaking(spec, 2.0, problem)) == DEFAULT_MAX_ATTEMPTS


def test_a_file_that_breaks_off_late_is_played_twice_and_one_that_may_go_on_is_tried_again() -> None:
    unreadable = MediaInvalid("no").problem()
    assert len(breaking(played("a.mp4"), 300.0, unreadable)) == 2
    assert len(breaking(played("a.mp4", loop=True), 300.0, unreadable)) == 50
    assert len(breaking(played("http://host/a.mp4"), 300.0, unreadable)) == 50
    assert len(breaking(video(), 300.0, REFUSED)) == 50


def test_something_else_that_is_asked_for_is_tried_without_steps_down() -> None:
    done = attempts.anew(attempts.with_condition(all_steps(begun(video(codec=H264)))))
    assert not done.attempts
    assert not done.degraded


def test_another_reason_to_be_degraded_stays() -> None:
    publication = all_steps(begun(video()))
    publication.degraded = publication_pb2.DEGRADED_REASON_STALLED
    assert attempts.with_condition(publication).degraded == publication_pb2.DEGRADED_REASON_STALLED


@pytest.mark.parametrize(
    ("asked", "has", "taken"),
    [
        (H264, {"video/vp8", "audio/opus"}, VP8),
        (VP8, {"video/h264"}, H264),
        (VP8, {"video/av1"}, publication_pb2.VIDEO_CODEC_AV1),
        (H264, {"video/h264"}, None),
        (H264, None, None),
    ],
)
def test_a_codec_that_livekit_does_not_have_is_not_tried(asked: int, has: set[str] | None, taken: int | None) -> None:
    fitted = attempts.fitted(begun(video(codec=asked)), has, at(100))
    if taken is None:
        assert not fitted.attempts
        return
    first, second = fitted.attempts
    assert (first.video.codec, first.problem.reason) == (asked, error_pb2.ERROR_REASON_PUBLISH_FAILED)
    assert (second.video.codec, list(second.steps)) == (taken, [CODEC])
    assert attempts.wanted_now(fitted).video.codec == taken
    assert fitted.degraded == publication_pb2.DEGRADED_REASON_FALLBACK
    assert fitted.spec.video.codec == asked
    if taken == publication_pb2.VIDEO_CODEC_AV1:
        assert not second.video.simulcast, "it is sent as one stream with scalable layers"


def test_without_a_codec_that_may_be_taken_it_fails_and_tells_its_try() -> None:
    spec = video(codec=H264)
    spec.fallback.steps[:] = [SIZE]
    for found, has in ((spec, {"video/vp8"}), (video(), {"audio/opus"})):
        with pytest.raises(PublishFailed) as caught:
            attempts.fitted(begun(found), has, at(100))
        told = caught.value.detail
        assert isinstance(told, publication_pb2.PublicationAttempts)
        assert len(told.attempts) == 1


def test_the_ladder_keeps_to_the_codecs_that_its_creator_may_use() -> None:
    spec = video(codec=H264)
    narrowed = ladder.within(spec, Bounds(codecs=frozenset({H264})).codecs)
    assert CODEC not in narrowed.fallback.steps
    assert SIZE in narrowed.fallback.steps
    assert ladder.within(spec, frozenset({H264, VP8})) == spec
    assert ladder.within(spec, None) == spec


def test_pauses_are_short_at_first_and_bounded() -> None:
    assert 0.05 <= ladder.delay_s(1, 0.0) <= ladder.delay_s(1, 1.0) <= 0.1
    assert max(ladder.delay_s(failures, 1.0) for failures in range(1, 40)) <= 2.0


@given(
    width=st.integers(8, 1920).map(lambda half: half * 2),
    height=st.integers(8, 1080).map(lambda half: half * 2),
    rate=st.floats(1, 60),
    bitrate=st.integers(50_000, 20_000_000),
    codec=st.sampled_from([1, 2, 3, 4]),
    steps=st.lists(st.sampled_from([CODEC, SIZE, FRAME_RATE, BITRATE, SIMULCAST]), max_size=12),
)
def test_whatever_steps_are_taken_what_is_left_can_be_published(
    width: int, height: int, rate: float, bitrate: int, codec: Any, steps: list[FallbackStep.ValueType]
) -> None:
    most = max(50_000, round(width * height * rate * 12))
    spec = video(width=width, height=height, frames_per_second=rate, max_bitrate_bps=min(bitrate, most), codec=codec)
    for step in steps:
        before, spec = spec, ladder.lowered(spec, VIDEO, step)
        now, was = spec.video, before.video
        assert now.width % 2 == 0
        assert now.height % 2 == 0
        assert 16 <= now.width <= was.width
        assert 16 <= now.height <= was.height
        assert min(5.0, was.frames_per_second) <= now.frames_per_second <= was.frames_per_second
        assert 50_000 <= now.max_bitrate_bps <= was.max_bitrate_bps
        assert spec.name == before.name
        assert complete(spec, "PUB_1", None) == spec, "it is whole, and nothing in it contradicts itself"
