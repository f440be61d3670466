"""Which tracks the watcher subscribes to, disabled, so that LiveKit tells it every publisher's quality and speech."""

from collections.abc import Iterable

from track.v1 import track_pb2
from track_server.rooms.model import RoomModel


def choose(model: RoomModel, identities: Iterable[str], scored: dict[str, str]) -> list[str]:
    """The SIDs to subscribe to, so that each publisher of media among ``identities`` has one track in ``scored``.

    ``scored``: publisher identity to the SID subscribed to; brought up to date. A track that is gone needs no
    unsubscribing, and one that stays is kept.
    """
    fresh = []
    for identity in identities:
        media = {track.sid for track in model.tracks_of(identity) if track.type != track_pb2.TRACK_TYPE_DATA}
        if scored.get(identity) in media:
            continue
        if media:
            scored[identity] = min(media)
            fresh.append(scored[identity])
        else:
            scored.pop(identity, None)
    return sorted(fresh)
