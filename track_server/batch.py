"""Batches: every item is answered for itself; a batch of which nothing succeeded fails as a whole."""

from collections.abc import Sequence

from track.v1.moderation_pb2 import LiftModerationBlockResult
from track.v1.tracks_pb2 import MuteResult, SubscriptionResult
from track_server.errors import error_in


def fail_if_all_failed(
    results: Sequence[MuteResult] | Sequence[SubscriptionResult] | Sequence[LiftModerationBlockResult],
) -> None:
    """Raises the first item's problem where no item succeeded."""
    if results and all(result.HasField("problem") for result in results):
        raise error_in(results[0].problem)
