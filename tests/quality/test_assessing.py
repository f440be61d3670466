"""The assessments of live rooms: what is followed, what begins and ends with the room's model, and what is expected."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from livekit.protocol import models

from tests.quality.core.readings import received, sent
from tests.quality.rooms import WatchedRooms, infos, rate
from tests.quality.samples import EPOCH, ManualClock, audio, hosted, settle
from track.media.v1.media_service_pb2 import SessionStats
from track.v1.quality_alert_pb2 import QUALITY_HOP_DOWNLINK, QUALITY_HOP_UPLINK, QualityAlert
from track.v1.quality_pb2 import QualityAttainment
from track_server.livekit.debug import DownTrack
from track_server.quality.clock import Moment
from track_server.quality.core.adapting.adaptation import Adaptation
from track_server.quality.core.adapting.ladder import Timing
from track_server.quality.core.assessment import AT_ONCE, Assessed
from track_server.quality.core.measuring.reading import Flow, Hop, Reading, Source
from track_server.quality.live.assessing import Assessing
from track_server.quality.live.roomassessment import RoomAssessment
from track_server.rooms.room import LiveRoom

MIC = Flow("TR_a1", Hop.UPLINK, "host")
CAMERA = Flow("TR_v1", Hop.UPLINK, "guest")
SEEN = Flow("TR_v1", Hop.DOWNLINK, "host")


class Studio:
    """A room of a host with a microphone and a data track, and a guest with a camera."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.rooms = WatchedRooms()
        self.assessing = Assessing(self.rooms, clock=self.clock, linger_s=0.0)
        self.rooms.listen(self.assessing.happened)
        self.room = self.watch()
        self.ended: list[RoomAssessment] = []
        self.ticks: list[tuple[str, int, Mapping[Flow, object]]] = []
        self.assessing.closing(self.ended.append)
        self.assessing.listen(self._ticked)

    def watch(self) -> LiveRoom:
        return self.rooms.watch({"host": ["TR_a1", "TR_d1"], "guest": ["TR_v1"]})

    @property
    def assessment(self) -> RoomAssessment:
        found = self.assessing.of("room")
        assert found is not None
        return found

    @property
    def flows(self) -> set[Flow]:
        return set(self.assessment.assessment.watches)

    def reading(self, made: Reading, **change: float) -> Reading:
        """As taken and come now."""
        now = self.clock.now()
        made.time_s, made.arrival_s = now.time_s, now.monotonic_s
        return made

    async def watch_camera(self, seconds: int, identity: str = "host", source: Source = Source.COMPANION) -> bool:
        """A subscriber's client tells of the camera each second, for so long."""
        flow, taken = Flow("TR_v1", Hop.DOWNLINK, identity), True
        for _ in range(seconds):
            await self.clock.advance(1)
            reading = self.reading(received(self.clock.now().monotonic_s, source=source))
            taken = self.assessing.add("room", flow, [reading]) and taken
        return taken

    def _ticked(self, found: RoomAssessment, assessed: Assessed, moment: Moment) -> None:
        assert found.last is assessed
        assert moment == self.clock.now()
        self.ticks.append((found.name, found.tick, assessed.seen))


@pytest_asyncio.fixture
async def studio() -> AsyncIterator[Studio]:
    result = Studio()
    async with result.assessing:
        yield result


@pytest_asyncio.fixture
async def followed(studio: Studio) -> Studio:
    studio.assessing.follow("me", "room")
    return studio


def change(room: LiveRoom, sid: str, **fields: bool | str) -> None:
    """LiveKit tells of a change of a track of the host's or the guest's."""
    identity = room.model.tracks[sid].participant_identity
    sids = [track.sid for track in room.model.tracks.values() if track.participant_identity == identity]
    (info,) = infos({identity: sids})
    for track in info.tracks:
        if track.sid == sid:
            for name, value in fields.items():
                setattr(track, name, value)
    room.update([info])


# Who follows.


async def test_a_room_that_nobody_follows_is_neither_assessed_nor_ticked_nor_asked_for_statistics(
    studio: Studio,
) -> None:
    await studio.clock.advance(5)
    assert studio.assessing.of("room") is None
    assert studio.assessing.stats_interval("room") is None
    assert not studio.assessing.add("room", MIC, [studio.reading(sent(0))])
    assert studio.ticks == []


