"""The route CLIENT: a participant's own client publishes, asked through the companion that runs in it."""

import asyncio
from typing import Final

import structlog

from track.control.v1 import control_pb2 as control
from track.control.v1.control_pb2 import Reply
from track.v1 import event_pb2, publication_pb2, publication_update_pb2, track_pb2
from track.v1.publication_pb2 import DeviceKind, Publication
from track_server.control.commands import Target, plan_of
from track_server.control.targets import connection_of
from track_server.deadline import Deadline
from track_server.errors import (
    CompanionMissing,
    InvalidField,
    InvalidOptions,
    NotSupported,
    ParticipantNotFound,
    PublicationNotFound,
    SourceInUse,
    TargetPermission,
)
from track_server.lifetime import Closing, Tasks
from track_server.publishing.attempts import wanted_now
from track_server.publishing.client.commands import Clients
from track_server.publishing.client.publication import ClientPublication
from track_server.publishing.client.steps import to_withdraw
from track_server.publishing.ids import made_up
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.routes import CLIENT
from track_server.rooms.permissions import may_publish
from track_server.rooms.reading import roster
from track_server.rooms.room import LiveRoom

log = structlog.get_logger(__name__)

_CHANGE_S: Final = 60.0
"""How long a change is followed, whether or not its caller is still there."""
_APP_KINDS: Final = (DeviceKind.DEVICE_KIND_APP_VIDEO, DeviceKind.DEVICE_KIND_APP_AUDIO)


