"""A session with tracks that not everybody may subscribe to."""

import asyncio
import dataclasses

from tests.conftest import StartLiveKit
from tests.livekit_process import LiveKitProcess
from tests.media.peer import MediaPeer, PeerSession, pattern, tone
from tests.receivers import receiver
from track.media.v1.media_service_pb2 import DesiredTrack, SessionAudience, TrackAudience
from track_server.media.settings import MediaSettings
from track_server.media.worker import MediaWorker


def private(track: DesiredTrack) -> DesiredTrack:
    """The same, restricted."""
    track.restricted = True
    return track


def audience(revision: int, *identities: str) -> SessionAudience:
    """`private` is for these identities, everything else for ann and ben."""
    restricted = [TrackAudience(publication_id="private", participant_identities=identities)]
    return SessionAudience(revision=revision, everybody=["ann", "ben"], restricted=restricted)


async def told(session: PeerSession, revision: int) -> None:
    """Waits until LiveKit was told of the audience of that revision."""
    await session.until(lambda: revision in session.audiences)


async def test_a_restricted_track_waits_until_livekit_was_told_who_may(
    livekit: LiveKitProcess, settings: MediaSettings, worker: MediaWorker, peer: MediaPeer, room_name: str
) -> None:
    async with receiver(livekit, room_name, "ann") as ann, receiver(livekit, room_name, "ben") as ben:
        session = await peer.dispatch(settings.agent_name, room_name, private(pattern("private")), tone("public"))
        public = (await session.report_of("public")).track_sid
        await asyncio.gather(ann.receives(public, 50), ben.receives(public, 50))
        assert [report.publication_id for report in session.reports] == ["public"]
        assert not session.audiences
        session.desire(private(pattern("private")), tone("public"), audience=audience(7, "ann"))
        sid = (await session.report_of("private")).track_sid
        assert session.audiences[0] == 7, "told before it was published"
        await ann.receives(sid, 15)
        assert ben.frames[sid] == 0
        session.desire(private(pattern("private")), tone("public"), audience=audience(8, "ben"))
        await session.until(lambda: 8 in session.audiences)
        await asyncio.gather(ben.receives(sid), ann.receives_no_more(sid), ann.receives(public), ben.receives(public))
        session.desire(pattern("private"), tone("public"))
        await ann.receives(sid)


async def test_a_restricted_track_comes_back_with_a_new_sid_once_livekit_was_told_again(
    start_livekit: StartLiveKit, settings: MediaSettings, importable: None, room_name: str
) -> None:
    livekit = await start_livekit()
    own = dataclasses.replace(settings, url=livekit.url, api_key=livekit.api_key, api_secret=livekit.api_secret)
    async with MediaPeer(livekit) as peer, MediaWorker(own) as worker:
        await worker.registered()
        session = await peer.dispatch(own.agent_name, room_name, private(pattern("private")), tone("public"))
        session.desire(private(pattern("private")), tone("public"), audience=audience(7, "ann"))
        before = (await session.report_of("private")).track_sid
        await session.report_of("public")
        reported, told = len(session.reports), len(session.audiences)
        await livekit.kill()
        await livekit.start()
        again = await session.report_of("private", after=reported)
        assert again.track_sid not in ("", before)
        assert 7 in session.audiences[told:], "told again before it was published"
        async with receiver(livekit, room_name, "ben") as ben, receiver(livekit, room_name, "ann") as ann:
            await ann.receives(again.track_sid, 15)
            assert ben.frames[again.track_sid] == 0


async def test_a_private_track_that_ends_is_not_opened_on_its_way_out(
    livekit: LiveKitProcess, settings: MediaSettings, worker: MediaWorker, peer: MediaPeer, room_name: str
) -> None:
    async with receiver(livekit, room_name, "ben") as ben:
        subscribed: list[str] = []
        ben.room.on("track_subscribed", lambda track, *_: subscribed.append(track.sid))
        session = await peer.dispatch(settings.agent_name, room_name, tone("public"), private(tone("private")))
        public = (await session.report_of("public")).track_sid
        session.desire(private(tone("private")), tone("public"), audience=audience(7, "ann"))
        sid = (await session.report_of("private")).track_sid
        await ben.receives(public)
        # As the server tells it: the track is not wanted any more, and so nothing is restricted.
        session.desire(tone("public"), audience=SessionAudience(revision=8))
        await session.until(lambda: 8 in session.audiences)
        await ben.receives(public)
        assert sid not in subscribed
        assert ben.frames[sid] == 0
