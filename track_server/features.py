"""What works with the LiveKit server behind us, as far as its version and our settings tell. Pure."""

import re

from track.v1.server_info_pb2 import Feature

# The oldest version that this service is tested with; what older ones lack is not known.
OLDEST_TESTED = (1, 11, 0)
# From LiveKit's changelog: before, `can_publish_data` did not hinder data tracks.
DATA_TRACK_PERMISSIONS = (1, 13, 2)


def features(version: str, *, debug_view: bool, own_workers: int) -> list[Feature]:
    """The features of GetServerInfo. ``version``: LiveKit's, "" while not known. ``debug_view``: whether it is set up.

    ``own_workers``: media workers that this server starts.
    """
    known = _parse(version)
    tested = None if known is None or known < OLDEST_TESTED else True
    enforced = None if known is None else known >= DATA_TRACK_PERMISSIONS
    return [
        Feature(name="data_tracks", supported=tested, detail="tried with LiveKit 1.11.0 and 1.13.5"),
        Feature(
            name="data_track_permissions",
            supported=enforced,
            detail="LiveKit enforces canPublishData for data tracks from 1.13.2",
        ),
        Feature(name="sfu_score", supported=tested, detail="LiveKit's quality of every publisher, through the watcher"),
        Feature(
            name="subscription_evidence",
            supported=debug_view,
            detail="LiveKit's debug view (TRACK_LIVEKIT_DEBUG_URL)",
        ),
        Feature(
            name="remote_unmute",
            detail="LiveKit tells only when it is asked to unmute: room.enable_remote_unmute in its configuration",
        ),
        Feature(
            name="hosted_publishing",
            supported=True if own_workers else None,
            detail=f"media workers started by this server: {own_workers}; others register with LiveKit alone",
        ),
    ]


def _parse(version: str) -> tuple[int, int, int] | None:
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None
