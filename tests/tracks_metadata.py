"""Metadata of tracks: requests that many tests make, shortly said, and what LiveKit's clients see of it."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format, struct_pb2
from livekit import api, rtc

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import livekit_api
from tests.participants import Joined, microphone
from tests.track_process import Client
from track.v1 import metadata_pb2 as pb
from track.v1 import publication_pb2, track_pb2, tracks_pb2

OBSERVED = publication_pb2.STAGE_OBSERVED
ROOM = publication_pb2.EVIDENCE_ROOM
DEADLINE_S = 45.0


async def announced_microphone(joined: Joined, name: str = "mic") -> rtc.LocalTrackPublication:
    """Publishes a silent microphone, and waits until LiveKit says so."""
    publication = await microphone(joined, name)
    await joined.announced(publication.sid)
    return publication


def struct(value: dict[str, Any]) -> struct_pb2.Struct:
    """The object as the contract has it."""
    return json_format.ParseDict(value, struct_pb2.Struct())


def plain(metadata: pb.TrackMetadata | track_pb2.Track) -> dict[str, Any]:
    """The metadata in it as Python's own values."""
    return json_format.MessageToDict(metadata.metadata)


def target(known: str) -> dict[str, Any]:
    """By SID or by publication id."""
    return {"publication_id": known} if known.startswith("PUB_") else {"track_sid": known}


def replacing(room: str, known: str, value: dict[str, Any], **fields: Any) -> pb.SetTrackMetadataRequest:
    """A request."""
    return pb.SetTrackMetadataRequest(room=room, replace=struct(value), **target(known), **fields)


def patching(room: str, known: str, value: dict[str, Any], **fields: Any) -> pb.SetTrackMetadataRequest:
    """A request."""
    return pb.SetTrackMetadataRequest(room=room, merge_patch=struct(value), **target(known), **fields)


async def set_metadata(client: Client, room: str, known: str, value: dict[str, Any], **fields: Any) -> pb.TrackMetadata:
    """Replaces it, and requires that it was seen in the room."""
    answer = await client.SetTrackMetadata(replacing(room, known, value, **fields), timeout=DEADLINE_S)
    assert (answer.stage, answer.evidence) == (OBSERVED, ROOM), answer
    assert answer.metadata.published
    metadata: pb.TrackMetadata = answer.metadata
    return metadata


async def get_metadata(client: Client, room: str, known: str) -> pb.TrackMetadata:
    """As it is."""
    answer = await client.GetTrackMetadata(pb.GetTrackMetadataRequest(room=room, **target(known)), timeout=DEADLINE_S)
    metadata: pb.TrackMetadata = answer.metadata
    return metadata


async def delete_metadata(client: Client, room: str, known: str, **fields: Any) -> pb.DeleteTrackMetadataResponse:
    """Removes it."""
    request = pb.DeleteTrackMetadataRequest(room=room, **target(known), **fields)
    answer: pb.DeleteTrackMetadataResponse = await client.DeleteTrackMetadata(request, timeout=DEADLINE_S)
    return answer


async def until_metadata(
    client: Client, room: str, known: str, holds: Callable[[pb.TrackMetadata], bool]
) -> pb.TrackMetadata:
    """Asks until it is so."""
    async with asyncio.timeout(DEADLINE_S):
        while not holds(found := await get_metadata(client, room, known)):
            await asyncio.sleep(0.05)
    return found


async def shown(client: Client, room: str, **fields: Any) -> dict[str, dict[str, Any]]:
    """Metadata of the room's tracks by SID, as ListTracks tells it."""
    answer = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room, **fields), timeout=DEADLINE_S)
    return {track.sid: plain(track) for track in answer.tracks if track.HasField("metadata")}


def name_of(sid: str) -> str:
    """The attribute that has the metadata of that track."""
    return f"track.metadata.{sid}"


class Seen:
    """What another participant sees of one participant's attributes, in LiveKit's own SDK."""

    def __init__(self, joined: rtc.Room, identity: str) -> None:
        self._joined = joined
        self._identity = identity
        self._changed = asyncio.Event()
        joined.on("participant_attributes_changed", self._on_change)
        joined.on("participant_connected", self._on_change)
        self.history: list[dict[str, str]] = []

    def _on_change(self, *_: Any) -> None:
        self.history.append(self.attributes)
        self._changed.set()

    @property
    def attributes(self) -> dict[str, str]:
        """All of them; empty while the participant is not there."""
        participant = self._joined.remote_participants.get(self._identity)
        return dict(participant.attributes) if participant is not None else {}

    def metadata(self, sid: str) -> dict[str, Any] | None:
        """Of that track; None where there is none."""
        text = self.attributes.get(name_of(sid), "")
        return json.loads(text) if text else None

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits for it."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not holds():
                    self._changed.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.5):
                            await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"it is {self.attributes}") from None


async def attributes_in(livekit: LiveKitProcess, room: str, identity: str) -> dict[str, str]:
    """As LiveKit's API tells them."""
    async with livekit_api(livekit) as client:
        request = api.RoomParticipantIdentity(room=room, identity=identity)
        return dict((await client.room.get_participant(request)).attributes)


async def until_attributes(
    livekit: LiveKitProcess, room: str, identity: str, holds: Callable[[dict[str, str]], bool]
) -> dict[str, str]:
    """Asks LiveKit until they are so."""
    found: dict[str, str] = {}
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not holds(found := await attributes_in(livekit, room, identity)):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"they are {found}") from None
    return found
