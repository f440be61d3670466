"""The record of operations: every mutation, and every denial of a known principal; strangers are counted.

Operations are recorded innermost, where they happen once, however often they are sent; denials outermost, whoever
denies. Not recorded are calls that are refused before they are looked at: malformed ones, those beyond a limit, those
that come while the server shuts down, and a `request_id` that was used for something else.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import Message
from google.rpc import code_pb2
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from track.v1.audit_pb2 import AuditEntry
from track.v1.error_pb2 import Problem
from track_server.audit.entry import Operation, address_of, entry_of
from track_server.audit.recorder import Recorder
from track_server.audit.strangers import Strangers
from track_server.errors import Internal, TrackError, Unauthenticated
from track_server.interceptors.context import Call, Handler
from track_server.interceptors.errors import cancelled, public
from track_server.interceptors.method import ContractError, Method

_DENIED: Final = code_pb2.PERMISSION_DENIED


class Operations:
    """Records mutations, and RPCs that are declared `recorded`, with what became of them.

    A store that cannot be written fails them before they have an effect, as far as that is known: by how its last write
    ended. Where the row itself cannot be written although the effect is there, the caller is told of the effect, as
    nothing would be undone by telling it otherwise; the entry is then in the log.
    """

    def __init__(self, recorder: Recorder | None) -> None:
        self._recorder = recorder

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        if not (method.mutation or method.recorded):
            return inner
        recorder = self._recorder
        if recorder is None:
            raise ContractError(f"{method.path} is to be recorded, but there is no store.")

        async def handle(request: Any, call: Call) -> Any:
            await recorder.require_writable()
            call.recorded = True
            try:
                response = await inner(request, call)
            except asyncio.CancelledError:
                # The caller is gone: nobody waits for the row, and the recorder sees to it.
                call.recording = recorder.begin(_entry(call, None, _given_up(call)))
                raise
            except Exception as error:
                await recorder.write(_entry(call, None, _problem(error)))
                raise
            # Not awaited here: the answer is kept in the same transaction. `Denials` and Idempotency wait for both.
            call.recording = recorder.begin(_entry(call, response, None))
            return response

        return handle


class Denials:
    """Records denials of known principals, of streams too, and counts the calls of strangers.

    Outside of everything that may deny, and the last to see an answer: it waits for the row that stands for it.
    """

    def __init__(self, recorder: Recorder | None, strangers: Strangers) -> None:
        self._recorder = recorder
        self._strangers = strangers

    def wrap(self, method: Method, inner: Handler) -> Handler:
        """See Concern."""
        if not method.ours:
            return inner

        outlives = method.mutation

        async def handle(request: Any, call: Call) -> Any:
            if outlives:
                call.peer = call.context.peer()
            try:
                response = await inner(request, call)
            except Unauthenticated as error:
                self._strangers.count(error.cause, address_of(call.context.peer()))
                raise
            except (TrackError, ExceptionGroup) as error:
                await self._denied(call, error)
                raise
            if call.recording is not None:
                await asyncio.shield(call.recording)
            return response

        return handle

    async def _denied(self, call: Call, error: Exception) -> None:
        found = public(error)
        if found is None or found.code != _DENIED or call.principal is None or call.recorded or self._recorder is None:
            return
        call.recorded = True
        await self._recorder.write(_entry(call, None, found.problem()))


class RecordMetrics(Collector):
    """What is recorded and counted here, for Prometheus; registers itself with the registry."""

    def __init__(self, recorder: Recorder | None, strangers: Strangers, registry: CollectorRegistry) -> None:
        self._recorder = recorder
        self._strangers = strangers
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The metrics as they stand."""
        if (recorder := self._recorder) is not None:
            yield CounterMetricFamily("track_audit_entries", "Entries of the record written.", value=recorder.written)
            yield CounterMetricFamily(
                "track_audit_failures", "Entries of the record that went to the log instead.", value=recorder.failed
            )
        causes = CounterMetricFamily("track_unauthenticated", "Calls without valid credentials.", labels=("cause",))
        for cause, number in self._strangers.causes.copy().items():
            causes.add_metric((cause,), number)
        addresses = CounterMetricFamily(
            "track_unauthenticated_by_address",
            "Calls without valid credentials by the caller's address; IPv6 by network; all but a hundred together.",
            labels=("address",),
        )
        for address, number in self._strangers.addresses.items():
            addresses.add_metric((address,), number)
        yield from (causes, addresses)


def _entry(call: Call, response: Any, failure: Problem | None) -> AuditEntry:
    took_s = time.monotonic() - call.started
    return entry_of(
        Operation(
            method=call.method.path,
            permission=call.method.permission,
            request_id=call.request_id,
            principal=call.caller.message,
            peer=call.peer or call.context.peer(),
            room=call.room,
            begin_time=time.time() - took_s,
            duration_s=took_s,
            request=call.request,
            response=response if isinstance(response, Message) else None,
            failure=failure,
        )
    )


def _problem(error: Exception) -> Problem:
    found = public(error)
    return Internal("internal error").problem() if found is None else found.problem()


def _given_up(call: Call) -> Problem:
    task = asyncio.current_task()
    # A cancellation that nobody asked for leaked from a task of the handler's.
    leaked = task is None or not task.cancelling()
    return Internal("internal error").problem() if leaked else Problem(code=cancelled(call))
