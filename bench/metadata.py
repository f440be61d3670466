"""From a change of a track's metadata to who sees it, against LiveKit's own UpdateParticipant."""

from typing import Final

from bench.figures import Figure, at_most, told
from bench.rounds import interleaved, percentile, ratios, spread
from bench.stand import Stand

_GOAL: Final = 1.5
_CHANGES: Final = 50
"""Of each kind in a round."""
_WARM_UP: Final = 10
_PLENTY: Final = {
    "TRACK_MEDIA_WORKERS": "0",
    "TRACK_METADATA_WRITES_PER_SECOND": "10000",
    "TRACK_MAX_METADATA_CHANGES_PER_SECOND_PER_PARTICIPANT": "10000",
}
"""Changes come one after the other, each once the one before was seen: as fast as that goes."""


async def measure(stand: Stand) -> list[Figure]:
    """Changes metadata of a track through SetTrackMetadata, and as long an attribute through LiveKit's API, in turn.

    Each is timed in one client process, from the request to the moment in which another participant with the official
    SDK sees it; the former also until WatchEvents tells of it.
    """
    effort = stand.effort
    async with (
        stand.populated() as (room, sids),
        stand.track_service(_PLENTY) as track,
        stand.client("bench.described") as client,
    ):
        await client.ask(
            "open",
            address=track.address,
            token=stand.token("bench", room=room, room_admin=True),
            url=stand.livekit.url,
            observer=stand.token("observer", room=room, room_join=True),
            key=stand.livekit.api_key,
            secret=stand.livekit.api_secret,
            room=room,
            identity="speaker-0",
            sid=sids[0],
        )
        ours: list[list[float]] = []
        events: list[list[float]] = []
        theirs: list[list[float]] = []

        async def one_of_ours() -> list[float]:
            return list(await client.ask("ours"))

        async def one_of_theirs() -> list[float]:
            return [await client.ask("theirs")]

        await interleaved(_WARM_UP, one_of_ours, one_of_theirs)
        for _ in range(effort.rounds):
            ours_now, theirs_now = await interleaved(_CHANGES, one_of_ours, one_of_theirs)
            ours.append([each[0] for each in ours_now])
            events.append([each[1] for each in ours_now])
            theirs.append([each[0] for each in theirs_now])
    medians = [[percentile(each, 0.5) for each in rounds] for rounds in (ours, events, theirs)]
    how = f"medians of {effort.rounds} rounds of {_CHANGES} changes of each kind in turn"
    bare = f"UpdateParticipant to another participant {spread(medians[2])} ms"
    mine = spread(medians[0])
    by_sdk, by_events = ratios(medians[0], medians[2]), ratios(medians[1], medians[2])
    return [
        at_most(
            "metadata set to seen by another participant / bare UpdateParticipant",
            by_sdk.median,
            "ratio",
            _GOAL,
            f"{how}: {by_sdk}; {bare}",
        ),
        at_most(
            "metadata set to WatchEvents / bare UpdateParticipant",
            by_events.median,
            "ratio",
            _GOAL,
            f"{how}: {by_events}",
        ),
        told("metadata set to seen by another participant", mine.median, "ms", f"{how}: {mine}"),
    ]
