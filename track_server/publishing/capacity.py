"""Whether one more publication fits within the limits. Pure: what is there already is given."""

from collections.abc import Callable, Iterable
from typing import Final

from track.v1.publication_pb2 import (
    AppliedLimit,
    LimitEnforcement,
    Publication,
    PublicationSpec,
    VideoOptions,
)
from track.v1.track_pb2 import Track, TrackSource, TrackType
from track_server.access.bounds import Bounds
from track_server.config.limits import LimitSettings
from track_server.errors import LimitExceeded, PermissionDenied
from track_server.metadata import content
from track_server.publishing.spec import SIMULCAST_EDGE, data_bps, sdk_lower_layers

_ENCODER: Final = LimitEnforcement.LIMIT_ENFORCEMENT_ENCODER
_ADMISSION: Final = LimitEnforcement.LIMIT_ENFORCEMENT_ADMISSION
_WATCHED: Final = LimitEnforcement.LIMIT_ENFORCEMENT_WATCHED

_KEPT: Final = (
    ("max_publications", _ADMISSION),
    ("max_publications_per_room", _ADMISSION),
    ("max_publications_per_principal", _ADMISSION),
    ("max_tracks_per_participant", _ADMISSION),
    ("max_tracks_per_room", _ADMISSION),
    ("max_tracks_per_room", _WATCHED),
    ("max_participant_bitrate_bps", _ADMISSION),
    ("max_room_bitrate_bps", _ADMISSION),
    ("max_metadata_bytes", _ADMISSION),
    ("max_track_bitrate_bps", _ENCODER),
    ("max_video_pixels", _ENCODER),
)


def bitrate_bps(spec: PublicationSpec, kind: "TrackType.ValueType") -> int:
    """The most that the track may send, in bits per second, of a completed ``spec``.

    Video: the bound of the full layer, and what is sent below it with simulcast: the layers that were asked for, or
    those of LiveKit's SDK. Audio: the bound of Opus, for all its channels, twice with RED, which sends each packet
    again. Data: frames times their size; 0 for pushed data, of which it is not known before. Headers, retransmissions
    and forward error correction are not in it.
    """
    match kind:
        case TrackType.TRACK_TYPE_VIDEO:
            return spec.video.max_bitrate_bps + _lower_layers_bps(spec.video, spec.source)
        case TrackType.TRACK_TYPE_AUDIO:
            return spec.audio.max_bitrate_bps * (2 if spec.audio.red else 1)
        case TrackType.TRACK_TYPE_DATA:
            return data_bps(spec)
        case _:
            return 0


