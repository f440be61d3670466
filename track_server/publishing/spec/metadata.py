"""Metadata of a track: whether it can be shown to everybody. Pure."""

import math
from typing import Final

from google.protobuf import struct_pb2

from track_server.errors import InvalidField

MAX_METADATA_DEPTH: Final = 16
"""Objects and lists within one another. Each takes three of the 100 levels that protobuf decodes, and metadata lies
deeper in events, answers and the record than in the request."""


def check_metadata(metadata: struct_pb2.Struct) -> None:
    """Raises InvalidField where it is no JSON object, or nested too deeply to be shown to anybody."""
    inside = [(value, 1) for value in metadata.fields.values()]
    while inside:
        value, depth = inside.pop()
        if depth > MAX_METADATA_DEPTH:
            raise InvalidField(f"metadata is nested more than {MAX_METADATA_DEPTH} deep", field="spec.metadata")
        match value.WhichOneof("kind"):
            case "struct_value":
                inside += [(child, depth + 1) for child in value.struct_value.fields.values()]
            case "list_value":
                inside += [(child, depth + 1) for child in value.list_value.values]
            case "number_value" if not math.isfinite(value.number_value):
                raise InvalidField("metadata has a number that JSON does not have", field="spec.metadata")
            case None:
                raise InvalidField("metadata has a value that is not set", field="spec.metadata")
