"""Who calls, and whether the call's declared permission is theirs in the request's room."""

from collections.abc import Awaitable
from typing import Any

from track_server.access.access import Access
from track_server.access.question import Question
from track_server.access.tokens import Authenticator
from track_server.errors import TrackError
from track_server.interceptors.context import Call, Handler
from track_server.interceptors.limits import StrangerLimits
from track_server.interceptors.method import Method


class Authentication:
    """Tells who calls."""

    def __init__(self, authenticator: Authenticator, strangers: StrangerLimits) -> None:
        self._authenticator = authenticator
        self._strangers = strangers

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        if not method.ours:
            return inner
        known, authenticate = self._authenticator.known, self._authenticator.authenticate
        admit = self._strangers.admit

        def handle(request: Any, call: Call) -> Awaitable[Any]:
            call.principal = known(call.authorization)
            return inner(request, call) if call.principal is not None else verify(request, call)

        async def verify(request: Any, call: Call) -> Any:
            authorization = call.authorization
            certificate = _certificate(call) if authorization is None else None
            if certificate is not None:
                call.principal = known(authorization, certificate)
            if call.principal is None:
                admit(call)
                call.principal = await authenticate(authorization, certificate)
            return await inner(request, call)

        return handle


def _certificate(call: Call) -> bytes | None:
    """The client's certificate as PEM, which gRPC has verified; None where the connection has none."""
    return next(iter(call.context.auth_context().get("x509_pem_cert", ())), None)


class Authorisation:
    """Checks the permission that the RPC declares. Whom it acts on is checked further below, where that is known."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        if not method.ours:
            return inner
        admitted, admit, permission = self._access.admitted, self._access.admit, method.permission

        # A coroutine of its own would be resumed through at every message of a stream.
        def handle(request: Any, call: Call) -> Awaitable[Any]:
            return inner(request, call) if admitted(call.caller, permission, call.room) else ask(request, call)

        async def ask(request: Any, call: Call) -> Any:
            await admit(call.caller, permission, call.room)
            return await inner(request, call)

        async def ask_each(request: Any, call: Call) -> Any:
            questions = [(call.caller, Question(permission, room)) for room in (call.room, *call.rooms)]
            for answer in await self._access.review(questions):
                if isinstance(answer, TrackError):
                    raise answer
            return await inner(request, call)

        if method.has_rooms:
            return lambda request, call: (ask_each if call.rooms else handle)(request, call)
        return handle
