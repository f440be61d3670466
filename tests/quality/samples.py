"""Statistics of hosted tracks, made by hand, what is measured by them, and a clock that moves when told."""

import asyncio
from collections.abc import Sequence
from typing import Any

from google.protobuf import timestamp_pb2

from track.media.v1.media_service_pb2 import DataTrackStats, HostedTrackStats, RtpStreamStats
from track.v1.quality_pb2 import QualitySample
from track.v1.track_pb2 import TRACK_TYPE_AUDIO, TRACK_TYPE_VIDEO, TrackType
from track_server.quality.clock import Moment
from track_server.quality.core.measuring.meter import Expected, Meter
from track_server.quality.core.measuring.reading import Hop, Media
from track_server.quality.messages import source_sample
from track_server.quality.sources.data import DataCounters
from track_server.quality.sources.hosted import hosted_readings

EPOCH = 1_800_000_000
"""Where the tests' time begins, in seconds since 1970 UTC."""


def at(seconds: float) -> timestamp_pb2.Timestamp:
    """A Timestamp of ``seconds`` after EPOCH."""
    return timestamp_pb2.Timestamp(seconds=EPOCH + int(seconds // 1), nanos=round(seconds % 1 * 1e9))


def stream(ssrc: int = 1, **fields: Any) -> RtpStreamStats:
    """One RTP stream; ``remote`` is the report's time in seconds after EPOCH. Retransmissions are 0 unless given."""
    remote = fields.pop("remote", None)
    result = RtpStreamStats(ssrc=ssrc, **{"retransmitted_packets_sent": 0, "retransmitted_bytes_sent": 0, **fields})
    if remote is not None:
        result.remote_time.CopyFrom(at(remote))
    return result


def audio(seconds: float, **fields: Any) -> RtpStreamStats:
    """A steady audio stream after ``seconds``: 50 packets of 100 bytes a second."""
    return stream(**{"packets_sent": round(50 * seconds), "bytes_sent": round(5000 * seconds), **fields})


def hosted(
    seconds: float,
    streams: Sequence[RtpStreamStats] = (),
    *,
    sid: str = "TR_1",
    publication: str = "PUB_1",
    data: DataTrackStats | None = None,
) -> HostedTrackStats:
    """The statistics of a track, ``seconds`` after EPOCH."""
    return HostedTrackStats(
        publication_id=publication, track_sid=sid, measure_time=at(seconds), streams=streams, data=data
    )


class Uplink:
    """What is measured of the uplink of a hosted publication, in the form of one sample a source."""

    def __init__(self, track_type: TrackType.ValueType = TRACK_TYPE_AUDIO) -> None:
        self.media = Media.VIDEO if track_type == TRACK_TYPE_VIDEO else Media.AUDIO
        self.track_sid = ""
        self.meter = Meter(Hop.UPLINK, self.media)
        self.data = DataCounters()

    def add(self, stats: HostedTrackStats, arrival_s: float) -> None:
        if stats.track_sid != self.track_sid:
            # Another track, of which nothing is known yet.
            self.track_sid, self.meter, self.data = stats.track_sid, Meter(Hop.UPLINK, self.media), DataCounters()
        self.data.add(stats, arrival_s)
        self.meter.add(hosted_readings(stats, arrival_s))

    def interrupt(self) -> None:
        """It is muted, and unmuted."""
        self.meter.expect(Expected(muted=True))
        self.meter.expect(Expected())

    def sample(self, window_s: float, now_s: float) -> QualitySample | None:
        if (pushed := self.data.sample(window_s, now_s)) is not None:
            return pushed
        told = self.meter.told(window_s, now_s)
        return source_sample(told[0], self.media) if told else None


def measure(
    *stats: HostedTrackStats,
    window_s: float = 5.0,
    arrivals: list[float] | None = None,
    track_type: TrackType.ValueType = TRACK_TYPE_AUDIO,
) -> QualitySample:
    """The numbers after ``stats``, which arrived at ``arrivals`` (default: when they were measured)."""
    uplink = Uplink(track_type)
    taken = arrivals or [entry.measure_time.seconds - EPOCH + entry.measure_time.nanos * 1e-9 for entry in stats]
    for entry, arrival_s in zip(stats, taken, strict=True):
        uplink.add(entry, arrival_s)
    sample = uplink.sample(window_s, taken[-1])
    assert sample is not None
    return sample


def window_of(sample: QualitySample) -> float | None:
    """Its length in seconds."""
    return sample.window.ToNanoseconds() / 1e9 if sample.HasField("window") else None


def numbers_of(sample: QualitySample) -> set[str]:
    """Names of the numbers that are there."""
    return {field.name for field, _ in sample.ListFields()} - {"source", "measure_time", "age", "window"}


class ManualClock:
    """Stands still until `advance` moves it; wakes who sleeps on the way, in order."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> Moment:
        return Moment(EPOCH + self._now_s, self._now_s)

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now_s + seconds, future))
        await future

    async def advance(self, seconds: float) -> None:
        """Moves on, and lets everything run that can."""
        until_s = self._now_s + seconds
        await settle()
        while due := [entry for entry in self._sleepers if entry[0] <= until_s + 1e-9]:
            entry = min(due, key=lambda entry: entry[0])
            self._sleepers.remove(entry)
            self._now_s = max(self._now_s, entry[0])
            if not entry[1].done():
                entry[1].set_result(None)
            await settle()
        self._now_s = until_s
        await settle()


async def settle() -> None:
    """Lets every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)
