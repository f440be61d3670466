"""Statistics of tracks, made by hand, and the calls with which a client reports them."""

import time
from typing import Any

from tests.refusals import Refusal, refusal
from tests.track_process import Client
from track.v1 import quality_stats_pb2
from track.v1.quality_stats_pb2 import ReportTrackStatsRequest, ReportTrackStatsResponse, TrackStats

DEADLINE_S = 45.0


def sample(sid: str, at: float = 0.0, *, sent: bool = False, **stream: Any) -> TrackStats:
    """Statistics of one stream, taken ``at`` seconds from now."""
    streams = [quality_stats_pb2.StreamStats(**{"ssrc": 7, **stream})]
    made = TrackStats(track_sid=sid, sent=sent, streams=streams)
    made.measure_time.FromNanoseconds(time.time_ns() + round(at * 1e9))
    return made


def sound(sid: str, second: int, *, sent: bool = False, **stream: Any) -> TrackStats:
    """Sound of 50 packets a second, of which every tenth is lost; `second`: from -20 to 0."""
    told = 200_000 + 50 * second
    counters = {
        "packets": told if sent else told * 9 // 10, "bytes": 120 * told, "packets_lost": told // 10,
        "jitter_ms": 12.5, "rtt_ms": 80.0, "concealed_samples": 96 * told, "silent_concealed_samples": 0,
        "total_samples_received": 960 * told,
    }  # fmt: skip
    return sample(sid, float(second), sent=sent, **{**counters, **stream})


def message(room: str = "", *samples: TrackStats, identity: str = "") -> ReportTrackStatsRequest:
    """One message of the stream."""
    return ReportTrackStatsRequest(room=room, participant_identity=identity, samples=samples)


async def reported(client: Client, *requests: ReportTrackStatsRequest) -> ReportTrackStatsResponse:
    """The answer to a stream of these messages."""
    return await client.ReportTrackStats(iter(requests), timeout=DEADLINE_S)


async def refused(client: Client, *requests: ReportTrackStatsRequest) -> Refusal:
    """How a stream of these messages is refused."""
    return await refusal(client.ReportTrackStats(iter(requests), timeout=DEADLINE_S))
