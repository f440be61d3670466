"""Faults of LiveKit and of ours."""

from track.v1.error_pb2 import ErrorReason
from track_server.errors.base import TrackError


class LiveKitError(TrackError):
    """LiveKit answered with an error that has no better name."""

    reason = ErrorReason.ERROR_REASON_LIVEKIT_ERROR


class Internal(TrackError):
    """A fault of ours."""
