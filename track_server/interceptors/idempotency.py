"""Mutations that are sent again have no second effect.

A mutation with a `request_id` runs in a task of its own; whoever sends it meanwhile waits for the same task, and
whoever sends it later, within 24 hours and also after a restart, gets the answer that was kept. Only answers are kept,
not errors: a later try runs again, under the same `Call.operation_key`. So does one that was running when the process
died. What must happen once in spite of that is to be named after the operation key.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from track_server.errors import Draining, RequestIdReused
from track_server.interceptors.context import Call, Handler
from track_server.interceptors.method import ContractError, Method
from track_server.lifetime import Closing
from track_server.store.records import Store, StoreError

log = structlog.get_logger(__name__)

_KIND: Final = "request"
_KEPT_S: Final = 24 * 3600.0
_DIGEST_BYTES: Final = 32
# On top of the time that all calls have to end.
_CLOSE_S: Final = 2.0


@dataclass(slots=True)
class _Running:
    """A mutation that runs. ``contents``: digest of the request that began it."""

    contents: bytes
    task: asyncio.Task[bytes]


class Idempotency(Closing):
    """Runs each mutation once per principal (identity and rights), RPC and `request_id`. `async with` owns what runs.

    ``store``: None where no mutation is served. ``clock`` gives seconds since 1970 UTC.
    """

    def __init__(self, store: Store | None, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._running: dict[str, _Running] = {}

    async def aclose(self) -> None:
        """Give mutations whose callers are gone a few seconds to finish, then cancel them. May be called twice."""
        tasks = [running.task for running in self._running.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        if not method.mutation:
            return inner
        store = self._store
        if store is None:
            raise ContractError(f"{method.path} is a mutation, but what it answers can be kept nowhere.")

        async def handle(request: Any, call: Call) -> Any:
            # What does nothing is not kept: the same request_id may then be used for doing it.
            if not request.request_id or request.validate_only:
                call.operation_key = os.urandom(16).hex()
                return await inner(request, call)
            key = call.operation_key = operation_key(call.caller.rights, method.path, request.request_id)
            contents = contents_digest(request)
            running = self._running.get(key)
            if running is None:
                task = asyncio.create_task(
                    self._execute(store, key, contents, request, call, inner), name=f"mutation {key}"
                )
                running = self._running[key] = _Running(contents, task)
                task.add_done_callback(lambda done: self._finished(key, done))
            elif running.contents != contents:
                raise _reused()
            else:
                call.recorded = True  # by the row of the call that began it
            try:
                # The caller may go; the mutation stays.
                return await asyncio.shield(running.task)
            except asyncio.CancelledError:
                if running.task.cancelled():
                    raise Draining("the server is shutting down") from None
                raise

        return handle

    async def _execute(
        self, store: Store, key: str, contents: bytes, request: Any, call: Call, inner: Handler
    ) -> bytes:
        kept = await store.get(_KIND, call.room, key)
        if kept is not None:
            if kept.body[:_DIGEST_BYTES] != contents:
                raise _reused()
            return kept.body[_DIGEST_BYTES:]
        response = await inner(request, call)
        answer: bytes = response if type(response) is bytes else call.method.encode(response)
        keeping = self._keep(store, key, contents + answer, call)
        if call.recording is None:
            await keeping
        else:
            # The row first: an answer that is kept, and given out after a crash, must not lack it. Asked for together,
            # they share a transaction, and with it the wait for the disk.
            await asyncio.gather(asyncio.shield(call.recording), keeping)
        return answer

    async def _keep(self, store: Store, key: str, body: bytes, call: Call) -> None:
        try:
            await store.put(_KIND, call.room, key, body, expire_time=self._clock() + _KEPT_S)
        except StoreError:
            # It has happened, and the caller should know. Sent again it would run again, under the same operation key.
            log.exception("answer_not_kept", method=call.method.path, request_id=call.request_id)

    def _finished(self, key: str, task: asyncio.Task[bytes]) -> None:
        del self._running[key]
        if not task.cancelled():
            task.exception()  # whoever waits raises it; where all are gone, it is nobody's


def operation_key(rights: bytes, path: str, request_id: str) -> str:
    """What names a mutation: SHA-256 over who calls, which RPC, and the `request_id`, in hexadecimal.

    ``rights``: `Principal.rights`, not the identity alone: whoever has a lesser token of the same identity must not be
    handed the answer that a greater one was given.
    """
    digest = hashlib.sha256()
    for raw in (rights, path.encode(), request_id.encode()):
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return digest.hexdigest()


def contents_digest(request: Any) -> bytes:
    """SHA-256 over the request without its `request_id`."""
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("request_id")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).digest()


def _reused() -> RequestIdReused:
    return RequestIdReused("the request_id was used before with other contents", field="request_id")
