"""The claim `track` of a LiveKit access token, which narrows it to one operation of this service.

LiveKit ignores claims that it does not know: to it, the token is what its grants say. `{"operation": "publish",
"bounds": {...}}`, bounds as the proto JSON of PublishBounds under the names of its fields.

LiveKit also renews the token of whoever joins, at once and without claims that it does not know. What it keeps are the
participant's attributes, so the claim is in one of them too: the holder cannot change it, for want of
`canUpdateOwnMetadata`.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import json_format

from track.v1.access_pb2 import TrackOperation
from track.v1.token_pb2 import PublishBounds
from track_server.access.bounds import UNBOUNDED, Bounds

CLAIM: Final = "track"
"""Its name."""
ATTRIBUTE: Final = "track.operation"
"""The attribute that has it as JSON."""

_NAMES: Final = {
    TrackOperation.TRACK_OPERATION_PUBLISH: "publish",
    TrackOperation.TRACK_OPERATION_SUBSCRIBE: "subscribe",
    TrackOperation.TRACK_OPERATION_OBSERVE: "observe",
}
_OPERATIONS: Final = {name: operation for operation, name in _NAMES.items()}


def claim_of(operation: "TrackOperation.ValueType", bounds: Bounds = UNBOUNDED) -> dict[str, Any]:
    """The claim's value; raises KeyError for an operation that is unspecified."""
    claim: dict[str, Any] = {"operation": _NAMES[operation]}
    if bounds != UNBOUNDED:
        claim["bounds"] = json_format.MessageToDict(bounds.message(), preserving_proto_field_name=True)
    return claim


def narrowing(operation: "TrackOperation.ValueType", bounds: Bounds = UNBOUNDED) -> dict[str, dict[str, Any]]:
    """The claims that narrow a token to the operation, also once LiveKit has renewed it."""
    claim = claim_of(operation, bounds)
    return {CLAIM: claim, "attributes": {ATTRIBUTE: json.dumps(claim)}}


def narrowed(claims: Mapping[str, Any]) -> tuple["TrackOperation.ValueType", Bounds]:
    """What a token's claims narrow it to, unspecified where they do not; raises ValueError as `read_claim`."""
    if CLAIM in claims:
        return read_claim(claims[CLAIM])
    attributes = claims.get("attributes")
    if not isinstance(attributes, Mapping) or ATTRIBUTE not in attributes:
        return TrackOperation.TRACK_OPERATION_UNSPECIFIED, UNBOUNDED
    try:
        return read_claim(json.loads(attributes[ATTRIBUTE]))
    except (TypeError, RecursionError) as error:
        raise ValueError("no JSON") from error


def read_claim(claim: object) -> tuple["TrackOperation.ValueType", Bounds]:
    """What the claim narrows its token to; raises ValueError for all that is not exactly as `claim_of` makes it.

    What cannot be understood must not be passed over: it may have been meant as a bound.
    """
    if not isinstance(claim, dict) or not claim.keys() <= {"operation", "bounds"}:
        raise ValueError("not an operation")
    name = claim.get("operation")
    if not isinstance(name, str) or name not in _OPERATIONS:
        raise ValueError("an unknown operation")
    return _OPERATIONS[name], _bounds(claim["bounds"]) if "bounds" in claim else UNBOUNDED


def _bounds(value: object) -> Bounds:
    if not isinstance(value, dict) or None in value.values():
        raise ValueError("not bounds")
    try:
        message = json_format.ParseDict(value, PublishBounds())
    except (json_format.ParseError, ArithmeticError, ValueError, TypeError, AttributeError) as error:
        raise ValueError("not bounds") from error
    numbers = (message.max_bitrate_bps, message.max_width, message.max_height, message.max_tracks)
    rate = message.max_frames_per_second
    # A NaN is no bound: nothing is greater.
    if min(numbers) < 0 or not (math.isfinite(rate) and rate >= 0):
        raise ValueError("bounds out of range")
    return Bounds.of(message)
