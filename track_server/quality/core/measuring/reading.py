"""What one source tells of one RTP stream at one moment, in one form for all sources. Pure."""

from dataclasses import dataclass
from enum import IntEnum


class Hop(IntEnum):
    """Which way of a track's."""

    UPLINK = 1
    """From the publisher to LiveKit."""
    DOWNLINK = 2
    """From LiveKit to one subscriber."""


class Media(IntEnum):
    """What a stream carries."""

    AUDIO = 1
    VIDEO = 2


class Source(IntEnum):
    """Who measured; numbers as in the contract's QualitySource. TRUST says whose number is taken."""

    PUBLISHER_STATS = 1
    SFU_SCORE = 2
    SUBSCRIBER_STATS = 3
    COMPANION = 4
    REPORTED = 5
    DEBUG_VIEW = 6


TRUST: tuple[Source, ...] = (
    Source.PUBLISHER_STATS,
    Source.SUBSCRIBER_STATS,
    Source.COMPANION,
    Source.REPORTED,
    Source.DEBUG_VIEW,
    Source.SFU_SCORE,
)
"""Most trusted first: our own sessions, then what a client measures, then what somebody says for it."""


class Limitation(IntEnum):
    """What holds an encoder back; as the contract's QualityLimitation."""

    NONE = 1
    CPU = 2
    BANDWIDTH = 3
    OTHER = 4


@dataclass(frozen=True, slots=True)
class Flow:
    """One track on one hop. ``identity``: the client's end of it: the publisher's, or one subscriber's."""

    track_sid: str
    hop: Hop
    identity: str


# Never changed once it is made; not frozen, which would make the making five times as dear.
@dataclass(slots=True, kw_only=True)
class Reading:
    """Counters since the stream began, and what was true at the moment. None: not told.

    ``time_s``: the source's clock, seconds UTC. ``arrival_s``: here, monotonic. Counters are W3C webrtc-stats':
    ``packets``: each counted once, sent (UPLINK) or received with the repaired ones (DOWNLINK). ``resent``:
    retransmissions sent (UPLINK) or received. ``nacks``: requests for them, received or sent. ``payload_bytes``:
    of ``packets``, without headers. ``lost``: may go down. ``lost_time_s``: when ``lost``, ``jitter_ms`` and
    ``rtt_ms`` were true (the receiver report's time for an UPLINK); None: with the rest. ``lost_before_repair``:
    ``lost`` also counts what a retransmission brought later.
    ``concealed``: samples made up, silent ones left out, of ``samples``. ``buffer_s`` over ``buffered``: time in the
    jitter buffer. ``last_packet_s``: when the last packet came, on the source's clock. ``audio_level``,
    ``brightness``: 0 to 1. ``cpu_load``: of the client's whole machine, 0 to 1.
    """

    source: Source
    ssrc: int
    time_s: float
    arrival_s: float
    rid: str = ""
    packets: int | None = None
    resent: int | None = None
    nacks: int | None = None
    payload_bytes: int | None = None
    lost: int | None = None
    lost_time_s: float | None = None
    lost_before_repair: bool = False
    frames: int | None = None
    freezes_s: float | None = None
    concealed: int | None = None
    samples: int | None = None
    buffer_s: float | None = None
    buffered: int | None = None
    jitter_ms: float | None = None
    rtt_ms: float | None = None
    width: int | None = None
    height: int | None = None
    limitation: Limitation | None = None
    audio_level: float | None = None
    brightness: float | None = None
    last_packet_s: float | None = None
    cpu_load: float | None = None
