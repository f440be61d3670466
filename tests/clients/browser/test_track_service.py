"""TrackService, LiveKit and a page in Chromium with the companion: the whole way."""

import grpc
import pytest

from tests.clients.apps import public_key
from tests.clients.browser.app import DEADLINE_S, App
from tests.clients.browser.plans import CAMERA
from tests.clients.publications import publish, until
from tests.livekit_process import LiveKitProcess
from tests.media.viewer import viewer
from tests.publications import LIVE
from tests.refusals import refusal
from tests.track_process import Client
from track.v1 import publication_pb2 as pb
from track.v1 import tracks_pb2


async def test_a_publication_of_the_page_is_restored_muted_after_it_was_loaded_anew(
    admin: Client, alice: App, livekit: LiveKitProcess, room: str
) -> None:
    key = await public_key(admin)
    await alice.attach(key)
    found = await publish(admin, room, CAMERA.spec)
    assert (found.state, found.consent, found.participant_identity) == (LIVE, pb.CONSENT_GRANTED, "alice")
    async with viewer(livekit, room) as seen:
        async with seen.frames(found.track_sid) as frames:
            _, frame = await frames.get()
            assert (frame.width, frame.height) == (320, 180)
        mute = tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid=found.track_sid)])
        await admin.MuteTracks(mute, timeout=DEADLINE_S)
        await until(admin, found, lambda now: now.muted)
        await alice.page.reload()
        await seen.gone(found.track_sid)
        await alice.join()
        await alice.attach(key)
        again = await until(admin, found, lambda now: now.state == LIVE and now.track_sid != found.track_sid)
        assert [one.track_sid for one in again.lineage] == [found.track_sid, again.track_sid]
        (own,) = await alice.page.call("publications")
        assert (own["sid"], own["name"]) == (again.track_sid, "front")
        assert (again.muted, own["muted"]) == (True, True)
        assert own["live"] == "ended"  # the camera is not even open
        assert (await seen.publication_of(again.track_sid)).muted
        # It is the same camera, as it was asked for, once it is unmuted.
        unmute = tracks_pb2.UnmuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid=again.track_sid)])
        await admin.UnmuteTracks(unmute, timeout=DEADLINE_S)
        async with seen.frames(again.track_sid) as frames:
            _, frame = await frames.get()
            assert (frame.width, frame.height) == (320, 180)


async def test_a_no_in_the_browsers_own_dialog_reaches_the_caller_and_is_not_asked_again(
    admin: Client, alice: App, room: str
) -> None:
    await alice.attach(await public_key(admin))
    await alice.page.call("camera", 0, "NotAllowedError")
    refused = await refusal(publish(admin, room, CAMERA.spec))
    assert (refused.reason, refused.metadata["consent"]) == ("CONSENT_REFUSED", "REFUSED")
    assert await alice.page.call("opened") == 1


async def test_a_refusal_of_the_user_reaches_the_caller(admin: Client, alice: App, room: str) -> None:
    await alice.attach(await public_key(admin))
    await alice.page.call("veto", "publish")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await publish(admin, room, CAMERA.spec)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert await alice.page.call("publications") == []
