"""What Python companions measure: told while somebody follows the room, of one's own tracks and of what is received."""

import asyncio
import contextlib
import json
import time
from typing import Any

import pytest
from google.protobuf import json_format
from livekit import rtc
from livekit.rtc._proto import stats_pb2

from tests.clients.apps import attached, public_key
from tests.clients.following import following
from tests.clients.test_states import say
from tests.livekit_process import LiveKitProcess
from tests.participants import Joined, camera, microphone, participant
from tests.states import DEADLINE_S, OWNER, hearing
from tests.track_process import Client
from track.control.v1.control_pb2 import StateReport
from track.v1 import quality_alert_pb2, quality_pb2
from track.v1.quality_pb2 import QUALITY_SOURCE_COMPANION, QualityMeasurement
from track_control.stats import messages, track_stats
from track_server.quality.core.measuring.reading import Hop
from track_server.subscription.states import attended as module


@contextlib.contextmanager
def overhearing(joined: rtc.Room) -> Any:
    """What its app sends in data messages, each a StateReport."""
    sent: list[StateReport] = []
    publish = joined.local_participant.publish_data

    async def record(payload: str, **options: Any) -> None:
        assert len(payload) <= 15 * 1024
        sent.append(json_format.Parse(payload, StateReport()))
        await publish(payload, **options)

    joined.local_participant.publish_data = record  # type: ignore[assignment,method-assign]
    try:
        yield sent
    finally:
        joined.local_participant.publish_data = publish  # type: ignore[method-assign]


def about(sent: list[StateReport]) -> list[tuple[str, bool]]:
    """The tracks of which statistics were sent, and whether they are its own."""
    return [(stats.track_sid, stats.sent) for report in sent for stats in report.stats]


async def test_statistics_come_exactly_while_the_room_is_followed(
    livekit: LiveKitProcess, room: str, alice: Joined
) -> None:
    load = {"cpuLoad": 0.25}
    async with (
        participant(livekit, room, "bob") as bob,
        camera(bob) as cam,
        attached(alice, state=lambda: load),
        attached(bob),
        hearing(livekit, room) as heard,
        following(heard) as followed,
    ):
        mic = await microphone(bob)
        with overhearing(alice) as sent, overhearing(bob) as sent_by_bob:
            await heard.until(lambda: heard.subscribed("alice", cam.sid) is True)
            assert about(sent) == about(sent_by_bob) == []
            followed.assessing.follow("test", room)
            for hop, identity in ((Hop.UPLINK, "bob"), (Hop.DOWNLINK, "alice")):
                for sid in (cam.sid, mic.sid):
                    await followed.until(lambda sid=sid, hop=hop, who=identity: followed.rated(sid, hop, who))  # type: ignore[misc]
            assert followed.intervals() == {"alice": 1.0, "bob": 1.0}
            assert set(about(sent)) == {(cam.sid, False), (mic.sid, False)}
            assert set(about(sent_by_bob)) == {(cam.sid, True), (mic.sid, True)}
            # Of one's own tracks nobody tells but oneself, and of what is received nobody but who receives it.
            assert followed.sample(cam.sid, Hop.DOWNLINK, "bob") is None
            assert followed.sample(cam.sid, Hop.UPLINK, "alice") is None
            down = followed.sample(cam.sid, Hop.DOWNLINK, "alice")
            assert down is not None
            assert (down.width and down.width.value, down.height and down.height.value) == (320, 180)
            # Nobody follows it any more: states go on, statistics do not.
            followed.assessing.release("test", room)
            await followed.until(lambda: followed.intervals() == {"alice": None, "bob": None})
            count = len(about(sent))
            for value in (0.5, 0.75):
                load["cpuLoad"] = value
                await heard.until(lambda value=value: heard.of("alice").cpu_load == value)  # type: ignore[misc]
            assert len(about(sent)) == count


async def test_quality_alone_has_companions_report_and_dismisses_them(
    livekit: LiveKitProcess, room: str, alice: Joined
) -> None:
    async with (
        participant(livekit, room, "bob") as bob,
        camera(bob) as cam,
        attached(alice) as companion,
        hearing(livekit, room) as heard,
        following(heard) as followed,
    ):
        heard.attendance.unfollow(OWNER, room)
        followed.assessing.follow("test", room)
        await followed.until(lambda: followed.rated(cam.sid, Hop.DOWNLINK, "alice"))
        assert companion._reports._running
        followed.assessing.release("test", room)
        await followed.until(lambda: not companion._reports._running)
        assert room not in heard.attendance._rooms


async def test_who_may_not_subscribe_tells_of_what_it_sends_and_nothing_else(
    livekit: LiveKitProcess, room: str, alice: Joined
) -> None:
    async with (
        participant(livekit, room, "bob", can_subscribe=False) as bob,
        camera(bob) as cam,
        attached(bob) as companion,
        hearing(livekit, room) as heard,
        following(heard) as followed,
    ):
        followed.assessing.follow("test", room)
        await followed.until(lambda: followed.rated(cam.sid, Hop.UPLINK, "bob"))
        assert heard.states.reported_at(room, "bob") is None
        followed.assessing.release("test", room)
        await followed.until(lambda: not companion._reports._running)


