"""Simulcast layers of a hosted video: which send, and what the whole track then is."""

import math

import pytest

from tests.quality.samples import Uplink, audio, hosted, measure, numbers_of, stream, window_of
from track.media.v1.media_service_pb2 import HostedTrackStats
from track.v1.quality_pb2 import QUALITY_LIMITATION_CPU
from track.v1.track_pb2 import TRACK_TYPE_VIDEO

# Simulcast: three layers at 30 fps, of which the sizes, rids and SSRCs are these.
LAYERS = (("q", 11, 320, 180), ("h", 12, 640, 360), ("f", 13, 1280, 720))


def simulcast(
    second: float, stopped: dict[str, float] | None = None, begun: dict[str, float] | None = None
) -> HostedTrackStats:
    """Three layers, largest first; ``stopped`` and ``begun`` say since when a layer does not, or does, send."""
    streams = []
    for rid, ssrc, width, height in reversed(LAYERS):
        sent_s = max(0.0, min(second, (stopped or {}).get(rid, math.inf)) - (begun or {}).get(rid, 0.0))
        streams.append(
            stream(
                ssrc,
                rid=rid,
                frame_width=width,
                frame_height=height,
                frames_sent=round(30 * sent_s),
                packets_sent=round(width * sent_s),
                bytes_sent=round(1000 * width * sent_s),
                quality_limitation=QUALITY_LIMITATION_CPU,
            )
        )
    return hosted(second, streams)


def test_layers_come_lowest_first_and_the_largest_gives_the_size() -> None:
    sample = measure(*(simulcast(second) for second in range(6)), track_type=TRACK_TYPE_VIDEO)
    assert [layer.rid for layer in sample.layers] == ["q", "h", "f"]
    assert [layer.bitrate_bps for layer in sample.layers] == [8000 * 320, 8000 * 640, 8000 * 1280]
    assert (sample.width, sample.height, sample.frames_per_second) == (1280, 720, 30)
    assert sample.bitrate_bps == 8000 * (320 + 640 + 1280)
    assert {layer.quality_limitation for layer in sample.layers} == {QUALITY_LIMITATION_CPU}


def test_audio_has_no_layers_and_no_frames() -> None:
    assert numbers_of(measure(*(simulcast(second) for second in range(6)))) == {"bitrate_bps"}


def test_a_layer_that_ceases_to_send_begins_a_new_window_without_it() -> None:
    stats = [simulcast(second, stopped={"f": 6}) for second in range(10)]
    before = measure(*stats[:8], track_type=TRACK_TYPE_VIDEO)
    assert [layer.rid for layer in before.layers] == ["q", "h", "f"], "a second without a frame is no end"
    sample = measure(*stats[:9], track_type=TRACK_TYPE_VIDEO)
    assert [layer.rid for layer in sample.layers] == ["q", "h"]
    assert (sample.width, sample.frames_per_second) == (640, 30)
    assert window_of(sample) == 2.0
    assert sample.bitrate_bps == 8000 * (320 + 640)


def test_a_layer_that_begins_to_send_begins_a_new_window() -> None:
    stats = [simulcast(second, begun={"f": 6}) for second in range(9)]
    sample = measure(*stats, track_type=TRACK_TYPE_VIDEO)
    assert window_of(sample) == 2.0
    assert (sample.width, sample.frames_per_second) == (1280, 30)


def test_a_video_that_stalls_reads_0_and_not_absent() -> None:
    stopped = {"q": 6.0, "h": 6.0, "f": 6.0}
    sample = measure(*(simulcast(second, stopped=stopped) for second in range(10)), track_type=TRACK_TYPE_VIDEO)
    assert numbers_of(sample) == {"bitrate_bps", "frames_per_second"}
    assert (sample.bitrate_bps, sample.frames_per_second) == (0, 0)


def test_padding_is_no_layer_that_sends() -> None:
    stats = [
        hosted(
            second, [stream(packets_sent=400 * second, bytes_sent=0, frames_sent=0, frame_width=320, frame_height=180)]
        )
        for second in range(4)
    ]
    sample = measure(*stats, track_type=TRACK_TYPE_VIDEO)
    assert list(sample.layers) == []
    assert sample.bitrate_bps == 0


def test_a_video_at_1_fps_does_not_flap() -> None:
    # The camera's beat and ours drift apart, so that some seconds have no frame and some have two.
    uplink = Uplink(TRACK_TYPE_VIDEO)
    for second in range(30):
        frames = int(second * 0.9)
        uplink.add(hosted(second, [stream(packets_sent=frames, bytes_sent=900 * frames, frames_sent=frames)]), second)
        if second > 5:
            sample = uplink.sample(5.0, second)
            assert sample is not None
            assert window_of(sample) == 5.0
            assert len(sample.layers) == 1


def test_readings_are_those_of_layers_that_send_and_of_late() -> None:
    def stats(second: float) -> HostedTrackStats:
        return hosted(
            second,
            [
                stream(11, rid="q", packets_sent=int(30 * second), jitter_ms=3.0, rtt_ms=40.0, remote=second - 0.5),
                stream(12, rid="h", packets_sent=50, jitter_ms=90.0, rtt_ms=90.0, remote=1),
            ],
        )

    sample = measure(*(stats(second) for second in range(2, 12)), track_type=TRACK_TYPE_VIDEO)
    assert [layer.rid for layer in sample.layers] == ["q"]
    assert (sample.jitter_ms, sample.rtt_ms) == (3.0, 40.0)


def test_the_round_trip_is_the_latest_reported_of_any_layer() -> None:
    def stats(second: float) -> HostedTrackStats:
        layers = ((11, 40.0, 0.5), (12, 30.0, 0.1), (13, 50.0, 0.9))
        return hosted(
            second,
            [
                stream(ssrc, frames_sent=int(second), rtt_ms=rtt_ms, remote=second - age_s)
                for ssrc, rtt_ms, age_s in layers
            ],
        )

    assert measure(stats(10), stats(11), track_type=TRACK_TYPE_VIDEO).rtt_ms == 30.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_a_reading_that_is_no_number_is_absent(bad: float) -> None:
    sample = measure(hosted(10, [audio(10, jitter_ms=bad, rtt_ms=bad, remote=9.5)]))
    assert numbers_of(sample) == set()


def test_a_reading_older_than_the_last_reports_is_absent() -> None:
    sample = measure(hosted(10, [audio(10, jitter_ms=1.0, rtt_ms=1.0, remote=5.0)]))
    assert numbers_of(sample) == set()
