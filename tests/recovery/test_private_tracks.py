"""Private tracks stay private through the death of any part: not one frame reaches who may not."""

import asyncio

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import camera, participant
from tests.publications import DEADLINE_S, LIVE, TONE, pattern, publish, until
from tests.receivers import receiver
from tests.refusals import refusal
from tests.restrictions import ENFORCED, OBSERVED, REQUESTED, WATCHED, restrict, rule, shown
from tests.subscriptions import down_tracks, listed
from tests.track_process import Client
from track.v1 import publication_pb2
from track.v1 import subscription_permission_pb2 as pb

VIDEO = pattern(320, 180, 15)


async def kept(client: Client, room: str, level: int, **target: str) -> pb.TrackSubscriptionPermissions:
    """Waits until the rule is kept so well."""
    async with asyncio.timeout(DEADLINE_S):
        while (found := await shown(client, room, **target)).enforcement != level:
            await asyncio.sleep(0.05)
    return found


async def test_a_track_that_is_private_before_it_is_live_never_reaches_the_others(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    # A LiveKit of its own: jobs go to any worker that is registered.
    livekit = await start_livekit()
    track = await start_track(livekit)
    async with (
        track.client("admin", room_admin=True, room=room_name) as client,
        existing_room(livekit, room_name),
        receiver(livekit, room_name, "ann") as ann,
        receiver(livekit, room_name, "ben") as ben,
    ):
        worker = track.worker
        worker.suspend()
        request = publication_pb2.PublishTrackRequest(room=room_name, spec=VIDEO, participant_identity="host")
        pending = (await client.PublishTrack(request, timeout=4)).publication
        assert not pending.track_sid
        answer = await restrict(client, room_name, rule("ann"), within_s=4, publication_id=pending.publication_id)
        assert answer.stage == REQUESTED
        assert answer.permissions.enforcement != ENFORCED
        worker.kill()
        live = await until(client, pending, lambda found: found.state == LIVE)
        await ann.receives(live.track_sid, 15)
        assert ben.total == 0
        found = await kept(client, room_name, ENFORCED, publication_id=live.publication_id)
        assert (found.track_sid, list(found.allowed_identities)) == (live.track_sid, ["ann"])


async def test_a_killed_worker_child_leaks_nothing(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit)
    async with track.client("admin", room_admin=True, room=room_name) as client, existing_room(livekit, room_name):
        private = await publish(client, room_name, VIDEO, "host")
        public = await publish(client, room_name, TONE, "host")
        await restrict(client, room_name, rule("ann"), publication_id=private.publication_id)
        async with receiver(livekit, room_name, "ann") as ann, receiver(livekit, room_name, "ben") as ben:
            await ann.receives(private.track_sid)
            for child in track.worker.children():
                child.kill()
            back = await until(client, private, lambda found: found.state == LIVE and len(found.lineage) > 1)
            again = await until(client, public, lambda found: found.state == LIVE and len(found.lineage) > 1)
            await asyncio.gather(ann.receives(back.track_sid, 15), ben.receives(again.track_sid))
            assert not ben.frames.keys() & {private.track_sid, back.track_sid}
            await kept(client, room_name, ENFORCED, track_sid=back.track_sid)


async def test_a_killed_server_keeps_its_rules(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit)
    async with (
        existing_room(livekit, room_name),
        participant(livekit, room_name, "alice") as alice,
        camera(alice) as cam,
        receiver(livekit, room_name, "ann") as ann,
        receiver(livekit, room_name, "ben") as ben,
    ):
        async with track.client("admin", room_admin=True, room=room_name) as client:
            private = await publish(client, room_name, VIDEO, "host")
            await restrict(client, room_name, rule("ann"), publication_id=private.publication_id)
            answer = await restrict(client, room_name, rule("ann"), track_sid=cam.sid)
            assert (answer.stage, answer.permissions.enforcement) == (OBSERVED, WATCHED)
            await ben.receives_no_more(private.track_sid)
        before = ben.frames[private.track_sid]
        await track.kill()
        await track.start()
        async with track.client("admin", room_admin=True, room=room_name) as client:
            back = await until(client, private, lambda found: found.state == LIVE and len(found.lineage) > 1)
            await ann.receives(back.track_sid, 15)
            await kept(client, room_name, ENFORCED, publication_id=back.publication_id)
            found = await kept(client, room_name, WATCHED, track_sid=cam.sid)
            assert found.rule == rule("ann")
            assert found.update_time == answer.permissions.update_time
            assert ben.frames.get(private.track_sid, 0) == before
            assert back.track_sid not in ben.frames
            async with receiver(livekit, room_name, "cora"):
                await sent_to(livekit, room_name, {("ann", cam.sid), ("ann", back.track_sid)})
            # What an earlier run said still counts.
            request = pb.GetTrackSubscriptionPermissionsRequest(
                room=room_name, track_sid=cam.sid, consistency_token=answer.consistency_token
            )
            assert (await client.GetTrackSubscriptionPermissions(request)).permissions.rule == rule("ann")


async def test_a_rule_of_a_clients_track_that_went_while_the_server_was_away_is_forgotten(
    start_track: StartTrack, livekit: LiveKitProcess, room_name: str
) -> None:
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with existing_room(livekit, room_name), participant(livekit, room_name, "alice") as alice:
        async with camera(alice) as cam, track.client("admin", room_admin=True, room=room_name) as client:
            await listed(client, room_name, cam.sid)
            assert (await restrict(client, room_name, rule(nobody=True), track_sid=cam.sid)).consistency_token
            await track.stop()
            await alice.local_participant.unpublish_track(cam.sid)
        await track.start()
        async with track.client("admin", room_admin=True, room=room_name) as client:
            refused = await refusal(shown(client, room_name, track_sid=cam.sid))
            assert refused.reason == "TRACK_NOT_FOUND"


async def test_a_restart_of_livekit_leaks_nothing(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit)
    async with track.client("admin", room_admin=True, room=room_name) as client, existing_room(livekit, room_name):
        private = await publish(client, room_name, VIDEO, "host")
        await restrict(client, room_name, rule("ann"), publication_id=private.publication_id)
        await livekit.kill()
        await livekit.start()
        # Who joins at once is there before the publisher is, and is given by LiveKit whatever it may have.
        async with receiver(livekit, room_name, "ben") as ben, receiver(livekit, room_name, "ann") as ann:
            back = await until(
                client, private, lambda found: found.state == LIVE and found.track_sid != private.track_sid
            )
            await ann.receives(back.track_sid, 15)
            assert ben.total == 0
            await kept(client, room_name, ENFORCED, publication_id=back.publication_id)


async def sent_to(livekit: LiveKitProcess, room: str, copies: set[tuple[str, str]]) -> None:
    """Waits until LiveKit sends exactly these."""
    async with asyncio.timeout(DEADLINE_S):
        while await down_tracks(livekit, room) != copies:
            await asyncio.sleep(0.05)
