"""Who speaks comes into focus, as the tones of SDK participants tell; all of it on the real LiveKit."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from livekit import rtc

from tests.conftest import StartLiveKit, StartTrack
from tests.focuses import PINNED, SPEAKER, Voice, focused, in_focus, set_focus, voice, whole
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import participant
from tests.streams import EventStream, events
from tests.track_process import Client

FIRST, SECOND = 75, 74


@contextlib.asynccontextmanager
async def speakers(server: LiveKitProcess, room: str, *names: str) -> AsyncIterator[dict[str, tuple[rtc.Room, Voice]]]:
    """Those participants, each with a microphone."""
    async with contextlib.AsyncExitStack() as stack:
        made: dict[str, tuple[rtc.Room, Voice]] = {}
        for name in names:
            joined = await stack.enter_async_context(participant(server, room, name, auto_subscribe=False))
            made[name] = joined, await stack.enter_async_context(voice(joined))
        yield made


async def told(stream: EventStream, *expected: tuple[str, int, int]) -> Any:
    """Reads on until the room's focus has exactly those in it."""
    return await stream.until("focus_changed", lambda change: focused(change.tracks) == list(expected))


async def test_those_who_spoke_last_are_in_focus_one_after_the_other(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with speakers(livekit, room, "ann", "bob", "cid") as there, events(admin, room) as seen:
        await seen.snapshot()
        kept = await set_focus(admin, room, pinned=[whole("cid")], last_speakers=2)
        # Nobody has spoken.
        await told(seen, ("cid", PINNED, 95))
        ann, bob = there["ann"][1], there["bob"][1]
        ann.speaks = True
        change = await told(seen, ("cid", PINNED, 95), ("ann", SPEAKER, FIRST))
        assert change.focus == kept
        assert not seen.seen[-1].event.HasField("cause")
        # Two at once: the one that began last is first.
        bob.speaks = True
        await told(seen, ("cid", PINNED, 95), ("bob", SPEAKER, FIRST), ("ann", SPEAKER, SECOND))
        # Silence: they spoke last all the same; who goes on is first.
        bob.speaks = False
        await told(seen, ("cid", PINNED, 95), ("ann", SPEAKER, FIRST), ("bob", SPEAKER, SECOND))
        ann.speaks = False
        answer = await in_focus(
            admin, room, lambda found: found[1:] == [("ann", SPEAKER, FIRST), ("bob", SPEAKER, SECOND)]
        )
        assert focused(answer.tracks)[0] == ("cid", PINNED, 95)
        # Ann does not hear herself, nor Bob himself: the next one takes the place.
        await in_focus(admin, room, lambda found: found[1:] == [("bob", SPEAKER, FIRST)], "ann")
        await in_focus(admin, room, lambda found: found[1:] == [("ann", SPEAKER, FIRST)], "bob")
        # Who is pinned and speaks counts.
        there["cid"][1].speaks = True
        await told(seen, ("cid", PINNED, 95), ("ann", SPEAKER, SECOND))


async def test_a_speaker_that_leaves_is_out_and_is_back_where_it_was(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with speakers(livekit, room, "ann") as there, events(admin, room) as seen:
        await set_focus(admin, room, last_speakers=1)
        async with speakers(livekit, room, "bob") as others:
            there["ann"][1].speaks = True
            await told(seen, ("ann", SPEAKER, FIRST))
            there["ann"][1].speaks = False
            others["bob"][1].speaks = True
            await told(seen, ("bob", SPEAKER, FIRST))
        # It left while it spoke.
        await told(seen, ("ann", SPEAKER, FIRST))
        async with speakers(livekit, room, "bob"):
            await told(seen, ("bob", SPEAKER, FIRST))


async def test_speakers_are_heard_again_after_a_restart_of_livekit(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with existing_room(livekit, room_name), track.client("admin", room_admin=True, room=room_name) as client:
        async with speakers(livekit, room_name, "ann"):
            kept = await set_focus(client, room_name, last_speakers=1)
        await livekit.kill()
        await livekit.start()
        async with existing_room(livekit, room_name), speakers(livekit, room_name, "ann", "bob") as there:
            there["bob"][1].speaks = True
            answer = await in_focus(client, room_name, lambda found: found == [("bob", SPEAKER, FIRST)])
            assert answer.focus == kept
