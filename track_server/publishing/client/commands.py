"""What is asked of a client for one publication: to publish it, muted where it was, and to let go of it."""

import asyncio
from dataclasses import dataclass
from typing import Final

import structlog

from track.control.v1 import control_pb2 as control
from track_server.control.commands import Target
from track_server.control.companion import Companion, OnReply
from track_server.deadline import Deadline
from track_server.errors import CompanionFailed, LiveKitUnavailable, TrackError
from track_server.livekit.api import LiveKitApi
from track_server.publishing.book import Book
from track_server.rooms.reading import roster
from track_server.rooms.room import LiveRoom
from track_server.rooms.rooms import Rooms

log = structlog.get_logger(__name__)

# A user may be asked: the companion itself gives up before.
_PUBLISH_S: Final = 600.0
_MUTE_S: Final = 3.0
_WITHDRAW_S: Final = 10.0
_WITHDRAW_TRIES: Final = 5
_WITHDRAW_PAUSE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Clients:
    """What every publication by a client needs. ``return_s``: how long a participant may stay away, in seconds."""

    rooms: Rooms
    api: LiveKitApi
    book: Book
    companion: Companion
    return_s: float


async def published(clients: Clients, target: Target, plan: control.Publish, heard: OnReply) -> str:
    """The SID under which the client has published it. Raises what Companion raises."""
    reply = await clients.companion.publish(target, plan, Deadline.after(_PUBLISH_S), heard)
    if reply.status != control.COMMAND_STATUS_DONE or not reply.result.track_sid:
        raise LiveKitUnavailable("the participant's client did not publish in time")
    refuse_foreign(clients.rooms.find(target.room), target.identity, reply.result.track_sid)
    return reply.result.track_sid


def refuse_foreign(live: LiveRoom | None, identity: str, track_sid: str) -> None:
    """Raises CompanionFailed where the track that a client says is its own is somebody else's: who may act on the one
    must not by that act on the other. A track that is not in the room yet is nobody's."""
    track = live.model.tracks.get(track_sid) if live is not None else None
    if track is not None and track.participant_identity != identity:
        raise CompanionFailed("the client says that it publishes a track that is another participant's")


async def mute_again(clients: Clients, live: LiveRoom, identity: str, track_sid: str) -> None:
    """Sees to it that what was muted does not come back with its sound or picture. Raises what LiveKitApi raises."""

    def muted() -> bool:
        track = live.model.tracks.get(track_sid)
        return track is None or track.muted

    await live.until(lambda: track_sid in live.model.tracks, _MUTE_S)
    if not muted():
        await clients.api.mute_track(live.name, identity, track_sid, muted=True)
        await live.until(muted, _MUTE_S)


async def withdraw(clients: Clients, live: LiveRoom, identity: str, publication_id: str) -> None:
    """Tells the client that it is not to publish it any more; that it does not do it is logged.

    Raises what LiveKitApi raises.
    """
    participant = (await roster(clients.api, live.name)).participants.get(identity)
    if participant is None:
        return
    target = Target(live.name, identity, participant.sid)
    for _ in range(_WITHDRAW_TRIES):
        try:
            deadline = Deadline.after(_WITHDRAW_S)
            await clients.companion.unpublish(target, "", deadline, publication_id=publication_id)
        except LiveKitUnavailable:
            if live.current and identity not in live.model.participants:
                return
            await asyncio.sleep(_WITHDRAW_PAUSE_S)
        except TrackError as error:
            log.warning("client_not_unpublished", publication_id=publication_id, reason=error.message)
            return
        else:
            return