async def test_a_followed_room_ticks_each_second(followed: Studio) -> None:
    assert followed.assessing.stats_interval("room") == 1.0
    await followed.clock.advance(3.5)
    assert [(name, tick) for name, tick, _ in followed.ticks] == [("room", 1), ("room", 2), ("room", 3)]
    assert set(followed.ticks[0][2]) == {MIC, CAMERA}


async def test_two_followers_share_an_assessment_and_the_last_ends_it(followed: Studio) -> None:
    first = followed.assessment
    followed.assessing.follow("you", "room")
    followed.assessing.follow("you", "room")
    assert followed.assessment is first
    followed.assessing.release("you", "room")
    followed.assessing.release("nobody", "room")
    await settle()
    assert followed.assessing.of("room") is first
    followed.assessing.release("me", "room")
    for _ in range(100):
        await settle()
    assert followed.assessing.of("room") is None
    assert followed.ended == [first]
    assert followed.assessing.stats_interval("room") is None


async def test_who_comes_back_soon_finds_the_windows() -> None:
    studio = Studio()
    studio.assessing = Assessing(studio.rooms, clock=studio.clock, linger_s=60.0)
    async with studio.assessing as assessing:
        with assessing.following("room"):
            first = assessing.of("room")
        assert assessing.of("room") is first
        with assessing.following("room"):
            assert assessing.of("room") is first
    assert assessing.of("room") is None


async def test_a_room_is_assessed_from_when_it_is_watched_and_anew_in_each_of_its_lives(studio: Studio) -> None:
    studio.rooms.drop("room")
    studio.assessing.follow("me", "room")
    assert studio.assessing.of("room") is None
    await studio.clock.advance(2)
    assert studio.ticks == []
    studio.watch()
    await studio.clock.advance(1)
    first = studio.assessment
    first.live.close("test")  # type: ignore[attr-defined]  # a LiveRoom
    await studio.clock.advance(1)
    assert studio.assessing.of("room") is None
    studio.watch()
    await studio.clock.advance(1)
    assert studio.assessment is not first
    assert studio.ended == [first]


async def test_observers_hear_when_a_rooms_statistics_are_wanted_and_no_more(studio: Studio) -> None:
    told: list[tuple[str, float | None]] = []
    studio.assessing.demand(lambda room: told.append((room, studio.assessing.stats_interval(room))))
    studio.assessing.follow("me", "room")
    studio.assessing.follow("you", "room")
    studio.assessing.release("me", "room")
    studio.assessing.release("you", "room")
    for _ in range(100):
        await settle()
    assert told == [("room", 1.0), ("room", None)]


