"""Who may call what: every RPC for every kind of principal in every mode, from the permissions that the contract
declares."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import grpc
import pytest
from google.protobuf.message import Message

from tests.conftest import StartLiveKit, StartPermissions, StartTrack
from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import camera, microphone, participant
from tests.permission_process import EXAMPLE, PermissionProcess
from tests.publications import DATA, TONE, pattern, publish
from tests.refusals import read, refusal
from tests.servicer.contract import METHODS, RULES, called, request_of
from tests.servicer.principals import (
    IDENTITY,
    PRINCIPALS,
    May,
    Principal,
    bearing,
    nothing,
    operation_token,
    whatever_the_token_is_about,
)
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2, server_info_pb2, tracks_pb2

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED

OTHER: Final = "bob"
# What an allowed call may still end with: the target that is not there, or is not of the kind that the RPC is about.
BEYOND_ACCESS: Final = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.INVALID_ARGUMENT,
}
AT_ONCE: Final = 16

RULE: Final = """
[[rule]]
name = "everything"
when = "true"
effect = "{}"
"""


class Mode(NamedTuple):
    """``rules``: of the permission service, None: there is none. ``may``: what a principal may."""

    settings: Mapping[str, str]
    rules: str | None
    may: Callable[[Principal], May | None]


MODES: Final = {
    "token": Mode({"TRACK_AUTH_MODE": "token"}, None, lambda principal: principal.may),
    "service, the example": Mode({}, EXAMPLE.read_text(), lambda principal: principal.may),
    "service, all denied": Mode({}, RULE.format("deny"), nothing),
    "service, all allowed": Mode({}, RULE.format("allow"), whatever_the_token_is_about),
}


@dataclass(frozen=True)
class Outcome:
    """How a call ended. ``status``: what its failure says, byte by byte, the id of the call apart."""

    code: grpc.StatusCode
    reason: str = ""
    status: bytes = b""


@dataclass(frozen=True)
class Target:
    """What is acted on."""

    participant_identity: str
    track_sid: str
    publication_id: str
    spec: publication_pb2.PublicationSpec

    def requests(self, rpc: str, room: str) -> list[Message]:
        """The RPC's requests about it: one, or two where it may be named as a track or as a publication."""
        values = {"room": room, "participant_identity": self.participant_identity, "spec": self.spec}
        names = {"track_sid": self.track_sid, "publication_id": self.publication_id}
        by_track = request_of(rpc, **values, **names)
        by_publication = request_of(rpc, **values, **dict(reversed(names.items())))
        return [by_track] if by_track == by_publication else [by_track, by_publication]


MISSING: Final = Target("nobody", "TR_missing", "PUB_missing", TONE)


@dataclass(frozen=True)
class Stage:
    """A room with participants, tracks and publications, and a caller for each principal."""

    room: str
    own: Target
    data: Target
    others: Target
    callers: Mapping[str, Client]

    def calls(self, rpc: str) -> list[tuple[str, int, Message]]:
        """Requests of the RPC that differ, with the field of May that tells about them, and the number of the form."""
        targets = {"own": self.own, "data": self.data, "others": self.others, "missing": MISSING}
        calls: list[tuple[str, int, Message]] = []
        for name, target in targets.items():
            for form, request in enumerate(target.requests(rpc, self.room)):
                if all(request != other for _, _, other in calls):
                    calls.append((name, form, request))
        return calls


