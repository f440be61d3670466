"""Data options and payloads: completed, and held against each other. Pure."""

import json
from typing import Final, NoReturn

from track.v1.publication_pb2 import DataDelivery, DataOptions, PayloadType, PublicationSpec
from track_server.access.bounds import Bounds
from track_server.errors import InvalidField, InvalidOptions
from track_server.publishing.spec.kinds import are_messages

MAX_FRAME_BYTES: Final = 65_536
MAX_MESSAGE_BYTES: Final = 15_000
"""LiveKit's limit for a data message that always arrives in one piece."""
DEFAULT_FRAMES_PER_SECOND: Final = 10.0
MIN_FRAMES_PER_SECOND: Final = 0.1
DEFAULT_FRAME_BYTES: Final = 64
MIN_NUMBERED_BYTES: Final = 16
"""A number and a time, see DataInput."""


def data_bps(spec: PublicationSpec) -> int:
    """Bits per second of a data input; 0 where size or rate is left open, as of pushed data."""
    size = len(spec.data.payload) or spec.data.frame_bytes
    return round(size * 8 * spec.data.frames_per_second)


def complete_data(spec: PublicationSpec, bounds: Bounds) -> None:
    """Fills in the defaults of ``spec.data`` and ``spec.data_options``; ``spec.name`` is known.

    Raises InvalidOptions, InvalidField.
    """
    options = spec.data_options
    _complete_options(options, spec, messages=are_messages(spec))
    if not spec.HasField("data"):
        return
    data = spec.data
    if data.payload and data.frame_bytes:
        raise InvalidOptions(
            "frame_bytes is for numbered frames, payload for fixed ones", field="spec.data.frame_bytes"
        )
    if not data.payload:
        _refuse_numbered(options)
        data.frame_bytes = data.frame_bytes or min(DEFAULT_FRAME_BYTES, options.max_payload_bytes)
    if len(data.payload) > options.max_payload_bytes:
        raise InvalidField(f"the payload has more than {options.max_payload_bytes} bytes", field="spec.data.payload")
    if data.frame_bytes > options.max_payload_bytes:
        raise InvalidField(f"frames have more than {options.max_payload_bytes} bytes", field="spec.data.frame_bytes")
    if data.payload:
        check_payload(data.payload, options, field="spec.data.payload")
    if not data.frames_per_second:
        frame_bits = 8 * (len(data.payload) or data.frame_bytes)
        most = bounds.max_bitrate_bps / frame_bits if bounds.max_bitrate_bps else DEFAULT_FRAMES_PER_SECOND
        data.frames_per_second = max(MIN_FRAMES_PER_SECOND, min(DEFAULT_FRAMES_PER_SECOND, most))


def check_payload(payload: bytes, options: DataOptions, *, field: str) -> None:
    """Raises InvalidField where a payload is too long, or is not what completed ``options`` say that it is."""
    if len(payload) > options.max_payload_bytes:
        raise InvalidField(f"the payload has more than {options.max_payload_bytes} bytes", field=field)
    if options.payload_type not in (PayloadType.PAYLOAD_TYPE_TEXT, PayloadType.PAYLOAD_TYPE_JSON):
        return
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise InvalidField("the payload is not UTF-8", field=field) from error
    if options.payload_type == PayloadType.PAYLOAD_TYPE_JSON:
        try:
            json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InvalidField("the payload is not JSON", field=field) from error


def _complete_options(options: DataOptions, spec: PublicationSpec, *, messages: bool) -> None:
    options.delivery = options.delivery or DataDelivery.DATA_DELIVERY_TRACK
    options.payload_type = options.payload_type or PayloadType.PAYLOAD_TYPE_BYTES
    # A data track loses frames and does not mix them up.
    ordered = options.delivery != DataDelivery.DATA_DELIVERY_LOSSY_MESSAGES
    if options.HasField("ordered") and options.ordered != ordered:
        name = DataDelivery.Name(options.delivery).removeprefix("DATA_DELIVERY_")
        raise InvalidOptions(
            f"{name} is {'always' if ordered else 'never'} in order", field="spec.data_options.ordered"
        )
    options.ordered = ordered
    if not messages:
        for name in ("topic", "destination_identities"):
            if getattr(options, name):
                raise InvalidOptions(f"{name} is for data messages", field=f"spec.data_options.{name}")
    else:
        options.topic = options.topic or spec.name
    most = MAX_MESSAGE_BYTES if messages else MAX_FRAME_BYTES
    if options.max_payload_bytes > most:
        raise InvalidOptions(
            f"data messages have up to {MAX_MESSAGE_BYTES} bytes", field="spec.data_options.max_payload_bytes"
        )
    options.max_payload_bytes = options.max_payload_bytes or most


def _refuse_numbered(options: DataOptions) -> None:
    if options.payload_type != PayloadType.PAYLOAD_TYPE_BYTES:
        raise InvalidOptions(
            "numbered frames are bytes: another payload type needs a payload", field="spec.data_options.payload_type"
        )
    if options.max_payload_bytes < MIN_NUMBERED_BYTES:
        raise InvalidOptions(
            f"numbered frames have {MIN_NUMBERED_BYTES} bytes and more", field="spec.data_options.max_payload_bytes"
        )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")
