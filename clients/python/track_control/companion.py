"""The companion: takes commands over LiveKit RPC, acknowledges them at once, and tells their result when asked."""

import asyncio
import base64
import json
import logging
import re
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from livekit import rtc

from track_control.state import CODECS, State, StateReports
from track_control.tracks import Fields, Open, Refusal, Tracks, awaited

log = logging.getLogger("track_control")

METHOD: Final = "track.control.v1"
MAX_REPLY_BYTES: Final = 15_000  # LiveKit carries 15 KiB
SKEW_S: Final = 30.0  # by how much clocks may differ
KEPT_S: Final = 120.0  # how long a result can be asked for once the command has expired
_AT_ONCE_S: Final = 0.1  # what is done so soon needs no second call; LiveKit runs a handler that takes 3 s three times
_QUESTIONS: Final = ("getStats", "getCapabilities", "reportState")  # nobody is asked for leave
_ACTIONS: Final = ("publish", "unpublish", "update", "setMuted", "setReceived", "restart", *_QUESTIONS)


# By room and command id: one that is attached anew does nothing again that an earlier one was told.
_JOBS: Final["weakref.WeakKeyDictionary[rtc.Room, dict[str, _Job]]"] = weakref.WeakKeyDictionary()
# Who has a companion. The SDK would let a second one take the calls of the first, whose end would take them from both.
_ATTACHED: Final[weakref.WeakSet[rtc.LocalParticipant]] = weakref.WeakSet()


class Request(NamedTuple):
    """What the service asks for. ``action``: as in Command (`publish`), or `mute`, `unmute`, with its ``fields``."""

    action: str
    fields: Fields


Ask: TypeAlias = Callable[[Request], bool | Awaitable[bool]]


class _Job(NamedTuple):
    text: str
    until: float
    publishes: str
    reply: dict[str, Any]
    task: "asyncio.Task[None]"


