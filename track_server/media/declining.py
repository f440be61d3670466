"""Sessions that a full worker declines: the server that asked is told, because LiveKit does not tell it."""

import asyncio
from typing import Final

import grpc.aio
import structlog

from track.media.v1.media_service_pb2 import AttachRequest, SessionHello, SessionTicket
from track_server.lifetime import Tasks
from track_server.media.attachment import Channels, session_token

log = structlog.get_logger(__name__)

_CALL_S: Final = 2.0


class Declines:
    """Tells servers. A server that is not told takes it that there is no worker, and tries again all the same."""

    def __init__(self, api_key: str, api_secret: str) -> None:
        self._api_key, self._api_secret = api_key, api_secret
        self._channels = Channels()
        self._tasks = Tasks()

    def sign_with(self, api_key: str, api_secret: str) -> None:
        """Call with this key from now on."""
        self._api_key, self._api_secret = api_key, api_secret

    def tell(self, ticket: SessionTicket, full_at: int) -> None:
        """Tell whoever wants the session hosted that this worker hosts `full_at`, which is all that it takes."""
        hello = SessionHello(session_id=ticket.session_id, generation=ticket.generation, full_at=full_at)
        self._tasks.spawn(self._tell(ticket.server_address, hello), name="decline")

    async def aclose(self) -> None:
        """Close the connections. May be called twice."""
        await self._tasks.aclose()
        await self._channels.aclose()

    async def _tell(self, address: str, hello: SessionHello) -> None:
        token = session_token(self._api_key, self._api_secret, hello.session_id)
        call = self._channels.stub(address).Attach(
            metadata=(("authorization", f"Bearer {token}"),), timeout=_CALL_S, wait_for_ready=True
        )
        try:
            await call.write(AttachRequest(hello=hello))
            await call.done_writing()
            await call.read()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            log.info("decline_not_told", cause=str(error))
        finally:
            call.cancel()
