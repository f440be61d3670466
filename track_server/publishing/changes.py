"""Changes of specs by field mask: applied, held against what can change, and what each means for the track. Pure."""

from collections.abc import Callable, Collection
from typing import Any, Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from track.v1.publication_pb2 import Publication, PublicationSpec
from track.v1.publication_update_pb2 import UpdateMethod
from track_server.errors import InvalidField, InvalidOptions, TrackError
from track_server.mediachange import in_place, same_media
from track_server.publishing.attempts import wanted_now
from track_server.publishing.lifecycle import LIVE

NONE: Final = UpdateMethod.UPDATE_METHOD_NONE
IN_PLACE: Final = UpdateMethod.UPDATE_METHOD_IN_PLACE
REPLACED: Final = UpdateMethod.UPDATE_METHOD_REPLACED

_MASK: Final = "update_mask"
MAX_PATHS: Final = 64
# What has a default that rests on other fields: where it was that default, it follows them.
_FOLLOWING: Final = (
    ("video.max_bitrate_bps",),
    ("video.simulcast", "video.layers"),
    ("video.scalability_mode",),
    ("audio.max_bitrate_bps",),
    ("audio.red",),
    ("data_options.topic",),
)

Complete = Callable[[PublicationSpec], PublicationSpec]
"""Fills in the defaults of a spec."""


def changed(before: PublicationSpec, asked: PublicationSpec, mask: FieldMask, complete: Complete) -> PublicationSpec:
    """``before`` with the fields of ``asked`` that ``mask`` names; what is named and not set goes back to its default.

    ``before`` is completed. What of it is a default that rests on other fields, as a bitrate on the size, follows them
    where there has to be another track; everything else that is not named stays. The result is to be completed. Raises
    InvalidField, InvalidOptions.
    """
    paths = _checked(before, mask)
    result = PublicationSpec()
    result.CopyFrom(before)
    for path in paths:
        _take(result, asked, path.split("."))
    refuse_unchangeable(before, result)
    if _stays(before, result, complete):
        return result
    for group in _FOLLOWING:
        if not any(_names(path, field) for path in paths for field in group) and _is_default(before, group, complete):
            for field in group:
                _clear(result, field.split("."))
    return result


def refuse_unchangeable(before: PublicationSpec, after: PublicationSpec) -> None:
    """Raises InvalidOptions where something differs that cannot change."""
    if before.WhichOneof("input") != after.WhichOneof("input"):
        raise InvalidOptions("the kind of input cannot change", field=_MASK)
    refused: list[tuple[str, object, object]] = [
        ("encryption", before.encryption, after.encryption),
        ("device.kind", before.device.kind, after.device.kind),
        ("push.format", _format(before), _format(after)),
        ("data_options.delivery", before.data_options.delivery, after.data_options.delivery),
    ]
    if before.HasField("push"):
        size = ("video.width", "video.height") if before.HasField("video") else ()
        refused += [(name, _value(before, name), _value(after, name)) for name in size]
    if before.push.HasField("encoded_video"):
        refused.append(("video.codec", before.video.codec, after.video.codec))
    if before.file.type and after.file.type:
        refused.append(("file.type", before.file.type, after.file.type))
    for name, old, new in refused:
        if old != new:
            raise InvalidOptions(f"{name} of a publication cannot change", field=_MASK)


def method_of(before: Publication, after: Publication) -> "UpdateMethod.ValueType":
    """How ``after`` comes into force for what this service hosts: of what is not LIVE there is no track to change."""
    old, new = wanted_now(before), wanted_now(after)
    if before.state != LIVE or same_media(old, new):
        return NONE
    return IN_PLACE if in_place(old, new) else REPLACED


def _checked(before: PublicationSpec, mask: FieldMask) -> list[str]:
    if not mask.paths:
        raise InvalidField("name the fields that are to change", field=_MASK)
    if len(mask.paths) > MAX_PATHS:
        raise InvalidField(f"at most {MAX_PATHS} fields can be named", field=_MASK)
    inputs = {field.name for field in PublicationSpec.DESCRIPTOR.oneofs_by_name["input"].fields}
    for path in mask.paths:
        if not _known(PublicationSpec.DESCRIPTOR, path.split(".")):
            raise InvalidField(f"no field {path[:64]!r} in the spec of a publication", field=_MASK)
        head = path.split(".")[0]
        if head in inputs and head != before.WhichOneof("input"):
            raise InvalidOptions("the kind of input cannot change", field=_MASK)
        if head == "encryption":
            raise InvalidOptions("encryption of a publication cannot change", field=_MASK)
    return list(mask.paths)


def _known(descriptor: Descriptor, names: Collection[str]) -> bool:
    """Whether the path leads through messages of the contract to a field."""
    here: Descriptor | None = descriptor
    for name in names:
        field = here.fields_by_name.get(name) if here is not None else None
        if field is None:
            return False
        inner = field.message_type if not field.is_repeated else None
        here = inner if inner is not None and inner.full_name.startswith("track.") else None
    return True


def _take(result: Message, asked: Message, names: list[str]) -> None:
    name, *rest = names
    field = result.DESCRIPTOR.fields_by_name[name]
    if rest:
        if not field.has_presence or asked.HasField(name) or result.HasField(name):
            _take(getattr(result, name), getattr(asked, name), rest)
        return
    if field.is_repeated:
        result.ClearField(name)
        getattr(result, name).extend(getattr(asked, name))
    elif field.message_type is not None:
        # An input that is named and not set is one with defaults alone: which it is cannot change.
        chosen = field.containing_oneof is not None and result.HasField(name)
        result.ClearField(name)
        if asked.HasField(name):
            getattr(result, name).CopyFrom(getattr(asked, name))
        elif chosen:
            getattr(result, name).SetInParent()
    elif field.has_presence and not asked.HasField(name):
        result.ClearField(name)
    else:
        setattr(result, name, getattr(asked, name))


def _stays(before: PublicationSpec, after: PublicationSpec, complete: Complete) -> bool:
    """Whether the track that is there would do as long as nothing follows."""
    try:
        return in_place(before, complete(after))
    except TrackError:
        return False


def _names(path: str, field: str) -> bool:
    """Whether naming ``path`` names ``field``."""
    return field == path or field.startswith(f"{path}.")


def _is_default(before: PublicationSpec, group: Collection[str], complete: Complete) -> bool:
    trial = PublicationSpec()
    trial.CopyFrom(before)
    for field in group:
        _clear(trial, field.split("."))
    return trial != before and complete(trial) == before


def _clear(message: Message, names: list[str]) -> None:
    name, *rest = names
    if not rest:
        message.ClearField(name)
    elif message.HasField(name):
        _clear(getattr(message, name), rest)


def _format(spec: PublicationSpec) -> object:
    kind = spec.push.WhichOneof("format")
    return kind and (kind, getattr(spec.push, kind))


def _value(spec: PublicationSpec, path: str) -> Any:
    found: Any = spec
    for name in path.split("."):
        found = getattr(found, name)
    return found
