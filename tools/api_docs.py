"""Writes the contract as one Markdown page, from a descriptor set with comments."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor, ServiceDescriptor
from google.protobuf.message import Message

# Packages of ours that callers never meet.
_INTERNAL: Final = ("track.media.",)
_RANGES: Final = {"gt": "> ", "gte": "≥ ", "lt": "< ", "lte": "≤ ", "const": "= "}
_SCALARS: Final[dict[int, str]] = {
    number: name.removeprefix("TYPE_").lower() for name, number in descriptor_pb2.FieldDescriptorProto.Type.items()
}


def page(descriptor_set: bytes) -> str:
    """The Markdown page for a serialized FileDescriptorSet that has source info and all imports.

    The same set gives the same page. Only files of the package `track` are shown, and no internal ones.
    """
    return "\n".join(_Page(descriptor_set).lines()) + "\n"


class _Page:
    def __init__(self, descriptor_set: bytes) -> None:
        pool = descriptor_pool.DescriptorPool()
        plain = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set)
        for file in plain.file:
            pool.Add(file)
        # Read again with the pool's own classes: they know the extensions that the options are made of.
        message_factory.GetMessageClassesForFiles([file.name for file in plain.file], pool)
        self._comments: dict[str, str] = {}
        self._files: list[FileDescriptor] = []
        for proto in sorted(plain.file, key=lambda file: file.name):
            if f"{proto.package}.".startswith("track.") and not f"{proto.package}.".startswith(_INTERNAL):
                self._files.append(pool.FindFileByName(proto.name))
                self._comments.update(_comments(proto))
        self._pool = pool

    def lines(self) -> Iterator[str]:
        yield "# API"
        yield ""
        yield "Generated from `protos/` by `make proto`: do not edit."
        services = [service for file in self._files for service in file.services_by_name.values()]
        used_by_rpc: set[str] = set()
        for service in services:
            yield from self._service(service)
            for method in service.methods:
                used_by_rpc |= {method.input_type.full_name, method.output_type.full_name}
        messages = sorted(self._messages(), key=lambda message: message.full_name)
        enums = sorted(self._enums(messages), key=lambda enum: enum.full_name)
        yield from ("", "## Messages")
        for message in messages:
            if message.full_name not in used_by_rpc:
                yield from self._message(message, f"### {_name(message)}")
        yield from ("", "## Enums")
        for enum in enums:
            yield from self._enum(enum)

    def _service(self, service: ServiceDescriptor) -> Iterator[str]:
        yield from ("", f"## {service.full_name}", "", self._comment(service.full_name))
        yield from ("", "| RPC | permission | changes something |", "| --- | --- | --- |")
        for method in service.methods:
            access = self._access(method.GetOptions())
            permission = access.get("permission", "").removeprefix("PERMISSION_")
            mutation = "yes" if access.get("mutation") else "no"
            yield f"| [{method.name}](#{method.name.lower()}) | {permission} | {mutation} |"
        for method in service.methods:
            request = ("stream " if method.client_streaming else "") + method.input_type.name
            response = ("stream " if method.server_streaming else "") + method.output_type.name
            yield from ("", f"### {method.name}", "", self._comment(method.full_name))
            yield from ("", f"`{method.name}({request}) returns ({response})`")
            for message in (method.input_type, method.output_type):
                yield from self._message(message, f"#### {_name(message)}")

    def _message(self, message: Descriptor, heading: str) -> Iterator[str]:
        yield from ("", heading, "", self._comment(message.full_name))
        rules = [_rules(rule) for _, rule in _extensions(self._read(message.GetOptions()))]
        if any(rules):
            yield from ("", f"Rules: {'; '.join(filter(None, rules))}.")
        if not message.fields:
            return
        yield from ("", "| field | type | meaning | rules |", "| --- | --- | --- | --- |")
        for field in message.fields:
            cells = (f"`{field.name}`", self._type(field), self._cell(field.full_name), self._field_rules(field))
            yield f"| {' | '.join(cells)} |"

    def _enum(self, enum: EnumDescriptor) -> Iterator[str]:
        yield from ("", f"### {_name(enum)}", "", self._comment(enum.full_name))
        yield from ("", "| value | number | meaning |", "| --- | --- | --- |")
        for value in enum.values:
            yield f"| `{value.name}` | {value.number} | {self._cell(f'{enum.full_name}.{value.name}')} |"

    def _type(self, field: FieldDescriptor) -> str:
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
            return f"map of {self._type(key)} to {self._type(value)}"
        kind = entry or field.enum_type
        if kind is None:
            text = _SCALARS[field.type]
        elif kind.file.name in {file.name for file in self._files}:
            text = f"[{_name(kind)}](#{_name(kind).lower().replace('.', '')})"
        else:
            text = kind.full_name
        if field.is_repeated:
            return f"repeated {text}"
        oneof = field.containing_oneof
        if oneof is not None:
            return f"optional {text}" if oneof.name == f"_{field.name}" else f"{text}, one of `{oneof.name}`"
        return text

    def _field_rules(self, field: FieldDescriptor) -> str:
        parts = [_rules(rule) for _, rule in _extensions(self._read(field.GetOptions()))]
        oneof = field.containing_oneof
        if oneof is not None and oneof.name != f"_{field.name}":
            parts += [_rules(rule) for _, rule in _extensions(self._read(oneof.GetOptions()))]
        return _escaped("; ".join(filter(None, parts)))

    def _access(self, options: Message) -> dict[str, Any]:
        for field, value in _extensions(self._read(options)):
            if field.full_name == "track.v1.access":
                return {
                    rule.name: rule.enum_type.values_by_number[entry].name if rule.enum_type else entry
                    for rule, entry in value.ListFields()
                }
        return {}

    def _read(self, options: Message) -> Message:
        """The same options, read by the pool's class, which knows our extensions."""
        kind = self._pool.FindMessageTypeByName(options.DESCRIPTOR.full_name)
        return message_factory.GetMessageClass(kind).FromString(options.SerializeToString())

    def _messages(self) -> Iterator[Descriptor]:
        pending = [message for file in self._files for message in file.message_types_by_name.values()]
        while pending:
            message = pending.pop()
            if not message.GetOptions().map_entry:
                yield message
                pending.extend(message.nested_types)

    def _enums(self, messages: Iterable[Descriptor]) -> Iterator[EnumDescriptor]:
        for file in self._files:
            yield from file.enum_types_by_name.values()
        for message in messages:
            yield from message.enum_types

    def _comment(self, name: str) -> str:
        return self._comments.get(name, "")

    def _cell(self, name: str) -> str:
        return _escaped(" ".join(self._comment(name).split()))


