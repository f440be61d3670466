"""The flows of a live room's assessment: what begins and ends with the room's model, and what is expected of them."""

import pytest
from livekit.protocol import models

from tests.quality.core.readings import received, sent
from tests.quality.rooms import infos
from tests.quality.samples import audio, hosted
from tests.quality.studio import CAMERA, MIC, SEEN, Studio, change
from track.media.v1.media_service_pb2 import SessionStats
from track_server.livekit.debug import DownTrack
from track_server.quality.core.measuring.reading import Flow, Hop, Source

DISCONNECTED = models.ParticipantInfo.DISCONNECTED


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