@contextlib.asynccontextmanager
async def stage(track: TrackProcess, livekit: LiveKitProcess, room: str) -> AsyncIterator[Stage]:
    """Sets it up: needs a server that allows an admin to do so, and no media worker."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(existing_room(livekit, room))
        admin = await enter(track.client("admin", room_admin=True, room=room))
        # No worker takes them, so their participants may join as what they are.
        own, data, others = await asyncio.gather(
            stored(admin, room, TONE, IDENTITY), stored(admin, room, DATA, IDENTITY), stored(admin, room, TONE, OTHER)
        )
        alice = await enter(participant(livekit, room, IDENTITY))
        bob = await enter(participant(livekit, room, OTHER))
        microphones = await microphone(alice), await microphone(bob)
        channel = await alice.local_participant.publish_data_track(name="d")
        await until_listed(admin, room, {channel.info.sid, *(mic.sid for mic in microphones)})
        callers = {}
        for name, principal in PRINCIPALS.items():
            token = principal.token(livekit, room)
            if principal.operation:
                token = await operation_token(admin, room, principal.operation)
            callers[name] = await enter(bearing(track, token))
        yield Stage(
            room,
            Target(IDENTITY, microphones[0].sid, own, TONE),
            Target(IDENTITY, channel.info.sid, data, DATA),
            Target(OTHER, microphones[1].sid, others, TONE),
            callers,
        )


async def stored(admin: Client, room: str, spec: publication_pb2.PublicationSpec, identity: str) -> str:
    """Publishes where nobody carries it out; the id of the publication."""
    request = publication_pb2.PublishTrackRequest(room=room, spec=spec, participant_identity=identity)
    # The answer comes when a tenth of the time is left: on a busy machine it needs some of that to arrive.
    answer = await admin.PublishTrack(request, timeout=5)
    assert answer.publication.state != publication_pb2.PUBLICATION_STATE_LIVE
    publication_id: str = answer.publication.publication_id
    return publication_id


async def outcome(client: Client, rpc: str, request: Message) -> Outcome:
    """How the call ended."""
    try:
        await called(client, rpc, request)
    except grpc.aio.AioRpcError as error:
        refused = read(error)
        details = dict(error.trailing_metadata() or ())["grpc-status-details-bin"]
        assert isinstance(details, bytes)
        return Outcome(error.code(), refused.reason, details)
    return Outcome(grpc.StatusCode.OK)


def validated(rpc: str, request: Message) -> Message:
    """The same, but where it changes something, nothing is done."""
    if not RULES[rpc].mutation:
        return request
    copy = type(request)()
    copy.CopyFrom(request)
    copy.validate_only = True  # type: ignore[attr-defined]  # every mutation has it
    return copy


def wrong(rpc: str, may: May | None, about: str, found: Outcome) -> str:
    """What is wrong with the outcome; empty: nothing."""
    if may is None:
        expected = Outcome(UNAUTHENTICATED, "UNAUTHENTICATED")
    elif RULES[rpc].permission not in getattr(may, "others" if about == "missing" else about):
        expected = Outcome(DENIED, "PERMISSION_DENIED")
    elif found.code is grpc.StatusCode.OK or found.code in BEYOND_ACCESS:
        return ""
    else:
        return f"must be allowed, is {found.code.name} {found.reason}"
    if (found.code, found.reason) == (expected.code, expected.reason):
        return ""
    return f"must be {expected.code.name}, is {found.code.name} {found.reason}"


async def faults_of(there: Stage, name: str, rpc: str, may: May | None) -> list[str]:
    """All that is wrong with how the RPC treats the principal."""
    client, faults = there.callers[name], []
    hidden: dict[int, Outcome] = {}
    for about, form, request in there.calls(rpc):
        found = await outcome(client, rpc, validated(rpc, request))
        if fault := wrong(rpc, may, about, found):
            faults.append(f"{name}: {rpc} of {about} ({form}) {fault}")
        elif found.code in (UNAUTHENTICATED, DENIED):
            # What is only validated is denied as what is done, in the same words.
            if RULES[rpc].mutation and (done := await outcome(client, rpc, request)) != found:
                faults.append(f"{name}: {rpc} of {about} ({form}) is denied otherwise when it is done: {done}")
            if about == "others":
                hidden[form] = found
            if about == "missing" and found != hidden[form]:
                faults.append(f"{name}: {rpc} ({form}) tells what exists: {hidden[form]} {found}")
    return faults


async def all_faults(there: Stage, may: Callable[[Principal], May | None]) -> list[str]:
    """All that is wrong with how the server treats every principal at every RPC."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(name: str, rpc: str) -> list[str]:
        async with slots:
            return await faults_of(there, name, rpc, may(PRINCIPALS[name]))

    found = await asyncio.gather(*(one(name, rpc) for name in PRINCIPALS for rpc in METHODS))
    return [fault for faults in found for fault in faults]


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
async def test_every_rpc_is_open_to_whom_its_permission_names(
    start_livekit: StartLiveKit,
    start_track: StartTrack,
    start_permissions: StartPermissions,
    room_name: str,
    mode: Mode,
) -> None:
    livekit = await start_livekit()
    permissions = await start_permissions(RULE.format("allow")) if mode.rules else None
    settings = permissions.track_settings if permissions else {}
    track = await start_track(livekit, {**mode.settings, **settings, "TRACK_MEDIA_WORKERS": "0"})
    async with stage(track, livekit, room_name) as there:
        if permissions is not None:
            assert mode.rules is not None
            await taken(permissions, mode.rules, track, there)
        assert not await all_faults(there, mode.may)


