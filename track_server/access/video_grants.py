"""LiveKit's video grants, read as LiveKit reads them."""

from collections.abc import Mapping
from typing import Any, Final

from track.v1.track_pb2 import TrackSource
from track_server.access.principal import Grants

SOURCES: Final = {
    "camera": TrackSource.TRACK_SOURCE_CAMERA,
    "microphone": TrackSource.TRACK_SOURCE_MICROPHONE,
    "screen_share": TrackSource.TRACK_SOURCE_SCREEN_SHARE,
    "screen_share_audio": TrackSource.TRACK_SOURCE_SCREEN_SHARE_AUDIO,
}
"""By LiveKit's names for them."""

_READ: Final = frozenset(
    {
        "room",
        "roomJoin",
        "roomAdmin",
        "roomList",
        "canPublish",
        "canPublishSources",
        "canPublishData",
        "canSubscribe",
        "roomCreate",
        "roomRecord",
        "agent",
    }
)
# Claims of LiveKit's tokens, and of JSON Web Tokens, that grant nothing by themselves.
_HARMLESS: Final = frozenset(
    {
        "iss",
        "sub",
        "identity",
        "aud",
        "exp",
        "nbf",
        "iat",
        "jti",
        "name",
        "metadata",
        "attributes",
        "video",
        "track",
    }
)


def grants_of(video: object) -> Grants:
    """The grants of a token's claim `video`, None where it has none; raises ValueError."""
    if video is None:
        return Grants()
    if not isinstance(video, Mapping):
        raise ValueError("video is no object")
    join = _flag(video, "roomJoin", default=False)
    # LiveKit's defaults for who may join: absent is allowed, for data where media are.
    publish = _flag(video, "canPublish", default=join)
    return Grants(
        room=text_of(video, "room"),
        room_join=join,
        room_admin=_flag(video, "roomAdmin", default=False),
        room_list=_flag(video, "roomList", default=False),
        can_publish=publish,
        can_publish_sources=_sources(video.get("canPublishSources")),
        can_publish_data=_flag(video, "canPublishData", default=publish),
        can_subscribe=_flag(video, "canSubscribe", default=join),
        room_create=_flag(video, "roomCreate", default=False),
        room_record=_flag(video, "roomRecord", default=False),
        agent=_flag(video, "agent", default=False),
    )


def _sources(names: object) -> "frozenset[TrackSource.ValueType]":
    if names is None:
        return frozenset()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("canPublishSources is no list of names")
    # A name that LiveKit does not know is the unknown source to it, never "all sources", which the empty set means.
    return frozenset(SOURCES.get(name.lower(), TrackSource.TRACK_SOURCE_UNSPECIFIED) for name in names)


def _flag(claims: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = claims.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ValueError(f"{name} is no bool")
    return value


def text_of(claims: Mapping[str, Any], name: str) -> str:
    """A claim that is text, empty where there is none; raises ValueError."""
    value = claims.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")
    value.encode()  # JSON can escape what is no Unicode text; names go into logs and keys
    return value


def beyond_reading(claims: Mapping[str, Any]) -> list[str]:
    """What a token's claims may give its holder at LiveKit that `grants_of` does not read: their names, in order.

    Whatever is not known to give nothing counts.
    """
    video = claims.get("video") or {}
    grants = [f"video.{name}" for name, value in video.items() if value and name not in _READ]
    ordinary = claims.get("kind") == "standard"
    others = [name for name, value in claims.items() if value and name not in _HARMLESS]
    return sorted([*grants, *(name for name in others if not (name == "kind" and ordinary))])


def video_of(grants: Grants) -> dict[str, Any]:
    """The claim `video` of a participant with those grants. What it may not do is said: LiveKit's defaults allow it."""
    video: dict[str, Any] = {
        "room": grants.room,
        "roomJoin": grants.room_join,
        "canPublish": grants.can_publish,
        "canPublishData": grants.can_publish_data,
        "canSubscribe": grants.can_subscribe,
        "canUpdateOwnMetadata": False,
    }
    if grants.can_publish_sources:
        video["canPublishSources"] = [name for name, source in SOURCES.items() if source in grants.can_publish_sources]
    return video