async def test_one_rooms_trouble_is_not_that_of_the_others(followed: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    followed.rooms.watch({"host": ["TR_a9"]}, "other")
    followed.assessing.follow("me", "other")

    def break_down(_now_s: float) -> Assessed:
        raise ZeroDivisionError

    monkeypatch.setattr(followed.assessment.assessment, "ticking", break_down)
    await followed.clock.advance(2)
    assert [(name, tick) for name, tick, _ in followed.ticks] == [("other", 1), ("other", 2)]


async def test_who_listens_and_breaks_ends_no_ticks(followed: Studio) -> None:
    def break_down(found: RoomAssessment, _assessed: Assessed, _moment: Moment) -> None:
        if found.tick == 2:
            raise ZeroDivisionError

    followed.assessing.listen(break_down)
    await followed.clock.advance(4)
    assert [tick for _, tick, _ in followed.ticks] == [1, 2, 3, 4]


async def test_a_large_room_lets_others_have_their_turn_within_a_tick(studio: Studio) -> None:
    sids = [f"TR_a{number}" for number in range(4 * AT_ONCE)]
    large = studio.rooms.watch({"host": sids}, "large")
    studio.assessing.follow("me", "large")
    turns: list[int] = []

    async def count() -> None:
        while not studio.ticks:
            turns.append(len(studio.ticks))
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    await studio.clock.advance(0.5)
    turns.clear()
    await studio.clock.advance(0.5)
    await counting
    assert len(turns) >= 4
    (_, _, seen), *_ = studio.ticks
    assert len(seen) == len(sids)
    # One that closes within its tick is told of no more.
    studio.ticks.clear()
    ticking = asyncio.ensure_future(studio.clock.advance(1.0))
    while (found := studio.assessing.of("large")) is not None and not turned(found):
        await asyncio.sleep(0)
    large.close("test")
    assert studio.assessing.of("large") is None
    await ticking
    assert studio.ticks == []
    assert studio.ended == [found]


def turned(found: RoomAssessment) -> bool:
    """Whether some of it was looked at in the tick that has begun, and some was not."""
    looked = {watch._ticked_s for watch in found.assessment.watches.values()}
    return len(looked) > 1


async def test_a_room_is_given_its_adaptation_and_another_when_that_changes(studio: Studio) -> None:
    first, second = (Adaptation(lambda _: None, Timing(), random.Random(seed)) for seed in (1, 2))
    made = [first, second, None]
    studio.assessing.adapt_with(lambda room: made.pop(0) if room == "room" else None)
    studio.assessing.follow("me", "room")
    assert studio.assessment.assessment.adaptation is first
    studio.assessing.readapt("room")
    assert studio.assessment.assessment.adaptation is second
    studio.assessing.readapt("room")
    assert studio.assessment.assessment.adaptation is None
    studio.assessing.readapt("elsewhere")


# What begins and ends.


async def test_uplinks_are_those_of_the_rooms_media_tracks(followed: Studio) -> None:
    assert followed.flows == {MIC, CAMERA}
    followed.room.update(infos({"host": ["TR_a1", "TR_v2"]}))
    await followed.clock.advance(1)
    assert followed.flows == {MIC, CAMERA, Flow("TR_v2", Hop.UPLINK, "host")}
    followed.room.update(infos({"host": ["TR_v2"]}))
    assert MIC not in followed.flows, "told at once"


async def test_a_track_that_is_published_under_another_sid_begins_anew(followed: Studio) -> None:
    for second in range(4):
        await followed.clock.advance(1)
        assert followed.assessing.add("room", MIC, [followed.reading(sent(second))])
    followed.room.update(infos({"host": ["TR_a2"]}))
    again = Flow("TR_a2", Hop.UPLINK, "host")
    assert not followed.assessing.add("room", MIC, [followed.reading(sent(5))])
    assert followed.assessing.add("room", again, [followed.reading(sent(5))])
    report = followed.assessment.report(followed.room.model.tracks["TR_a2"], [5.0], followed.clock.now())
    assert not report.measurements[0].HasField("window"), "one reading is no window"


async def test_a_downlink_begins_with_its_first_reading_and_ends_with_its_subscriber(followed: Studio) -> None:
    assert await followed.watch_camera(2)
    assert SEEN in followed.flows
    assert followed.assessment.flows("TR_v1") == [CAMERA, SEEN]
    followed.room.update([models.ParticipantInfo(sid="PA_host", identity="host", state=DISCONNECTED)])
    await followed.clock.advance(1)
    assert SEEN not in followed.flows
    assert not await followed.watch_camera(1)


async def test_a_subscriber_that_reconnects_begins_anew(followed: Studio) -> None:
    assert await followed.watch_camera(3)
    watch = followed.assessment.assessment.watches[SEEN]
    (host,) = infos({"host": ["TR_a1"]})
    host.sid = "PA_again"
    followed.room.update([host])
    assert await followed.watch_camera(1)
    assert followed.assessment.assessment.watches[SEEN] is not watch


async def test_a_downlink_ends_with_its_track(followed: Studio) -> None:
    assert await followed.watch_camera(1)
    followed.room.update(infos({"guest": []}))
    assert followed.flows == {MIC}


async def test_a_downlink_that_nobody_tells_of_any_more_ends(followed: Studio) -> None:
    assert await followed.watch_camera(1)
    await followed.clock.advance(64)
    assert SEEN in followed.flows
    await followed.clock.advance(3)
    assert SEEN not in followed.flows


async def test_an_owner_may_end_a_subscription(followed: Studio) -> None:
    assert await followed.watch_camera(1)
    for flow in (SEEN, SEEN, CAMERA, Flow("TR_none", Hop.DOWNLINK, "host")):
        followed.assessment.end(flow)
    assert followed.flows == {MIC, CAMERA}


@pytest.mark.parametrize(
    "flow",
    [
        Flow("TR_none", Hop.UPLINK, "host"),
        Flow("TR_v1", Hop.UPLINK, "host"),
        Flow("TR_v1", Hop.DOWNLINK, "guest"),
        Flow("TR_v1", Hop.DOWNLINK, "mallory"),
        Flow("TR_d1", Hop.DOWNLINK, "guest"),
    ],
    ids=["no such track", "another's track", "one's own track", "not in the room", "a data track"],
)
async def test_readings_of_a_flow_that_cannot_be_are_not_taken(followed: Studio, flow: Flow) -> None:
    assert not followed.assessing.add("room", flow, [followed.reading(received(1, source=Source.REPORTED))])
    assert not followed.assessing.add("room", CAMERA, [])
    assert followed.flows == {MIC, CAMERA}


async def test_this_services_own_sessions_are_hidden_and_believed(followed: Studio) -> None:
    assert await followed.watch_camera(2, "hidden", Source.SUBSCRIBER_STATS)
    assert followed.assessment.flows("TR_v1") == [CAMERA, Flow("TR_v1", Hop.DOWNLINK, "hidden")]


# What is expected.


async def test_a_mute_ends_the_window_of_both_hops_at_once(followed: Studio) -> None:
    assert await followed.watch_camera(3)
    change(followed.room, "TR_v1", muted=True)
    watches = followed.assessment.assessment.watches
    assert watches[SEEN].meter.expected.muted
    assert watches[CAMERA].meter.expected.muted
    assert watches[SEEN].meter.total(5.0, followed.clock.now().monotonic_s) is None
    change(followed.room, "TR_v1", muted=False)
    assert not watches[SEEN].meter.expected.muted


async def test_a_track_that_goes_on_in_another_codec_is_as_muted_as_before(followed: Studio) -> None:
    assert await followed.watch_camera(1)
    change(followed.room, "TR_v1", muted=True)
    change(followed.room, "TR_v1", muted=True, mime_type="video/AV1")
    await followed.clock.advance(1)
    watches = followed.assessment.assessment.watches
    assert watches[CAMERA].subject.picture is not None
    assert watches[CAMERA].meter.expected.muted
    assert watches[SEEN].meter.expected.muted


async def test_a_subscriber_for_whom_a_layer_is_off_wants_nothing(followed: Studio) -> None:
    off = {("room", "host", "TR_v1")}
    followed.assessing.context.wanted = lambda *pair: False if pair in off else None
    assert await followed.watch_camera(2)
    meter = followed.assessment.assessment.watches[SEEN].meter
    assert not meter.expected.wanted
    off.clear()
    await followed.clock.advance(1)
    assert meter.expected.wanted


async def test_the_debug_view_tells_what_a_subscriber_receives_and_whether_it_wants_it(followed: Studio) -> None:
    assert await followed.watch_camera(2)
    watch = followed.assessment.assessment.watches[SEEN]

    async def look(layer: int, *, disabled: bool = False, bound: bool = True) -> None:
        copy = DownTrack("TR_v1", "host", bound, layer, disabled)
        followed.assessing.looked(followed.room, [copy])
        await followed.clock.advance(1)

    await look(2)
    assert (watch.received, watch.meter.expected.wanted) == (3, True), "as the ladder counts: OFF is 0"
    await look(-1)
    assert (watch.received, watch.meter.expected.wanted) == (0, True), "LiveKit itself has paused it"
    await look(2, disabled=True)
    assert (watch.received, watch.meter.expected.wanted) == (None, False)
    await followed.clock.advance(11)
    assert watch.meter.expected.wanted, "what was seen so long ago says nothing"
    await look(0, bound=False)
    assert watch.received is None


async def test_a_subscriber_gets_nothing_while_nothing_is_sent(followed: Studio) -> None:
    watches = followed.assessment.assessment.watches
    for second in range(4):
        assert await followed.watch_camera(1)
        followed.assessing.add("room", CAMERA, [followed.reading(sent(second, source=Source.COMPANION))])
    await followed.clock.advance(1)
    assert watches[SEEN].meter.expected.sent is True
    for _ in range(4):
        assert await followed.watch_camera(1)
        followed.assessing.add("room", CAMERA, [followed.reading(sent(3, source=Source.COMPANION))])
    await followed.clock.advance(1)
    assert watches[SEEN].meter.expected.sent is False
    assert not watches[SEEN].meter.expected.media


async def test_a_clients_camera_may_rest_and_a_hosted_one_may_not(followed: Studio) -> None:
    for second in range(9):
        await followed.clock.advance(1)
        still = sent(min(second, 2), source=Source.COMPANION)
        followed.assessing.add("room", CAMERA, [followed.reading(still)])
    watch = followed.assessment.assessment.watches[CAMERA]
    now_s = followed.clock.now().monotonic_s
    total = watch.meter.total(5.0, now_s)
    assert total is not None
    assert total.stalled_s is None, "nobody may have subscribed"
    followed.assessing.record("room", "guest", SessionStats(tracks=[hosted(now_s, [audio(1)], sid="TR_v1")]))
    await followed.clock.advance(1)
    assert watch.meter.expected.media


async def test_livekits_score_stands_beside_every_track_of_its_publisher(followed: Studio) -> None:
    rate(followed.room, "guest", models.ConnectionQuality.GOOD, 3.9)
    followed.clock._now_s = followed.room.model.qualities["guest"].measure_time.ToNanoseconds() / 1e9 - EPOCH + 4
    await followed.clock.advance(0)
    now = followed.clock.now()
    report = followed.assessment.report(followed.room.model.tracks["TR_v1"], [5.0], now)
    assert report.measurements[0].sfu_score.value == pytest.approx(3.9)
    assert report.measurements[0].sfu_score.age.ToMilliseconds() == pytest.approx(4000, abs=2)
    assert not followed.assessment.report(followed.room.model.tracks["TR_a1"], [5.0], now).measurements


# Reports.


async def test_a_report_has_each_hop_alerts_and_attainment(followed: Studio) -> None:
    alert = QualityAlert(alert_id="QA_1", track_sid="TR_v1")
    followed.assessing.context.alerts_of = lambda room, sid: [alert] if (room, sid) == ("room", "TR_v1") else []
    attained = QualityAttainment()
    attained.within.FromSeconds(9)
    followed.assessing.context.attainment_of = lambda _room, sid: attained if sid == "TR_v1" else None
    for second in range(4):
        assert await followed.watch_camera(1)
        assert await followed.watch_camera(0, "hidden")
        followed.assessing.add("room", CAMERA, [followed.reading(sent(second, source=Source.COMPANION))])
    report = followed.assessment.report(followed.room.model.tracks["TR_v1"], [1.0, 5.0], followed.clock.now())
    assert [(found.hop, found.participant_identity) for found in report.measurements] == [
        (QUALITY_HOP_UPLINK, "guest"), (QUALITY_HOP_DOWNLINK, "host"),
        (QUALITY_HOP_UPLINK, "guest"), (QUALITY_HOP_DOWNLINK, "host"),
    ]  # fmt: skip
    assert list(report.alerts) == [alert]
    assert report.attainment == attained
    other = followed.assessment.report(followed.room.model.tracks["TR_a1"], [5.0], followed.clock.now())
    assert (list(other.alerts), other.HasField("attainment"), list(other.measurements)) == ([], False, [])


async def test_what_was_not_measured_is_absent(followed: Studio) -> None:
    for _ in range(3):
        await followed.clock.advance(1)
        bare = Reading(source=Source.COMPANION, ssrc=1, time_s=0.0, arrival_s=0.0)
        assert followed.assessing.add("room", MIC, [followed.reading(bare)])
    (found,) = followed.assessment.report(followed.room.model.tracks["TR_a1"], [5.0], followed.clock.now()).measurements
    assert {field.name for field, _ in found.ListFields()} == {"hop", "participant_identity", "window"}


async def test_all_that_is_given_to_an_assessment_is_told_to_a_tap(followed: Studio) -> None:
    told: list[tuple[str, Flow]] = []
    followed.assessing.context.tap = lambda room, kind, flow, _what: told.append((f"{room} {kind}", flow))
    await followed.clock.advance(1)
    told.clear()
    assert await followed.watch_camera(1)
    change(followed.room, "TR_v1", muted=True)
    followed.room.update(infos({"guest": []}))
    assert told == [
        ("room begin", SEEN), ("room readings", SEEN), ("room expect", CAMERA), ("room expect", SEEN),
        ("room end", SEEN), ("room end", CAMERA),
    ]  # fmt: skip


async def test_closing_ends_all_and_may_come_twice(followed: Studio) -> None:
    found = followed.assessment
    await followed.assessing.aclose()
    await followed.assessing.aclose()
    assert followed.ended == [found]
    assert followed.assessing.of("room") is None
    followed.assessing.follow("me", "room")
    assert followed.assessing.of("room") is None


DISCONNECTED = models.ParticipantInfo.DISCONNECTED