async def test_without_authentication_every_rpc_is_open_to_everybody(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, {"TRACK_AUTH_MODE": "off", "TRACK_MEDIA_WORKERS": "0"})
    assert track.address.startswith("127.0.0.1:")
    async with stage(track, livekit, room_name) as there:
        assert not await all_faults(there, lambda _: PRINCIPALS["room admin"].may)
        info = await there.callers["none"].GetServerInfo(server_info_pb2.GetServerInfoRequest())
        assert info.auth_mode == server_info_pb2.AUTH_MODE_OFF
    assert any("AUTH MODE IS OFF" in entry["event"] for entry in track.log())


async def test_who_may_not_read_a_room_is_not_told_whether_it_exists(
    start_livekit: StartLiveKit, start_track: StartTrack, room_name: str
) -> None:
    livekit = await start_livekit()
    track = await start_track(livekit, {"TRACK_MEDIA_WORKERS": "0"})
    async with stage(track, livekit, room_name) as there:
        denied = 0
        for name, principal in PRINCIPALS.items():
            if principal.operation:
                continue
            async with bearing(track, principal.token(livekit, "a-room-of-its-own")) as client:
                for rpc in METHODS:
                    asked = [
                        there.others.requests(rpc, room) for room in (room_name, f"{room_name}-which-does-not-exist")
                    ]
                    for existing, missing in zip(*asked, strict=True):
                        outcomes = await asyncio.gather(*(outcome(client, rpc, each) for each in (existing, missing)))
                        if outcomes[0].code in (UNAUTHENTICATED, DENIED):
                            denied += 1
                            assert outcomes[0] == outcomes[1], (name, rpc)
        assert denied > len(PRINCIPALS) * len(METHODS) / 2


async def taken(permissions: PermissionProcess, rules: str, track: TrackProcess, there: Stage) -> None:
    """Has the service take the rules, and the server hear of it."""
    await permissions.rewrite(rules)
    client = there.callers["no grants"]
    deny = rules != RULE.format("allow")
    async with asyncio.timeout(20):
        while (
            (await outcome(client, "ListTracks", tracks_pb2.ListTracksRequest(room=there.room))).code is DENIED
        ) != deny:
            await asyncio.sleep(0.05)


