"""Who calls, and whether the call's declared permission is theirs in the request's room."""

from collections.abc import Awaitable
from typing import Any

from track_server.access.rules import room_check
from track_server.access.tokens import Authenticator
from track_server.interceptors.context import Call, Handler
from track_server.interceptors.method import Method


class Authentication:
    """Tells who calls."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        if not method.ours:
            return inner
        known, authenticate = self._authenticator.known, self._authenticator.authenticate

        def handle(request: Any, call: Call) -> Awaitable[Any]:
            call.principal = known(call.authorization)
            return inner(request, call) if call.principal is not None else verify(request, call)

        async def verify(request: Any, call: Call) -> Any:
            call.principal = await authenticate(call.authorization)
            return await inner(request, call)

        return handle


class Authorisation:
    """Checks the permission that the RPC declares. Whom it acts on is checked further below, where that is known."""

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        if not method.ours:
            return inner
        check = room_check(method.permission)

        # A coroutine of its own would be resumed through at every message of a stream.
        def handle(request: Any, call: Call) -> Awaitable[Any]:
            check(call.caller, call.room)
            return inner(request, call)

        return handle
