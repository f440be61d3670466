"""The route INGRESS: LiveKit Ingress publishes what it pulls or accepts."""

import asyncio
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

import structlog

from track.v1 import event_pb2
from track.v1.publication_pb2 import Publication
from track_server.errors import IdentityInUse, InvalidField, MediaNotAllowed, NotSupported
from track_server.lifetime import Closing, Tasks
from track_server.livekit.ingress import CODECS
from track_server.publishing.ingress.publication import IngressPublication
from track_server.publishing.ingress.remnant import KIND, Ingresses
from track_server.publishing.lifecycle import ENDED
from track_server.publishing.routes import CLIENT, INGRESS
from track_server.rooms.reading import roster
from track_server.rooms.room import LiveRoom
from track_server.store.records import StoreError

log = structlog.get_logger(__name__)

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "rtmp": 1935, "rtmps": 443, "srt": 0}
"""Of the URLs that Ingress pulls; an srt URL always names its port."""


class IngressRoute(Closing):
    """Owner of the publications by Ingress, `async with`. See Route. ``url_hosts``: where media may come from."""

    def __init__(self, parts: Ingresses, url_hosts: Collection[str]) -> None:
        self._parts = parts
        self._url_hosts = frozenset(entry.lower() for entry in url_hosts)
        self._followed: dict[str, IngressPublication] = {}
        self._tasks = Tasks()

    async def aclose(self) -> None:
        """Lets go of the publications; they stay wanted. May be called twice."""
        await self._tasks.aclose()

    async def refuse(self, publication: Publication, live: LiveRoom | None) -> None:
        """Raises InvalidField, MediaNotAllowed, NotSupported, IdentityInUse, and IngressUnavailable where LiveKit runs
        without Redis; whether an Ingress answers is seen only when one is asked."""
        self._refuse_url(publication)
        spec = publication.spec
        if spec.HasField("video") and spec.video.codec not in CODECS:
            raise NotSupported("LiveKit Ingress encodes VP8 and H264", field="spec.video.codec")
        if spec.video.degradation_preference:
            raise NotSupported("LiveKit Ingress does not take it", field="spec.video.degradation_preference")
        await self._parts.ingress.of_room(publication.room)
        identity = publication.participant_identity
        if live is not None:
            present = live.model.participants.get(identity)
            # It may have joined a moment ago, or be hidden: signalling does not tell.
            present = present or (await roster(self._parts.api, live.name)).participants.get(identity)
            if present is not None:
                raise _in_use(identity)
        # Nothing may be waited for after it: of calls at the same time only one has the identity.
        for found in self._parts.book.active():
            same = (found.room, found.participant_identity) == (publication.room, identity)
            if same and found.route != CLIENT and found.publication_id != publication.publication_id:
                raise _in_use(identity)

    def kick(self, publication: Publication) -> None:
        """Tells who follows the publication; begins to where nobody does."""
        followed = self._followed.get(publication.publication_id)
        if followed is not None:
            followed.kick()
        elif publication.state != ENDED:
            self._follow(publication.room, publication.participant_identity, publication.publication_id)

    def restore(self) -> None:
        """Follows what an earlier run left; also ingresses that are left of publications that have ended."""
        for found in self._parts.book.active():
            if found.route == INGRESS:
                self._follow(found.room, found.participant_identity, found.publication_id)
        self._tasks.spawn(self._restore_left(), name="ingresses left")

    def happened(self, room: str, event: event_pb2.RoomEvent) -> None:
        """See Rooms.listen."""
        left = event.participant_left
        if event.WhichOneof("change") == "participant_left" and left.disconnect_reason == "PARTICIPANT_REMOVED":
            for followed in self._followed.values():
                if (followed.room, followed.identity) == (room, left.identity):
                    followed.removed()

    def _refuse_url(self, publication: Publication) -> None:
        url = self._parts.book.whole(publication).spec.ingress.url
        if not url:
            return
        field = "spec.ingress.url"
        try:
            parts = urlsplit(url)
            port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
        except ValueError as error:
            raise InvalidField("the URL is malformed", field=field) from error
        if parts.scheme not in DEFAULT_PORTS:
            raise MediaNotAllowed("only http, https, rtmp, rtmps and srt URLs are allowed", field=field)
        # Of several @ the last one counts for us, and for GStreamer the first one: it would call another host.
        ambiguous = parts.netloc.count("@") > 1 or any(mark in url for mark in " \\")
        if not parts.hostname or not url.isprintable() or ambiguous:
            raise InvalidField("the URL is malformed", field=field)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        own = port == DEFAULT_PORTS[parts.scheme]
        if f"{host}:{port}" not in self._url_hosts and not (host in self._url_hosts and own):
            raise MediaNotAllowed("the URL's host is not allowed by TRACK_MEDIA_URL_HOSTS", field=field)

    async def _restore_left(self) -> None:
        try:
            records = await self._parts.store.list(KIND)
        except StoreError as error:
            log.warning("ingresses_left_not_read", reason=str(error))
            return
        for record in records:
            if record.key not in self._followed:
                self._follow(record.room, "", record.key, record.body.decode())

    def _follow(self, room: str, identity: str, publication_id: str, ingress_id: str = "") -> None:
        followed = IngressPublication(self._parts, room, identity, publication_id, ingress_id)
        self._followed[publication_id] = followed
        self._tasks.spawn(self._run(followed), name=f"ingress {publication_id}")

    async def _run(self, followed: IngressPublication) -> None:
        while True:
            try:
                await followed.run()
            except Exception:
                # The publication stays wanted: a fault of ours must not lose it.
                log.exception("ingress_publication_broke", publication_id=followed.publication_id)
                await asyncio.sleep(1.0)
            else:
                break
        del self._followed[followed.publication_id]


def _in_use(identity: str) -> IdentityInUse:
    return IdentityInUse(
        f"participant {identity!r} is in the room, or another publication's; an ingress has a participant of its own",
        field="participant_identity",
    )