async def test_ones_own_and_others(track: TrackProcess, livekit: LiveKitProcess, room: str) -> None:
    async with (
        participant(livekit, room, "alice") as alice,
        participant(livekit, room, "bob") as bob,
        camera(alice) as cam,
        track.client("admin", room_admin=True, room=room) as admin,
    ):
        own, others = await microphone(alice), await microphone(bob)
        await until_listed(admin, room, {own.sid, others.sid, cam.sid})
        hosted = await publish(admin, room, DATA, "host")

        def mute(client: Any, sid: str) -> Any:
            return client.MuteTracks(
                tracks_pb2.MuteTracksRequest(room=room, tracks=[tracks_pb2.TrackRef(track_sid=sid)]), timeout=20
            )

        def subscribe(client: Any, identity: str, sid: str) -> Any:
            update = tracks_pb2.SubscriptionUpdate(participant_identity=identity, track_sid=sid, subscribe=True)
            return client.UpdateSubscriptions(
                tracks_pb2.UpdateSubscriptionsRequest(room=room, updates=[update]), timeout=20
            )

        def publish_as(client: Any, identity: str, spec: publication_pb2.PublicationSpec) -> Any:
            request = publication_pb2.PublishTrackRequest(room=room, spec=spec, participant_identity=identity)
            return client.PublishTrack(request, timeout=20)

        async with track.client("alice", room_join=True, room=room) as client:
            assert (await mute(client, own.sid)).results[0].muted
            assert (await refusal(mute(client, others.sid))).code is DENIED
            assert (await subscribe(client, "alice", others.sid)).results[0].observed
            assert (await refusal(subscribe(client, "bob", own.sid))).code is DENIED
            assert (await refusal(publish_as(client, "carol", TONE))).code is DENIED
            unpublish = publication_pb2.UnpublishTrackRequest(room=room, publication_id=hosted.publication_id)
            assert (await refusal(client.UnpublishTrack(unpublish))).code is DENIED
            # In one batch: what is one's own is done, the rest is denied by item.
            refs = [tracks_pb2.TrackRef(track_sid=sid) for sid in (own.sid, others.sid)]
            mixed = await client.UnmuteTracks(tracks_pb2.UnmuteTracksRequest(room=room, tracks=refs), timeout=20)
            assert not mixed.results[0].muted
            assert not mixed.results[0].HasField("problem")
            assert mixed.results[1].problem.code == DENIED.value[0]
            # Nothing is told of a track that one may not act on.
            assert not mixed.results[1].HasField("muted")
        assert not others.muted

        sources = {"can_publish_sources": ["microphone"]}
        async with track.client("alice", room_join=True, room=room, **sources) as client:
            assert (await mute(client, own.sid)).results[0].muted
            assert (await refusal(mute(client, cam.sid))).code is DENIED
            assert (await refusal(publish_as(client, "alice", pattern()))).code is DENIED


async def test_a_publisher_of_some_sources_publishes_those(
    track: TrackProcess, livekit: LiveKitProcess, room: str
) -> None:
    sources = {"can_publish_sources": ["microphone"], "can_publish_data": False}
    async with track.client("dora", room_join=True, room=room, **sources) as client:
        assert (await publish(client, room, TONE)).participant_identity == "dora"
        for spec in (pattern(), DATA):
            request = publication_pb2.PublishTrackRequest(room=room, spec=spec)
            assert (await refusal(client.PublishTrack(request))).code is DENIED
    listed = publication_pb2.ListPublicationsRequest(room=room)
    async with track.client("dora", room_join=True, room=room) as client:
        assert len((await client.ListPublications(listed)).publications) == 1


async def test_what_was_answered_to_one_is_not_handed_to_another(track: TrackProcess, room: str) -> None:
    request = publication_pb2.PublishTrackRequest(room=room, spec=TONE, request_id="same")
    grants = {"room_join": True, "room": room}
    async with track.client("eve", **grants) as eve, track.client("fay", **grants) as fay:
        first, second = await asyncio.gather(*(caller.PublishTrack(request, timeout=30) for caller in (eve, fay)))
    assert first.publication.participant_identity == "eve"
    assert second.publication.participant_identity == "fay"


def test_without_authentication_it_serves_loopback_only(livekit: LiveKitProcess) -> None:
    environment = {
        "PATH": "/usr/bin:/bin",
        "LIVEKIT_URL": livekit.url,
        "LIVEKIT_API_KEY": livekit.api_key,
        "LIVEKIT_API_SECRET": livekit.api_secret,
        "TRACK_AUTH_MODE": "off",
        "TRACK_LISTEN": "0.0.0.0:0",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "track_server", "serve"],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ended.returncode != 0
    assert "TRACK_LISTEN" in ended.stderr
    assert "Traceback" not in ended.stderr


async def until_listed(client: Any, room: str, sids: set[str]) -> None:
    """Waits until the room shows the tracks."""
    async with asyncio.timeout(20):
        while True:
            answer = await client.ListTracks(tracks_pb2.ListTracksRequest(room=room))
            if sids <= {found.sid for found in answer.tracks}:
                return
            await asyncio.sleep(0.05)
