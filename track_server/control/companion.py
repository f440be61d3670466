"""The companion in a participant's client: asked, and followed until it is done."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from track.control.v1 import control_pb2 as control
from track.control.v1.control_pb2 import CommandStatus, Reply
from track.v1 import error_pb2, publication_pb2, publication_update_pb2
from track_server.control.commands import Action, CommandText, Target, command, payload, reply_of
from track_server.control.signing import ControlKey
from track_server.deadline import Deadline
from track_server.errors import (
    CompanionFailed,
    CompanionMissing,
    ConsentRefused,
    LiveKitUnavailable,
    NotSupported,
    TrackError,
)
from track_server.livekit.api import LiveKitApi
from track_server.livekit.rpc import CONNECTION_TIMEOUT, RESPONSE_TIMEOUT, UNSUPPORTED_METHOD, RpcFailed, perform_rpc

log = structlog.get_logger(__name__)

METHOD: Final = "track.control.v1"

# A result is asked for at first soon, then less and less often: a user who is asked takes seconds.
_POLL_FIRST_S: Final = 0.05
_POLL_LAST_S: Final = 1.0
_POLL_GROWTH: Final = 1.5
_CAPABILITIES_S: Final = 5.0
# What a connection can do does not change; about 1 KiB each.
_CAPABILITIES_KEPT: Final = 1024

OnReply = Callable[[Reply], Awaitable[None]]


class Companion:
    """Commands to companions. All methods wait for the companion to be done, at most until ``deadline``, and give its
    last reply: DONE, ACCEPTED where it is still at it, UNSPECIFIED where it did not even answer; what was asked stays
    asked.

    They raise CompanionMissing (the client has none), ConsentRefused (metadata `consent` tells REFUSED from NO_ANSWER),
    NotSupported, CompanionFailed (metadata `status`), LiveKitUnavailable (the client or LiveKit does not answer).
    ``on_reply`` is told of each reply.
    """

    def __init__(self, api: LiveKitApi, key: ControlKey) -> None:
        self.key: Final = key
        self._api = api
        self._capabilities: OrderedDict[Target, control.Capabilities] = OrderedDict()

    async def capabilities(
        self, target: Target, deadline: Deadline | None = None, *, anew: bool = False
    ) -> control.Capabilities:
        """What the client can do; asked once a connection, or ``anew``: its app may have attached another one since."""
        known = None if anew else self._capabilities.get(target)
        if known is None:
            reply = await self.do(target, control.GetCapabilities(), deadline or Deadline.after(_CAPABILITIES_S))
            if reply.status != control.COMMAND_STATUS_DONE:
                raise LiveKitUnavailable("the companion in the participant's client did not answer in time")
            known = self._capabilities[target] = reply.result.capabilities
            if len(self._capabilities) > _CAPABILITIES_KEPT:
                self._capabilities.popitem(last=False)
        return known

    async def has_companion(self, target: Target, deadline: Deadline | None = None) -> bool:
        """Whether there is one. Raises LiveKitUnavailable."""
        try:
            await self.capabilities(target, deadline)
        except CompanionMissing:
            return False
        return True

    async def publish(
        self, target: Target, plan: control.Publish, deadline: Deadline, on_reply: OnReply | None = None
    ) -> Reply:
        """Publishes; `result.track_sid` is the track."""
        return await self.do(target, plan, deadline, on_reply)

    async def unpublish(self, target: Target, track_sid: str, deadline: Deadline, *, publication_id: str = "") -> Reply:
        """Takes a track away, or what is or will be published as a publication."""
        action = control.Unpublish(track_sid=track_sid, publication_id=publication_id)
        return await self.do(target, action, deadline)

    async def update(
        self,
        target: Target,
        track_sid: str,
        plan: control.Publish,
        deadline: Deadline,
        on_reply: OnReply | None = None,
    ) -> Reply:
        """Changes how a track is published; `result.track_sid` is the track that is there now."""
        return await self.do(target, control.Update(track_sid=track_sid, publish=plan), deadline, on_reply)

    async def set_muted(
        self, target: Target, track_sid: str, deadline: Deadline, *, muted: bool, on_reply: OnReply | None = None
    ) -> Reply:
        """Mutes or unmutes a track of the client's own."""
        return await self.do(target, control.SetMuted(track_sid=track_sid, muted=muted), deadline, on_reply)

    async def stats(self, target: Target, track_sids: Sequence[str], deadline: Deadline) -> Reply:
        """Statistics of those tracks, or of all; in `result.stats`."""
        return await self.do(target, control.GetStats(track_sids=track_sids), deadline)

    async def restart(
        self,
        target: Target,
        track_sid: str,
        level: "publication_update_pb2.RestartLevel.ValueType",
        deadline: Deadline,
        *,
        graceful: bool = False,
    ) -> Reply:
        """Publishes or subscribes anew; `result.track_sid` is the track that is there now."""
        return await self.do(target, control.Restart(track_sid=track_sid, level=level, graceful=graceful), deadline)

    async def do(self, target: Target, action: Action, deadline: Deadline, on_reply: OnReply | None = None) -> Reply:
        """Any command. See the class."""
        asked = command(target, action, time.time_ns())
        reply = Reply(command_id=asked.command_id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline.remaining_s()):
                reply = await self._ask(target, asked)
                pause = _POLL_FIRST_S
                while True:
                    if on_reply is not None:
                        await on_reply(reply)
                    if reply.status != control.COMMAND_STATUS_ACCEPTED:
                        break
                    await asyncio.sleep(pause)
                    pause = min(pause * _POLL_GROWTH, _POLL_LAST_S)
                    get = control.GetResult(command_id=asked.command_id)
                    reply = await self._ask(target, command(target, get, time.time_ns()))
        if reply.status not in (
            control.COMMAND_STATUS_UNSPECIFIED,
            control.COMMAND_STATUS_ACCEPTED,
            control.COMMAND_STATUS_DONE,
        ):
            raise failure_of(reply)
        return reply

    async def _ask(self, target: Target, asked: CommandText) -> Reply:
        """One call, twice where the first one got no answer: a companion does a command once however often it comes."""
        text = payload(asked, self.key)
        try:
            answer = await self._perform(target, text)
        except LiveKitUnavailable:
            answer = await self._perform(target, text)
        try:
            return reply_of(answer)
        except ValueError as error:
            raise CompanionFailed("what the companion answers cannot be understood") from error

    async def _perform(self, target: Target, text: str) -> str:
        try:
            return await perform_rpc(self._api, target.room, target.identity, METHOD, text)
        except RpcFailed as error:
            if error.number == UNSUPPORTED_METHOD:
                raise CompanionMissing(
                    f"the client of participant {target.identity!r} has no companion of TrackService"
                ) from error
            if error.number in (CONNECTION_TIMEOUT, RESPONSE_TIMEOUT):
                raise LiveKitUnavailable("the participant's client did not answer in time") from error
            raise CompanionFailed("the companion broke", metadata=error.metadata) from error


