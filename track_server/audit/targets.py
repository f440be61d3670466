"""What an operation acted on, and how far it got, from its request and response. Pure.

Both are read by the names of their fields alone, so that an RPC that uses the contract's words needs no code here.
"""

from functools import lru_cache
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from track.v1.audit_pb2 import AuditTarget
from track.v1.error_pb2 import Problem

MAX_TARGETS: Final = 500
_MAX_MESSAGE_CHARS: Final = 256

_NAMES: Final = ("participant_identity", "track_sid", "publication_id")
# How deep a name may lie below what it belongs to, as `subscription.track_sid` in a result.
_DEPTH: Final = 2


def targets_of(request: Message, response: Message | None, failure: Problem | None) -> list[AuditTarget]:
    """One target an item of a batch, or the only one; none where neither message names any.

    ``response`` None: the call failed with ``failure``, which then becomes that of each target, without its text.
    """
    if response is None:
        made = [_target(item) for item in _items(request)]
        if failure is not None:
            for target in made:
                # The text is the entry's own: 500 times it would make the entry large.
                target.problem.CopyFrom(Problem(code=failure.code, reason=failure.reason))
        return [target for target in made if _named(target)]
    made = [_target(item) for item in _items(response)]
    asked = [_target(item) for item in _items(request)]
    if len(made) == len(asked):
        for target, wanted in zip(made, asked, strict=True):
            for name in _NAMES:
                if not getattr(target, name):
                    setattr(target, name, getattr(wanted, name))
    return [target for target in made if _named(target)]


def _named(target: AuditTarget) -> bool:
    return any(getattr(target, name) for name in _NAMES)


def _items(message: Message) -> list[Message]:
    """The messages that stand for one target each: those of the repeated field that names targets, else ``message``."""
    field = _batch(message.DESCRIPTOR)
    return [message] if field is None else list(getattr(message, field)[:MAX_TARGETS])


def _target(item: Message) -> AuditTarget:
    target = AuditTarget()
    for name, path in _paths(item.DESCRIPTOR):
        value: Any = item
        for field in path:
            value = getattr(value, field)
        if value and not getattr(target, name):
            setattr(target, name, value)
    fields = item.DESCRIPTOR.fields_by_name
    if "stage" in fields:
        target.stage = item.stage  # type: ignore[attr-defined]
    if "problem" in fields and item.HasField("problem"):
        target.problem.CopyFrom(item.problem)  # type: ignore[attr-defined]
        target.problem.message = target.problem.message[:_MAX_MESSAGE_CHARS]
    return target


# The stubs know two classes of descriptors, the program one: hence Any.


@lru_cache(maxsize=256)
def _paths(descriptor: Any, depth: int = _DEPTH) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The names, each with the fields that lead to it, those of the message itself first."""
    paths = [(name, (name,)) for name in _NAMES if _is_text(descriptor, name)]
    if depth:
        for field in descriptor.fields:
            if field.message_type is not None and not field.is_repeated:
                paths += [(name, (field.name, *path)) for name, path in _paths(field.message_type, depth - 1)]
    return tuple(paths)


@lru_cache(maxsize=256)
def _batch(descriptor: Any) -> str | None:
    """The repeated field whose items name targets; None where there is none, or where the message itself names one."""
    if any(_is_text(descriptor, name) for name in _NAMES):
        return None
    for field in descriptor.fields:
        if field.is_repeated and field.message_type is not None and _paths(field.message_type):
            return str(field.name)
    return None


def _is_text(descriptor: Any, name: str) -> bool:
    field = descriptor.fields_by_name.get(name)
    return field is not None and field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated
