"""LiveKit's job dispatch, from the worker's side.

The protocol is `livekit_agent.proto`, protobuf over the WebSocket `/agent`: a worker registers under an agent name,
LiveKit offers it a job for every dispatch to that name, and sends the token for the room once the offer is taken.
Facts about it were read in livekit-server 1.13.5 (`pkg/agent/worker.go`, `pkg/service/agentservice.go`).
"""

import asyncio
import contextlib
import dataclasses
import random
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol, Self

import structlog
from livekit.protocol import agent, models

from track_server import errors
from track_server.lifetime import Closing, Tasks
from track_server.livekit import agent_socket

log = structlog.get_logger(__name__)

LIVEKIT_TARGET_LOAD: Final = 0.7
"""LiveKit's default `agents.target_load`. A worker that reports this load or more gets no jobs, not even as the last
one: its claim is max(0, target - load), and a claim of 0 is not taken (psrpc `selectServer`)."""

_HIGHEST_LOAD: Final = 0.99 * LIVEKIT_TARGET_LOAD

PUBLISHER_PERMISSION: Final = models.ParticipantPermission(can_publish=True, can_publish_data=True)
"""What a participant needs that publishes media and data tracks and receives nothing."""

_VERSION: Final = "1"
_PING_INTERVAL_S: Final = 10.0
_SILENCE_S: Final = 25.0
"""Without a message for so long (two pongs missed), the connection is taken for dead."""
_OFFER_LAPSES_S: Final = 15.0
"""LiveKit assigns an accepted job at once or, where its own 10 s have run out, never."""
_FIRST_DELAY_S: Final = 0.5
_LAST_DELAY_S: Final = 10.0


@dataclasses.dataclass(frozen=True)
class ServerInfo:
    """What a LiveKit server says about itself."""

    version: str
    region: str
    node_id: str
    protocol: int


@dataclasses.dataclass(frozen=True)
class Accept:
    """Takes a job: the participant that will join, as LiveKit writes it into the token."""

    identity: str
    name: str = ""
    metadata: str = ""
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Decline:
    """Refuses a job. LiveKit offers it to the next worker, unless it is `final`: then nobody gets it."""

    final: bool = False


class JobHandler(Protocol):
    """What a worker does with jobs. Called on the event loop; must not block and must not raise."""

    def job_offered(self, job: agent.Job) -> Accept | Decline:
        """Decide on an offer. An accepted job is followed by `job_assigned` or `job_lapsed`."""

    def job_assigned(self, job: agent.Job, url: str, token: str) -> None:
        """Do the job: `token` joins the room; `url` is empty where the worker's own is meant (always, in 1.13.5)."""

    def job_lapsed(self, job_id: str) -> None:
        """An accepted job was never assigned, and no longer will be."""

    def job_terminated(self, job_id: str) -> None:
        """LiveKit regards the job as over: its dispatch was deleted, or its participant has left the room."""


