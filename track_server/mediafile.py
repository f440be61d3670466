"""The door for media files and URLs: which may be opened, and what is in them.

FFmpeg opens more than it is asked to: playlists name other files and hosts, servers redirect. So only containers that
refer to nothing else are let in, over the one protocol that was asked for, and redirects are not followed.
No error here carries FFmpeg's text or an absolute path.
"""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import av
import av.container
import av.error

from track.v1.track_pb2 import TrackType
from track_server import errors

CONTAINERS: Final = "mov,mp4,matroska,webm,mpegts,avi,ogg,wav,mp3,flac,ivf"
"""FFmpeg's names of the containers that are let in (`format_whitelist`)."""

OPEN_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 5.0
_PROBE_BYTES: Final = 5_000_000
_PROBE_MICROSECONDS: Final = 3_000_000
_MAX_URI_BYTES: Final = 2048
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclasses.dataclass(frozen=True)
class ResolvedMedia:
    """A file or URL that may be opened. `location` is for FFmpeg alone: it must not be shown to anybody."""

    uri: str
    location: str
    protocols: str


@dataclasses.dataclass(frozen=True)
class MediaInfo:
    """What a file holds. Sizes in pixels; None where there is no video, or the container does not tell."""

    width: int | None
    height: int | None
    frames_per_second: float | None
    duration_s: float | None
    has_audio: bool
    has_video: bool


def resolve(uri: str, media_dir: Path | None, url_hosts: Collection[str]) -> ResolvedMedia:
    """Decide whether `uri` may be opened: a path inside `media_dir`, relative to it or absolute, with symbolic links
    followed; or an http or https URL whose host is in `url_hosts`.

    An entry of `url_hosts` is `host` (the scheme's own port) or `host:port`. Looks at the file system, never at the
    network. Raises InvalidField, MediaNotAllowed, MediaNotFound.
    """
    if not uri or len(uri.encode()) > _MAX_URI_BYTES or not uri.isprintable():
        raise errors.InvalidField("the URI is empty, too long or has characters that no URI has", field="file.uri")
    if "://" in uri:
        return _resolve_url(uri, url_hosts)
    if media_dir is None:
        raise errors.MediaNotAllowed("this server has no media folder: TRACK_MEDIA_DIR is not set", field="file.uri")
    try:
        folder = media_dir.resolve()
        path = (folder / uri).resolve()
    except (OSError, RuntimeError) as error:  # a loop of symbolic links
        raise errors.MediaNotFound("there is no such media file", field="file.uri") from error
    # Outside of the folder nothing is told, not even whether a file is there.
    if not path.is_relative_to(folder):
        raise errors.MediaNotAllowed("the file lies outside the media folder", field="file.uri")
    try:
        if not path.is_file():
            raise errors.MediaNotFound("there is no such media file", field="file.uri")
    except OSError as error:
        raise errors.MediaNotFound("there is no such media file", field="file.uri") from error
    return ResolvedMedia(uri=uri, location=f"file:{path}", protocols="file")


def _resolve_url(uri: str, url_hosts: Collection[str]) -> ResolvedMedia:
    try:
        parts = urlsplit(uri)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise errors.InvalidField("the URL is malformed", field="file.uri") from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise errors.MediaNotAllowed("only http and https URLs are allowed", field="file.uri")
    if "@" in parts.netloc:
        raise errors.InvalidField("a URL with a user in it is not taken", field="file.uri")
    if not parts.hostname or "\\" in uri or " " in uri:
        raise errors.InvalidField("the URL is malformed", field="file.uri")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    allowed = {entry.lower() for entry in url_hosts}
    if f"{host}:{port}" not in allowed and not (host in allowed and port == _DEFAULT_PORTS[parts.scheme]):
        raise errors.MediaNotAllowed("the URL's host is not allowed by TRACK_MEDIA_URL_HOSTS", field="file.uri")
    # Put together anew, so that FFmpeg cannot read another host out of it than was checked.
    query = f"?{parts.query}" if parts.query else ""
    location = f"{parts.scheme}://{host}:{port}{parts.path or '/'}{query}"
    return ResolvedMedia(
        uri=uri, location=location, protocols="https,tls,tcp" if parts.scheme == "https" else "http,tcp"
    )


def open_media(media: ResolvedMedia) -> av.container.InputContainer:
    """Open it for reading; close it after use. Blocks, up to 10 s where the host is slow.

    Raises MediaNotFound, MediaInvalid.
    """
    options = {
        "protocol_whitelist": media.protocols,
        "format_whitelist": CONTAINERS,
        "probesize": str(_PROBE_BYTES),
        "analyzeduration": str(_PROBE_MICROSECONDS),
    }
    if media.protocols != "file":
        options |= {"max_redirects": "0", "reconnect": "0", "rw_timeout": str(int(READ_TIMEOUT_S * 1e6))}
    try:
        return av.open(media.location, "r", options=options, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S))
    except (av.error.FileNotFoundError, av.error.HTTPNotFoundError) as error:
        raise errors.MediaNotFound("there is no such media file or URL", field="file.uri") from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        what = "the file cannot be read as media of an allowed container"
        if media.protocols != "file":
            what = "the URL cannot be read as media of an allowed container: its host has to answer, without a redirect"
        raise errors.MediaInvalid(what, field="file.uri") from error


def probe(media: ResolvedMedia, type: TrackType.ValueType) -> MediaInfo:  # noqa: A002 - the contract's word
    """Look what is in it, and that it has a stream of `type` (AUDIO, VIDEO, or UNSPECIFIED for either).

    Blocks, up to 15 s where the host is slow: call it in a thread. Raises MediaNotFound, MediaInvalid.
    """
    with open_media(media) as container:
        video = container.streams.video[0] if container.streams.video else None
        info = MediaInfo(
            width=video.codec_context.width if video else None,
            height=video.codec_context.height if video else None,
            frames_per_second=float(rate) if video and (rate := video.average_rate or video.guessed_rate) else None,
            duration_s=container.duration / av.time_base if container.duration else None,
            has_audio=bool(container.streams.audio),
            has_video=video is not None,
        )
    wanted = {TrackType.TRACK_TYPE_AUDIO: info.has_audio, TrackType.TRACK_TYPE_VIDEO: info.has_video}
    if not wanted.get(type, info.has_audio or info.has_video):
        raise errors.MediaInvalid("the media has no stream of the wanted type", field="file.type")
    if info.has_video and not (info.width and info.height):
        raise errors.MediaInvalid("the media's video has no size", field="file.uri")
    return info