class Capacity:
    """The limits of what is published through this service."""

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self.max_pixels = limits.max_video_pixels
        """Most pixels of a video."""

    def narrowed(self, bounds: Bounds) -> Bounds:
        """``bounds`` within the limits of each track, from which defaults are chosen."""
        return bounds.within(Bounds(max_bitrate_bps=self._limits.max_track_bitrate_bps))

    def check_track(self, spec: PublicationSpec, kind: "TrackType.ValueType") -> None:
        """Raises LimitExceeded where a completed ``spec`` is beyond a limit of each track, InvalidField where its
        metadata cannot be shown to everybody."""
        limits = self._limits
        if spec.HasField("metadata"):
            content.check(spec.metadata, limits, "spec.metadata")
        raw_bytes = spec.video.width * spec.video.height * 3 // 2 if spec.push.HasField("raw_video") else 0
        if raw_bytes > limits.max_frame_bytes:
            raise LimitExceeded("max_frame_bytes", limits.max_frame_bytes, "frame", field="spec.video")
        if spec.video.width * spec.video.height > limits.max_video_pixels:
            raise LimitExceeded("max_video_pixels", limits.max_video_pixels, "track", field="spec.video")
        for field, value in (
            ("spec.video.max_bitrate_bps", spec.video.max_bitrate_bps),
            ("spec.audio.max_bitrate_bps", spec.audio.max_bitrate_bps),
            ("spec.data", data_bps(spec) if kind == TrackType.TRACK_TYPE_DATA else 0),
        ):
            if value > limits.max_track_bitrate_bps:
                raise LimitExceeded("max_track_bitrate_bps", limits.max_track_bitrate_bps, "track", field=field)

    def admit(
        self, publication: Publication, active: Iterable[Publication], tracks: Iterable[Track], bounds: Bounds
    ) -> None:
        """Returns where there is room for ``publication``.

        ``active``: all publications of the server that have not ended; ``tracks``: those in the room now. A publication
        counts as a track from the moment it was asked for. Raises LimitExceeded, or PermissionDenied where the caller's
        ``bounds`` are reached.
        """
        room, identity = publication.room, publication.participant_identity
        everything = list(active)
        in_room = [found for found in everything if found.room == room]
        own = [found for found in in_room if found.participant_identity == identity]
        asker = _asker(publication)
        foreign = _foreign([*in_room, publication], tracks)

        def most(limit: str, taken: int, wanted: int, subject: str) -> None:
            value = getattr(self._limits, limit)
            if taken + wanted > value:
                raise LimitExceeded(limit, value, subject)

        of_room, of_participant = f"room {room}", f"participant {identity} of room {room}"
        most("max_publications", len(everything), 1, "server")
        most("max_publications_per_room", len(in_room), 1, of_room)
        asked = sum(_asker(found) == asker for found in everything)
        most("max_publications_per_principal", asked, 1, f"principal {asker[0]}".rstrip())
        most("max_tracks_per_participant", len(own), 1, of_participant)
        most("max_tracks_per_room", len(in_room) + foreign, 1, of_room)
        wanted = _bitrate_of(publication)
        most("max_participant_bitrate_bps", sum(map(_bitrate_of, own)), wanted, of_participant)
        most("max_room_bitrate_bps", sum(map(_bitrate_of, in_room)), wanted, of_room)
        if bounds.max_tracks is not None and len(own) >= bounds.max_tracks:
            raise PermissionDenied(
                f"the caller may publish here with max_tracks: at most {bounds.max_tracks}",
                field="participant_identity",
                metadata={"bound": "max_tracks", "value": str(bounds.max_tracks)},
            )

    def applied(self, publication: Publication) -> list[AppliedLimit]:
        """The limits that hold for the publication, and how each is kept.

        A limit that is checked when we publish, and watched for what others publish, is there once for each.
        """
        video, data = (publication.type == kind for kind in (TrackType.TRACK_TYPE_VIDEO, TrackType.TRACK_TYPE_DATA))
        encoded = not data and not publication.spec.HasField("device") and not publication.spec.HasField("ingress")
        concerns: dict[str, Callable[[], bool]] = {
            "max_video_pixels": lambda: video,
            "max_metadata_bytes": lambda: publication.spec.HasField("metadata"),
        }
        return [
            AppliedLimit(
                name=name,
                value=getattr(self._limits, name),
                # Data is paced, and clients and Ingress encode for themselves: what was asked for was looked at.
                enforcement=_ADMISSION if not encoded and enforcement == _ENCODER else enforcement,
            )
            for name, enforcement in _KEPT
            if concerns.get(name, lambda: True)()
        ]


def _lower_layers_bps(video: VideoOptions, source: "TrackSource.ValueType") -> int:
    if video.layers:
        return sum(layer.max_bitrate_bps for layer in video.layers[:-1])
    if not video.simulcast or max(video.width, video.height) < SIMULCAST_EDGE:
        return 0
    return sum(layer.max_bitrate_bps for layer in sdk_lower_layers(video, source))


def _bitrate_of(publication: Publication) -> int:
    return bitrate_bps(publication.spec, publication.type)


def _asker(publication: Publication) -> tuple[str, str]:
    """Who asked for it, as `Principal.scope`; as far as known where an older version of this server stored it."""
    if publication.HasField("creator"):
        return publication.creator.identity, publication.creator.grants.room
    return publication.creator_identity, publication.room


def _foreign(in_room: Iterable[Publication], tracks: Iterable[Track]) -> int:
    """Tracks that others publish. All of a hosted participant are publications, be they bound to them yet or not."""
    hosted = {found.participant_identity for found in in_room if not found.spec.HasField("device")}
    return sum(not track.publication_id and track.participant_identity not in hosted for track in tracks)
