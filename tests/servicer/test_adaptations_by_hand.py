"""ApplyAdaptation: one action by hand, seen in what is received, released, expired, over a kill, and refused."""

import asyncio
import time
from typing import Any

import grpc
import pytest

from tests.clients.apps import attached, public_key
from tests.clients.test_subscription_layers import SIZES, VIDEO, shows, watcher
from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.moderation_calls import soon
from tests.participants import camera, participant
from tests.publications import TONE, pattern, publish, unpublish, until
from tests.quality_policies import CAP, CPU, NETWORK, OFF, RESTART, actions, adapt, policy, set_policy
from tests.refusals import refusal
from tests.streams import events
from tests.subscriptions import listed, subscription
from tests.track_process import Client
from track.v1 import publication_pb2, publication_update_pb2, track_pb2
from track.v1 import quality_policy_pb2 as pb
from track.v1 import subscription_pb2 as sub

LOW, MEDIUM, HIGH = (
    track_pb2.VIDEO_QUALITY_LOW,
    track_pb2.VIDEO_QUALITY_MEDIUM,
    track_pb2.VIDEO_QUALITY_HIGH,
)
TERMS = {
    NETWORK: sub.LAYER_TERM_KIND_NETWORK,
    CPU: sub.LAYER_TERM_KIND_CPU,
    CAP: sub.LAYER_TERM_KIND_PUBLISHER_CAP,
    OFF: sub.LAYER_TERM_KIND_NETWORK,
}


async def limited(
    client: Client, room: str, sid: str, kind: "pb.QualityActionKind.ValueType", quality: int, who: str = "viewer"
) -> sub.LayerTerm:
    """The term of that kind, once it is the one that limits the layer to that quality."""

    def holds(found: sub.Subscription) -> bool:
        return (found.layer.limiting_term, found.layer.quality) == (TERMS[kind], quality)

    found = await subscription(client, room, who, sid, holds)
    (term,) = [term for term in found.layer.terms if term.kind == TERMS[kind]]
    return term


async def termed(
    client: Client, room: str, sid: str, kind: "pb.QualityActionKind.ValueType", who: str = "viewer"
) -> sub.LayerTerm:
    """The term of that kind, once there is one, whatever limits the layer."""

    def holds(found: sub.Subscription) -> bool:
        return TERMS[kind] in {term.kind for term in found.layer.terms}

    found = await subscription(client, room, who, sid, holds)
    (term,) = [term for term in found.layer.terms if term.kind == TERMS[kind]]
    return term


async def free(client: Client, room: str, sid: str, who: str = "viewer") -> None:
    """Waits until nothing of adaptation limits it."""
    await subscription(
        client, room, who, sid, lambda found: not {t.kind for t in found.layer.terms} & {*TERMS.values()}
    )


