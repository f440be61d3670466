"""LiveKit's server API: the calls that this service makes, with a kept token a room and its errors as ours."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Self, TypeVar

import aiohttp
from google.protobuf.message import Message
from livekit.api.twirp_client import ServerError, ServerErrorCode, TwirpClient
from livekit.protocol import agent_dispatch, models, room

from track_server.errors import LiveKitCredentials, LiveKitError, LiveKitUnavailable, NotFound, TrackError
from track_server.lifetime import Closing
from track_server.livekit.tokens import TokenMint

ROOM_SERVICE: Final = "RoomService"
DISPATCH_SERVICE: Final = "AgentDispatchService"
INGRESS_SERVICE: Final = "Ingress"
EGRESS_SERVICE: Final = "Egress"

# LiveKit itself waits 3 s for a participant's node before it says `unavailable`; longer than that it does not work.
CALL_TIMEOUT_S: Final = 5.0
# Given to every call: the client hands its own default, none at all, on to the session.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)

_AWAY: Final = {
    ServerErrorCode.UNAVAILABLE,
    ServerErrorCode.DEADLINE_EXCEEDED,
    ServerErrorCode.CANCELED,
    ServerErrorCode.RESOURCE_EXHAUSTED,
}
_REFUSED: Final = {ServerErrorCode.UNAUTHENTICATED, ServerErrorCode.PERMISSION_DENIED}

R = TypeVar("R", bound=Message)


class LiveKitNotFound(NotFound):
    """LiveKit says `not_found`; the caller of the API knows what of."""


class LiveKitRefusal(LiveKitError):
    """LiveKit answered with an error that is neither ours nor the network's; ``twirp_code`` is its code."""

    def __init__(self, twirp_code: str) -> None:
        super().__init__("LiveKit refused the request", metadata={"livekit_code": twirp_code})
        self.twirp_code = twirp_code


