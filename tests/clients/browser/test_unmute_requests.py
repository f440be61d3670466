"""RequestUnmute and moderation blocks against a page in Chromium: livekit-client and the companion, the whole way."""

import asyncio

from tests import moderation_calls as calls
from tests.clients.apps import public_key
from tests.clients.browser.app import DEADLINE_S, App
from tests.clients.browser.plans import CAMERA
from tests.clients.publications import publish
from tests.moderation_calls import come_true
from tests.publications import OBSERVED
from tests.track_process import Client
from track.control.v1 import control_pb2 as control
from track.v1 import publication_pb2 as pb
from track.v1.moderation_pb2 import RequestUnmuteRequest, RequestUnmuteResponse


async def ask(client: Client, room: str, sid: str) -> RequestUnmuteResponse:
    request = RequestUnmuteRequest(room=room, track_sid=sid, reason="your turn")
    answer: RequestUnmuteResponse = await client.RequestUnmute(request, timeout=DEADLINE_S)
    return answer


async def asked(alice: App, times: int) -> None:
    """Waits until the page has asked its user so often."""
    await alice.until("counts", holds=lambda counts: len(counts["asked"]) == times)


async def test_the_pages_user_is_asked_and_grants_or_refuses(admin: Client, alice: App, room: str) -> None:
    key = await public_key(admin)
    await alice.attach(key)
    sid = (await publish(admin, room, CAMERA.spec)).track_sid
    await calls.mute(admin, room, sid)
    await alice.until("publications", holds=lambda found: found[0]["muted"])
    await alice.page.call("detach")
    await alice.attach(key, consent=True)
    for times, (granted, consent) in enumerate(((False, pb.CONSENT_REFUSED), (True, pb.CONSENT_GRANTED)), 1):
        calling = asyncio.create_task(ask(admin, room, sid))
        await asked(alice, times)
        await alice.page.call("answer", granted)
        answer = await calling
        assert (answer.unmute_request.consent, answer.unmute_request.muted) == (consent, not granted)
        assert (answer.stage == OBSERVED, answer.evidence == pb.EVIDENCE_ROOM) == (granted, granted)
    counts = await alice.page.call("counts")
    assert [one["action"] for one in counts["asked"]] == ["unmute", "unmute"]
    (own,) = await alice.page.call("publications")
    assert not own["muted"]


async def test_nobody_answers_the_page(admin: Client, alice: App, room: str) -> None:
    key = await public_key(admin)
    await alice.attach(key)
    sid = (await publish(admin, room, CAMERA.spec)).track_sid
    await calls.mute(admin, room, sid)
    await alice.page.call("detach")
    await alice.attach(key, consent=True, consentTimeoutMs=500)
    answer = await ask(admin, room, sid)
    assert (answer.unmute_request.consent, answer.unmute_request.muted) == (pb.CONSENT_NO_ANSWER, True)


async def test_a_page_that_unmutes_itself_under_a_block_is_muted_again(admin: Client, alice: App, room: str) -> None:
    await alice.attach()  # obeys the tests, which have it unmute itself
    await alice.done(CAMERA)
    (own,) = await alice.page.call("publications")
    await calls.listed(admin, room, own["sid"])
    await calls.block(admin, room, own["sid"])
    for times in range(1, 4):
        await alice.until("publications", holds=lambda found: found[0]["muted"])
        await alice.done(control.SetMuted(track_sid=own["sid"], muted=False))

        async def enforced(times: int = times) -> bool:
            return (await calls.blocks(admin, room))[0].enforcements == times

        await come_true(enforced)
    await alice.until("publications", holds=lambda found: found[0]["muted"])
    assert await calls.muted(admin, room, own["sid"])
