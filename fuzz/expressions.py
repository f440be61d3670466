"""CEL expressions: compiled and evaluated by native code, which must not fall over."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from fuzz.target import Finding, Target, choice, chosen
from tests.refusals import INTERNAL
from track.v1 import audit_pb2, publication_pb2, track_pb2
from track_server.cel import VARIABLES, compile_filter
from track_server.errors import InvalidExpression

# As the contract bounds them.
_MAX_CHARS: Final = 4096

_EXPRESSIONS: Final = (
    'track.metadata.role == "presenter" && track.source == TrackSource.TRACK_SOURCE_CAMERA',
    "track.layers.exists(layer, layer.width > 640) || !track.muted",
    'track.name.matches("a+b*") && size(track.participant_identity) in [1, 2, 3]',
    "publication.spec.video.width >= 1280 ? publication.type == TrackType.TRACK_TYPE_VIDEO : publication.muted",
    'participant.attributes["role"] == "staff"',
    'subscriber.attributes["seat"] == "back" && subscriber.permission.can_subscribe',
    "quality.connection_quality == ConnectionQuality.CONNECTION_QUALITY_POOR || has(quality.score)",
    'entry.code == 7 && entry.time > timestamp("2026-01-01T00:00:00Z") && entry.duration < duration("1s")',
    "check.principal.grants.can_publish_sources.size() == 0 || check.track.source in [TrackSource.TRACK_SOURCE_CAMERA]",
    "[1, 2, 3].map(x, [4, 5].map(y, x * y)).all(z, z.size() == 2)",
    "type(track) == Track && dyn(track.width) == 1u + uint(2) && b'a' != bytes('b') && 1.0 / 0.0 > 0.0 && 1 % 0 == 1",
    'Track{sid: "a", width: 3}.width == 3 && {"a": 1}.a == 1 && null == null',
)
_WORDS: Final = (
    *VARIABLES,
    *(
        "track.",
        ".exists(x, ",
        ".all(x, ",
        ".map(x, ",
        ".filter(x, ",
        ".exists_one(x, ",
        ".matches(",
        ".size()",
        "has(",
    ),
    *("timestamp(", "duration(", "string(", "bytes(", "int(", "uint(", "double(", "dyn(", "type(", ".getHours()"),
    *(
        "&&",
        "||",
        "==",
        "!=",
        "<=",
        " in ",
        "? ",
        ": ",
        "[",
        "]",
        "{",
        "}",
        "true",
        "false",
        "null",
        "-9223372036854775808",
    ),
    *("r'", 'b"', '"""', "\\u0000", "\\377", "1e308", "0xffffffffffffffffu", "metadata", "attributes", "Track{", "//"),
)


def target() -> Target:
    """See the module."""
    names = list(VARIABLES)
    return Target(
        lambda data: _check(names, data),
        lambda: _seeds(names),
        [word.encode() for word in _WORDS],
    )


def _check(names: list[str], data: bytes) -> None:
    place, raw = choice(data, len(names))
    name, source = names[place], raw.decode("utf-8", "replace")[:_MAX_CHARS]
    try:
        matches = compile_filter(source, name)
    except InvalidExpression as error:
        if INTERNAL.search(error.message.replace(source, "")):
            raise Finding(f"the message tells of what is inside: {error.message!r}") from error
        return
    if matches is None:
        return
    for message in _messages(VARIABLES[name]):
        if matches(message) not in (True, False):
            raise Finding("neither true nor false")


@lru_cache(maxsize=16)
def _messages(full_name: str) -> list[Message]:
    """An empty one, and one with much in it."""
    empty = message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(full_name))()
    full = {
        "track.v1.Track": track_pb2.Track(sid="TR_a", width=1280, layers=[track_pb2.VideoLayer()] * 3),
        "track.v1.Publication": publication_pb2.Publication(room="r", spec=publication_pb2.PublicationSpec(name="n")),
        "track.v1.Participant": track_pb2.Participant(identity="bob", attributes={"role": "staff"}),
        "track.v1.AuditEntry": audit_pb2.AuditEntry(code=7, sequence=2**62, request_id="id"),
    }
    return [empty, *([full[full_name]] if full_name in full else [])]


def _seeds(names: list[str]) -> Iterator[bytes]:
    for source in _EXPRESSIONS:
        place = next((place for place, name in enumerate(names) if name in source), 0)
        yield chosen(place, source.encode())
