"""Publications by clients whose user is asked first."""

import asyncio

from tests.clients.apps import attached, public_key
from tests.clients.publications import DEADLINE_S, FAILED_PRECONDITION, request, until, while_asked
from tests.participants import Joined
from tests.publications import ENDED, LIVE, OBSERVED
from tests.refusals import refusal
from tests.track_process import Client
from track.v1 import error_pb2
from track.v1 import publication_pb2 as pb


async def test_while_the_user_is_asked_it_is_told_and_when_granted_it_goes_live(
    admin: Client, room: str, alice: Joined
) -> None:
    granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    async with (
        attached(alice, await public_key(admin), consent=lambda _: granted),
        while_asked(admin, room) as (asked, calling),
    ):
        assert asked.state == pb.PUBLICATION_STATE_STARTING
        granted.set_result(True)
        answer = await calling
    assert (answer.stage, answer.publication.consent) == (OBSERVED, pb.CONSENT_GRANTED)
    assert answer.publication.publication_id == asked.publication_id


async def test_a_call_that_ends_before_the_user_answers_leaves_it_asked_for(
    admin: Client, room: str, alice: Joined
) -> None:
    granted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    async with attached(alice, await public_key(admin), consent=lambda _: granted):
        answer = await admin.PublishTrack(request(room), timeout=8)
        assert answer.stage == pb.STAGE_REQUESTED
        granted.set_result(True)
        await until(admin, answer.publication, lambda found: found.state == LIVE)


async def test_refused_vetoed_and_unanswered_fail_and_leave_nothing(admin: Client, room: str, alice: Joined) -> None:
    key, never = await public_key(admin), asyncio.get_running_loop().create_future()
    for options, consent in (
        ({"consent": lambda _: False}, "REFUSED"),
        ({"veto": lambda _: True}, "REFUSED"),
        ({"consent": lambda _: never, "consent_timeout_s": 0.3}, "NO_ANSWER"),
    ):
        async with attached(alice, key, **options):
            refused = await refusal(admin.PublishTrack(request(room), timeout=DEADLINE_S))
        assert (refused.code, refused.reason) == (FAILED_PRECONDITION, "CONSENT_REFUSED")
        assert refused.metadata["consent"] == consent
        listed = await admin.ListPublications(pb.ListPublicationsRequest(room=room))
        assert not listed.publications
    assert not alice.local_participant.track_publications


async def test_refused_after_the_call_it_has_ended_and_tells_why(admin: Client, room: str, alice: Joined) -> None:
    answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    async with attached(alice, await public_key(admin), consent=lambda _: answered):
        async with while_asked(admin, room) as (asked, _):
            pass
        answered.set_result(False)
        known = await until(admin, asked, lambda found: found.state == ENDED)
    assert (known.end_cause, known.consent) == (pb.PUBLICATION_END_CAUSE_CLIENT, pb.CONSENT_REFUSED)
    assert known.problem.reason == error_pb2.ERROR_REASON_CONSENT_REFUSED


async def test_ended_while_the_user_is_asked_it_is_never_published(admin: Client, room: str, alice: Joined) -> None:
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    async with (
        attached(alice, await public_key(admin), consent=lambda _: answer),
        while_asked(admin, room) as (asked, calling),
    ):
        end = pb.UnpublishTrackRequest(room=room, publication_id=asked.publication_id)
        await admin.UnpublishTrack(end, timeout=DEADLINE_S)
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait({answer})
        assert answer.cancelled()
        assert (await calling).publication.state == ENDED
    assert not alice.local_participant.track_publications
