"""What clients measure, as readings: recorded of Chromium and of LiveKit's SDK for Python behind a relay that dropped a
tenth of the packets and counted them; and what of it is believed."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from track.v1 import quality_pb2
from track.v1.quality_stats_pb2 import StreamStats, TrackStats
from track.v1.track_pb2 import TRACK_TYPE_AUDIO, TRACK_TYPE_DATA, TRACK_TYPE_VIDEO, Track
from track_server.durations import seconds_of
from track_server.errors import StatsRefused, TrackError, TrackNotFound
from track_server.quality.clock import Moment
from track_server.quality.core.detecting.table import AlertKind
from track_server.quality.core.measuring.admission import refusal
from track_server.quality.core.measuring.meter import Meter
from track_server.quality.core.measuring.reading import Flow, Hop, Limitation, Media, Reading, Source
from track_server.quality.core.watch import Subject, Watch
from track_server.quality.sources.client import ClientStats, client_readings

RECORDED: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "lossy_clients.json").read_text())
NOW = Moment(time_s=1_800_000_000.0, monotonic_s=5_000.0)
SID, SOUND, DATA, OTHER = "TR_video", "TR_sound", "TR_data", "TR_other"
TRACKS = {
    SID: Track(sid=SID, type=TRACK_TYPE_VIDEO, participant_identity="bob"),
    SOUND: Track(sid=SOUND, type=TRACK_TYPE_AUDIO, participant_identity="bob"),
    DATA: Track(sid=DATA, type=TRACK_TYPE_DATA, participant_identity="bob"),
    OTHER: Track(sid=OTHER, type=TRACK_TYPE_VIDEO, participant_identity="alice"),
}


def recorded(sample: dict[str, Any]) -> TrackStats:
    return json_format.ParseDict(sample, TrackStats())


def played(rows: list[dict[str, Any]], client: str, kind: str) -> tuple[Meter, list[Reading], dict[str, int]]:
    """The meter that all of one track was told to, its last readings, and what the relay dropped and had in between."""
    media = Media.VIDEO if kind == "V" else Media.AUDIO
    sent = client == "rtc" and not rows[0].get("chromium")
    told = ClientStats("bob" if sent else "alice", Source.COMPANION)
    meter = Meter(Hop.UPLINK if sent else Hop.DOWNLINK, media)
    readings: list[Reading] = []
    for row in rows:
        now = Moment(time_s=row["now"] + 0.1, monotonic_s=row["at"])
        (stats,) = [recorded(each) for each in row[client] if each["trackSid"].startswith(f"TR_{kind}")]
        track = Track(
            sid=stats.track_sid,
            type=TRACK_TYPE_VIDEO if kind == "V" else TRACK_TYPE_AUDIO,
            participant_identity="bob",
        )
        told.place([stats], now)
        flow, readings = told.take(stats, {track.sid: track}, now)
        assert flow == Flow(track.sid, meter.hop, "bob" if sent else "alice")
        meter.add(readings)
    ssrc = str(readings[0].ssrc)
    first, last = rows[0]["relay"][ssrc], rows[-1]["relay"][ssrc]
    return meter, readings, {name: last[name] - first[name] for name in ("passed", "dropped")}


@pytest.mark.parametrize("client", ["rtc", "chromium"])
@pytest.mark.parametrize("kind", ["A", "V"])
def test_a_receivers_loss_before_repair_is_what_the_relay_dropped(client: str, kind: str) -> None:
    rows = RECORDED["down"]
    meter, readings, relay = played(rows, client, kind)
    sample = meter.total(60.0, rows[-1]["at"])
    assert sample is not None
    assert relay["dropped"] > 40
    assert sample.loss_before is not None
    assert sample.loss_before.part == pytest.approx(relay["dropped"], abs=2)
    # The relay's counters were read some milliseconds before the clients'.
    assert sample.loss_before.whole == pytest.approx(relay["dropped"] + relay["passed"], rel=0.02)
    assert sample.loss_after is not None
    if kind == "V":
        # LiveKit sent all of it again, and the last of it is on its way.
        assert sample.loss_after.part <= 4
        assert sample.frames_per_second is not None
        assert sample.frames_per_second.value == pytest.approx(30, abs=3)
        assert (sample.width and sample.width.value) == 640
    else:
        assert sample.loss_after == sample.loss_before
        assert sample.concealed is not None
        assert sample.concealed.percent == pytest.approx(sample.loss_before.percent, abs=4)
        assert readings[0].audio_level == pytest.approx(0.246, abs=0.01)
    assert sample.rtt_ms is not None
    assert 0 <= sample.rtt_ms.value < 20
    assert sample.buffer_ms is not None
    assert 5 < sample.buffer_ms.value < 200
    assert readings[0].last_packet_s == pytest.approx(readings[0].time_s, abs=0.1)
    # rtc never tells for how long pictures froze.
    assert (readings[0].freezes_s is None) is (client == "rtc" or kind == "A")


@pytest.mark.parametrize("kind", ["A", "V"])
def test_a_publishers_loss_is_what_the_relay_dropped(kind: str) -> None:
    rows = RECORDED["up"]
    meter, readings, relay = played(rows, "rtc", kind)
    sample = meter.total(60.0, rows[-1]["at"])
    assert sample is not None
    assert sample.loss_before is not None
    # A receiver report is up to a second older than the counters.
    assert sample.loss_before.part == pytest.approx(relay["dropped"], abs=12 if kind == "V" else 3)
    assert sample.loss_after is not None
    assert readings[0].limitation is (Limitation.NONE if kind == "V" else None)
    assert readings[0].lost_time_s is not None
    assert 0 <= readings[0].time_s - readings[0].lost_time_s < 3
    if kind == "A":
        assert sample.loss_after == sample.loss_before
        assert readings[0].audio_level == pytest.approx(0.244, abs=0.01)


# What is not told.


def stats(at: float = 0.0, *, sid: str = SID, sent: bool = False, **stream: Any) -> TrackStats:
    """One stream, taken ``at`` seconds from NOW."""
    made = TrackStats(track_sid=sid, sent=sent, streams=[StreamStats(**{"ssrc": 7, **stream})])
    made.measure_time.FromNanoseconds(round((NOW.time_s + at) * 1e9))
    return made


def later(seconds: float) -> Moment:
    return Moment(NOW.time_s + seconds, NOW.monotonic_s + seconds)


def test_what_was_not_told_is_none_and_a_zero_stays_a_zero() -> None:
    for sent in (True, False):
        (reading,) = client_readings(stats(sent=sent), Media.VIDEO, Source.REPORTED, 1.0)
        told = {"source", "ssrc", "time_s", "arrival_s", "rid", "lost_before_repair"}
        assert all(getattr(reading, name) is None for name in Reading.__slots__ if name not in told)
        zeros = stats(sent=sent, packets=0, bytes=0, packets_lost=0, frames=0, jitter_ms=0, rtt_ms=0, audio_level=0)
        (reading,) = client_readings(zeros, Media.VIDEO, Source.REPORTED, 1.0)
        assert (reading.packets, reading.payload_bytes, reading.lost, reading.frames) == (0, 0, 0, 0)
        assert (reading.jitter_ms, reading.rtt_ms, reading.audio_level) == (0, 0, 0)


@pytest.mark.parametrize(
    ("media", "told", "resent"),
    [
        (Media.VIDEO, {"retransmitted_packets": 3, "nack_count": 9}, 3),
        (Media.VIDEO, {"nack_count": 0}, 0),
        (Media.VIDEO, {"nack_count": 2}, None),
        (Media.VIDEO, {}, None),
        (Media.AUDIO, {}, 0),
        (Media.AUDIO, {"nack_count": 2}, None),
    ],
)
def test_where_nothing_was_asked_for_again_nothing_was_sent_again(
    media: Media, told: dict[str, Any], resent: int | None
) -> None:
    for sent in (True, False):
        (reading,) = client_readings(stats(sent=sent, packets=10, **told), media, Source.REPORTED, 1.0)
        assert reading.resent == resent


def test_a_sender_counts_retransmissions_twice_and_a_receiver_repaired_packets_once() -> None:
    told: dict[str, Any] = {"packets": 100, "bytes": 1000, "retransmitted_packets": 10, "retransmitted_bytes": 90}
    (sent,) = client_readings(stats(sent=True, **told), Media.VIDEO, Source.COMPANION, 1.0)
    (received,) = client_readings(stats(**told), Media.VIDEO, Source.COMPANION, 1.0)
    assert (sent.packets, sent.payload_bytes, sent.lost_before_repair) == (90, 910, False)
    assert (received.packets, received.payload_bytes, received.lost_before_repair) == (100, 1000, True)


counts = st.none() | st.integers(0, 2**64 - 1)
gauges = st.none() | st.floats(0, 60_000)
COUNTERS = (
    "packets", "bytes", "frames", "retransmitted_packets", "retransmitted_bytes", "nack_count", "concealed_samples",
    "silent_concealed_samples", "total_samples_received", "jitter_buffer_emitted_count",
)  # fmt: skip
streams = st.fixed_dictionaries(
    {
        **dict.fromkeys(COUNTERS, counts),
        "ssrc": st.integers(0, 2**32 - 1),
        "packets_lost": st.none() | st.integers(-(2**63), 2**63 - 1),
        "jitter_ms": gauges,
        "rtt_ms": gauges,
        "frame_width": st.none() | st.integers(0, 16384),
        "audio_level": st.none() | st.floats(0, 1),
        "quality_limitation": st.sampled_from(quality_pb2.QualityLimitation.values()),
    }
)


@given(
    st.lists(streams, min_size=1, max_size=3, unique_by=lambda each: each["ssrc"]), st.booleans(), st.floats(-90, 30)
)
def test_whatever_a_client_says_what_is_taken_can_be_true(told: list[dict[str, Any]], sent: bool, at: float) -> None:
    sample = TrackStats(track_sid=SID, sent=sent, streams=[StreamStats(**each) for each in told])
    sample.measure_time.FromNanoseconds(round((NOW.time_s + at) * 1e9))
    client = ClientStats("bob" if sent else "alice", Source.REPORTED)
    client.place([sample], NOW)
    try:
        flow, readings = client.take(sample, TRACKS, NOW)
    except StatsRefused:
        return
    assert flow.hop is (Hop.UPLINK if sent else Hop.DOWNLINK)
    assert [reading.ssrc for reading in readings] == [each["ssrc"] for each in told]
    for reading in readings:
        assert refusal(reading, NOW.time_s) is None
        assert reading.arrival_s <= NOW.monotonic_s
        numbers = [value for name in Reading.__slots__ if isinstance(value := getattr(reading, name), float)]
        assert all(map(math.isfinite, numbers))


# What is not believed.


@pytest.mark.parametrize(
    ("identity", "sample", "field"),
    [
        ("alice", stats(sid="TR_none"), "track_sid"),
        ("alice", stats(sid=DATA), "track_sid"),
        ("alice", stats(sent=True), "sent"),
        ("bob", stats(), "sent"),
        ("eve", stats(sent=True), "sent"),
        ("alice", stats(at=6), "measure_time"),
        ("alice", stats(at=-61), "measure_time"),
        ("alice", stats(jitter_ms=math.nan), "streams[0].jitter_ms"),
        ("alice", stats(rtt_ms=math.inf), "streams[0].rtt_ms"),
        ("alice", stats(packets=2**63), "streams[0].packets"),
        ("bob", stats(sent=True, packets=3, retransmitted_packets=4), "streams[0].packets"),
        ("alice", stats(concealed_samples=1, silent_concealed_samples=2), "streams[0].concealed_samples"),
        (
            "alice",
            stats(concealed_samples=9, silent_concealed_samples=2, total_samples_received=5),
            "streams[0].concealed_samples",
        ),
    ],
)
def test_what_cannot_be_true_or_is_not_for_that_participant_to_tell_is_refused(
    identity: str, sample: TrackStats, field: str
) -> None:
    client = ClientStats(identity, Source.REPORTED)
    client.place([sample], NOW)
    with pytest.raises(TrackError) as refused:
        client.take(sample, TRACKS, NOW)
    assert refused.value.field == field
    assert isinstance(refused.value, TrackNotFound) is (sample.track_sid == "TR_none")


def test_one_ssrc_twice_is_refused() -> None:
    sample = stats()
    sample.streams.add(ssrc=7)
    with pytest.raises(StatsRefused, match="twice"):
        ClientStats("alice", Source.REPORTED).take(sample, TRACKS, NOW)


def told(client: ClientStats, seconds: float, **stream: Any) -> list[Reading]:
    client.place([stats(seconds)], later(seconds))
    return client.take(stats(seconds, **stream), TRACKS, later(seconds))[1]


def refused(client: ClientStats, seconds: float, **stream: Any) -> str:
    with pytest.raises(StatsRefused) as error:
        client.take(stats(seconds, **stream), TRACKS, later(max(seconds, 0.0)))
    return error.value.field


def test_samples_out_of_order_or_twice_are_refused_and_the_next_is_taken() -> None:
    client = ClientStats("alice", Source.REPORTED)
    told(client, 0.0, packets=100)
    assert refused(client, 0.0, packets=100) == "measure_time"
    assert refused(client, -1.0, packets=150) == "measure_time"
    assert refused(client, -20.0, packets=50) == "measure_time"
    told(client, 1.0, packets=200)


def test_a_clock_that_was_set_back_far_is_survived() -> None:
    client = ClientStats("alice", Source.REPORTED)
    told(client, 0.0, packets=100)
    # Its clock is 40 s behind now; what it counts goes on.
    behind = stats(-39.0, packets=150)
    client.place([behind], later(1.0))
    (reading,) = client.take(behind, TRACKS, later(1.0))[1]
    assert reading.arrival_s == pytest.approx(later(1.0).monotonic_s)


def test_a_counter_that_begins_anew_is_taken_and_one_that_runs_backwards_is_not() -> None:
    client = ClientStats("alice", Source.REPORTED)
    told(client, 0.0, packets=10_000, bytes=1_000_000)
    told(client, 1.0, packets=40, bytes=4_000)
    told(client, 2.0, packets=80, bytes=8_000)
    assert refused(client, 3.0, packets=70, bytes=12_000) == "streams[0].packets"
    # From there it goes on.
    told(client, 4.0, packets=110, bytes=16_000)
    # One falls far, and the other goes on.
    assert refused(client, 5.0, packets=1, bytes=20_000) == "streams[0].packets"


def test_what_grows_faster_than_a_network_carries_is_refused() -> None:
    client = ClientStats("alice", Source.REPORTED)
    told(client, 0.0, packets=0)
    assert refused(client, 1.0, packets=1_000_000) == "streams[0].packets"
    told(client, 2.0, packets=50)


def test_samples_that_were_held_up_are_placed_where_they_were_taken() -> None:
    client = ClientStats("alice", Source.COMPANION)
    assert told(client, 0.0, packets=1)[0].arrival_s == pytest.approx(NOW.monotonic_s)
    # Five of them come at once.
    for second in range(1, 6):
        client.place([stats(float(second))], later(5.0))
        (reading,) = client.take(stats(float(second), packets=second), TRACKS, later(5.0))[1]
        assert reading.arrival_s == pytest.approx(NOW.monotonic_s + second)


@pytest.mark.parametrize("healed_s", [1, 2, 5])
def test_what_a_client_tells_once_its_downlink_is_back_is_found_to_be_an_interruption(healed_s: int) -> None:
    """Nothing comes for 3 s, and nothing is told until some seconds after that."""
    client = ClientStats("alice", Source.COMPANION)
    watch = Watch(Flow(SOUND, Hop.DOWNLINK, "alice"), Subject(SOUND, "bob", Media.AUDIO))
    waiting: list[TrackStats] = []
    found: list[tuple[AlertKind, bool, int]] = []
    packets, came_s = 0, 0.0
    for second in range(40):
        if not 10 < second <= 13:
            packets, came_s = packets + 50, second - 0.02
        each = stats(second, sid=SOUND, packets=packets, bytes=100 * packets, packets_lost=0)
        each.streams[0].last_packet_time.FromNanoseconds(round((NOW.time_s + came_s) * 1e9))
        waiting.append(each)
        if not 11 <= second < 13 + healed_s:
            for one in waiting:
                client.place([one], later(second))
                watch.add(client.take(one, TRACKS, later(second))[1])
            waiting.clear()
        found += [(change.kind, change.on, second) for change in watch.tick(later(second + 0.5).monotonic_s).changes]
    assert [kind for kind, _, _ in found] == [AlertKind.INTERRUPTED] * 2
    (_, on, began), (_, off, ended) = found
    assert (on, off) == (True, False)
    assert began == 13 + healed_s
    assert ended <= began + 10


def test_first_messages_that_come_at_once_keep_their_distance_and_a_slow_clock_is_found_out() -> None:
    client = ClientStats("alice", Source.REPORTED, batched=True)
    arrivals = []
    for second in (-6, -3, 0):
        client.place([stats(float(second))], NOW)
        arrivals.append(client.take(stats(float(second), packets=10 + second), TRACKS, NOW)[1][0].arrival_s)
    assert arrivals == pytest.approx([NOW.monotonic_s + second for second in (-6, -3, 0)])
    slow = ClientStats("alice", Source.REPORTED, batched=True)
    late = []
    for second in range(20):
        sample = stats(second - 8.0, packets=10 + second)
        slow.place([sample], later(second))
        late.append(later(second).monotonic_s - slow.take(sample, TRACKS, later(second))[1][0].arrival_s)
    assert late[0] == pytest.approx(8.0)
    assert late[-1] == pytest.approx(0.0)


def test_samples_of_one_message_keep_their_distance() -> None:
    client = ClientStats("alice", Source.REPORTED)
    samples = [stats(float(second), packets=10 + second) for second in (-3, -2, -1)]
    client.place(samples, NOW)
    arrivals = [client.take(each, TRACKS, NOW)[1][0].arrival_s for each in samples]
    assert [each - arrivals[-1] for each in arrivals] == pytest.approx([-2, -1, 0])


def test_one_from_the_future_moves_no_other() -> None:
    client = ClientStats("alice", Source.REPORTED)
    client.place([stats(3600.0)], NOW)
    assert told(client, 1.0, packets=1)[0].arrival_s == pytest.approx(later(1.0).monotonic_s)


def test_tracks_that_are_gone_are_forgotten() -> None:
    client = ClientStats("alice", Source.REPORTED)
    for number in range(50):
        track = Track(sid=f"TR_{number}", type=TRACK_TYPE_AUDIO, participant_identity="bob")
        client.place([stats(number)], later(number))
        client.take(stats(number, sid=track.sid), {track.sid: track}, later(number))
    assert len(client._last) <= 2
    assert seconds_of(stats().measure_time) == NOW.time_s