async def test_a_limit_is_what_is_received_and_is_told_until_it_is_released(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    key = await public_key(admin)
    sid = (await publish(admin, room, VIDEO, "host")).track_sid
    async with watcher(livekit, room, key) as (_, screen), events(admin, room) as stream:
        await screen.shows(sid, SIZES[HIGH])
        tried = await adapt(admin, room, NETWORK, "viewer", quality=LOW, validate_only=True)
        assert (tried.action_id, tried.quality) == ("", LOW)
        done = await adapt(admin, room, NETWORK, "viewer", quality=LOW, reason="she is on a train", request_id="a")
        assert done.action_id.startswith("QX_")
        assert (done.move, done.kind, done.participant_identity) == (pb.QUALITY_MOVE_DOWN, NETWORK, "viewer")
        assert (done.applied_by, done.stage) == ("admin", publication_pb2.STAGE_REQUESTED)
        assert (
            await adapt(admin, room, NETWORK, "viewer", quality=LOW, reason="she is on a train", request_id="a") == done
        )
        term = await limited(admin, room, sid, NETWORK, LOW)
        assert (term.quality, term.detail) == (LOW, "she is on a train")
        await subscription(admin, room, "viewer", sid, shows(LOW))
        told = await stream.until("quality_action_taken")
        assert told == done
        cause = stream.seen[-1].event.cause
        assert (cause.principal_identity, cause.reason, cause.rule) == ("admin", "she is on a train", "")
        # Two limits: the lower one counts, each is released by itself.
        await adapt(admin, room, CPU, "viewer", sid, quality=MEDIUM)
        up = await adapt(admin, room, NETWORK, "viewer", quality=MEDIUM)
        assert up.move == pb.QUALITY_MOVE_UP
        freed = await adapt(admin, room, NETWORK, "viewer", quality=HIGH)
        assert freed.move == pb.QUALITY_MOVE_RELEASE
        await limited(admin, room, sid, CPU, MEDIUM)
        await adapt(admin, room, CPU, "viewer", sid, quality=HIGH)
        await free(admin, room, sid)
        await screen.shows(sid, SIZES[HIGH])
        listing = await admin.ListAdaptations(pb.ListAdaptationsRequest(room=room, page_size=2))
        assert [(found.kind, found.quality) for found in listing.actions] == [(CPU, HIGH), (NETWORK, HIGH)]
        # What people do is no part of the comparison.
        assert listing.effect == pb.QualityEffect()
        request = pb.ListAdaptationsRequest(room=room, page_size=2, page_token=listing.next_page_token)
        listing = await admin.ListAdaptations(request)
        assert [(found.kind, found.quality) for found in listing.actions] == [(NETWORK, MEDIUM), (CPU, MEDIUM)]
        assert not listing.HasField("effect")
        request.page_token = listing.next_page_token
        listing = await admin.ListAdaptations(request)
        assert ([found.action_id for found in listing.actions], listing.next_page_token) == ([done.action_id], "")
        low = "action.quality == VideoQuality.VIDEO_QUALITY_LOW"
        assert [found.action_id for found in await actions(admin, room, matching=low)] == [done.action_id]
        refused = await refusal(admin.ListAdaptations(pb.ListAdaptationsRequest(room=room, filter="action.nme == 1")))
        assert refused.reason == "INVALID_EXPRESSION"
        request.page_token = "x"
        assert (await refusal(admin.ListAdaptations(request))).reason == "INVALID_PAGE_TOKEN"


async def test_a_publishers_cap_holds_for_every_subscriber_and_for_what_it_publishes_later(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    key = await public_key(admin)
    first = (await publish(admin, room, VIDEO, "host")).track_sid
    others = (await publish(admin, room, pattern(), "other")).track_sid
    async with watcher(livekit, room, key), participant(livekit, room, "ann"):
        await adapt(admin, room, CAP, "host", quality=LOW)
        for who in ("viewer", "ann"):
            await limited(admin, room, first, CAP, LOW, who)
        await subscription(admin, room, "viewer", first, shows(LOW))
        later = (await publish(admin, room, VIDEO, "host")).track_sid
        await limited(admin, room, later, CAP, LOW)
        await free(admin, room, others)
        # It goes with the publication, and leaves others as they are.
        await adapt(admin, room, CAP, "host", quality=HIGH)
        await free(admin, room, first)
        await adapt(admin, room, OFF, "viewer", later)
        term = await limited(admin, room, later, OFF, track_pb2.VIDEO_QUALITY_OFF)
        assert term.detail == "by admin"
        await free(admin, room, first)


async def test_a_limit_expires_by_itself_and_ends_when_its_participant_leaves(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    key = await public_key(admin)
    sid = (await publish(admin, room, pattern(), "host")).track_sid
    async with participant(livekit, room, "ann") as ann, attached(ann, key):
        async with watcher(livekit, room, key):
            await adapt(admin, room, CPU, "ann", quality=LOW)
            done = await adapt(admin, room, OFF, "viewer", expire_time=soon(10))
            term = await limited(admin, room, sid, OFF, track_pb2.VIDEO_QUALITY_OFF)
            assert abs(term.expire_time.ToMicroseconds() - done.expire_time.ToMicroseconds()) <= 1
            await free(admin, room, sid)
            (expired, *_) = await actions(admin, room, lambda found: found[0].reason == "expired")
            assert (expired.move, expired.kind, expired.applied_by) == (pb.QUALITY_MOVE_RELEASE, OFF, "admin")
            assert not expired.HasField("expire_time")
            await adapt(admin, room, OFF, "viewer")
            await limited(admin, room, sid, OFF, track_pb2.VIDEO_QUALITY_OFF)
        async with watcher(livekit, room, key):
            # Here somebody else is looked at first, so that a wait for nothing is no wait for nothing.
            await termed(admin, room, sid, CPU, "ann")
            await free(admin, room, sid)


async def test_limits_by_hand_hold_after_a_kill(livekit: LiveKitProcess, start_track: StartTrack, room: str) -> None:
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    grants = {"room_admin": True, "room": room}
    async with (
        participant(livekit, room, "ann") as ann,
        camera(ann) as cam,
        participant(livekit, room, "viewer") as who,
    ):
        async with track.client("admin", **grants) as admin:
            await listed(admin, room, cam.sid)
            async with attached(who, await public_key(admin)):
                ends = time.time() + 5
                await adapt(admin, room, NETWORK, "viewer", quality=LOW)
                await adapt(admin, room, CPU, "viewer", quality=LOW, expire_time=soon(5))
                await termed(admin, room, cam.sid, NETWORK)
        await track.kill()
        await asyncio.sleep(max(0.0, ends + 0.2 - time.time()))
        await track.start()
        async with track.client("admin", **grants) as admin:
            await termed(admin, room, cam.sid, NETWORK)
            found = await subscription(admin, room, "viewer", cam.sid)
            assert sub.LAYER_TERM_KIND_CPU not in {term.kind for term in found.layer.terms}
            await adapt(admin, room, NETWORK, "viewer", quality=HIGH)
            await free(admin, room, cam.sid)


async def test_a_restart_by_hand_is_that_of_the_track(restarter: Client, room: str) -> None:
    published = await publish(restarter, room, pattern(), "host")
    # Followed, so that there is something to compare with.
    await set_policy(restarter, room, policy())
    done = await adapt(restarter, room, RESTART, track_sid=published.track_sid, reason="stuck")
    assert (done.participant_identity, done.track_sid, done.applied_by) == ("host", published.track_sid, "admin")
    assert (done.stage, done.HasField("problem")) == (publication_pb2.STAGE_OBSERVED, False)
    (found,) = await actions(restarter, room)
    assert (found.action_id, found.stage) == (done.action_id, done.stage)
    await unpublish(restarter, published)
    gone = await refusal(adapt(restarter, room, RESTART, track_sid=published.track_sid))
    assert (gone.code, gone.reason, gone.fields) == (grpc.StatusCode.NOT_FOUND, "TRACK_NOT_FOUND", ("track_sid",))
    gone = await refusal(adapt(restarter, room, NETWORK, "host", published.track_sid, quality=LOW))
    assert gone.reason == "TRACK_NOT_FOUND"


async def test_a_cap_of_a_publication_goes_with_it_from_sid_to_sid(
    restarter: Client, livekit: LiveKitProcess, room: str
) -> None:
    key = await public_key(restarter)
    published = await publish(restarter, room, pattern(), "host")
    async with watcher(livekit, room, key):
        await adapt(restarter, room, CAP, "host", published.track_sid, quality=LOW)
        await termed(restarter, room, published.track_sid, CAP)
        sids = {"", published.track_sid}
        for level in (publication_update_pb2.RESTART_LEVEL_REPUBLISH, publication_update_pb2.RESTART_LEVEL_REJOIN):
            request = publication_update_pb2.RestartTrackRequest(
                room=room, publication_id=published.publication_id, level=level
            )
            await restarter.RestartTrack(request, timeout=45)
            published = await until(restarter, published, lambda now: now.track_sid not in sids)
            sids.add(published.track_sid)
            # Also where its publisher left the room, and came again.
            await termed(restarter, room, published.track_sid, CAP)
        await unpublish(restarter, published)
        again = (await publish(restarter, room, pattern(), "host")).track_sid
        await subscription(restarter, room, "viewer", again)
        await free(restarter, room, again)


async def test_what_cannot_be_done_is_told_at_the_door(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    sound = await publish(admin, room, TONE, "host")
    async with participant(livekit, room, "bare") as bare, camera(bare) as cam:
        await listed(admin, room, cam.sid)

        async def refused(*call: Any, **fields: Any) -> tuple[Any, ...]:
            found = await refusal(adapt(admin, room, *call, **fields))
            return found.reason, found.fields

        assert await refused(NETWORK, "nobody", quality=LOW) == ("PARTICIPANT_NOT_FOUND", ("participant_identity",))
        assert await refused(RESTART, "", "TR_unknown") == ("TRACK_NOT_FOUND", ("track_sid",))
        assert await refused(RESTART, "", cam.sid) == ("NOT_SUPPORTED", ("track_sid",))
        for kind in (NETWORK, CPU):
            assert await refused(kind, "bare", quality=LOW) == ("NOT_SUPPORTED", ("kind",))
        assert await refused(OFF, "bare") == ("NOT_SUPPORTED", ("kind",))
        assert await refused(CAP, "host", sound.track_sid, quality=LOW) == ("NOT_SUPPORTED", ("track_sid",))
        assert (await refused(CAP, "host", cam.sid, quality=LOW))[1] == ("track_sid",)
        # By others it can be done.
        await adapt(admin, room, CAP, "bare", cam.sid, quality=LOW)
        absent = await refusal(adapt(admin, f"{room}-not", CAP, "bare", quality=LOW))
        assert absent.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED)
        assert [found.kind for found in await actions(admin, room)] == [CAP]


@pytest.mark.parametrize(
    ("call", "fields", "field"),
    [
        ((NETWORK, ""), {"quality": LOW}, "participant_identity"),
        ((NETWORK, "ann"), {}, "quality"),
        ((NETWORK, "ann"), {"quality": track_pb2.VIDEO_QUALITY_OFF}, "quality"),
        ((OFF, "ann"), {"quality": LOW}, "quality"),
        ((RESTART, ""), {}, "track_sid"),
        ((RESTART, "ann", "TR_1"), {}, "participant_identity"),
        ((RESTART, "", "TR_1"), {"quality": LOW}, "quality"),
        ((RESTART, "", "TR_1"), {"expire_time": soon(60)}, "expire_time"),
        ((NETWORK, "ann"), {"quality": HIGH, "expire_time": soon(60)}, "expire_time"),
        ((NETWORK, "ann"), {"quality": LOW, "expire_time": soon(-1)}, "expire_time"),
        ((NETWORK, "ann"), {"quality": LOW, "expire_time": soon(48 * 3600)}, "expire_time"),
        ((pb.QUALITY_ACTION_KIND_UNSPECIFIED, "ann"), {"quality": LOW}, "kind"),
        ((CAP, "ann", "DTR_1"), {"quality": LOW}, "track_sid"),
    ],
)
async def test_what_cannot_be_meant_is_refused_by_its_field(
    admin: Client, room_name: str, call: tuple[Any, ...], fields: dict[str, Any], field: str
) -> None:
    refused = await refusal(adapt(admin, room_name, *call, **fields))
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, (field,))
