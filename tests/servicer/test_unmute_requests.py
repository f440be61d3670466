"""RequestUnmute: the participant's user is asked through the companion, and what it said is told."""

import asyncio

import grpc

from tests import moderation_calls as calls
from tests.clients.apps import attached, public_key
from tests.livekit_process import LiveKitProcess
from tests.moderation_calls import come_true, watching, whole
from tests.participants import microphone, participant
from tests.publications import DEADLINE_S, OBSERVED, TONE, publish, until
from tests.refusals import refusal
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2 as pb
from track.v1.moderation_pb2 import RequestUnmuteRequest, RequestUnmuteResponse

FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
ACKNOWLEDGED = pb.STAGE_ACKNOWLEDGED


async def ask(
    client: Client, room: str, sid: str, within_s: float = DEADLINE_S, **more: object
) -> RequestUnmuteResponse:
    request = RequestUnmuteRequest(room=room, track_sid=sid, **more)  # type: ignore[arg-type]
    answer: RequestUnmuteResponse = await client.RequestUnmute(request, timeout=within_s)
    return answer


async def test_granted_the_track_is_seen_unmuted_and_the_events_tell_who_asked_and_why(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    asked = asyncio.Event()

    async def consent(request: object) -> bool:
        asked.set()
        return await answer

    async with (
        participant(livekit, room, "alice") as alice,
        attached(alice, await public_key(admin), consent=consent),
        watching(admin, room) as events,
    ):
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        await calls.mute(admin, room, mic.sid)
        await come_true(lambda: mic.muted)
        calling = asyncio.create_task(ask(admin, room, mic.sid, reason="your turn"))
        told = await whole(events, "unmute_requested")
        assert (told.unmute_requested.consent, told.unmute_requested.muted) == (pb.CONSENT_ASKED, True)
        assert (told.unmute_requested.reason, told.cause.reason) == ("your turn", "your turn")
        assert told.cause.principal_identity == "admin"
        await asked.wait()
        answer.set_result(True)
        found = await calling
        assert (found.unmute_request.consent, found.unmute_request.muted) == (pb.CONSENT_GRANTED, False)
        assert (found.stage, found.evidence) == (OBSERVED, pb.EVIDENCE_ROOM)
        assert not mic.muted
        unmuted = await whole(events, "track_unmuted")
        assert (unmuted.cause.principal_identity, unmuted.cause.reason) == ("admin", "your turn")
        ended = await whole(events, "unmute_requested")
        assert ended.unmute_requested.consent == pb.CONSENT_GRANTED
        # It is not muted now: nobody is asked.
        again = await ask(admin, room, mic.sid)
        assert (again.unmute_request.consent, again.stage) == (pb.CONSENT_UNSPECIFIED, OBSERVED)


async def test_refused_and_unanswered_are_answers_and_leave_the_track_muted(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    key = await public_key(admin)
    never: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    async with participant(livekit, room, "alice") as alice:
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        await calls.mute(admin, room, mic.sid)
        for options, consent in (
            ({"consent": lambda _: False}, pb.CONSENT_REFUSED),
            ({"veto": lambda _: True}, pb.CONSENT_REFUSED),
            ({"consent": lambda _: never, "consent_timeout_s": 0.5}, pb.CONSENT_NO_ANSWER),
        ):
            async with attached(alice, key, **options):
                found = await ask(admin, room, mic.sid)
            assert (found.unmute_request.consent, found.unmute_request.muted) == (consent, True)
            assert found.stage == ACKNOWLEDGED
    never.cancel()


async def test_after_the_callers_deadline_the_question_stays_open_is_asked_once_and_its_end_is_told(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    answers: list[asyncio.Future[bool]] = []

    async def consent(request: object) -> bool:
        answers.append(asyncio.get_running_loop().create_future())
        return await answers[-1]

    async with (
        participant(livekit, room, "alice") as alice,
        attached(alice, await public_key(admin), consent=consent),
        watching(admin, room) as events,
    ):
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        await calls.mute(admin, room, mic.sid)
        await come_true(lambda: mic.muted)
        asking = asyncio.create_task(ask(admin, room, mic.sid, within_s=6))
        await whole(events, "unmute_requested")
        for calling in (asking, asyncio.create_task(ask(admin, room, mic.sid, within_s=4))):
            found = await calling
            assert (found.unmute_request.consent, found.stage) == (pb.CONSENT_ASKED, ACKNOWLEDGED)
        assert len(answers) == 1
        answers[0].set_result(False)
        ended = await whole(events, "unmute_requested")
        assert (ended.unmute_requested.consent, ended.unmute_requested.muted) == (pb.CONSENT_REFUSED, True)
        calls.unmute_self(mic)
        assert not (await whole(events, "track_unmuted")).HasField("cause")


async def test_a_participant_that_leaves_ends_the_question(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    never: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    async with watching(admin, room) as events:
        async with (
            participant(livekit, room, "alice") as alice,
            attached(alice, await public_key(admin), consent=lambda _: never),
        ):
            mic = await microphone(alice)
            await alice.announced(mic.sid)
            await calls.mute(admin, room, mic.sid)
            calling = asyncio.create_task(ask(admin, room, mic.sid))
            await whole(events, "unmute_requested")
        refused = await refusal(calling)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "PARTICIPANT_NOT_FOUND")
        ended = await whole(events, "unmute_requested")
        assert ended.unmute_requested.consent == pb.CONSENT_NO_ANSWER
    never.cancel()


async def test_who_cannot_be_asked_is_refused_with_the_reason(
    admin: Client, track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        participant(livekit, room, "alice") as alice,
        track.client("bob", room_join=True, can_publish=True, room=room) as bob,
    ):
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        await calls.mute(admin, room, mic.sid)
        tone = await publish(admin, room, TONE)
        await calls.mute(admin, room, tone.track_sid)
        for sid in (mic.sid, tone.track_sid):
            for validate_only in (True, False):
                refused = await refusal(ask(admin, room, sid, validate_only=validate_only))
                assert (refused.code, refused.reason) == (FAILED_PRECONDITION, "COMPANION_MISSING")
        assert (await refusal(ask(admin, room, "TR_unknown"))).reason == "TRACK_NOT_FOUND"
        assert (await refusal(ask(admin, room, mic.sid, participant_identity="bob"))).reason == "TRACK_NOT_FOUND"
        for sid in (mic.sid, "TR_unknown"):
            assert (await refusal(ask(bob, room, sid))).code is grpc.StatusCode.PERMISSION_DENIED
        async with attached(alice, await public_key(admin), consent=lambda _: False):
            looked = await ask(admin, room, mic.sid, validate_only=True)
        assert (looked.unmute_request.muted, looked.stage) == (True, pb.STAGE_UNSPECIFIED)
        assert looked.unmute_request.consent == pb.CONSENT_UNSPECIFIED
        await until(admin, tone, lambda found: found.muted)


async def test_a_block_that_is_set_while_the_user_is_asked_wins(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    async with (
        participant(livekit, room, "alice") as alice,
        attached(alice, await public_key(admin), consent=lambda _: answer),
        watching(admin, room) as events,
    ):
        mic = await microphone(alice)
        await alice.announced(mic.sid)
        await calls.mute(admin, room, mic.sid)
        await come_true(lambda: mic.muted)
        calling = asyncio.create_task(ask(admin, room, mic.sid))
        await whole(events, "unmute_requested")
        await calls.block(admin, room, mic.sid)
        answer.set_result(True)
        await events.until("moderation_block_changed", calls.moved(calls.ENFORCED))
        await asyncio.gather(calling, return_exceptions=True)
        await come_true(lambda: mic.muted)
        assert await calls.muted(admin, room, mic.sid)