def _name(kind: Descriptor | EnumDescriptor) -> str:
    """Its name without the package, with the messages around it; the package too where it is not `track.v1`."""
    name = str(kind.full_name)
    return name.removeprefix("track.v1.").removeprefix("track.")


def _extensions(options: Message) -> list[tuple[FieldDescriptor, Any]]:
    return [(field, value) for field, value in options.ListFields() if field.is_extension]


def _rules(rule: Any) -> str:
    """A validation rule in a few words: `≥ 1; ≤ 1000`."""
    return "; ".join(_flat(rule)) if isinstance(rule, Message) else str(rule)


def _flat(rule: Message) -> Iterator[str]:
    for field, value in sorted(rule.ListFields(), key=lambda entry: entry[0].name not in ("gt", "gte")):
        if field.name in ("cel", "cel_expression"):
            for expression in value:
                yield str(getattr(expression, "message", "") or getattr(expression, "expression", expression))
        elif field.name == "oneof" and field.is_repeated:
            for group in value:
                yield f"one of {', '.join(f'`{name}`' for name in group.fields)}" + (", required" * group.required)
        elif field.is_repeated:
            yield f"{_words(field.name)} {', '.join(map(_value, value))}"
        elif field.message_type is not None and not field.message_type.full_name.startswith("google.protobuf."):
            prefix = f"{field.name}: " if field.name in ("items", "keys", "values") else ""
            yield from (prefix + part for part in _flat(value))
        elif field.enum_type is not None:
            number = field.enum_type.values_by_number[value]
            yield _words(number.name.lower())
        elif value is True:
            yield _words(field.name)
        elif field.name in _RANGES:
            yield _RANGES[field.name] + _value(value)
        else:
            yield f"{_words(field.name)} {_value(value)}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _value(value: Any) -> str:
    if isinstance(value, Message):
        fields = {field.name: entry for field, entry in value.ListFields()}
        return f"{fields.get('seconds', 0) + fields.get('nanos', 0) / 1e9:g} s"
    if isinstance(value, float):
        return f"{value:g}"
    return f"`{value}`" if isinstance(value, str) else str(value)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _comments(proto: descriptor_pb2.FileDescriptorProto) -> dict[str, str]:
    """Leading comments by full name; an enum value's name is `<enum>.<value>`."""
    found: dict[str, str] = {}
    for location in proto.source_code_info.location:
        if location.leading_comments and (name := _located(proto, list(location.path))):
            text = "\n".join(line.strip() for line in location.leading_comments.strip().splitlines())
            found[f"{proto.package}.{name}"] = text
    return found


def _located(proto: descriptor_pb2.FileDescriptorProto, path: list[int]) -> str:
    """The name, without the package, of what a source path (field numbers and indexes in turn) leads to."""
    names: list[str] = []
    node: Any = proto
    for number, index in zip(path[::2], path[1::2], strict=False):
        field = node.DESCRIPTOR.fields_by_number[number]
        if not field.is_repeated or field.message_type is None:
            return ""
        node = getattr(node, field.name)[index]
        names.append(getattr(node, "name", ""))
    return ".".join(names) if len(path) % 2 == 0 and all(names) else ""
