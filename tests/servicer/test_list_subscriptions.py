"""ListSubscriptions: who receives what, what should be, and why it is not."""

import asyncio
from typing import Any

import grpc

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import camera, microphone, participant
from tests.publications import DATA, TONE, publish
from tests.refusals import refusal
from tests.restrictions import restrict, rule
from tests.servicer.test_revocation import permit
from tests.subscriptions import apply, listed, subscribers, subscription, update
from tests.track_process import Client
from track.v1 import error_pb2, publication_pb2, tracks_pb2
from track.v1 import subscription_pb2 as sub

MANUAL = sub.SUBSCRIPTION_DECIDER_MANUAL
PRIVATE = sub.SUBSCRIPTION_DECIDER_PRIVATE_TRACK


async def pairs(client: Client, room: str, **fields: Any) -> list[tuple[str, str]]:
    """Who is listed with which track."""
    answer = await client.ListSubscriptions(sub.ListSubscriptionsRequest(room=room, **fields))
    assert not answer.next_page_token
    return [(found.participant_identity, found.track_sid) for found in answer.subscriptions]


async def test_it_is_listed_by_subscriber_publisher_and_track_page_by_page(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "ann") as ann,
        participant(livekit, room, "ben") as ben,
        participant(livekit, room, "spy", hidden=True),
        participant(livekit, room, "deaf", can_subscribe=False),
        camera(ben) as cam,
    ):
        mic = await microphone(ann)
        tone, _ = await asyncio.gather(publish(admin, room, TONE, "host"), publish(admin, room, DATA, "host"))
        for sid in (mic.sid, cam.sid, tone.track_sid):
            await listed(admin, room, sid)
        await subscription(admin, room, "ann", cam.sid, lambda found: found.observed.subscribed)
        # Agents host publications, and receive nothing. Data tracks, oneself and who may not are left out.
        whole = [pair for pair in await pairs(admin, room) if pair[0] != "host"]
        assert whole == [
            *sorted(("ann", sid) for sid in (cam.sid, tone.track_sid)),
            *sorted(("ben", sid) for sid in (mic.sid, tone.track_sid)),
        ]
        assert await pairs(admin, room, participant_identity="ben") == whole[2:]
        assert await pairs(admin, room, participant_identity="ann", publisher_identity="ben") == [("ann", cam.sid)]
        receivers = [pair for pair in await pairs(admin, room, track_sid=tone.track_sid) if pair[0] != "host"]
        assert receivers == [("ann", tone.track_sid), ("ben", tone.track_sid)]
        assert await pairs(admin, room, participant_identity="nobody") == []
        paged: list[tuple[str, str]] = []
        request = sub.ListSubscriptionsRequest(room=room, page_size=1)
        while True:
            answer = await admin.ListSubscriptions(request)
            paged += [(found.participant_identity, found.track_sid) for found in answer.subscriptions]
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
        assert [pair for pair in paged if pair[0] != "host"] == whole
        # Nothing here says anything about it: what is seen is shown alone.
        found = await subscription(admin, room, "ben", mic.sid, lambda found: found.observed.subscribed)
        assert found.observed.evidence == publication_pb2.EVIDENCE_DEBUG_VIEW
        assert found.observed.HasField("measure_time")
        assert not found.HasField("desired")
        assert not found.HasField("layer")
        assert not found.HasField("problem")
        assert found.publisher_identity == "ann"


async def test_a_token_of_another_list_and_a_room_that_is_not_there_are_refused(admin: Client, room: str) -> None:
    refused = await refusal(admin.ListSubscriptions(sub.ListSubscriptionsRequest(room=room, page_token="x")))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


async def test_why_it_is_not_as_it_should_be_is_told(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with (
        participant(livekit, room, "alice") as alice,
        subscribers(livekit, room, "ann", "ben"),
        camera(alice) as cam,
        camera(alice, "other") as other,
    ):
        for found in (cam, other):
            await listed(admin, room, found.sid)
        # What alice's client keeps from everybody LiveKit takes and never does.
        alice.local_participant.set_track_subscription_permissions(allow_all_participants=False)
        request = tracks_pb2.UpdateSubscriptionsRequest(room=room, updates=[update("ann", cam.sid)])
        (result,) = (await admin.UpdateSubscriptions(request, timeout=4)).results
        assert (result.stage, result.observed) == (publication_pb2.STAGE_REQUESTED, False)
        await restrict(admin, room, rule("ben"), track_sid=other.sid)
        private = await subscription(admin, room, "ann", other.sid, lambda found: found.desired.decider == PRIVATE)
        assert not private.desired.subscribed
        shown = await subscription(admin, room, "ann", cam.sid, lambda found: found.HasField("problem"))
        assert (shown.desired.subscribed, shown.observed.subscribed) == (True, False)
        assert shown.problem.reason == error_pb2.ERROR_REASON_LIVEKIT_UNAVAILABLE
        assert "not subscribed yet" in shown.problem.message


async def test_who_may_not_subscribe_any_more_is_shown_with_what_was_chosen(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    tone = await publish(admin, room, TONE, "host")
    async with subscribers(livekit, room, "ann"):
        await apply(admin, room, update("ann", tone.track_sid))
        await permit(livekit, room, "ann", can_subscribe=False)
        found = await subscription(admin, room, "ann", tone.track_sid, lambda found: found.HasField("problem"))
        assert found.problem.reason == error_pb2.ERROR_REASON_TARGET_PERMISSION
        assert (found.desired.decider, found.desired.subscribed) == (MANUAL, True)


async def test_where_nobody_sees_it_nothing_is_observed(
    start_track: StartTrack, livekit: LiveKitProcess, room: str
) -> None:
    track = await start_track(livekit, {"TRACK_LIVEKIT_DEBUG_URL": "", "TRACK_MEDIA_WORKERS": "0"})
    async with (
        track.client("admin", room_admin=True, room=room) as client,
        participant(livekit, room, "alice") as alice,
        participant(livekit, room, "viewer"),
    ):
        mic = await microphone(alice)
        found = await subscription(client, room, "viewer", mic.sid)
        assert not found.HasField("observed")
