"""Which SSRCs are whose, by LiveKit's debug view: it names the relay's lines, and the truth of each run."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from bench.impairment.relaying import RelayProcess
from bench.impairment.truth import Line, Truth
from tests.livekit_process import LiveKitProcess

_EVERY_S: Final = 1.0


@dataclass(slots=True)
class Seen:
    """Of one room, all that was ever seen. ``layers``: the one that was forwarded last, by SID and identity."""

    sent_as: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    """By SID and publisher."""
    received_as: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    """By SID and subscriber."""
    layers: dict[tuple[str, str], int] = field(default_factory=dict)
    identities: set[str] = field(default_factory=set)


class Oracle:
    """`async with`: looks at LiveKit each second. ``rooms``: by name."""

    def __init__(self, livekit: LiveKitProcess, relay: RelayProcess) -> None:
        self.rooms: dict[str, Seen] = {}
        self._livekit = livekit
        self._relay = relay
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def until_received(self, room: str, track_sid: str, identity: str, within_s: float) -> None:
        """Waits until LiveKit forwards that track to that subscriber. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while (track_sid, identity) not in self.rooms.get(room, Seen()).received_as:
                await asyncio.sleep(0.1)

    async def until_sent(self, room: str, track_sid: str, within_s: float) -> None:
        """Waits until LiveKit receives that track. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while not any(sid == track_sid for sid, _ in self.rooms.get(room, Seen()).sent_as):
                await asyncio.sleep(0.1)

    async def truth(self, room: str) -> Truth:
        """All that happened in that room, which is over: its lines pass nothing any more."""
        seen = self.rooms.pop(room)
        identities = {identity for _, identity in (*seen.sent_as, *seen.received_as)}
        lines: dict[str, Line] = {each: await self._relay.take(line_name(room, each)) for each in sorted(identities)}
        sent: dict[str, frozenset[int]] = {}
        for (sid, _), ssrcs in seen.sent_as.items():
            sent[sid] = sent.get(sid, frozenset()) | ssrcs
        return Truth(lines, sent, {key: frozenset(ssrcs) for key, ssrcs in seen.received_as.items()})

    async def _look(self) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                for room in await self._livekit.debug_rooms():
                    await self._note(room)
            await asyncio.sleep(_EVERY_S)

    async def _note(self, room: dict[str, Any]) -> None:
        name = room["Name"]
        seen = self.rooms.setdefault(name, Seen())
        identities = {each["ID"]: identity for identity, each in room["Participants"].items()}
        seen.identities |= set(identities.values())
        new_up: dict[str, list[int]] = {}
        new_down: dict[str, list[int]] = {}
        for publisher, sid, ssrc in _sent(room):
            known = seen.sent_as.setdefault((sid, publisher), set())
            if ssrc not in known:
                known.add(ssrc)
                new_up.setdefault(publisher, []).append(ssrc)
        for sid, copy in _received(room):
            subscriber = identities.get(copy["SubscriberID"])
            # The service's watcher is subscribed too, and receives nothing.
            if subscriber is None or not copy["Stats"].get("PacketCount"):
                continue
            seen.layers[sid, subscriber] = copy["CurrentSpatialLayer"]
            known = seen.received_as.setdefault((sid, subscriber), set())
            if copy["SSRC"] not in known:
                known.add(copy["SSRC"])
                new_down.setdefault(subscriber, []).append(copy["SSRC"])
        for identity in {*new_up, *new_down}:
            up, down = new_up.get(identity, []), new_down.get(identity, [])
            await self._relay.name(line_name(name, identity), up=up, down=down)


def line_name(room: str, identity: str) -> str:
    """Of that participant's line at the relay."""
    return f"{room}/{identity}"


def _sent(room: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Publisher, SID and SSRC of each stream to LiveKit."""
    for identity, participant in room["Participants"].items():
        for sid, track in participant["UpTrackManager"]["PublishedTracks"].items():
            for value in track.values():
                if isinstance(value, dict):
                    for each in value.get("UpTracks") or ():
                        yield identity, sid, each["SSRC"]


def _received(room: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """SID and DownTrack of each copy that is forwarded."""
    for participant in room["Participants"].values():
        for sid, track in participant["UpTrackManager"]["PublishedTracks"].items():
            for copy in track.get("DownTracks") or ():
                yield sid, copy
