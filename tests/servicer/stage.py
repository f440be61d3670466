"""A room with participants, tracks and publications, every kind of caller, and what is wrong in how it is treated."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.message import Message

from tests.livekit_process import LiveKitProcess
from tests.livekit_rooms import existing_room
from tests.participants import microphone, participant
from tests.publications import DATA, TONE, until_listed
from tests.refusals import read
from tests.servicer.contract import METHODS, RULES, NoRequest, called, request_of
from tests.servicer.principals import IDENTITY, PRINCIPALS, May, Principal, bearing, operation_token
from tests.track_process import Client, TrackProcess
from track.v1 import publication_pb2

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
# There is no media worker.
NO_WORKER: Final = "WORKER_UNAVAILABLE"
MODERATION: Final = frozenset({"LiftModerationBlocks"})
"""RPCs that are for moderators, though their permission is one that others have for their own tracks."""
AT_ONCE: Final = 16


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
        """The RPC's requests about it: one, or two where it may be named as a track or as a publication.

        None where the RPC is not for such tracks.
        """
        values = {"room": room, "participant_identity": self.participant_identity, "spec": self.spec}
        names = {"track_sid": self.track_sid, "publication_id": self.publication_id}
        try:
            by_track = request_of(rpc, **values, **names)
            by_publication = request_of(rpc, **values, **dict(reversed(names.items())))
        except NoRequest:
            return []
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

    @functools.cached_property
    def calls(self) -> Mapping[str, list[tuple[str, int, Message]]]:
        """By RPC: its requests that differ, with the field of May that tells about them, and the number of the form."""
        # Once for all callers: to find what the contract's rules take costs more CPU than the calls.
        return {rpc: self._calls(rpc) for rpc in METHODS}

    def _calls(self, rpc: str) -> list[tuple[str, int, Message]]:
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
        await until_listed(admin, room, channel.info.sid, *(mic.sid for mic in microphones))
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
    answer = await admin.PublishTrack(request, timeout=8)
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
    about = "others" if about == "missing" or rpc in MODERATION else about
    if may is None:
        expected = Outcome(UNAUTHENTICATED, "UNAUTHENTICATED")
    elif RULES[rpc].permission not in getattr(may, about) or (rpc in MODERATION and not may.moderates):
        expected = Outcome(DENIED, "PERMISSION_DENIED")
    elif found.code is grpc.StatusCode.OK or found.code in BEYOND_ACCESS or found.reason == NO_WORKER:
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
    for about, form, request in there.calls[rpc]:
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
