"""A network in numbers: streams over links of known loss, delay and bandwidth, read once a second."""

import random
from dataclasses import dataclass, field, replace

from track_server.quality.core.adapting.ladder import HIGH, LOW, MEDIUM, OFF
from track_server.quality.core.measuring.reading import Flow, Hop, Media, Reading, Source

LAYERS_BPS = {OFF: 0, LOW: 160_000, MEDIUM: 450_000, HIGH: 1_700_000}
SIZES = {LOW: (320, 180), MEDIUM: (640, 360), HIGH: (1280, 720)}
AUDIO_BPS = 40_000
PACKET_BITS = 1_100 * 8


@dataclass
class Link:
    """``loss``: share of packets lost, in bursts of ``burst`` on average. ``capacity_bps``: None unlimited; what is
    beyond it fills a queue of 300 ms, and is dropped."""

    seed: int = 0
    loss: float = 0.0
    burst: float = 1.0
    rtt_ms: float = 40.0
    jitter_ms: float = 3.0
    capacity_bps: float | None = None
    down: bool = False
    queue_ms: float = 0.0
    _bad: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def dropped(self, packets: int) -> int:
        """How many of them are lost."""
        if self.down:
            return packets
        if self.loss <= 0:
            return 0
        chance = self.chance.random
        leave = 1.0 / self.burst
        enter = min(1.0, self.loss * leave / max(1e-9, 1 - self.loss))
        lost = 0
        bad = self._bad
        for _ in range(packets):
            bad = chance() >= leave if bad else chance() < enter
            lost += bad
        self._bad = bad
        return lost

    def overflow(self, offered_bps: float) -> float:
        """The share dropped for want of room, after this second."""
        if self.capacity_bps is None or offered_bps <= self.capacity_bps:
            self.queue_ms = max(0.0, self.queue_ms - 300)
            return 0.0
        self.queue_ms = min(300.0, self.queue_ms + 1000 * (offered_bps / self.capacity_bps - 1))
        return 1 - self.capacity_bps / offered_bps if self.queue_ms >= 300 else 0.0


class Sound:
    """Opus at 50 packets a second, received (DOWNLINK) or sent (UPLINK, whose reports come late)."""

    def __init__(self, flow: Flow, link: Link, source: Source, *, ssrc: int = 1) -> None:
        self.flow, self.link, self.source, self.ssrc = flow, link, source, ssrc
        self.sent = self.lost = self.received = self.concealed = self.samples = 0
        self._told = 0
        self._told_s: float | None = None

    def second(self, now_s: float, more_loss: float = 0.0, *, packets: int = 50) -> Reading:
        """What is read after another second."""
        lost = self.link.dropped(packets)
        if more_loss and not self.link.down:
            lost += sum(self.link.chance.random() < more_loss for _ in range(packets - lost))
        self.sent += packets
        self.lost += lost
        self.received += packets - lost
        self.samples += 48_000
        self.concealed += 960 * lost
        jitter = self.link.jitter_ms * (0.8 + 0.4 * self.link.chance.random())
        rtt = self.link.rtt_ms + self.link.queue_ms + self.link.chance.random() * 5
        common = Reading(source=self.source, ssrc=self.ssrc, time_s=now_s, arrival_s=now_s, resent=0)
        if self.flow.hop is Hop.DOWNLINK:
            # A receiver learns of a gap when the next packet comes.
            if not self.link.down:
                self._told = self.lost
            return replace(
                common, packets=self.received, payload_bytes=self.received * 100, lost=self._told,
                samples=self.samples, concealed=self.concealed, jitter_ms=jitter, rtt_ms=rtt,
            )  # fmt: skip
        if not self.link.down:
            self._told, self._told_s = self.lost, now_s - 0.05
        counted = replace(common, packets=self.sent, payload_bytes=self.sent * 100)
        if self._told_s is None:
            return counted
        return replace(counted, lost=self._told, lost_time_s=self._told_s, jitter_ms=jitter, rtt_ms=rtt)  # fmt: skip


class Picture:
    """A video that is received, one layer of it, at 30 frames per second."""

    def __init__(self, flow: Flow, link: Link, source: Source, *, ssrc: int = 2) -> None:
        self.flow, self.link, self.source, self.ssrc = flow, link, source, ssrc
        self.received = self.lost = self.resent = self.frames = self.bytes = 0

    def second(self, now_s: float, layer: int, more_loss: float = 0.0) -> Reading:
        """What is read after another second; half of what is lost is repaired."""
        packets = LAYERS_BPS[layer] // PACKET_BITS
        lost = self.link.dropped(packets)
        if more_loss and not self.link.down:
            lost += sum(self.link.chance.random() < more_loss for _ in range(packets - lost))
        repaired = lost // 2
        self.received += packets - lost + repaired
        self.resent += repaired
        self.lost += lost - repaired
        self.bytes += (packets - lost + repaired) * 1_100
        self.frames += 30 if packets and lost < packets / 3 else 0
        width, height = SIZES.get(layer, (None, None))
        return Reading(
            source=self.source, ssrc=self.ssrc, time_s=now_s, arrival_s=now_s, packets=self.received,
            resent=self.resent, lost=self.lost, payload_bytes=self.bytes, frames=self.frames, freezes_s=0.0,
            width=width, height=height, jitter_ms=3.0, rtt_ms=self.link.rtt_ms + self.link.queue_ms,
        )  # fmt: skip


def down(track: str = "TR_a", identity: str = "bob") -> Flow:
    return Flow(track, Hop.DOWNLINK, identity)


def up(track: str = "TR_a", identity: str = "alice") -> Flow:
    return Flow(track, Hop.UPLINK, identity)


AUDIO, VIDEO = Media.AUDIO, Media.VIDEO
