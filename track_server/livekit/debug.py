"""LiveKit's debug view: who receives which track. On where the operator turned `debug_handler` on."""

import time
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp
import orjson

from track_server.errors import LiveKitUnavailable
from track_server.lifetime import Closing

_TIMEOUT_S: Final = 2.0
_BOUND: Final = 2
"""LiveKit's bindStateBound (pkg/sfu/downtrack.go)."""


@dataclass(frozen=True, slots=True)
class DownTrack:
    """One subscriber's copy of a track."""

    track_sid: str
    subscriber_identity: str
    bound: bool
    """Whether it is negotiated, so that media can flow."""
    spatial_layer: int
    """The simulcast layer sent now, 0 the lowest; -1 while none is."""
    disabled: bool = False
    """The subscriber does not want its media for now."""
    packets: int = 0
    """Grows by one with each packet of it that is sent; 0 before the first. Not how many they are: it is the sequence
    number, as LiveKit counts packets only once it has sent an RTCP report."""
    subscriber_sid: str = ""
    """Of the subscriber's session, PA_...."""


class DebugView(Closing):
    """Reads `GET /debug/rooms` of one LiveKit node, `async with`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/") + "/debug/rooms"
        self._session: aiohttp.ClientSession | None = None
        self.reading_s = 0.0
        """CPU time that reading the last answer took: it has all rooms of the node."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        return self

    async def aclose(self) -> None:
        """Closes the connections. May be called twice."""
        if self._session is not None:
            await self._session.close()

    async def down_tracks(self, room: str) -> list[DownTrack]:
        """All copies sent in the room now. Raises LiveKitUnavailable."""
        return (await self.look({room}))[room]

    async def look(self, rooms: Set[str]) -> dict[str, list[DownTrack]]:
        """All copies sent in each of those rooms now, by one call. Raises LiveKitUnavailable."""
        if self._session is None:
            raise RuntimeError("DebugView is used outside its `async with`")
        try:
            async with self._session.get(self._url) as answer:
                answer.raise_for_status()
                body = await answer.read()
            begun = time.thread_time()
            found = read(orjson.loads(body), rooms)
            self.reading_s = time.thread_time() - begun
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, OSError) as error:
            raise LiveKitUnavailable("LiveKit's debug view cannot be read") from error
        return found


def read(entries: list[dict[str, Any]], rooms: Set[str]) -> dict[str, list[DownTrack]]:
    """The copies of each of ``rooms`` in the answer of `/debug/rooms`; subscribers who are gone are left out."""
    copies: dict[str, list[DownTrack]] = {room: [] for room in rooms}
    for entry in entries:
        found = copies.get(entry["Name"])
        if found is None:
            continue
        participants: Mapping[str, Any] = entry["Participants"]
        identities = {participant["ID"]: identity for identity, participant in participants.items()}
        for participant in participants.values():
            for sid, track in participant["UpTrackManager"]["PublishedTracks"].items():
                found += [
                    DownTrack(
                        track_sid=sid,
                        subscriber_identity=identities[down["SubscriberID"]],
                        bound=down["BindState"] == _BOUND,
                        spatial_layer=down.get("CurrentSpatialLayer", -1),
                        disabled=down.get("Muted", False),
                        packets=down.get("Stats", {}).get("RTPMunger", {}).get("ExtLastSN", 0),
                        subscriber_sid=down["SubscriberID"],
                    )
                    for down in track.get("DownTracks") or []
                    if down["SubscriberID"] in identities
                ]
    return copies
