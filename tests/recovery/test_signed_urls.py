"""Media from a URL with a signature: published from it, also after a restart, and shown to nobody."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.conftest import StartLiveKit, StartTrack
from tests.media.clips import write_clip
from tests.recovery.test_recovery import LIVE, publish, until
from tests.streams import events
from track.v1 import publication_pb2, track_pb2

SIGNATURE = "sig=may-fetch-it"


@asynccontextmanager
async def signed(clip: Path) -> AsyncIterator[tuple[str, list[int]]]:
    """A web server that gives the clip to whoever brings the signature; its URL, and the statuses it answered."""
    statuses: list[int] = []

    async def give(request: web.Request) -> web.StreamResponse:
        allowed = request.query_string == SIGNATURE
        statuses.append(200 if allowed else 403)
        return web.FileResponse(clip) if allowed else web.Response(status=403)

    application = web.Application()
    application.router.add_get("/clip.mkv", give)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"{runner.addresses[0][0]}:{runner.addresses[0][1]}", statuses
    finally:
        await runner.cleanup()


async def test_a_signature_is_used_and_not_shown(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str, tmp_path: Path
) -> None:
    livekit = await start_livekit()
    clip = write_clip(tmp_path / "clip.mkv")
    async with signed(clip) as (host, statuses):
        track = await start_track(livekit, {"TRACK_MEDIA_URL_HOSTS": host})
        media = publication_pb2.FileInput(
            uri=f"http://{host}/clip.mkv?{SIGNATURE}", type=track_pb2.TRACK_TYPE_AUDIO, loop=True
        )
        async with track.client("admin", room_admin=True, room=room_name) as client:
            spec = publication_pb2.PublicationSpec(file=media)
            published = await publish(client, room_name, spec, "host")
            assert published.spec.file.uri == f"http://{host}/clip.mkv"
            async with events(client, room_name) as stream:
                snapshot = await stream.snapshot()
                assert SIGNATURE not in str(snapshot)
        await track.kill()
        await track.start()
        async with track.client("admin", room_admin=True, room=room_name) as client:
            back = await until(client, published, lambda found: found.state == LIVE and len(found.lineage) > 1)
            assert SIGNATURE not in str(back)
        assert set(statuses) == {200}
    assert SIGNATURE not in track.log_path.read_text()
