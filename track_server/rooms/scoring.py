"""Which tracks the watcher subscribes to, disabled, so that LiveKit tells it the quality of every publisher."""

from collections.abc import Iterable

from track.v1 import track_pb2


def choose(tracks: Iterable[track_pb2.Track], scored: dict[str, str]) -> list[str]:
    """The SIDs to subscribe to, so that each publisher of media has one track in ``scored``.

    ``scored``: publisher identity to the SID subscribed to; brought up to date. A track that is gone needs no
    unsubscribing, and one that stays is kept.
    """
    by_publisher: dict[str, list[str]] = {}
    for track in tracks:
        if track.type != track_pb2.TRACK_TYPE_DATA:
            by_publisher.setdefault(track.participant_identity, []).append(track.sid)
    for identity in [identity for identity, sid in scored.items() if sid not in by_publisher.get(identity, ())]:
        del scored[identity]
    fresh = {identity: min(sids) for identity, sids in by_publisher.items() if identity not in scored}
    scored.update(fresh)
    return sorted(fresh.values())
