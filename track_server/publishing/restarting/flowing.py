"""Whether the media of a track flows: what its publisher sends, and what LiveKit sends on to each subscriber."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from track.v1.publication_pb2 import Publication
from track.v1.track_pb2 import TRACK_TYPE_DATA, TRACK_TYPE_VIDEO
from track_server.deadline import Deadline
from track_server.livekit.debug import DownTrack
from track_server.publishing.attempts import wanted_now
from track_server.publishing.meters import Meter
from track_server.publishing.restarting.levels import MediaFlow

Down = Callable[[str], Awaitable[list[DownTrack] | None]]

_LOOK_S: Final = 0.1
_SHORTEST_S: Final = 2.0
"""Opus in silence sends a packet each 0.4 s (RFC 7587, 3.1.3), and statistics come five times a second."""
_FRAMES: Final = 4.0


def patience_s(publication: Publication | None) -> float:
    """How long nothing may come before it is said that nothing flows, in seconds: four frames at least."""
    if publication is None:
        return _SHORTEST_S
    spec = wanted_now(publication)
    rate = 0.0
    if publication.type == TRACK_TYPE_VIDEO:
        rate = spec.video.frames_per_second
    elif publication.type == TRACK_TYPE_DATA:
        rate = spec.data.frames_per_second
    return max(_SHORTEST_S, _FRAMES / rate) if rate else _SHORTEST_S


async def look(
    meter: Meter | None, down: Down, current_sid: Callable[[], str], deadline: Deadline, *, video: bool
) -> MediaFlow:
    """What flows from now on, of the track; returns as soon as all do that are to, and at the deadline.

    ``meter``: of the session that publishes it; None: it is no session's. ``down``: LiveKit's copies for others, by
    SID. ``current_sid``: a change of the publication may give it another one meanwhile. ``video``: LiveKit counts what
    it sends on from the publisher's first sender report on, which comes within a second for video, and after up to five
    for sound: of sound a subscriber of whom nothing was counted yet says nothing.
    """
    first = meter.sent if meter is not None else ("", 0)
    counts: dict[tuple[str, str], int] = {}
    while True:
        track_sid = current_sid()
        copies = await down(track_sid)
        wanting = [copy for copy in copies or () if not copy.disabled and (copy.packets or video)]
        for copy in wanting:
            # One that is new has been sent nothing when it is seen first, or not enough to tell.
            counts.setdefault((track_sid, copy.subscriber_identity), copy.packets)
        served = sum(1 for copy in wanting if copy.packets > counts[track_sid, copy.subscriber_identity])
        sent = None if meter is None else _sends(meter, first, track_sid)
        flow = MediaFlow(sent, served, len(wanting) - served)
        if sent and first[0] != track_sid and meter is not None:
            # The statistics before were another track's.
            first = meter.sent
        if (flow.seen and (sent is not None or served)) or deadline.remaining_s() <= 0:
            return flow
        await asyncio.sleep(min(_LOOK_S, deadline.remaining_s()))


def _sends(meter: Meter, first: tuple[str, int], track_sid: str) -> bool:
    sid, count = meter.sent
    return sid == track_sid and count > (first[1] if first[0] == track_sid else 0)