async def test_in_a_crowd_statistics_come_less_often(
    livekit: LiveKitProcess, room: str, alice: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CROWD", 1)
    async with attached(alice), hearing(livekit, room) as heard, following(heard) as followed:
        followed.assessing.follow("test", room)
        await followed.until(lambda: followed.intervals() == {"alice": 1.0})
        async with participant(livekit, room, "bob") as bob, attached(bob):
            await followed.until(lambda: followed.intervals() == {"alice": 2.0, "bob": 2.0})
        await followed.until(lambda: followed.intervals() == {"alice": 1.0})


async def test_liars_measure_nothing_of_others(livekit: LiveKitProcess, room: str, alice: Joined) -> None:
    async with (
        participant(livekit, room, "eve") as eve,
        participant(livekit, room, "bob") as bob,
        camera(bob) as cam,
        attached(alice),
        hearing(livekit, room) as heard,
        following(heard) as followed,
    ):
        followed.assessing.follow("test", room)
        await followed.until(lambda: followed.rated(cam.sid, Hop.DOWNLINK, "alice"))
        (inbox,) = heard.inboxes

        def lie(at: float, *, sent: bool = False, **stream: Any) -> dict[str, Any]:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + at))
            return {"trackSid": cam.sid, "sent": sent, "measureTime": stamp, "streams": [{"ssrc": 1, **stream}]}

        lies = [lie(0, sent=True, packets="9"), lie(3600, packets="9"), lie(-300, packets="9")]
        await say(eve, inbox.identity, json.dumps({"stats": lies}))
        await say(eve, inbox.identity, json.dumps({"stats": [lie(0, jitterMs="NaN")]}))
        # One after them that is true, as far as anybody can tell: all before it were read.
        await say(eve, inbox.identity, json.dumps({"stats": [lie(0, packets="90", jitterMs=5)]}))
        await followed.until(lambda: followed.sample(cam.sid, Hop.DOWNLINK, "eve") is not None)
        sample = followed.sample(cam.sid, Hop.DOWNLINK, "eve")
        assert sample is not None
        assert sample.jitter_ms is not None
        assert sample.jitter_ms.value == 5
        assert followed.sample(cam.sid, Hop.UPLINK, "bob") is None
        assert followed.sample(cam.sid, Hop.UPLINK, "eve") is None


def test_statistics_of_many_tracks_travel_in_messages_that_livekit_carries() -> None:
    told = [{"trackSid": f"TR_{number}", "streams": [{"ssrc": number, "rid": "x" * 600}] * 2} for number in range(100)]
    texts = list(messages([*told, {"trackSid": "TR_silent", "streams": []}]))
    assert max(map(len, texts)) < 15 * 1024
    assert [each for text in texts for each in json.loads(text)["stats"]] == told
    assert list(messages([])) == []


class Sent(rtc.LocalVideoTrack):
    """A video whose encoder bandwidth holds back, over a line that has so much to spare."""

    def __init__(self, available_bps: float) -> None:
        self._available_bps = available_bps

    @property
    def sid(self) -> str:
        return "TR_sent"

    async def get_stats(self) -> list[stats_pb2.RtcStats]:
        rtp, transport, pair = stats_pb2.RtcStats(), stats_pb2.RtcStats(), stats_pb2.RtcStats()
        rtp.outbound_rtp.rtc.id, rtp.outbound_rtp.stream.transport_id = "S", "T"
        rtp.outbound_rtp.stream.kind = "video"
        rtp.outbound_rtp.outbound.frames_encoded = 9
        rtp.outbound_rtp.outbound.quality_limitation_reason = stats_pb2.LIMITATION_BANDWIDTH
        transport.transport.rtc.id, transport.transport.transport.selected_candidate_pair_id = "T", "P"
        pair.candidate_pair.rtc.id = "P"
        pair.candidate_pair.candidate_pair.available_outgoing_bitrate = self._available_bps
        return [rtp, transport, pair]


async def test_the_network_is_excused_where_it_has_room_for_all_that_may_be_sent() -> None:
    for available, most, reason in (
        (502_153, 240_000, "OTHER"),
        (240_000, 240_000, "OTHER"),
        (99_231, 240_000, "BANDWIDTH"),
        (0, 240_000, "BANDWIDTH"),
        (10**9, float("inf"), "BANDWIDTH"),
    ):
        (stream,) = (await track_stats(Sent(available), most))["streams"]
        assert stream["qualityLimitation"] == f"QUALITY_LIMITATION_{reason}", available


async def test_what_both_ends_measure_is_in_the_report_of_the_service(
    livekit: LiveKitProcess, admin: Client, room: str, alice: Joined
) -> None:
    key = await public_key(admin)
    async with (
        participant(livekit, room, "bob") as bob,
        camera(bob) as cam,
        attached(alice, key),
        attached(bob, key),
    ):
        found: dict[tuple[int, str], QualityMeasurement] = {}
        wanted = {(quality_alert_pb2.QUALITY_HOP_UPLINK, "bob"), (quality_alert_pb2.QUALITY_HOP_DOWNLINK, "alice")}
        async with asyncio.timeout(DEADLINE_S):
            while {key for key, each in found.items() if each.HasField("loss_before_repair")} != wanted:
                request = quality_pb2.GetQualityReportRequest(room=room, track_sid=cam.sid)
                report = (await admin.GetQualityReport(request)).report
                found = {(each.hop, each.participant_identity): each for each in report.measurements}
                await asyncio.sleep(0.2)
        assert found.keys() == wanted
        for each in found.values():
            assert each.bitrate_bps.source == each.loss_before_repair.source == QUALITY_SOURCE_COMPANION
            assert each.frames_per_second.value == pytest.approx(10, abs=4)
            assert (each.width.value, each.height.value) == (320, 180)
            assert each.loss_before_repair.part == 0
            assert each.HasField("rtt_ms")
        # A sender does not see its subscribers' buffers.
        assert found[quality_alert_pb2.QUALITY_HOP_DOWNLINK, "alice"].HasField("buffer_ms")
        assert not found[quality_alert_pb2.QUALITY_HOP_UPLINK, "bob"].HasField("buffer_ms")
