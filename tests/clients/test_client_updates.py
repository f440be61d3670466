"""UpdatePublication of what clients publish: refused by the client, also after the call and over a death of the server.

The app answers with its veto, which it takes its time for.
"""

import asyncio
from collections.abc import Awaitable, Callable

from google.protobuf import field_mask_pb2

import track_control
from tests.clients.apps import attached, public_key
from tests.clients.publications import DEADLINE_S, publish, until
from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import Joined
from tests.publications import ENDED, LIVE, publication
from tests.refusals import refusal
from tests.track_process import Client
from track.v1 import publication_pb2 as pb
from track.v1 import publication_update_pb2

Veto = Callable[[track_control.Request], Awaitable[bool] | bool]

BITRATE = 100_000


def update(found: pb.Publication) -> publication_update_pb2.UpdatePublicationRequest:
    """Another bitrate."""
    return publication_update_pb2.UpdatePublicationRequest(
        room=found.room,
        publication_id=found.publication_id,
        spec=pb.PublicationSpec(video=pb.VideoOptions(max_bitrate_bps=BITRATE)),
        update_mask=field_mask_pb2.FieldMask(paths=["video.max_bitrate_bps"]),
    )


def bitrate(found: pb.Publication) -> int:
    """What is asked for."""
    return found.spec.video.max_bitrate_bps


class Vetoes:
    """What an app says of updates: each waits for an answer of its own."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[asyncio.Future[bool]] = asyncio.Queue()

    def __call__(self, request: track_control.Request) -> Awaitable[bool] | bool:
        if request.action != "update":
            return False
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.asked.put_nowait(answer)
        return answer

    async def next(self) -> "asyncio.Future[bool]":
        """The next update that waits."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.asked.get()


async def test_refused_within_the_call_it_is_what_it_was(admin: Client, room: str, alice: Joined) -> None:
    vetoes = Vetoes()
    async with attached(alice, await public_key(admin), veto=vetoes, consent_timeout_s=50):
        before = await publish(admin, room)
        calling = asyncio.create_task(refusal(admin.UpdatePublication(update(before), timeout=DEADLINE_S)))
        (await vetoes.next()).set_result(True)
        assert (await calling).reason == "CONSENT_REFUSED"
        after = await publication(admin, room, before.publication_id)
        assert (after.spec, after.track_sid, after.state) == (before.spec, before.track_sid, LIVE)


async def test_refused_after_the_call_it_is_what_it_was_and_the_next_change_waits(
    admin: Client, room: str, alice: Joined
) -> None:
    vetoes = Vetoes()
    async with attached(alice, await public_key(admin), veto=vetoes, consent_timeout_s=50):
        before = await publish(admin, room)
        answer = await admin.UpdatePublication(update(before), timeout=4)
        assert (answer.stage, bitrate(answer.publication)) == (pb.STAGE_REQUESTED, BITRATE)
        asked = await vetoes.next()
        busy = await refusal(admin.UpdatePublication(update(before), timeout=4))
        assert busy.reason == "RESTART_IN_PROGRESS"
        asked.set_result(True)
        after = await until(admin, before, lambda found: bitrate(found) != BITRATE)
        assert (after.spec, after.track_sid, after.state) == (before.spec, before.track_sid, LIVE)
        # What is granted after the call stays.
        await admin.UpdatePublication(update(before), timeout=4)
        (await vetoes.next()).set_result(False)
        granted = await until(admin, before, lambda found: found.state == LIVE and found.track_sid != before.track_sid)
        assert bitrate(granted) == BITRATE
        assert list(alice.local_participant.track_publications) == [granted.track_sid]


async def test_refused_after_a_death_of_the_server_it_is_what_it_was(
    livekit: LiveKitProcess, room: str, start_track: StartTrack, alice: Joined
) -> None:
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    vetoes = Vetoes()
    async with track.client("admin", room_admin=True, room=room) as first:
        key = await public_key(first)
        async with attached(alice, key, veto=vetoes, consent_timeout_s=50):
            before = await publish(first, room)
            await first.UpdatePublication(update(before), timeout=4)
            lost = await vetoes.next()
            await track.kill()
            lost.set_result(True)
            await track.start()
            async with track.client("admin", room_admin=True, room=room) as admin:
                assert bitrate(await publication(admin, room, before.publication_id)) == BITRATE
                (await vetoes.next()).set_result(True)
                after = await until(admin, before, lambda found: bitrate(found) != BITRATE)
                assert (after.spec, after.track_sid) == (before.spec, before.track_sid)
                assert list(alice.local_participant.track_publications) == [before.track_sid]


async def test_what_is_unpublished_while_a_change_of_it_begins_stays_ended(
    admin: Client, room: str, alice: Joined
) -> None:
    async with attached(alice, await public_key(admin)):
        for _ in range(5):
            found = await publish(admin, room)
            end = pb.UnpublishTrackRequest(room=room, publication_id=found.publication_id)
            # A call that changes it and one that ends it, at the same time: whichever is first, it has ended.
            await asyncio.gather(
                admin.UpdatePublication(update(found), timeout=DEADLINE_S),
                admin.UnpublishTrack(end, timeout=DEADLINE_S),
                return_exceptions=True,
            )
            now = await publication(admin, room, found.publication_id)
            assert now.state == ENDED, now
            assert not alice.local_participant.track_publications
