"""RestartTrack where the source of the media, or the process that hosts it, got stuck."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import psutil
import pytest_asyncio
from aiohttp import web

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_rooms import existing_room
from tests.publications import LIVE, OBSERVED, pattern, publication, publish
from tests.receivers import receiver
from tests.servicer.restarting import KEYFRAME, REJOIN, restart
from track.v1 import publication_pb2, tracks_pb2


class Site:
    """An HTTP server with one film, which stops in the middle of it while ``stuck`` is set."""

    def __init__(self, film: bytes) -> None:
        self.stuck = asyncio.Event()
        self._film = film

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The film, from its beginning."""
        response = web.StreamResponse(headers={"Content-Length": str(len(self._film))})
        await response.prepare(request)
        middle = len(self._film) // 2 if self.stuck.is_set() else len(self._film)
        with contextlib.suppress(ConnectionError):
            await response.write(self._film[:middle])
            # Too little for a picture, and too much for a reader to give up.
            for place in range(middle, min(middle + 200, len(self._film))):
                await asyncio.sleep(0.2)
                await response.write(self._film[place : place + 1])
        return response


def film(path: Path, seconds: int = 30) -> bytes:
    """Uncompressed pictures: more than the buffers on the way hold."""
    with av.open(str(path), "w") as clip:
        pictures = clip.add_stream("rawvideo", rate=10)
        pictures.width, pictures.height, pictures.pix_fmt = 160, 120, "yuv420p"
        for number in range(seconds * 10):
            picture = np.full((180, 160), 40 + number % 100, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts = number
            clip.mux(pictures.encode(frame))
        clip.mux(pictures.encode())
    return path.read_bytes()


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[tuple[str, Site]]:
    found = Site(await asyncio.to_thread(film, tmp_path / "film.mkv"))
    application = web.Application()
    application.router.add_get("/film.mkv", found.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"{runner.addresses[0][0]}:{runner.addresses[0][1]}", found
    finally:
        await runner.cleanup()


async def test_a_track_whose_source_got_stuck_flows_again(
    start_livekit: StartLiveKit, start_track: StartTrack, site: tuple[str, Site], room_name: str
) -> None:
    # A LiveKit of its own: another server's worker may not fetch from the site.
    livekit, room = await start_livekit(), room_name
    host, server = site
    track = await start_track(livekit, {"TRACK_MEDIA_URL_HOSTS": host})
    server.stuck.set()
    media = publication_pb2.FileInput(uri=f"http://{host}/film.mkv", loop=True)
    async with (
        existing_room(livekit, room),
        track.client("admin", room_admin=True, room=room) as client,
        receiver(livekit, room, "viewer") as viewer,
    ):
        known = await publish(client, room, publication_pb2.PublicationSpec(file=media), "host")
        await viewer.receives(known.track_sid)
        server.stuck.clear()
        await viewer.receives_no_more(known.track_sid)
        answer = await restart(client, known)
        assert answer.stage == OBSERVED, answer
        assert answer.steps[0].level == KEYFRAME
        assert answer.steps[0].HasField("problem"), answer
        assert not answer.steps[-1].HasField("problem"), answer
        assert answer.publication.track_sid != known.track_sid
        await viewer.receives(answer.publication.track_sid)


async def test_a_participant_whose_process_got_stuck_is_hosted_elsewhere(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    # A LiveKit of its own: else another server's worker may host it where the machine is busy.
    livekit, room = await start_livekit(), room_name
    track = await start_track(livekit)
    async with (
        existing_room(livekit, room),
        track.client("admin", room_admin=True, room=room) as client,
        receiver(livekit, room, "viewer") as viewer,
    ):
        known = await publish(client, room, pattern(), "host")
        await viewer.receives(known.track_sid)
        children = [child for child in track.worker.children() if child.status() != psutil.STATUS_ZOMBIE]
        busy = max(children, key=lambda child: len(child.net_connections("tcp")))
        busy.suspend()
        try:
            await viewer.receives_no_more(known.track_sid)
            answer = await restart(client, known, REJOIN)
            assert answer.stage == OBSERVED, answer
            assert answer.publication.state == LIVE
            await viewer.receives(answer.publication.track_sid)
        finally:
            busy.resume()
        # What comes back to life finds that it was replaced.
        await viewer.receives(answer.publication.track_sid, 20)
        after = await publication(client, room, known.publication_id)
        assert after.track_sid == answer.publication.track_sid
        listed = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room))
        assert [found.sid for found in listed.tracks] == [after.track_sid]
