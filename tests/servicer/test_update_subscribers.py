"""What is carried over to the new track of a publication: who receives it, who may, and its mute."""

import asyncio

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.publications import DEADLINE_S, OBSERVED, pattern, publication, publish, until
from tests.receivers import eventually
from tests.restrictions import restrict, rule
from tests.track_process import Client
from tests.updates import REPLACED, audience, update, video
from track.v1 import publication_pb2 as pb
from track.v1 import subscription_permission_pb2, tracks_pb2

ANOTHER = video(max_bitrate_bps=123_000)


async def subscribe(client: Client, room: str, sid: str, identity: str, *, wanted: bool = True) -> None:
    """UpdateSubscriptions, observed where it can be."""
    one = tracks_pb2.SubscriptionUpdate(participant_identity=identity, track_sid=sid, subscribe=wanted)
    request = tracks_pb2.UpdateSubscriptionsRequest(room=room, updates=[one])
    (result,) = (await client.UpdateSubscriptions(request, timeout=DEADLINE_S)).results
    assert not result.HasField("problem"), result


async def test_subscriptions_made_here_are_made_again_and_those_taken_away_stay_away(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        audience(livekit, room, "ann", auto_subscribe=False) as ann,
        audience(livekit, room, "ben") as ben,
        audience(livekit, room, "eve", auto_subscribe=False) as eve,
    ):
        before = await publish(admin, room, pattern(320, 180, 15))
        await subscribe(admin, room, before.track_sid, "ann")
        await ben.sees(before.track_sid)
        await subscribe(admin, room, before.track_sid, "ben", wanted=False)
        await ann.sees(before.track_sid)
        answer = await update(admin, before, ANOTHER, "video.max_bitrate_bps")
        assert (answer.method, answer.stage) == (REPLACED, OBSERVED)
        sid = answer.publication.track_sid
        await ann.sees(sid)
        old, new = ann.of(before.track_sid), ann.of(sid)
        assert (new[0].clock_ms or 0) <= (old[-1].clock_ms or 0)
        await until_only(livekit, room, sid, {"ann"})
        assert not eve.pictures


async def until_only(livekit: LiveKitProcess, room: str, sid: str, identities: set[str]) -> None:
    """Waits until LiveKit sends the track to those and nobody else."""
    async with asyncio.timeout(DEADLINE_S):
        while await receivers_of(livekit, room, sid) != identities:
            await asyncio.sleep(0.1)


async def receivers_of(livekit: LiveKitProcess, room: str, sid: str) -> set[str]:
    """Who is subscribed to the track, by LiveKit's debug view; hidden ones left out."""
    found = set()
    for entry in await livekit.debug_rooms():
        if entry["Name"] == room:
            identities = {who["ID"]: name for name, who in entry["Participants"].items()}
            for who in entry["Participants"].values():
                track = who["UpTrackManager"]["PublishedTracks"].get(sid, {})
                found |= {identities[down["SubscriberID"]] for down in track.get("DownTracks") or []}
    return {name for name in found if not name.startswith("track-watcher-")}


async def test_what_a_client_chose_itself_is_carried_over_where_it_can_be_seen(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        audience(livekit, room, "ann", auto_subscribe=False) as ann,
        audience(livekit, room, "ben") as ben,
    ):
        before = await publish(admin, room, pattern(320, 180, 15), "host")
        for who, wanted in ((ann, True), (ben, False)):
            await eventually(lambda who=who: "host" in who.room.remote_participants, lambda: "no host")  # type: ignore[misc]
            publications = who.room.remote_participants["host"].track_publications
            await eventually(lambda found=publications: before.track_sid in found, lambda: "no track")  # type: ignore[misc]
            publications[before.track_sid].set_subscribed(wanted)
        await ann.sees(before.track_sid)
        await until_only(livekit, room, before.track_sid, {"ann"})
        # Who has joined a moment ago may be about to be subscribed by LiveKit itself.
        await asyncio.sleep(5.5)
        answer = await update(admin, before, ANOTHER, "video.max_bitrate_bps")
        await ann.sees(answer.publication.track_sid)
        await until_only(livekit, room, answer.publication.track_sid, {"ann"})


async def test_without_the_debug_view_both_tracks_are_there_for_a_while(
    livekit: LiveKitProcess, start_track: StartTrack, room: str
) -> None:
    blind = await start_track(livekit, {"TRACK_LIVEKIT_DEBUG_URL": ""})
    async with blind.client("admin", room_admin=True, room=room) as client, audience(livekit, room) as ann:
        before = await publish(client, room, pattern(320, 180, 15))
        await ann.sees(before.track_sid)
        answer = await update(client, before, ANOTHER, "video.max_bitrate_bps")
        assert (answer.method, answer.stage, answer.evidence) == (REPLACED, OBSERVED, pb.EVIDENCE_ROOM)
        assert (answer.gap.HasField("publisher_ms"), answer.gap.publisher_ms) == (True, 0)
        assert not answer.gap.subscribers
        await ann.sees(answer.publication.track_sid)
        old, new = ann.of(before.track_sid), ann.of(answer.publication.track_sid)
        assert (new[0].clock_ms or 0) <= (old[-1].clock_ms or 0)


async def test_a_muted_track_is_muted_when_it_comes_back(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with audience(livekit, room) as ann:
        before = await publish(admin, room, pattern(320, 180, 15))
        await ann.sees(before.track_sid)
        ref = tracks_pb2.TrackRef(track_sid=before.track_sid)
        await admin.MuteTracks(tracks_pb2.MuteTracksRequest(room=room, tracks=[ref]), timeout=DEADLINE_S)
        await until(admin, before, lambda found: found.muted)
        answer = await update(admin, before, ANOTHER, "video.max_bitrate_bps")
        after = answer.publication
        assert (answer.method, answer.stage, after.muted) == (REPLACED, OBSERVED, True)
        (track,) = (await admin.ListTracks(tracks_pb2.ListTracksRequest(room=room))).tracks
        assert (track.sid, track.muted) == (after.track_sid, True)
        assert not ann.of(after.track_sid)
        ref = tracks_pb2.TrackRef(track_sid=after.track_sid)
        await admin.UnmuteTracks(tracks_pb2.UnmuteTracksRequest(room=room, tracks=[ref]), timeout=DEADLINE_S)
        await ann.sees(after.track_sid)
        assert not (await publication(admin, room, before.publication_id)).muted


async def test_a_private_track_is_private_all_the_time(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with audience(livekit, room, "ann") as ann, audience(livekit, room, "eve") as eve:
        before = await publish(admin, room, pattern(320, 180, 15))
        await eve.sees(before.track_sid)
        answer = await restrict(admin, room, rule("ann"), publication_id=before.publication_id)
        assert answer.stage == OBSERVED
        await ann.sees(before.track_sid)
        for bitrate in (111_000, 222_000):
            changed = await update(admin, before, video(max_bitrate_bps=bitrate), "video.max_bitrate_bps")
            assert (changed.method, changed.stage) == (REPLACED, OBSERVED)
            await ann.sees(changed.publication.track_sid)
            assert await receivers_of(livekit, room, changed.publication.track_sid) <= {"ann"}
            assert eve.of(changed.publication.track_sid) == []
        request = subscription_permission_pb2.GetTrackSubscriptionPermissionsRequest(
            room=room, publication_id=before.publication_id
        )
        shown = (await admin.GetTrackSubscriptionPermissions(request, timeout=DEADLINE_S)).permissions
        assert shown.rule == rule("ann")
