"""Spans and moments of the contract's messages as seconds, and back. Pure."""

from google.protobuf import duration_pb2, timestamp_pb2


def duration_of(seconds: float) -> duration_pb2.Duration:
    """``seconds`` as a Duration, to the nanosecond."""
    whole = int(seconds)
    return duration_pb2.Duration(seconds=whole, nanos=round((seconds - whole) * 1e9))


def seconds_of(span: duration_pb2.Duration | timestamp_pb2.Timestamp) -> float:
    """A Duration in seconds; a Timestamp in seconds since 1970. An absent one is 0."""
    return nanoseconds_of(span) / 1e9


def nanoseconds_of(span: duration_pb2.Duration | timestamp_pb2.Timestamp) -> int:
    """The same in nanoseconds, of whatever a caller sent: ToNanoseconds raises ValueError for years after 9999."""
    return span.seconds * 1_000_000_000 + span.nanos


def timestamp_at(seconds: float) -> timestamp_pb2.Timestamp:
    """Seconds since 1970 as a Timestamp, to the nanosecond as far as a float has it."""
    stamp = timestamp_pb2.Timestamp()
    stamp.FromNanoseconds(round(seconds * 1e9))
    return stamp
