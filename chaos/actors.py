"""Who does something all the time: participants with LiveKit's own SDK and API, and callers of TrackService."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from typing import Any, Final

import grpc
from livekit import api, rtc

from tests.livekit_process import LiveKitProcess
from tests.participants import Joined, participant
from tests.track_process import TrackProcess
from track.v1 import metadata_pb2, track_pb2, tracks_pb2
from track_server.lifetime import Closing, Tasks

_STEP_S: Final = (0.0, 0.3)
_PATIENCE_S: Final = 8.0
_AFTER_FAILURE_S: Final = 0.3
_LOOK_S: Final = 0.1
# The SDK itself gives up earlier.
_JOINING_S: Final = 30.0


class Actor(Closing):
    """One participant. ``dice`` decides what it does; it stands still while ``still`` is set."""

    def __init__(self, livekit: LiveKitProcess, room: str, identity: str, dice: random.Random) -> None:
        self._livekit = livekit
        self._room = room
        self._identity = identity
        self._dice = dice
        self._moving = asyncio.Event()
        self._moving.set()
        self._idle = asyncio.Event()
        self._tasks = Tasks()
        self.steps = 0
        self._tasks.spawn(self._live(), name=f"actor {identity}")

    async def aclose(self) -> None:
        """See Closing."""
        await self._tasks.aclose()

    async def hold(self) -> None:
        """Has it stand still; returns once it does, in the room."""
        self._moving.clear()
        await self._idle.wait()

    def go_on(self) -> None:
        """Lets it act again."""
        self._moving.set()
        self._idle.clear()

    async def _live(self) -> None:
        while True:
            try:
                await self._visit()
            except Exception:  # noqa: BLE001  all of what the SDK raises while its server is away
                await asyncio.sleep(_AFTER_FAILURE_S)

    async def _rest(self, joined: Joined) -> None:
        """Waits for the next step, or as long as it is to stand still. Raises ConnectionError where it is out."""
        await asyncio.sleep(self._dice.uniform(*_STEP_S))
        while not self._moving.is_set():
            if joined.connection_state == rtc.ConnectionState.CONN_DISCONNECTED:
                self._idle.clear()
                raise ConnectionError
            if joined.connection_state == rtc.ConnectionState.CONN_CONNECTED:
                self._idle.set()
            await asyncio.sleep(_LOOK_S)

    async def _visit(self) -> None:
        visiting = participant(
            self._livekit, self._room, self._identity, auto_subscribe=False, can_update_own_metadata=True
        )
        # Never cancelled: the SDK ends its process where nobody takes a connection that it has made.
        joining = asyncio.ensure_future(visiting.__aenter__())
        try:
            joined = await asyncio.shield(joining)
        except asyncio.CancelledError:
            await asyncio.wait([joining], timeout=_JOINING_S)
            if joining.done() and joining.exception() is None:
                await _within(visiting.__aexit__(None, None, None), _PATIENCE_S)
            raise
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(_within, visiting.__aexit__(None, None, None), _PATIENCE_S)
            visit = _Visit(joined, self._livekit, self._dice)
            for _ in range(self._dice.randint(5, 60)):
                if joined.connection_state != rtc.ConnectionState.CONN_CONNECTED:
                    break
                await self._rest(joined)
                async with asyncio.timeout(_PATIENCE_S):
                    await visit.step()
                self.steps += 1


class _Visit:
    """What a participant does between joining and leaving."""

    def __init__(self, joined: Joined, livekit: LiveKitProcess, dice: random.Random) -> None:
        self._joined = joined
        self._livekit = livekit
        self._dice = dice
        self._media: list[rtc.LocalTrackPublication] = []
        self._data: list[Any] = []

    async def step(self) -> None:
        """Does one thing."""
        doings = [self._describe, self._rename, self._publish, self._publish_data, self._mute, self._unpublish]
        await self._dice.choice([*doings, self._mute, self._describe, self._permit])()

    async def _describe(self) -> None:
        await self._joined.local_participant.set_attributes({f"k{self._dice.randint(0, 3)}": str(self._dice.random())})

    async def _rename(self) -> None:
        await self._joined.local_participant.set_name(f"name {self._dice.random()}")

    async def _publish(self) -> None:
        if len(self._media) >= 2:
            return
        track = rtc.LocalAudioTrack.create_audio_track(f"mic{self._dice.random()}", rtc.AudioSource(48000, 1))
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        self._media.append(await self._joined.local_participant.publish_track(track, options))

    async def _publish_data(self) -> None:
        if len(self._data) < 3:
            name = f"data{self._dice.random()}"
            self._data.append(await self._joined.local_participant.publish_data_track(name=name))

    async def _mute(self) -> None:
        if self._media:
            track = self._dice.choice(self._media).track
            assert isinstance(track, rtc.LocalAudioTrack)
            (track.unmute if track.muted else track.mute)()

    async def _unpublish(self) -> None:
        if self._data and self._dice.random() < 0.5:
            await self._data.pop(self._dice.randrange(len(self._data))).unpublish()
        elif self._media:
            gone = self._media.pop(self._dice.randrange(len(self._media)))
            await self._joined.local_participant.unpublish_track(gone.sid)

    async def _permit(self) -> None:
        """The application changes what the participant may do."""
        allowed = api.ParticipantPermission(
            can_subscribe=self._dice.random() < 0.5,
            can_publish=True,
            can_publish_data=True,
            can_update_metadata=True,
        )
        me = self._joined.local_participant.identity
        request = api.UpdateParticipantRequest(room=self._joined.name, identity=me, permission=allowed)
        async with api.LiveKitAPI(self._livekit.http_url, self._livekit.api_key, self._livekit.api_secret) as client:
            await client.room.update_participant(request)


class Operator(Closing):
    """A caller of TrackService: mutes tracks and sets their metadata; ``tracks`` tells which there are."""

    def __init__(
        self, track: TrackProcess, room: str, tracks: Callable[[], Iterable[track_pb2.Track]], dice: random.Random
    ) -> None:
        self._track = track
        self._room = room
        self._tracks = tracks
        self._dice = dice
        self._moving = asyncio.Event()
        self._moving.set()
        self._turn = asyncio.Lock()
        self._tasks = Tasks()
        self.answered = 0
        self._tasks.spawn(self._live(), name=f"operator {room}")

    async def aclose(self) -> None:
        """See Closing."""
        await self._tasks.aclose()

    async def hold(self) -> None:
        """Has it stand still; returns once it does."""
        self._moving.clear()
        async with self._turn:
            pass

    def go_on(self) -> None:
        """Lets it act again."""
        self._moving.set()

    async def _live(self) -> None:
        while True:
            await asyncio.sleep(self._dice.uniform(0.1, 1.0))
            await self._moving.wait()
            tracks = sorted(self._tracks(), key=lambda track: track.sid)
            if tracks:
                async with self._turn:
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await self._act(self._dice.choice(tracks))
                        self.answered += 1

    async def _act(self, track: track_pb2.Track) -> None:
        async with self._track.client("operator", room_admin=True, room=self._room) as client:
            if track.type == track_pb2.TRACK_TYPE_AUDIO and self._dice.random() < 0.4:
                mute = tracks_pb2.MuteTracksRequest(room=self._room, tracks=[tracks_pb2.TrackRef(track_sid=track.sid)])
                await client.MuteTracks(mute, timeout=_PATIENCE_S)
            else:
                change = metadata_pb2.SetTrackMetadataRequest(room=self._room, track_sid=track.sid)
                change.replace["number"] = self._dice.random()
                await client.SetTrackMetadata(change, timeout=_PATIENCE_S)


async def _within(work: Any, seconds: float) -> None:
    with contextlib.suppress(Exception):
        await asyncio.wait_for(work, seconds)
