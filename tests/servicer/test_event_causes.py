"""Events say who caused them, where a call or a rule of this service did, and nothing where participants did."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask
from livekit import api

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import livekit_api
from tests.participants import microphone, participant
from tests.permission_process import PermissionProcess
from tests.publications import ENDED, LIVE, TONE, publish, unpublish
from tests.servicer.test_permission_changes import ALL, denying
from tests.streams import EventStream, events
from tests.subscriptions import listed
from tests.track_process import Client, TrackProcess
from track.v1 import (
    access_pb2,
    event_pb2,
    publication_pb2,
    publication_update_pb2,
    subscription_permission_pb2,
    track_pb2,
)

ADMIN = access_pb2.PRINCIPAL_KIND_ADMIN
REPUBLISH = publication_update_pb2.RESTART_LEVEL_REPUBLISH


async def until(
    stream: EventStream, change: str, matches: Callable[[Any], bool] = lambda _: True
) -> event_pb2.RoomEvent:
    """Reads on to such an event, and returns it whole."""
    await stream.until(change, matches)
    return stream.seen[-1].event


def by_call(event: event_pb2.RoomEvent) -> bool:
    """Whether it names the admin's call."""
    cause = event.cause
    return (cause.principal_kind, cause.principal_identity, cause.rule) == (ADMIN, "admin", "") and bool(
        cause.request_id
    )


def sid(track_sid: str) -> Callable[[track_pb2.Track], bool]:
    return lambda track: track.sid == track_sid


@contextlib.asynccontextmanager
async def watched(client: Client, room: str) -> AsyncIterator[EventStream]:
    async with events(client, room) as stream:
        await stream.snapshot()
        yield stream


async def test_a_publication_names_who_published_restarted_changed_and_ended_it(admin: Client, room: str) -> None:
    async with watched(admin, room) as stream:
        live = await publish(admin, room, TONE)
        pending = await until(stream, "publication_moved")
        assert pending.publication_moved.state == publication_pb2.PUBLICATION_STATE_PENDING
        assert by_call(pending)
        await stream.until("publication_moved", lambda moved: moved.state == LIVE)

        update = publication_update_pb2.UpdatePublicationRequest(
            room=room, publication_id=live.publication_id, spec=live.spec, update_mask=FieldMask(paths=["metadata"])
        )
        update.spec.metadata["role"] = "host"
        await admin.UpdatePublication(update)
        changed = await until(stream, "publication_moved", lambda moved: "role" in moved.spec.metadata.fields)
        assert by_call(changed)

        restart = publication_update_pb2.RestartTrackRequest(
            room=room, publication_id=live.publication_id, level=REPUBLISH, graceful=True
        )
        answer = await admin.RestartTrack(restart, timeout=45)
        anew = await until(stream, "publication_moved", lambda moved: moved.track_sid not in ("", live.track_sid))
        assert anew.publication_moved.track_sid == answer.publication.track_sid
        assert by_call(anew)

        await unpublish(admin, live)
        ended = await until(stream, "publication_moved", lambda moved: moved.state == ENDED)
        assert by_call(ended)
        gone = await until(stream, "track_unpublished", sid(answer.publication.track_sid))
        assert by_call(gone)
    causes = [message.event.cause.request_id for message in stream.seen if message.event.HasField("cause")]
    assert len(set(causes) - {""}) == 4, "each call has an id of its own"
    ids = {ended.cause.request_id, gone.cause.request_id}
    assert len(ids) == 1


async def test_a_track_that_is_taken_out_of_the_room_names_who_did_and_one_that_its_client_took_away_names_nobody(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice, watched(admin, room) as stream:
        first, second = await microphone(alice, "one"), await microphone(alice, "two")
        await listed(admin, room, second.sid)
        await listed(admin, room, first.sid)
        await alice.local_participant.unpublish_track(first.sid)
        by_itself = await until(stream, "track_unpublished", sid(first.sid))
        assert not by_itself.HasField("cause")
        request = publication_pb2.UnpublishTrackRequest(room=room, track_sid=second.sid)
        await admin.UnpublishTrack(request)
        taken = await until(stream, "track_unpublished", sid(second.sid))
        assert by_call(taken)
    told = [message.event for message in stream.seen]
    withheld = [event for event in told if event.participant_updated.identity == "alice"]
    assert [by_call(event) for event in withheld] == [True]
    assert track_pb2.TRACK_SOURCE_MICROPHONE not in withheld[0].participant_updated.permission.can_publish_sources
    assert all(not event.HasField("cause") for event in told if event.HasField("track_published"))


async def test_who_made_a_track_private_and_open_again_is_named_and_who_is_unsubscribed_by_the_rule(
    admin: Client, livekit: LiveKitProcess, room: str
) -> None:
    async with participant(livekit, room, "alice") as alice, participant(livekit, room, "bob"):
        mic = await microphone(alice)
        await listed(admin, room, mic.sid)
        async with watched(admin, room) as stream:
            rule = subscription_permission_pb2.TrackSubscriptionRule(nobody=True)
            await admin.SetTrackSubscriptionPermissions(
                subscription_permission_pb2.SetTrackSubscriptionPermissionsRequest(
                    room=room, track_sid=mic.sid, rule=rule
                )
            )
            assert by_call(await until(stream, "subscription_permissions_changed"))
            taken = await until(stream, "subscription_changed", lambda found: not found.subscribed)
            assert (taken.subscription_changed.subscribed, taken.cause.rule) == (False, "private_track")
            await admin.ClearTrackSubscriptionPermissions(
                subscription_permission_pb2.ClearTrackSubscriptionPermissionsRequest(room=room, track_sid=mic.sid)
            )
            opened = await until(stream, "subscription_permissions_changed", lambda found: not found.HasField("rule"))
            assert by_call(opened)


@pytest_asyncio.fixture
async def permissions(tmp_path: Path) -> AsyncIterator[PermissionProcess]:
    """A permission service that allows everything."""
    async with PermissionProcess(tmp_path / "permissions", ALL) as process:
        yield process


async def test_what_ends_because_a_permission_is_gone_names_the_rule(
    start_track: StartTrack, livekit: LiveKitProcess, permissions: PermissionProcess, room: str
) -> None:
    served: TrackProcess = await start_track(livekit, permissions.track_settings)
    async with (
        served.client("alice", room=room, room_join=True) as alice,
        served.client("bob", room=room, room_join=True) as bob,
        watched(bob, room) as stream,
    ):
        await publish(alice, room, TONE)
        await permissions.rewrite(denying('check.principal.identity == "alice"'))
        ended = await until(stream, "publication_moved", lambda moved: moved.state == ENDED)
        assert (ended.cause.rule, ended.cause.reason) == ("permission_revoked", "no longer")
        assert not ended.cause.principal_identity


async def test_what_livekit_was_told_by_others_has_no_cause(admin: Client, livekit: LiveKitProcess, room: str) -> None:
    async with (
        participant(livekit, room, "alice") as alice,
        watched(admin, room) as stream,
        livekit_api(livekit) as server,
    ):
        mic = await microphone(alice)
        await stream.until("track_published")
        mute = api.MuteRoomTrackRequest(room=room, identity="alice", track_sid=mic.sid, muted=True)
        await server.room.mute_published_track(mute)
        muted = await until(stream, "track_muted")
        assert not muted.HasField("cause")
