"""What a principal asks to be published: completed, and cleared with whoever decides and with the limits."""

import asyncio
from collections.abc import Collection
from pathlib import Path
from typing import Final

from track.v1 import access_pb2, publication_pb2, track_pb2
from track.v1.publication_pb2 import Publication, PublicationSpec
from track_server.access.access import Access
from track_server.access.bounds import Bounds, Description
from track_server.access.principal import Principal
from track_server.access.question import Question
from track_server.errors import PermissionDenied, TrackError
from track_server.mediafile import probe, resolve
from track_server.publishing import attempts, ladder
from track_server.publishing.book import Book
from track_server.publishing.capacity import Capacity
from track_server.publishing.entering import refuse_other_key, refuse_taken_name
from track_server.publishing.questions import plausible
from track_server.publishing.routes import HOSTED
from track_server.publishing.spec import Stream, beside_of, complete, description_of, type_of
from track_server.rooms.room import LiveRoom, now

_MEASURES: Final = ("max_bitrate_bps", "max_width", "max_height", "max_frames_per_second", "codecs")
"""Bounds of how something is sent, not of what it is."""


class Clearance:
    """Clears specs. ``media_dir``, ``url_hosts``: where media files may come from."""

    def __init__(
        self, access: Access, capacity: Capacity, book: Book, *, media_dir: Path | None, url_hosts: Collection[str]
    ) -> None:
        self._access = access
        self._capacity = capacity
        self._book = book
        self._media_dir = media_dir
        self._url_hosts = frozenset(url_hosts)

    async def spec(
        self, principal: Principal, room: str, identity: str, publication_id: str, asked: PublicationSpec
    ) -> tuple[PublicationSpec, "track_pb2.TrackType.ValueType", Bounds]:
        """The spec, completed within what the principal may publish, the type of the track, and the bounds.

        Raises PermissionDenied, InvalidArgument, MediaNotFound, LimitExceeded.
        """

        async def require(description: Description) -> Bounds:
            question = Question(access_pb2.PERMISSION_PUBLISH, room, identity, described=description)
            return await self._access.require(principal, question)

        # First for what is known already: a caller that may not publish must not make us look at files and URLs.
        bounds = await require(plausible(principal, asked))
        if asked.audio.echo_cancellation and not asked.HasField("device"):
            # Of the participant that this service hosts LiveKit says that it receives nothing: it hears by another one.
            await self._access.admit(principal, access_pb2.PERMISSION_SUBSCRIBE, room)
        stream = await self._probe(asked)
        kind = type_of(asked, stream)
        spec = complete(asked, publication_id, stream, self._capacity.narrowed(bounds), self._capacity.max_pixels)
        bounds = await require(description_of(spec, kind))
        bounds.refuse_beyond(description_of(spec, kind), "spec")
        if spec.HasField("ingress"):
            # It publishes what comes: whoever may send the one must be allowed the other.
            beside = beside_of(spec, kind)
            (await require(beside)).refuse_beyond(beside, "spec")
            _refuse_unmeasured(spec, kind, bounds)
        self._capacity.check_track(spec, kind)
        return ladder.within(spec, bounds.codecs), kind, bounds

    def fitted(self, publication: Publication, bounds: Bounds, live: LiveRoom) -> Publication:
        """It in a codec that LiveKit's configuration has. Raises PublishFailed, and PermissionDenied beyond bounds."""
        result = attempts.fitted(publication, live.publishable, now())
        bounds.refuse_beyond(description_of(attempts.wanted_now(result), result.type), "spec")
        return result

    def admit(self, publication: Publication, bounds: Bounds, live: LiveRoom | None) -> None:
        """Raises LimitExceeded, PermissionDenied where there is no room for it, NotSupported where its participant
        publishes with another key, SourceInUse where it has a data track of that name.

        One that is there already is not counted beside itself.
        """
        tracks = live.model.tracks.values() if live is not None else ()
        others = [found for found in self._book.active() if found.publication_id != publication.publication_id]
        self._capacity.admit(publication, others, tracks, bounds)
        if publication.route == HOSTED:
            here = self._book.active_of(publication.room, publication.participant_identity)
            beside = [found for found in here if found.publication_id != publication.publication_id]
            refuse_taken_name(publication, beside)
            refuse_other_key(self._book.whole(publication), [self._book.whole(found) for found in beside])

    def applied(self, publication: Publication) -> list[publication_pb2.AppliedLimit]:
        """The limits that hold for the publication."""
        return self._capacity.applied(publication)

    async def _probe(self, spec: PublicationSpec) -> Stream | None:
        if not spec.HasField("file"):
            return None
        try:
            resolved = resolve(spec.file.uri, self._media_dir, self._url_hosts)
            info = await asyncio.to_thread(probe, resolved, spec.file.type)
        except TrackError as error:
            error.field = f"spec.{error.field}"
            raise
        if spec.file.type != track_pb2.TRACK_TYPE_AUDIO and info.has_video:
            size_and_rate = info.width, info.height, info.frames_per_second
            return Stream(track_pb2.TRACK_TYPE_VIDEO, *size_and_rate, duration_s=info.duration_s)
        return Stream(track_pb2.TRACK_TYPE_AUDIO, duration_s=info.duration_s)


def _refuse_unmeasured(spec: PublicationSpec, kind: "track_pb2.TrackType.ValueType", bounds: Bounds) -> None:
    """Raises PermissionDenied where an ingress would publish video that is not known, and bounds hold for it."""
    if spec.ingress.enable_transcoding and (kind == track_pb2.TRACK_TYPE_VIDEO or spec.HasField("video")):
        return
    bound = next((name for name in _MEASURES if getattr(bounds, name) is not None), None)
    if bound is not None:
        raise PermissionDenied(
            "what comes to the ingress is not known, and the caller may publish within bounds only",
            field="spec.video" if spec.ingress.enable_transcoding else "spec.ingress.enable_transcoding",
            metadata={"bound": bound},
        )
