"""Paths of recordings: templates checked and filled in. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from track.v1.track_pb2 import Track, TrackSource, TrackType
from track_server.errors import DestinationNotAllowed, InvalidField

TIME: Final = "{time}"
"""The one that Egress fills in."""
TRACK: Final = "{track_id}"

_NAMES: Final = frozenset(
    {TIME, TRACK, "{room_name}", "{room_id}", "{track_type}", "{track_source}", "{publisher_identity}"}
)
_BRACES: Final = re.compile(r"\{[^{}]*\}")
# What a value must not bring into a path: folders, templates, signs that shells and stores read as more than a name.
_UNSAFE: Final = re.compile(r"[^\w.=+@-]")
_MAX_BYTES: Final = 1024
# Of one name: what file systems take.
_MAX_NAME_BYTES: Final = 255


def check_path(template: str, field: str) -> None:
    """Raises InvalidField for what is no path of a file: folders up, empty names, unknown templates."""
    if not template.isprintable() or "\\" in template:
        raise InvalidField("the path has a backslash, or a character that cannot be seen", field=field)
    bare = template
    for found in _BRACES.findall(template):
        if found not in _NAMES:
            raise InvalidField(f"the path has an unknown template; known are {', '.join(sorted(_NAMES))}", field=field)
        bare = bare.replace(found, "x")
    if "{" in bare or "}" in bare:
        raise InvalidField("the path has a brace that belongs to no template", field=field)
    _check_parts(bare, field)


def check_prefix(template: str, prefixes: Iterable[str], field: str) -> None:
    """Raises DestinationNotAllowed unless the path begins with one of the folders. They end with a slash."""
    if not any(template.startswith(prefix) for prefix in prefixes):
        allowed = ", ".join(sorted(prefixes)) or "no folder"
        raise DestinationNotAllowed(f"files may be recorded below {allowed}", field=field)


def check_relative(template: str, field: str) -> None:
    """Raises InvalidField for an absolute path, which is no key of a bucket."""
    if template.startswith("/"):
        raise InvalidField("the path must be relative", field=field)


def values_of(track: Track, room: str, room_sid: str) -> dict[str, str]:
    """What is put in the place of each template but `{time}`, as LiveKit writes it."""
    return {
        "{room_name}": room,
        "{room_id}": room_sid,
        "{track_id}": track.sid,
        "{track_type}": TrackType.Name(track.type).removeprefix("TRACK_TYPE_").lower(),
        "{track_source}": TrackSource.Name(track.source).removeprefix("TRACK_SOURCE_").lower(),
        "{publisher_identity}": track.participant_identity,
    }


def filled(template: str, values: Mapping[str, str], part: int, field: str) -> str:
    """The path of a recording's part, from 1; `{time}` is left in. Raises InvalidField where it is none then."""

    def value(match: re.Match[str]) -> str:
        name = match[0]
        return name if name == TIME else _safe(values.get(name, ""))

    path = _BRACES.sub(value, template)
    if part > 1 and TIME not in template and TRACK not in template:
        path = _numbered(path, part)
    if len(path.encode()) > _MAX_BYTES:
        raise InvalidField(f"the path is longer than {_MAX_BYTES} bytes once it is filled in", field=field)
    _check_parts(path, field)
    return path


def _check_parts(path: str, field: str) -> None:
    parts = path.removeprefix("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise InvalidField("the path must name a file, without `..` and without empty parts", field=field)
    if any(len(part.encode()) > _MAX_NAME_BYTES for part in parts):
        raise InvalidField(f"a name in the path is longer than {_MAX_NAME_BYTES} bytes", field=field)


def _safe(value: str) -> str:
    """A value that is part of one name: it leads into no folder, and is no template."""
    safe = _UNSAFE.sub("_", value)
    return f"_{safe[1:]}" if safe.startswith(".") else safe


def _numbered(path: str, part: int) -> str:
    folder, slash, name = path.rpartition("/")
    stem, dot, extension = name.rpartition(".")
    numbered = f"{stem}-{part}.{extension}" if dot and stem else f"{name}-{part}"
    return f"{folder}{slash}{numbered}"
