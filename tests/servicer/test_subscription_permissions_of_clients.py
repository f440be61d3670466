"""Private tracks of participants' own clients: watched, where LiveKit's debug view is, or refused here alone."""

import asyncio

import grpc

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import camera, participant
from tests.publications import OBSERVED
from tests.receivers import receiver
from tests.refusals import read, refusal
from tests.restrictions import (
    DEBUG_VIEW,
    REFUSED_HERE_ONLY,
    REQUESTED,
    STAFF,
    UNSEEN,
    WATCHED,
    clear,
    restrict,
    rule,
    shown,
)
from tests.subscriptions import apply, down_tracks, listed, subscribers, update
from tests.track_process import Client


async def test_a_clients_track_is_watched_with_the_debug_view(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "alice") as alice,
        camera(alice) as cam,
        receiver(livekit, room, "ann") as ann,
        receiver(livekit, room, "ben") as ben,
    ):
        await asyncio.gather(ann.receives(cam.sid), ben.receives(cam.sid))
        answer = await restrict(admin, room, rule("ann"), track_sid=cam.sid)
        assert (answer.stage, answer.evidence) == (OBSERVED, DEBUG_VIEW)
        assert answer.permissions.enforcement == WATCHED
        assert list(answer.unsubscribed_identities) == ["ben"]
        assert await down_tracks(livekit, room) == {("ann", cam.sid)}
        await ben.receives_no_more(cam.sid)
        # It helps itself to the track, and who comes is given it by LiveKit: both are seen.
        (publication,) = [
            found
            for who in ben.room.remote_participants.values()
            for found in who.track_publications.values()
            if found.sid == cam.sid
        ]
        publication.set_subscribed(False)
        publication.set_subscribed(True)
        async with receiver(livekit, room, "cora") as cora:
            await taken_away(livekit, room, {("ann", cam.sid)})
            await asyncio.gather(cora.receives_no_more(cam.sid), ben.receives_no_more(cam.sid))
            await ann.receives(cam.sid)
        await clear(admin, room, track_sid=cam.sid)
        # Nobody is subscribed by a looser rule, but may be now.
        (result,) = await apply(admin, room, update("ben", cam.sid))
        assert result.stage == OBSERVED


async def test_without_the_debug_view_a_clients_track_is_only_refused_here(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    track = await start_track(livekit, {"TRACK_LIVEKIT_DEBUG_URL": "", "TRACK_MEDIA_WORKERS": "0"})
    async with (
        track.client("admin", room_admin=True, room=room) as client,
        participant(livekit, room, "alice") as alice,
        camera(alice) as cam,
        receiver(livekit, room, "ann") as ann,
        receiver(livekit, room, "ben", {"role": "staff"}) as ben,
    ):
        await asyncio.gather(ann.receives(cam.sid), ben.receives(cam.sid))
        answer = await restrict(client, room, rule(filter=STAFF), track_sid=cam.sid)
        assert (answer.stage, answer.evidence) == (REQUESTED, UNSEEN)
        assert answer.permissions.enforcement == REFUSED_HERE_ONLY
        assert list(answer.unsubscribed_identities) == ["ann"]
        await ann.receives_no_more(cam.sid)
        async with receiver(livekit, room, "cora") as cora:
            await taken_away(livekit, room, {("ben", cam.sid)})
            await cora.receives_no_more(cam.sid)
            await ben.receives(cam.sid)
            await ben.room.local_participant.set_attributes({"role": "guest"})
            await taken_away(livekit, room, set())
        refused = await refusal(apply(client, room, update("ann", cam.sid)))
        assert refused.reason == "TARGET_PERMISSION"


async def test_a_rule_is_forgotten_with_the_track_of_a_client(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice, subscribers(livekit, room, "ann"):
        async with camera(alice) as cam:
            await listed(admin, room, cam.sid)
            await restrict(admin, room, rule(nobody=True), track_sid=cam.sid)
            await alice.local_participant.unpublish_track(cam.sid)
            async with asyncio.timeout(45):
                while not await _not_found(admin, room, cam.sid):
                    await asyncio.sleep(0.05)
        async with camera(alice) as other:
            await listed(admin, room, other.sid)
            open_to_all = await shown(admin, room, track_sid=other.sid)
            assert not open_to_all.HasField("rule")
            assert list(open_to_all.allowed_identities) == ["ann"]
            (result,) = await apply(admin, room, update("ann", other.sid))
            assert result.stage == OBSERVED


async def taken_away(livekit: LiveKitProcess, room: str, left: set[tuple[str, str]]) -> None:
    """Waits until LiveKit sends exactly these copies."""
    async with asyncio.timeout(45):
        while await down_tracks(livekit, room) != left:
            await asyncio.sleep(0.05)


async def _not_found(client: Client, room: str, sid: str) -> bool:
    try:
        await shown(client, room, track_sid=sid)
    except grpc.aio.AioRpcError as error:
        return read(error).reason == "TRACK_NOT_FOUND"
    return False