def failure_of(reply: Reply) -> TrackError:
    """The error of a reply that is none of UNSPECIFIED, ACCEPTED and DONE."""
    status = CommandStatus.Name(reply.status).removeprefix("COMMAND_STATUS_")
    detail = _sentence(reply.detail)
    match reply.status:
        case control.COMMAND_STATUS_REFUSED:
            return ConsentRefused(f"the participant refused{detail}", metadata={"consent": "REFUSED"})
        case control.COMMAND_STATUS_NO_ANSWER:
            return ConsentRefused("nobody answered the question to the participant", metadata={"consent": "NO_ANSWER"})
        case control.COMMAND_STATUS_NOT_FOR_US:
            # It joined again since, or its SDK has not noticed yet that it did.
            return LiveKitUnavailable("the participant's client has another connection", metadata={"status": status})
        case control.COMMAND_STATUS_UNSUPPORTED:
            return NotSupported(f"the participant's client cannot do it{detail}", metadata={"status": status})
        case _:
            return CompanionFailed(
                f"the companion in the participant's client answered {status}{detail}", metadata={"status": status}
            )


def consent_of(error: TrackError) -> "publication_pb2.Consent.ValueType":
    """What the user said, of an error of these commands."""
    if error.reason != error_pb2.ERROR_REASON_CONSENT_REFUSED:
        return publication_pb2.CONSENT_UNSPECIFIED
    answered = error.metadata.get("consent") != "NO_ANSWER"
    return publication_pb2.CONSENT_REFUSED if answered else publication_pb2.CONSENT_NO_ANSWER


def _sentence(detail: str) -> str:
    """What the client says, as the end of a sentence of ours: it is not ours, so it is short and on one line."""
    text = " ".join("".join(char if char.isprintable() else " " for char in detail).split())[:200]
    return f": {text}" if text else ""
