"""Mode `service`: what rests on a permission ends when the permission service says so, within what it still allows."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from tests.conftest import StartTrack
from tests.livekit_process import LiveKitProcess
from tests.participants import microphone, participant
from tests.permission_process import PermissionProcess
from tests.publications import ENDED, LIVE, TONE, pattern, publish, until, until_listed
from tests.servicer.test_revocation import refused_end
from tests.streams import events
from tests.subscriptions import down_tracks
from tests.track_process import Client, TrackProcess
from track.v1 import error_pb2, publication_pb2, tracks_pb2

DENIED = grpc.StatusCode.PERMISSION_DENIED
REVOKED = publication_pb2.PUBLICATION_END_CAUSE_PERMISSION_REVOKED

ALL = '[[rule]]\nname = "all"\nwhen = "true"\nlifetime = "5m"\n'


def denying(when: str) -> str:
    """Rules that allow everything but what ``when`` says."""
    return f'[[rule]]\nname = "not this"\neffect = "deny"\nreason = "no longer"\nwhen = \'{when}\'\n{ALL}'


@pytest_asyncio.fixture
async def permissions(tmp_path: Path) -> AsyncIterator[PermissionProcess]:
    """A permission service that allows everything."""
    async with PermissionProcess(tmp_path / "permissions", ALL) as process:
        yield process


@pytest_asyncio.fixture
async def served(
    start_track: StartTrack, livekit: LiveKitProcess, permissions: PermissionProcess
) -> AsyncIterator[TrackProcess]:
    """TrackService in mode `service`, which asks it."""
    yield await start_track(livekit, permissions.track_settings)


@contextlib.asynccontextmanager
async def caller(served: TrackProcess, identity: str, room: str) -> AsyncIterator[Client]:
    """A participant of the room by its token; what it may do is not in it."""
    async with served.client(identity, room=room, room_join=True) as client:
        yield client


async def test_streams_close_and_others_go_on(
    served: TrackProcess, permissions: PermissionProcess, livekit: LiveKitProcess, room: str
) -> None:
    async with (
        caller(served, "alice", room) as alice,
        caller(served, "bob", room) as bob,
        events(alice, room) as hers,
        events(bob, room) as his,
    ):
        await hers.snapshot()
        await his.snapshot()
        await permissions.rewrite(denying('check.principal.identity == "alice"'))
        refused = await refused_end(hers)
        assert (refused.code, refused.reason, refused.message) == (DENIED, "PERMISSION_DENIED", "no longer")
        async with participant(livekit, room, "carol") as carol:
            await microphone(carol)
            await his.until("track_published")


async def test_hosted_publications_end_and_others_go_on(
    served: TrackProcess, permissions: PermissionProcess, room: str
) -> None:
    async with caller(served, "alice", room) as alice, caller(served, "bob", room) as bob:
        hers, his = await publish(alice, room, TONE, "host"), await publish(bob, room, TONE, "guest")
        await permissions.rewrite(
            denying('check.permission == Permission.PERMISSION_PUBLISH && check.principal.identity == "alice"')
        )
        ended = await until(bob, hers, lambda found: found.state == ENDED)
        assert ended.end_cause == REVOKED
        assert ended.problem.reason == error_pb2.ERROR_REASON_PERMISSION_DENIED
        assert ended.problem.message == "no longer"
        assert (await until(bob, his, lambda found: True)).state == LIVE


async def test_a_publication_beyond_narrower_obligations_ends(
    served: TrackProcess, permissions: PermissionProcess, room: str
) -> None:
    async with caller(served, "alice", room) as alice:
        large, small = await publish(alice, room, pattern(640, 360)), await publish(alice, room, pattern(320, 180))
        await permissions.rewrite(f"{ALL}max_width = 320\n")
        ended = await until(alice, large, lambda found: found.state == ENDED)
        assert (ended.end_cause, ended.problem.field) == (REVOKED, "video.width")
        assert (await until(alice, small, lambda found: True)).state == LIVE


@pytest.mark.parametrize("restarted", [False, True], ids=["at once", "after a restart of the server"])
async def test_subscriptions_are_taken_away(
    served: TrackProcess, permissions: PermissionProcess, livekit: LiveKitProcess, room: str, restarted: bool
) -> None:
    async with (
        participant(livekit, room, "alice", auto_subscribe=False),
        participant(livekit, room, "bob") as bob,
    ):
        mic = await microphone(bob)
        async with caller(served, "alice", room) as alice:
            await until_listed(alice, room, mic.sid)
            update = tracks_pb2.SubscriptionUpdate(participant_identity="alice", track_sid=mic.sid, subscribe=True)
            request = tracks_pb2.UpdateSubscriptionsRequest(room=room, updates=[update])
            assert (await alice.UpdateSubscriptions(request, timeout=45)).results[0].observed
        if restarted:
            await served.kill()
            await served.start()
        await permissions.rewrite(
            denying('check.permission == Permission.PERMISSION_SUBSCRIBE && check.participant_identity == "alice"')
        )
        async with asyncio.timeout(45):
            while ("alice", mic.sid) in await down_tracks(livekit, room):
                await asyncio.sleep(0.05)