class ClientRoute(Closing):
    """Owner of the publications by clients, `async with`. See Route."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._followed: dict[str, ClientPublication] = {}
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Lets go of the publications; they stay wanted. May be called twice."""
        await self._tasks.aclose()

    async def refuse(self, publication: Publication, live: LiveRoom | None) -> None:
        """Raises ParticipantNotFound, TargetPermission, SourceInUse, NotSupported, InvalidField, CompanionMissing with
        the plan as its detail, and what Companion raises."""
        if made_up(publication):
            raise InvalidField("say whose client is to publish it", field="participant_identity")
        if live is None:
            raise InvalidOptions("a room is not created for a client, which is in one already", field="create_room")
        participant = await self._participant(live, publication.participant_identity)
        if not may_publish(participant, publication.type, publication.spec.source):
            raise TargetPermission(
                f"participant {participant.identity!r} may not publish this source", field="participant_identity"
            )
        if not participant.permission.can_publish_data:
            raise TargetPermission(
                f"participant {participant.identity!r} may not publish data, without which its client cannot answer",
                field="participant_identity",
            )
        try:
            target = connection_of(live.name, participant)
            able = await self._clients.companion.capabilities(target, anew=True)
        except CompanionMissing as error:
            error.detail = plan_of(publication, publication.spec)
            raise
        _refuse_beyond(able, publication)
        # Nothing may be waited for after it: of calls at the same time only one has the source.
        self._refuse_second(publication, live)

    def kick(self, publication: Publication) -> None:
        """Tells who follows the publication; begins to where nobody does."""
        followed = self._followed.get(publication.publication_id)
        if followed is not None:
            followed.kick()
        elif publication.state != ENDED:
            self._follow(publication)

    def restore(self) -> None:
        """Follows all publications that an earlier run left; also those that have ended, whose clients may not know."""
        for found in self._clients.book.of_route(CLIENT):
            if found.state != ENDED or to_withdraw(found):
                self._follow(found)

    def happened(self, room: str, event: event_pb2.RoomEvent) -> None:
        """See Rooms.listen."""
        if event.WhichOneof("change") != "participant_left":
            return
        if event.participant_left.disconnect_reason != "PARTICIPANT_REMOVED":
            return
        for followed in self._followed.values():
            if (followed.room, followed.identity) == (room, event.participant_left.identity):
                followed.removed()

    def publishes(self, publication: Publication) -> bool:
        """Whether the client can be asked to change it now."""
        followed = self._followed.get(publication.publication_id)
        return followed is not None and followed.published

    async def update(self, publication: Publication) -> Reply:
        """Has the client publish it as it says now. See ClientPublication.change."""

        async def do(target: Target) -> Reply:
            return await self._clients.companion.update(
                target,
                publication.track_sid,
                plan_of(publication, wanted_now(publication), restored=True),
                Deadline.after(_CHANGE_S),
            )

        return await self._followed_of(publication).change(do, Deadline.after(_CHANGE_S))

    async def restart(
        self,
        publication: Publication,
        level: "publication_update_pb2.RestartLevel.ValueType",
        deadline: Deadline,
        *,
        graceful: bool = False,
    ) -> Reply:
        """Has the client send a keyframe (KEYFRAME), or publish anew (REPUBLISH). See ClientPublication.change."""

        async def do(target: Target) -> Reply:
            return await self._clients.companion.restart(
                target, publication.track_sid, level, Deadline.after(_CHANGE_S), graceful=graceful
            )

        return await self._followed_of(publication).change(do, deadline)

    async def _participant(self, live: LiveRoom, identity: str) -> track_pb2.Participant:
        known = live.model.participants.get(identity)
        if known is None:
            # It may have joined a moment ago.
            everybody = await roster(self._clients.api, live.name)
            known = everybody.participants.get(identity) if identity not in everybody.hidden else None
        if known is None:
            raise ParticipantNotFound(f"participant {identity!r} is not in the room", field="participant_identity")
        return known

    def _refuse_second(self, publication: Publication, live: LiveRoom) -> None:
        identity, source = publication.participant_identity, publication.spec.source
        for found in self._clients.book.active_of(publication.room, identity, CLIENT):
            if found.spec.source == source and found.publication_id != publication.publication_id:
                raise SourceInUse(
                    f"the client of participant {identity!r} has publication {found.publication_id} of that source",
                    field="spec.source",
                    metadata={"publication_id": found.publication_id},
                )
        for track in live.model.tracks.values():
            if track.participant_identity == identity and track.source == source:
                raise SourceInUse(
                    f"participant {identity!r} publishes that source itself, as track {track.sid}",
                    field="spec.source",
                    metadata={"track_sid": track.sid},
                )

    def _followed_of(self, publication: Publication) -> ClientPublication:
        try:
            return self._followed[publication.publication_id]
        except KeyError:
            raise PublicationNotFound("no client publishes it", field="publication_id") from None

    def _follow(self, publication: Publication) -> None:
        followed = ClientPublication(
            self._clients, publication.room, publication.participant_identity, publication.publication_id
        )
        self._followed[publication.publication_id] = followed
        self._tasks.spawn(self._run(followed), name=f"client {publication.publication_id}")

    async def _run(self, followed: ClientPublication) -> None:
        while True:
            try:
                await followed.run()
            except Exception:
                # The publication stays wanted: a fault of ours must not lose it.
                log.exception("client_publication_broke", publication_id=followed.publication_id)
                await asyncio.sleep(1.0)
            else:
                break
            finally:
                await followed.aclose()
        del self._followed[followed.publication_id]


def _refuse_beyond(able: control.Capabilities, publication: Publication) -> None:
    """Raises NotSupported where the client offers no such device or codec."""
    device = publication.spec.device
    kind = DeviceKind.Name(device.kind).removeprefix("DEVICE_KIND_")
    if "publish" not in able.actions or device.kind not in able.devices:
        raise NotSupported(f"the client offers no {kind}", field="spec.device.kind")
    if device.kind in _APP_KINDS and device.device not in able.app_sources:
        raise NotSupported(f"the client's app offers no source {device.device!r}", field="spec.device.device")
    if publication.type == track_pb2.TRACK_TYPE_VIDEO and able.send_codecs:
        codec = publication_pb2.VideoCodec.Name(publication.spec.video.codec).removeprefix("VIDEO_CODEC_")
        if codec.lower() not in able.send_codecs:
            raise NotSupported(f"the client cannot send {codec}", field="spec.video.codec")