@dataclass(eq=False, kw_only=True)
class TrackControl:
    """Lets TrackService control the tracks of a connected room's own participant, until `aclose()`.

    ``public_key``: the service's `control_key.public_key` (GetServerInfo, CreateTrackToken), from where the app trusts;
    or ``unsigned``: whoever calls is obeyed, but for those that can be told to be participants. ``devices``: sources of
    CAMERA, MICROPHONE, SCREEN, SCREEN_AUDIO; ``app_video``, ``app_audio``: by names of the app's own. ``veto``: False
    alone lets a command pass. ``consent``: True alone lets a track be published or unmuted; not given, all are.
    ``state``: what the app adds to what is reported. Raises ValueError, also for a room that is not connected or has a
    companion, and TypeError for a key that is no bytes.
    """

    room: rtc.Room = field(kw_only=False)
    public_key: bytes | None = None
    unsigned: bool = False
    devices: Mapping[str, Open] | None = None
    app_video: Mapping[str, Open] | None = None
    app_audio: Mapping[str, Open] | None = None
    veto: Ask | None = None
    consent: Ask | None = None
    state: State | None = None
    consent_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if (self.public_key is None) != self.unsigned:
            raise ValueError("give the service's public_key, or ask for unsigned=True")
        self._key = None if self.public_key is None else Ed25519PublicKey.from_public_bytes(self.public_key)
        if self.unsigned:
            log.warning("track control is unsigned: whoever can call this participant may control its tracks")
        self._sources = {(kind, ""): opener for kind, opener in (self.devices or {}).items()}
        self._sources |= {("APP_VIDEO", name): opener for name, opener in (self.app_video or {}).items()}
        self._sources |= {("APP_AUDIO", name): opener for name, opener in (self.app_audio or {}).items()}
        if not self.room.isconnected():
            raise ValueError("connect the room first")
        self._me = self.room.local_participant
        if self._me in _ATTACHED:
            raise ValueError("a companion is attached to the room already")
        # Publications that the user has granted and that are not published yet: for another try nobody is asked again.
        self._granted = set[str]()
        self._tracks, self._attached = Tracks(self.room, self._sources), True
        self._jobs = _JOBS.setdefault(self.room, {})
        self._reports = StateReports(self.room, self._tracks, self.state)
        self._me.register_rpc_method(METHOD, self._handle)
        _ATTACHED.add(self._me)

    async def aclose(self) -> None:
        """Obeys no more; what is published stays. May be called twice."""
        if self._attached:
            self._me.unregister_rpc_method(METHOD)
            _ATTACHED.discard(self._me)
        self._attached = False
        for job in self._jobs.values():
            job.task.cancel()
        await asyncio.gather(*(job.task for job in self._jobs.values()), return_exceptions=True)
        await self._reports.aclose()
        self._tracks.detach()

    async def _handle(self, call: rtc.RpcInvocationData) -> str:
        try:
            command_id, job = self._take(*_obeyed(call, self.room, self._key))
            await asyncio.wait({job.task}, timeout=_AT_ONCE_S)
            text = json.dumps({"commandId": command_id, **job.reply})
            if len(text) > MAX_REPLY_BYTES:
                raise Refusal("FAILED", "the answer is longer than LiveKit carries: ask for less", command_id)
        except Refusal as refusal:
            log.warning("a command was refused: %s", refusal)
            text = json.dumps({"commandId": refusal.command_id, **refusal.reply})
        return text

    def _take(self, text: str, command: Fields, expires: float) -> tuple[str, _Job]:
        """The job of the command, begun if it is new, or of the one whose result it asks for. Raises Refusal."""
        command_id = command.get("getResult", command).get("commandId", "")
        if "getResult" in command and command_id not in self._jobs:
            raise Refusal("NOT_FOUND", "no such command came here", command_id)
        if command_id not in self._jobs:
            for old in [k for k, job in self._jobs.items() if job.until <= time.time() and job.task.done()]:
                del self._jobs[old]
            self._jobs[command_id] = self._begin(text, command, expires + SKEW_S + KEPT_S)
        elif "getResult" not in command and self._jobs[command_id].text != text:
            raise Refusal("REPLAYED", "the command's id was used before", command_id)
        return command_id, self._jobs[command_id]

    def _begin(self, text: str, command: Fields, until: float) -> _Job:
        action = next((name for name in _ACTIONS if isinstance(command.get(name), dict)), "")
        fields = command.get(action, {})
        publication_id = fields.get("publicationId", "")
        taken_back = []
        for job in self._jobs.values():
            if job.publishes == publication_id != "" and not job.task.done():
                if action == "publish":  # once, however often it is asked for
                    return _Job(text, until, publication_id, job.reply, job.task)
                if action == "unpublish":
                    job.task.cancel()
                    taken_back.append(job.task)
        reply: dict[str, Any] = {"status": "COMMAND_STATUS_ACCEPTED"}
        task = asyncio.create_task(self._do(reply, action, fields, taken_back), name=f"track {action}")
        return _Job(text, until, publication_id if action == "publish" else "", reply, task)

    async def _do(self, reply: dict[str, Any], action: str, fields: Fields, first: "list[asyncio.Task[None]]") -> None:
        try:
            await asyncio.gather(*first, return_exceptions=True)
            if not action:
                raise Refusal("UNSUPPORTED", "this companion does not know the command")
            if action == "publish" and (sid := self._tracks.published(fields["publicationId"])):
                result: Fields = {"trackSid": sid}
            elif action == "getCapabilities":
                result = {"capabilities": self._capabilities()}
            elif action == "reportState":
                result = await self._reports.report_state(fields)
            else:
                if action not in _QUESTIONS:
                    muting = "mute" if fields.get("muted") else "unmute"
                    await self._allow(reply, Request(muting if action == "setMuted" else _snake(action), fields))
                if action == "publish":
                    self._granted.add(fields["publicationId"])
                result = await getattr(self._tracks, _snake(action))(fields)
            reply |= {"result": result, "status": "COMMAND_STATUS_DONE"}
            self._granted.discard(fields.get("publicationId", ""))
        except Refusal as refusal:
            reply |= refusal.reply
        except asyncio.CancelledError:
            reply |= Refusal("FAILED", "it was taken back").reply
            raise
        except Exception as error:
            log.exception("a command failed")
            reply |= Refusal("FAILED", f"{type(error).__name__}: {error}"[:200]).reply

    async def _allow(self, reply: dict[str, Any], request: Request) -> None:
        """Asks the app, and the user. Raises Refusal."""
        asks = request.action == "unmute" or (
            request.action == "publish" and request.fields["publicationId"] not in self._granted
        )
        try:
            async with asyncio.timeout(self.consent_timeout_s):
                allowed = self.veto is None or await awaited(self.veto(request)) is False
                if allowed and self.consent is not None and asks:
                    reply["consent"] = "CONSENT_ASKED"
                    allowed = await awaited(self.consent(request)) is True
            answer = "GRANTED" if allowed else "REFUSED"
        except TimeoutError:
            answer = "NO_ANSWER"
        except Exception:
            log.exception("the app's question failed")
            answer = "NO_ANSWER"
        reply["consent"] = f"CONSENT_{answer}"
        if answer != "GRANTED":
            raise Refusal(answer, "the user or the app did not agree")

    def _capabilities(self) -> Fields:
        return {
            "companion": "python/0.1.0",
            "sdk": f"livekit-python/{rtc.__version__}",
            "sendCodecs": CODECS,
            "receiveCodecs": CODECS,
            "actions": [*map(_snake, _ACTIONS), "get_result"],
            "devices": sorted({f"DEVICE_KIND_{kind}" for kind, _ in self._sources}),
            "appSources": sorted({name for _, name in self._sources if name}),
            "signed": not self.unsigned,
        }


attach_track_control = TrackControl


def _snake(name: str) -> str:
    return re.sub("([A-Z])", r"_\1", name).lower()


def _obeyed(call: rtc.RpcInvocationData, room: rtc.Room, key: Ed25519PublicKey | None) -> tuple[str, Fields, float]:
    """The service's command, as text and in JSON, and when it expires (seconds since 1970). Raises Refusal."""
    try:
        signed, me = json.loads(call.payload), room.local_participant
        text: str = signed["command"]
        if key is not None:
            key.verify(base64.b64decode(signed.get("signature", "")), f"{METHOD}\n".encode() + text.encode())
        # LiveKit gives the service's calls a random caller, and those of hidden participants an empty one.
        elif call.caller_identity in ("", me.identity, *room.remote_participants):
            raise Refusal("FORGED", "a participant called, and not the service")
        command = json.loads(text)
        command_id = str(command["commandId"])
        ours = {"room": room.name, "participantIdentity": me.identity, "participantSid": me.sid}
        if any(command[name] != value for name, value in ours.items()):
            raise Refusal("NOT_FOR_US", "it is for another room, participant or connection", command_id)
        issued, expires = (datetime.fromisoformat(command[key]).timestamp() for key in ("issueTime", "expireTime"))
        if not issued - SKEW_S <= time.time() <= expires + SKEW_S:
            raise Refusal("EXPIRED", "it is too old, or from the future", command_id)
        return text, command, expires
    except InvalidSignature:
        raise Refusal("FORGED", "it is not signed with the service's key") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Refusal("INVALID", "it is no command") from None