class LiveKitApi(Closing):
    """A client of one LiveKit server, `async with`.

    Every method raises LiveKitUnavailable, LiveKitCredentials, LiveKitNotFound or LiveKitRefusal, and ends within
    CALL_TIMEOUT_S.
    """

    def __init__(self, url: str, tokens: TokenMint) -> None:
        self._url = url
        self._tokens = tokens
        self._session: aiohttp.ClientSession | None = None
        self._client: TwirpClient | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=_TIMEOUT,
            connector=aiohttp.TCPConnector(limit=64),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        # No failover: it would try again behind our back, and we tell how often we tried.
        self._client = TwirpClient(self._session, self._url, "livekit", failover=False)
        return self

    async def aclose(self) -> None:
        """Closes the connections. May be called twice."""
        if self._session is not None:
            await self._session.close()

    async def find_rooms(self, names: Iterable[str]) -> dict[str, models.Room]:
        """Those of the named rooms that exist, by name."""
        wanted = list(names)
        answer = await self._call(
            ROOM_SERVICE,
            "ListRooms",
            room.ListRoomsRequest(names=wanted),
            self._tokens.server(),
            room.ListRoomsResponse,
        )
        return {found.name: found for found in answer.rooms}

    async def create_room(self, name: str) -> models.Room:
        """Creates the room, or finds it."""
        return await self._call(
            ROOM_SERVICE, "CreateRoom", room.CreateRoomRequest(name=name), self._tokens.server(), models.Room
        )

    async def list_participants(self, room_name: str) -> Sequence[models.ParticipantInfo]:
        """All participants of the room, hidden ones too. Empty where the room does not exist."""
        answer = await self._call(
            ROOM_SERVICE,
            "ListParticipants",
            room.ListParticipantsRequest(room=room_name),
            self._tokens.room_admin(room_name),
            room.ListParticipantsResponse,
        )
        return answer.participants

    async def find_participant(self, room_name: str, identity: str) -> models.ParticipantInfo | None:
        """The participant of that identity, hidden or not; None where it, or the room, does not exist."""
        with contextlib.suppress(LiveKitNotFound):
            return await self._call(
                ROOM_SERVICE,
                "GetParticipant",
                room.RoomParticipantIdentity(room=room_name, identity=identity),
                self._tokens.room_admin(room_name),
                models.ParticipantInfo,
            )
        return None

    async def mute_track(self, room_name: str, identity: str, track_sid: str, *, muted: bool) -> None:
        """Asks the publisher's client to mute or unmute. LiveKit answers OK for an unknown SID too."""
        await self._call(
            ROOM_SERVICE,
            "MutePublishedTrack",
            room.MuteRoomTrackRequest(room=room_name, identity=identity, track_sid=track_sid, muted=muted),
            self._tokens.room_admin(room_name),
            room.MuteRoomTrackResponse,
        )

    async def set_permission(
        self, room_name: str, identity: str, permission: models.ParticipantPermission
    ) -> models.ParticipantInfo:
        """Gives a participant that permission in the place of the one it has; returns it as it is then.

        Tracks that it may publish no more are gone from the room by then.
        """
        return await self._call(
            ROOM_SERVICE,
            "UpdateParticipant",
            room.UpdateParticipantRequest(room=room_name, identity=identity, permission=permission),
            self._tokens.room_admin(room_name),
            models.ParticipantInfo,
        )

    async def set_attributes(self, room_name: str, identity: str, attributes: Mapping[str, str]) -> None:
        """Writes those attributes of a participant; an empty value deletes. Others stay as they are."""
        await self._call(
            ROOM_SERVICE,
            "UpdateParticipant",
            room.UpdateParticipantRequest(room=room_name, identity=identity, attributes=attributes),
            self._tokens.room_admin(room_name),
            models.ParticipantInfo,
        )

    async def remove_participant(self, room_name: str, identity: str) -> None:
        """Takes the participant out of the room. One that is gone already is no error."""
        with contextlib.suppress(LiveKitNotFound):
            await self._call(
                ROOM_SERVICE,
                "RemoveParticipant",
                room.RoomParticipantIdentity(room=room_name, identity=identity),
                self._tokens.room_admin(room_name),
                room.RemoveParticipantResponse,
            )

    async def update_subscriptions(
        self, room_name: str, identity: str, track_sids: Iterable[str], *, subscribe: bool
    ) -> None:
        """Subscribes a participant to tracks, or unsubscribes it. Takes effect later: within LiveKit's 3 s tick."""
        await self._call(
            ROOM_SERVICE,
            "UpdateSubscriptions",
            room.UpdateSubscriptionsRequest(
                room=room_name, identity=identity, track_sids=list(track_sids), subscribe=subscribe
            ),
            self._tokens.room_admin(room_name),
            room.UpdateSubscriptionsResponse,
        )

    async def create_dispatch(self, room_name: str, agent_name: str, metadata: str) -> agent_dispatch.AgentDispatch:
        """Asks LiveKit to give a job for ``room_name`` to a worker registered as ``agent_name``."""
        return await self._call(
            DISPATCH_SERVICE,
            "CreateDispatch",
            agent_dispatch.CreateAgentDispatchRequest(room=room_name, agent_name=agent_name, metadata=metadata),
            self._tokens.room_admin(room_name),
            agent_dispatch.AgentDispatch,
        )

    async def dispatched(self, room_name: str, dispatch_id: str) -> bool:
        """Whether a worker was found for a dispatch, also if its job is over."""
        request = agent_dispatch.ListAgentDispatchRequest(room=room_name, dispatch_id=dispatch_id)
        answer = await self._call(
            DISPATCH_SERVICE,
            "ListDispatch",
            request,
            self._tokens.room_admin(room_name),
            agent_dispatch.ListAgentDispatchResponse,
        )
        return any(found.state.jobs for found in answer.agent_dispatches)

    async def delete_dispatch(self, room_name: str, dispatch_id: str) -> None:
        """Takes a dispatch back; its job is terminated. One that is gone already is no error."""
        with contextlib.suppress(NotFound):
            await self._call(
                DISPATCH_SERVICE,
                "DeleteDispatch",
                agent_dispatch.DeleteAgentDispatchRequest(room=room_name, dispatch_id=dispatch_id),
                self._tokens.room_admin(room_name),
                agent_dispatch.AgentDispatch,
            )

    async def ask_room(self, room_name: str, method: str, request: Message, answer: type[R]) -> R:
        """A call of RoomService about a room that has no method here."""
        return await self._call(ROOM_SERVICE, method, request, self._tokens.room_admin(room_name), answer)

    async def ask_ingress(self, method: str, request: Message, answer: type[R]) -> R:
        """A call of LiveKit's Ingress service."""
        return await self._call(INGRESS_SERVICE, method, request, self._tokens.ingress(), answer)

    async def ask_egress(
        self, method: str, request: Message, answer: type[R], *, timeout_s: float = CALL_TIMEOUT_S
    ) -> R:
        """A call of LiveKit's Egress service, which ends within ``timeout_s``."""
        limit = aiohttp.ClientTimeout(total=timeout_s)
        return await self._call(EGRESS_SERVICE, method, request, self._tokens.egress(), answer, limit)

    async def _call(
        self,
        service: str,
        method: str,
        request: Message,
        token: str,
        answer: type[R],
        limit: aiohttp.ClientTimeout = _TIMEOUT,
    ) -> R:
        if self._client is None:
            raise RuntimeError("LiveKitApi is used outside its `async with`")
        try:
            return await self._client.request(
                service, method, request, {"authorization": f"Bearer {token}"}, answer, timeout=limit
            )
        except ServerError as error:
            raise _translated(error) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise LiveKitUnavailable("LiveKit cannot be reached") from error


def _translated(error: ServerError) -> TrackError:
    if error.code in _AWAY:
        return LiveKitUnavailable("LiveKit did not answer in time")
    # A token that does not verify is refused before the API is reached, in a form of its own.
    if error.code in _REFUSED or error.status in (401, 403):
        return LiveKitCredentials(
            "LiveKit refuses this service's API key; check LIVEKIT_API_KEY and LIVEKIT_API_SECRET"
        )
    if error.code == ServerErrorCode.NOT_FOUND:
        return LiveKitNotFound("LiveKit does not know it")
    return LiveKitRefusal(error.code)
