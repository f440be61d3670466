"""Private tracks on the real server: frames counted at subscribers of LiveKit's own SDK, and its debug view."""

import asyncio
from functools import partial

import grpc

from tests.livekit_process import LiveKitProcess
from tests.participants import camera, participant
from tests.publications import DATA, OBSERVED, TONE, pattern, publish
from tests.receivers import receiver
from tests.refusals import refusal
from tests.restrictions import (
    ACKNOWLEDGED,
    DEBUG_VIEW,
    ENFORCED,
    REQUESTED,
    STAFF,
    UNRESTRICTED,
    UNSEEN,
    WATCHED,
    clear,
    restrict,
    rule,
    shown,
)
from tests.streams import events
from tests.subscriptions import apply, down_tracks, listed, subscribers, update
from tests.track_process import Client, TrackProcess
from track.v1 import error_pb2, publication_pb2, tracks_pb2
from track.v1 import subscription_permission_pb2 as pb


async def test_a_hosted_track_goes_to_the_allowed_alone_and_the_sfu_refuses_the_others(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    video, tone = await asyncio.gather(
        publish(admin, room, pattern(320, 180, 15), "host"), publish(admin, room, TONE, "host")
    )
    async with receiver(livekit, room, "ann") as ann, receiver(livekit, room, "ben") as ben:
        await asyncio.gather(ann.receives(video.track_sid), ben.receives(video.track_sid))
        answer = await restrict(admin, room, rule("ann"), track_sid=video.track_sid)
        assert (answer.stage, answer.evidence) == (OBSERVED, DEBUG_VIEW)
        assert answer.permissions.enforcement == ENFORCED
        assert answer.permissions.publication_id == video.publication_id
        assert answer.permissions.track_sid == video.track_sid
        assert list(answer.permissions.allowed_identities) == ["ann"]
        assert answer.permissions.rule == rule("ann")
        assert answer.consistency_token
        assert not answer.unsubscribed_identities, "the SFU refuses by itself"
        assert ("ben", video.track_sid) not in await down_tracks(livekit, room)
        await ben.receives_no_more(video.track_sid)
        # Everybody has the other track of the same participant; who comes later as well.
        async with receiver(livekit, room, "cora") as cora:
            await asyncio.gather(*(who.receives(tone.track_sid) for who in (ann, ben, cora)))
            await ann.receives(video.track_sid, 15)
            assert cora.frames[video.track_sid] == 0
        before = ben.frames[video.track_sid]
        await ann.receives(video.track_sid, 15)
        assert ben.frames[video.track_sid] == before
        assert await shown(admin, room, publication_id=video.publication_id) == answer.permissions


async def test_a_rule_over_attributes_follows_them_while_the_track_is_live(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    video = await publish(admin, room, pattern(320, 180, 15), "host")
    async with receiver(livekit, room, "ann", {"role": "staff"}) as ann, receiver(livekit, room, "ben") as ben:
        answer = await restrict(admin, room, rule(filter=STAFF), track_sid=video.track_sid)
        assert (answer.stage, list(answer.permissions.allowed_identities)) == (OBSERVED, ["ann"])
        await ann.receives(video.track_sid)
        await ben.receives_no_more(video.track_sid)
        # LiveKit itself lets it in again: it had subscribed, and now it may.
        await ben.room.local_participant.set_attributes({"role": "staff"})
        await ben.receives(video.track_sid)
        assert list((await shown(admin, room, track_sid=video.track_sid)).allowed_identities) == ["ann", "ben"]
        await ann.room.local_participant.set_attributes({"role": "guest"})
        await ann.receives_no_more(video.track_sid)
        before = ann.frames[video.track_sid]
        await ben.receives(video.track_sid, 10)
        assert ann.frames[video.track_sid] == before


async def test_who_is_named_receives_the_track_as_soon_as_it_comes(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    video = await publish(admin, room, pattern(320, 180, 15), "host")
    await restrict(admin, room, rule("later"), track_sid=video.track_sid)
    async with receiver(livekit, room, "ben") as ben, receiver(livekit, room, "later") as later:
        await later.receives(video.track_sid, 15)
        assert ben.total == 0


async def test_a_rule_is_replaced_by_a_tighter_and_a_looser_one_and_cleared(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    video = await publish(admin, room, pattern(320, 180, 15), "host")
    target = {"publication_id": video.publication_id}
    async with (
        receiver(livekit, room, "ann") as ann,
        receiver(livekit, room, "ben") as ben,
        events(admin, room) as stream,
    ):
        await stream.snapshot()
        await restrict(admin, room, rule("ann", "ben"), **target)
        await asyncio.gather(ann.receives(video.track_sid), ben.receives(video.track_sid))
        tight = await restrict(admin, room, rule(nobody=True), **target)
        assert (tight.stage, list(tight.permissions.allowed_identities)) == (OBSERVED, [])
        await asyncio.gather(ann.receives_no_more(video.track_sid), ben.receives_no_more(video.track_sid))
        loose = await restrict(admin, room, rule("ben"), **target)
        await ben.receives(video.track_sid)
        await ann.receives_no_more(video.track_sid)
        open_again = await clear(admin, room, **target)
        assert open_again.stage == ACKNOWLEDGED
        assert not open_again.permissions.HasField("rule")
        assert open_again.permissions.enforcement == UNRESTRICTED
        assert len({tight.consistency_token, loose.consistency_token, open_again.consistency_token}) == 3
        await asyncio.gather(ann.receives(video.track_sid), ben.receives(video.track_sid))
        told = "subscription_permissions_changed"
        for wanted in (rule("ann", "ben"), rule(nobody=True), rule("ben")):
            found = await stream.until(told, partial(_tells, wanted))
            assert found.publication_id == video.publication_id
        await stream.until(told, lambda event: not event.HasField("rule") and not event.enforcement)
        # Nothing to clear: shown alike.
        again = await clear(admin, room, **target)
        assert again.stage == REQUESTED
        assert list(again.permissions.allowed_identities) == ["ann", "ben"]


async def test_a_hosted_data_track_is_private_too(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    data, tone = await asyncio.gather(publish(admin, room, DATA, "host"), publish(admin, room, TONE, "host"))
    async with receiver(livekit, room, "ann") as ann, receiver(livekit, room, "ben") as ben:
        await asyncio.gather(ann.receives(data.track_sid), ben.receives(data.track_sid))
        answer = await restrict(admin, room, rule("ann"), track_sid=data.track_sid)
        # The debug view does not show data tracks.
        assert (answer.stage, answer.evidence) == (ACKNOWLEDGED, UNSEEN)
        assert answer.permissions.enforcement == ENFORCED
        await ben.receives_no_more(data.track_sid)
        async with receiver(livekit, room, "cora") as cora:
            await asyncio.gather(*(who.receives(tone.track_sid) for who in (ann, ben, cora)))
            assert cora.frames[data.track_sid] == 0
        before = ben.frames[data.track_sid]
        await ann.receives(data.track_sid, 10)
        assert ben.frames[data.track_sid] == before
        assert (await clear(admin, room, track_sid=data.track_sid)).stage == ACKNOWLEDGED
        await ben.receives(data.track_sid)


async def test_a_data_track_that_others_may_have_hinders_a_rule_for_its_neighbours(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    # LiveKit's SDK cannot list data tracks: who may not have all of a participant's tracks gets none of its data.
    tone, data = [await publish(admin, room, spec, "host") for spec in (TONE, DATA)]
    refused = await refusal(restrict(admin, room, rule("ann"), track_sid=tone.track_sid))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_FOR_DATA_TRACKS")
    await restrict(admin, room, rule("ann"), track_sid=data.track_sid)
    await restrict(admin, room, rule("ann"), track_sid=tone.track_sid)
    for other in (rule("ann", "ben"), rule(nobody=True)):
        refused = await refusal(restrict(admin, room, other, track_sid=tone.track_sid))
        assert refused.reason == "NOT_FOR_DATA_TRACKS"
    another = publication_pb2.PublishTrackRequest(room=room, spec=DATA, participant_identity="host")
    assert (await refusal(admin.PublishTrack(another, timeout=45))).reason == "NOT_FOR_DATA_TRACKS"
    # To be lifted in the order in which each is possible.
    assert (await refusal(clear(admin, room, track_sid=data.track_sid))).reason == "NOT_FOR_DATA_TRACKS"
    await clear(admin, room, track_sid=tone.track_sid)
    await clear(admin, room, track_sid=data.track_sid)


async def test_every_path_refuses_who_may_not_subscribe(
    admin: Client, track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "alice") as alice,
        camera(alice) as cam,
        subscribers(livekit, room, "ann", "ben"),
        track.client("ben", room_join=True, room=room) as ben,
    ):
        await listed(admin, room, cam.sid)
        answer = await restrict(admin, room, rule("ann"), track_sid=cam.sid)
        results = await apply(admin, room, update("ben", cam.sid), update("ann", cam.sid))
        assert results[0].problem.reason == error_pb2.ERROR_REASON_TARGET_PERMISSION
        assert results[0].problem.field == "updates[0]"
        assert results[1].stage == OBSERVED
        refused = await refusal(apply(ben, room, update("ben", cam.sid)))
        assert refused.reason == "PERMISSION_DENIED"
        # To be unsubscribed is everybody's right.
        (result,) = await apply(ben, room, update("ben", cam.sid, subscribe=False))
        assert result.stage == OBSERVED
        request = tracks_pb2.UpdateSubscriptionsRequest(
            room=room, updates=[update("ben", cam.sid)], consistency_token=answer.consistency_token
        )
        assert (await refusal(admin.UpdateSubscriptions(request))).reason == "TARGET_PERMISSION"
        opened = await clear(admin, room, track_sid=cam.sid)
        request.consistency_token = opened.consistency_token
        assert (await admin.UpdateSubscriptions(request, timeout=45)).results[0].stage == OBSERVED


async def test_validate_only_says_what_would_be_and_does_nothing(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    video = await publish(admin, room, pattern(320, 180, 15), "host")
    async with (
        participant(livekit, room, "alice") as alice,
        camera(alice) as cam,
        receiver(livekit, room, "ann") as ann,
        receiver(livekit, room, "ben") as ben,
    ):
        await asyncio.gather(*(who.receives(sid) for who in (ann, ben) for sid in (cam.sid, video.track_sid)))
        for sid, level, others in ((cam.sid, WATCHED, ["ben", "host"]), (video.track_sid, ENFORCED, [])):
            request = pb.SetTrackSubscriptionPermissionsRequest(
                room=room, track_sid=sid, rule=rule("ann"), validate_only=True
            )
            answer = await admin.SetTrackSubscriptionPermissions(request, timeout=45)
            assert (answer.stage, answer.consistency_token) == (0, "")
            assert answer.permissions.enforcement == level
            assert list(answer.permissions.allowed_identities) == ["ann"]
            assert list(answer.unsubscribed_identities) == others
            assert not (await shown(admin, room, track_sid=sid)).HasField("rule")
            await ben.receives(sid)
        await restrict(admin, room, rule("ann"), track_sid=video.track_sid)
        clearing = pb.ClearTrackSubscriptionPermissionsRequest(room=room, track_sid=video.track_sid, validate_only=True)
        cleared = await admin.ClearTrackSubscriptionPermissions(clearing, timeout=45)
        assert (cleared.stage, cleared.consistency_token) == (0, "")
        assert not cleared.permissions.HasField("rule")
        assert (await shown(admin, room, track_sid=video.track_sid)).enforcement == ENFORCED


def _tells(wanted: pb.TrackSubscriptionRule, event: pb.TrackSubscriptionPermissions) -> bool:
    return event.rule == wanted and event.enforcement == ENFORCED