class JobWorker(Closing):
    """A worker registered with LiveKit under `agent_name`, for as long as the context lasts.

    It reconnects by itself, with back-off and jitter; jobs that run live on meanwhile, but LiveKit forgets them.
    `on_registered` is called after every registration.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        api_secret: str,
        agent_name: str,
        handler: JobHandler,
        permission: models.ParticipantPermission = PUBLISHER_PERMISSION,
        on_registered: Callable[[], None] = lambda: None,
    ) -> None:
        self._url = url
        self._api_key = api_key
        self._api_secret = api_secret
        self._handler = handler
        self._on_registered = on_registered
        self._registration = agent.RegisterWorkerRequest(
            type=agent.JT_ROOM,
            agent_name=agent_name,
            version=_VERSION,
            ping_interval=int(_PING_INTERVAL_S),
            allowed_permissions=permission,
        )
        self._status = agent.UpdateWorkerStatus(status=agent.WS_AVAILABLE)
        self._draining = False
        self._lapses: dict[str, asyncio.TimerHandle] = {}
        self._outbox: asyncio.Queue[agent.WorkerMessage] = asyncio.Queue()
        self._registered = asyncio.Event()
        self._tasks = Tasks()
        self.worker_id = ""
        """LiveKit's id of this worker; a new one with every registration, empty before the first."""
        self.server_info: ServerInfo | None = None
        """The server of the latest registration."""

    async def __aenter__(self) -> Self:
        self._tasks.spawn(self._stay_registered(), name="livekit-jobs")
        return self

    async def aclose(self) -> None:
        """Leave LiveKit. Jobs are the handler's matter. May be called twice."""
        await self._tasks.aclose()
        for timer in self._lapses.values():
            timer.cancel()
        self._lapses.clear()

    def sign_with(self, api_key: str, api_secret: str) -> None:
        """Connect with this key from the next connection on; LiveKit asks for none on the present one."""
        self._api_key, self._api_secret = api_key, api_secret

    async def registered(self) -> None:
        """Wait until the worker is registered."""
        await self._registered.wait()

    def set_load(self, sessions: int, max_sessions: int) -> None:
        """Tell LiveKit how busy the worker is.

        At `max_sessions` it still gets offers, the fewest, and must decline them: it alone can tell whoever asked for
        the job that there are workers, and that they are full.
        """
        self._status = agent.UpdateWorkerStatus(
            status=agent.WS_FULL if self._draining else agent.WS_AVAILABLE,
            load=_HIGHEST_LOAD * min(1.0, sessions / max_sessions),
            job_count=sessions,
            draining=self._draining,
        )
        self._send(agent.WorkerMessage(update_worker=self._status))

    def drain(self) -> None:
        """Take no more jobs, for good; those that run go on."""
        self._draining = True
        self._status.status = agent.WS_FULL
        self._status.draining = True
        self._send(agent.WorkerMessage(update_worker=self._status))

    def set_job_status(self, job_id: str, status: agent.JobStatus, error: str = "") -> None:
        """Tell LiveKit the state of a job: JS_SUCCESS and JS_FAILED end it. A job it no longer knows is ignored."""
        self._send(agent.WorkerMessage(update_job=agent.UpdateJobStatus(job_id=job_id, status=status, error=error)))

    def _send(self, message: agent.WorkerMessage) -> None:
        # While away nothing is kept: LiveKit has forgotten the jobs, and the load is sent anew after registration.
        if self._registered.is_set():
            self._outbox.put_nowait(message)

    async def _stay_registered(self) -> None:
        failures = 0
        while True:
            try:
                async with agent_socket.connect(self._url, self._api_key, self._api_secret) as socket:
                    await self._work(socket)
            except errors.TrackError as error:
                log.warning("livekit_worker_away", reason=error.message, cause=str(error.__cause__ or ""))
            failures = 1 if self._registered.is_set() else failures + 1
            self._registered.clear()
            self._outbox = asyncio.Queue()
            await asyncio.sleep(_delay(failures))

    async def _work(self, socket: agent_socket.AgentSocket) -> None:
        answer = await socket.register(self._registration)
        self.worker_id, self.server_info = answer.worker_id, _server_info(answer)
        self._registered.set()
        self._send(agent.WorkerMessage(update_worker=self._status))
        self._on_registered()
        log.info("livekit_worker_registered", worker_id=self.worker_id, livekit_version=self.server_info.version)
        helpers = [
            asyncio.create_task(self._write(socket), name="livekit-jobs-writer"),
            asyncio.create_task(self._ping(), name="livekit-jobs-ping"),
        ]
        try:
            while True:
                self._handle(await socket.receive(_SILENCE_S))
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.wait(helpers)

    async def _write(self, socket: agent_socket.AgentSocket) -> None:
        # A broken socket ends the reader, which ends this.
        with contextlib.suppress(errors.LiveKitUnavailable):
            while True:
                await socket.send(await self._outbox.get())

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(_PING_INTERVAL_S)
            self._send(agent.WorkerMessage(ping=agent.WorkerPing(timestamp=time.time_ns() // 1_000_000)))

    def _handle(self, message: agent.ServerMessage) -> None:
        match message.WhichOneof("message"):
            case "availability":
                self._answer_offer(message.availability.job)
            case "assignment":
                job = message.assignment.job
                if (timer := self._lapses.pop(job.id, None)) is not None:
                    timer.cancel()
                    self._handler.job_assigned(job, message.assignment.url, message.assignment.token)
                else:
                    # It came so late that its place was given away.
                    self.set_job_status(job.id, agent.JS_FAILED, "assigned too late")
            case "termination":
                self._handler.job_terminated(message.termination.job_id)
            case _:
                pass

    def _answer_offer(self, job: agent.Job) -> None:
        decision = Decline() if self._draining else self._handler.job_offered(job)
        answer = agent.AvailabilityResponse(job_id=job.id)
        if isinstance(decision, Accept):
            answer.available = True
            answer.participant_identity = decision.identity
            answer.participant_name = decision.name
            answer.participant_metadata = decision.metadata
            answer.participant_attributes.update(decision.attributes)
            loop = asyncio.get_running_loop()
            self._lapses[job.id] = loop.call_later(_OFFER_LAPSES_S, self._lapse, job.id)
        else:
            answer.terminate = decision.final
        self._send(agent.WorkerMessage(availability=answer))

    def _lapse(self, job_id: str) -> None:
        del self._lapses[job_id]
        self._handler.job_lapsed(job_id)


async def probe(url: str, api_key: str, api_secret: str) -> ServerInfo:
    """Ask a LiveKit server who it is, and whether it takes the key, by registering under a name nobody dispatches to.

    Raises LiveKitCredentials, or LiveKitUnavailable where it does not answer within 5 s.
    """
    registration = agent.RegisterWorkerRequest(
        type=agent.JT_ROOM, agent_name=f"probe-{secrets.token_hex(8)}", version=_VERSION
    )
    async with agent_socket.connect(url, api_key, api_secret) as socket:
        return _server_info(await socket.register(registration))


def _server_info(answer: agent.RegisterWorkerResponse) -> ServerInfo:
    info = answer.server_info
    return ServerInfo(version=info.version, region=info.region, node_id=info.node_id, protocol=info.protocol)


def _delay(failures: int) -> float:
    """Seconds to wait before the next try: doubling, between half and all of it at random."""
    return min(_LAST_DELAY_S, _FIRST_DELAY_S * float(2 ** min(failures - 1, 10))) * random.uniform(0.5, 1.0)
