"""Publications by LiveKit Ingress, as far as LiveKit's API answers without one.

No Ingress runs here: a participant of kind INGRESS, which is what Ingress is in a room, stands in its place, and what
Ingress reports is written where LiveKit keeps it.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from livekit import api
from livekit.protocol import ingress

from tests.conftest import StartLiveKit, StartTrack
from tests.livekit_process import TOOLS, LiveKitProcess, ToolMissingError
from tests.livekit_rooms import existing_room, livekit_api
from tests.participants import camera, microphone, participant
from tests.publications import ENDED, LIVE, TONE, publication, unpublish, until
from tests.redis_process import redis
from tests.refusals import refusal
from tests.servicer.ingresses import BASE_URLS, DEADLINE_S, RTMP, WHIP, Cluster, ask, url
from tests.streams import events
from tests.track_process import TrackProcess
from track.v1 import audit_pb2, ingress_pb2, track_pb2
from track.v1 import publication_pb2 as pb

STARTING = pb.PUBLICATION_STATE_STARTING
RESTARTING = pb.PUBLICATION_STATE_RESTARTING


@pytest_asyncio.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """For all tests of this file."""
    directory = tmp_path_factory.mktemp("ingress")
    for part in ("redis", "track"):
        (directory / part).mkdir()
    async with contextlib.AsyncExitStack() as stack:
        try:
            store = await stack.enter_async_context(redis(directory / "redis"))
        except ToolMissingError as error:
            pytest.fail(str(error), pytrace=False)
        config = {"redis": {"address": store.address}, "ingress": BASE_URLS}
        livekit = LiveKitProcess(TOOLS / "livekit-server", directory / "livekit", config)
        await stack.enter_async_context(livekit)
        settings = {"TRACK_MEDIA_URL_HOSTS": "media.example,cdn.example:8443"}
        track = await stack.enter_async_context(TrackProcess(livekit, directory / "track", settings))
        yield Cluster(livekit, store, track)


async def test_an_rtmp_ingress_is_there_to_be_sent_to_and_its_tracks_are_the_publication(
    cluster: Cluster, room_name: str
) -> None:
    async with cluster.admin(room_name) as admin:
        made = await ask(admin, room_name, RTMP, participant_identity="studio")
        found, told = made.publication, made.publication.ingress
        assert (made.stage, found.state, found.route) == (
            pb.STAGE_ACKNOWLEDGED, STARTING, pb.PUBLICATION_ROUTE_INGRESS,
        )  # fmt: skip
        (stored,) = await cluster.ingresses(room_name)
        assert (told.ingress_id, told.url, told.stream_key) == (stored.ingress_id, stored.url, stored.stream_key)
        assert told.url == BASE_URLS["rtmp_base_url"]
        assert (stored.participant_identity, stored.enable_transcoding) == ("studio", True)
        assert (stored.name, told.state) == (found.publication_id, ingress_pb2.INGRESS_STATE_INACTIVE)
        async with cluster.sender(room_name, "studio") as sender:
            mic = await microphone(sender)
            async with camera(sender) as cam:
                live = await until(admin, found, lambda now: len(now.ingress.track_sids) == 2)
                assert (live.state, live.track_sid) == (LIVE, cam.sid)
                assert set(live.ingress.track_sids) == {cam.sid, mic.sid}
                await cluster.report(told.ingress_id, ingress.IngressState.ENDPOINT_PUBLISHING)
                published = ingress_pb2.INGRESS_STATE_PUBLISHING
                live = await until(admin, live, lambda now: now.ingress.state == published)
        # The sender is gone, and may come back.
        waiting = await until(admin, live, lambda now: now.state == RESTARTING)
        assert not waiting.ingress.track_sids
        async with cluster.sender(room_name, "studio") as sender, camera(sender) as cam:
            again = await until(admin, waiting, lambda now: now.state == LIVE)
            assert again.track_sid == cam.sid
            assert len(again.lineage) == 2
            gone = await unpublish(admin, again)
            # None runs that would take its participant away.
            assert (gone.method, gone.stage) == (pb.UNPUBLISH_METHOD_INGRESS, pb.STAGE_OBSERVED)
            assert gone.publication.end_cause == pb.PUBLICATION_END_CAUSE_CALLER
        await cluster.until_without(room_name)


async def test_the_key_is_told_to_who_asked_and_to_nobody_else(cluster: Cluster, room_name: str) -> None:
    async with cluster.admin(room_name) as admin, events(admin, room_name) as stream:
        made = await ask(admin, room_name, WHIP, request_id="once")
        key = made.publication.ingress.stream_key
        assert key
        assert made.publication.ingress.url == BASE_URLS["whip_base_url"]
        again = await ask(admin, room_name, WHIP, request_id="once")
        assert again == made
        shown = await publication(admin, room_name, made.publication.publication_id)
        listed = await admin.ListPublications(pb.ListPublicationsRequest(room=room_name))
        assert shown.ingress.ingress_id == made.publication.ingress.ingress_id
        await stream.until("publication_moved", lambda moved: moved.state == STARTING)
        entries = await admin.ListAuditEntries(audit_pb2.ListAuditEntriesRequest(room=room_name))
        gone = await unpublish(admin, made.publication)
        for text in (shown, listed, entries, gone, *stream.seen):
            assert key not in str(text)
        assert key not in str(cluster.track.log())
        await cluster.until_without(room_name)


async def test_options_are_taken_as_far_as_ingress_has_them(cluster: Cluster, room_name: str) -> None:
    async with cluster.admin(room_name) as admin:
        spec = pb.PublicationSpec(
            name="stage",
            ingress=RTMP.ingress,
            source=track_pb2.TRACK_SOURCE_SCREEN_SHARE,
            video=pb.VideoOptions(codec=pb.VIDEO_CODEC_H264, width=1280, height=720, frames_per_second=25),
            audio=pb.AudioOptions(max_bitrate_bps=96_000, stereo=True, dtx=False),
        )
        spec.video.layers.add(width=640, height=360, max_bitrate_bps=400_000)
        spec.video.layers.add(width=1280, height=720, max_bitrate_bps=2_000_000)
        made = await ask(admin, room_name, spec)
        (stored,) = await cluster.ingresses(room_name)
        video, audio = stored.video.options, stored.audio.options
        assert (stored.video.name, stored.video.source, video.frame_rate) == ("stage", 3, 25)
        sizes = [(layer.width, layer.height, layer.bitrate, layer.quality) for layer in video.layers]
        assert sizes == [(640, 360, 400_000, 0), (1280, 720, 2_000_000, 2)]
        assert (audio.bitrate, audio.channels, audio.disable_dtx, stored.audio.source) == (96_000, 2, True, 4)
        await unpublish(admin, made.publication)
        simulcast = pb.PublicationSpec(ingress=RTMP.ingress, video=pb.VideoOptions(width=1280, height=720))
        made = await ask(admin, room_name, simulcast)
        stored = next(
            item for item in await cluster.ingresses(room_name) if item.name == made.publication.publication_id
        )
        assert [layer.height for layer in stored.video.options.layers] == [180, 360, 720]
        await unpublish(admin, made.publication)
        await cluster.until_without(room_name)


async def test_what_ingress_does_not_do_is_refused(cluster: Cluster, room_name: str) -> None:
    async with cluster.admin(room_name) as admin, participant(cluster.livekit, room_name, "alice") as alice:
        await microphone(alice)
        refused = await refusal(ask(admin, room_name, url("https://elsewhere.example/a.m3u8")))
        assert (refused.reason, refused.fields) == ("MEDIA_NOT_ALLOWED", ("spec.ingress.url",))
        refused = await refusal(ask(admin, room_name, url("file://media.example/etc/passwd")))
        assert (refused.reason, refused.fields) == ("MEDIA_NOT_ALLOWED", ("spec.ingress.url",))
        # Who reads the first @ as the end of the user calls another host than who reads the last one.
        refused = await refusal(ask(admin, room_name, url("http://x@elsewhere.example:80@media.example/a.m3u8")))
        assert (refused.reason, refused.fields) == ("INVALID_FIELD", ("spec.ingress.url",))
        vp9 = pb.PublicationSpec(ingress=RTMP.ingress, video=pb.VideoOptions(codec=pb.VIDEO_CODEC_VP9))
        refused = await refusal(ask(admin, room_name, vp9))
        assert (refused.reason, refused.fields) == ("NOT_SUPPORTED", ("spec.video.codec",))
        taken = await refusal(ask(admin, room_name, RTMP, participant_identity="alice"))
        assert (taken.code, taken.reason) == (grpc.StatusCode.ALREADY_EXISTS, "IDENTITY_IN_USE")
        first = (await ask(admin, room_name, RTMP, participant_identity="studio")).publication
        for spec in (WHIP, TONE):
            taken = await refusal(ask(admin, room_name, spec, participant_identity="studio"))
            assert taken.reason == "IDENTITY_IN_USE"
        await unpublish(admin, first)
        hosted = await refusal(ask(admin, room_name, RTMP, route=pb.PUBLICATION_ROUTE_HOSTED))
        assert (hosted.reason, hosted.fields) == ("INVALID_OPTIONS", ("route",))
        await cluster.until_without(room_name)


async def test_a_url_that_no_ingress_pulls_is_refused_and_forgotten(cluster: Cluster, room_name: str) -> None:
    async with cluster.admin(room_name) as admin:
        for address in ("https://media.example/live.m3u8?token=secret", "srt://cdn.example:8443"):
            refused = await refusal(ask(admin, room_name, url(address)))
            assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INGRESS_UNAVAILABLE")
            assert "Ingress" in refused.message
        assert not (await admin.ListPublications(pb.ListPublicationsRequest(room=room_name))).publications
        entries = await admin.ListAuditEntries(audit_pb2.ListAuditEntriesRequest(room=room_name))
        assert "media.example/live.m3u8" in str(entries)
        assert "token=secret" not in str(entries)
        await cluster.until_without(room_name)


async def test_what_ingress_reports_ends_or_troubles_it(cluster: Cluster, room_name: str) -> None:
    async with cluster.admin(room_name) as admin:
        made = (await ask(admin, room_name, RTMP)).publication
        await cluster.report(made.ingress.ingress_id, ingress.IngressState.ENDPOINT_ERROR, "http://secret.example")
        troubled = await until(admin, made, lambda now: now.HasField("problem"))
        assert (troubled.state, troubled.ingress.state) == (STARTING, ingress_pb2.INGRESS_STATE_ERROR)
        assert "secret" not in str(troubled)
        await cluster.report(made.ingress.ingress_id, ingress.IngressState.ENDPOINT_BUFFERING)
        await until(admin, troubled, lambda now: not now.HasField("problem"))
        await cluster.report(made.ingress.ingress_id, ingress.IngressState.ENDPOINT_COMPLETE)
        ended = await until(admin, troubled, lambda now: now.state == ENDED)
        assert ended.end_cause == pb.PUBLICATION_END_CAUSE_SOURCE_ENDED
        await cluster.until_without(room_name)


async def test_one_that_somebody_deletes_has_failed(cluster: Cluster, room_name: str) -> None:
    async with cluster.admin(room_name) as admin:
        made = (await ask(admin, room_name, RTMP)).publication
        async with livekit_api(cluster.livekit) as client:
            await client.ingress.delete_ingress(api.DeleteIngressRequest(ingress_id=made.ingress.ingress_id))
        ended = await until(admin, made, lambda now: now.state == ENDED)
        assert ended.end_cause == pb.PUBLICATION_END_CAUSE_FAILED
        assert "ingress" in ended.problem.message


async def test_its_participant_removed_ends_it(cluster: Cluster, room_name: str) -> None:
    async with cluster.admin(room_name) as admin:
        made = (await ask(admin, room_name, RTMP, participant_identity="studio")).publication
        async with cluster.sender(room_name, "studio") as sender, camera(sender):
            await until(admin, made, lambda now: now.state == LIVE)
            async with livekit_api(cluster.livekit) as client:
                request = api.RoomParticipantIdentity(room=room_name, identity="studio")
                await client.room.remove_participant(request)
            ended = await until(admin, made, lambda now: now.state == ENDED)
        assert ended.end_cause == pb.PUBLICATION_END_CAUSE_PARTICIPANT_REMOVED
        await cluster.until_without(room_name)


async def test_any_of_its_tracks_is_taken_out_by_sid(cluster: Cluster, room_name: str) -> None:
    async with cluster.admin(room_name) as admin:
        made = (await ask(admin, room_name, RTMP, participant_identity="studio")).publication
        async with cluster.sender(room_name, "studio") as sender, camera(sender):
            mic = await microphone(sender)
            await until(admin, made, lambda now: len(now.ingress.track_sids) == 2)
            request = pb.UnpublishTrackRequest(room=room_name, track_sid=mic.sid)
            gone = await admin.UnpublishTrack(request, timeout=DEADLINE_S)
            assert (gone.method, gone.publication.end_cause) == (
                pb.UNPUBLISH_METHOD_INGRESS, pb.PUBLICATION_END_CAUSE_MODERATION,
            )  # fmt: skip
        await cluster.until_without(room_name)


@pytest.mark.deadline(150)
async def test_after_a_kill_it_is_found_again_and_what_is_not_wanted_is_deleted(
    cluster: Cluster, start_track: StartTrack, room_name: str
) -> None:
    track = await start_track(cluster.livekit)
    async with (
        existing_room(cluster.livekit, room_name),
        track.client("admin", room_admin=True, room=room_name) as admin,
        livekit_api(cluster.livekit) as client,
    ):
        kept = (await ask(admin, room_name, RTMP, participant_identity="kept")).publication
        lost = (await ask(admin, room_name, RTMP, participant_identity="lost")).publication
        # Another's is not ours to delete.
        request = api.CreateIngressRequest(name="theirs", room_name=room_name, participant_identity="other")
        theirs = await client.ingress.create_ingress(request)
        await track.kill()
        # As if it had been killed after this one was ended, and before its ingress was deleted.
        with contextlib.closing(sqlite3.connect(track.directory / "track.sqlite3")) as store, store:
            store.execute("DELETE FROM record WHERE kind = 'publication' AND key = ?", (lost.publication_id,))
        await track.start()
        wanted = {kept.ingress.ingress_id, theirs.ingress_id}
        async with asyncio.timeout(DEADLINE_S):
            while {item.ingress_id for item in await cluster.ingresses(room_name)} != wanted:
                await asyncio.sleep(0.05)
        async with (
            track.client("admin", room_admin=True, room=room_name) as admin_again,
            cluster.sender(room_name, "kept") as sender,
            camera(sender),
        ):
            live = await until(admin_again, kept, lambda now: now.state == LIVE)
            assert live.ingress.ingress_id == kept.ingress.ingress_id
            await unpublish(admin_again, live)
        await client.ingress.delete_ingress(api.DeleteIngressRequest(ingress_id=theirs.ingress_id))
        await cluster.until_without(room_name)


async def test_without_an_address_to_send_to_it_is_refused(
    cluster: Cluster, start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit({"redis": {"address": cluster.redis.address}})
    track = await start_track(livekit)
    async with (
        existing_room(livekit, room_name),
        track.client("admin", room_admin=True, room=room_name) as admin,
    ):
        refused = await refusal(ask(admin, room_name, RTMP))
        assert (refused.reason, refused.metadata["livekit_setting"]) == ("INGRESS_UNAVAILABLE", "ingress.rtmp_base_url")
        await cluster.until_without(room_name)
