"""gRPC's own options of a listener. https://grpc.github.io/grpc/core/group__grpc__arg__keys.html"""

from collections.abc import Sequence
from typing import Any, Final

from track_server.config.limits import LimitSettings

Options = Sequence[tuple[str, Any]]

MAX_RESPONSE_BYTES: Final = 16 * 1024 * 1024
"""A page of 1000 tracks with 16 KiB of metadata each."""
HARD_CAP: Final = 4
"""gRPC itself refuses from so many times the limit on, without details; between, our own refusal names the limit."""
FRAME_ENVELOPE_BYTES: Final = 64 * 1024
"""How much more than the largest frame a message may have: gRPC has one bound for all methods."""
AGE_GRACE_S: Final = 5
"""How much longer than its streams a connection stays, so that they end first, and for a reason."""

FIXED_OPTIONS: Final[Options] = (
    ("grpc.max_send_message_length", MAX_RESPONSE_BYTES),
    # A client that vanished is noticed within 40 s, so that its streams do not live on.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Without it a peer that hangs, but whose connection stands, is noticed a minute later (grpcio 1.85.1).
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients may ping as often as every 10 s, with no call as well; who pings more is disconnected.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # A second server on the same port is a mistake, not a way to share the load.
    ("grpc.so_reuseport", 0),
)
"""Of every listener, whatever the settings."""

MEDIA_OPTIONS: Final[Options] = (*FIXED_OPTIONS, ("grpc.max_receive_message_length", 1024 * 1024))
"""Of MediaService's listener: what media workers say of the sessions that they have is never refused."""


def connection_options(limits: LimitSettings) -> Options:
    """Of TrackService's listener."""
    age_s = limits.max_connection_age_seconds
    aged: Options = (
        ("grpc.max_connection_age_ms", age_s * 1000),
        # A stream that was opened last of all ends after its own age. gRPC adds a tenth at random to the first.
        ("grpc.max_connection_age_grace_ms", (age_s + AGE_GRACE_S) * 1000),
    )
    return (
        *FIXED_OPTIONS,
        (
            "grpc.max_receive_message_length",
            max(HARD_CAP * limits.max_request_bytes, limits.max_frame_bytes + FRAME_ENVELOPE_BYTES),
        ),
        ("grpc.max_metadata_size", HARD_CAP * limits.max_header_bytes),
        ("grpc.absolute_max_metadata_size", HARD_CAP * limits.max_header_bytes),
        ("grpc.max_concurrent_streams", limits.max_streams_per_connection),
        *(aged if age_s else ()),
    )
