"""The quality timeline as a file of JSON beside a recording."""

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from google.protobuf import json_format

from track.v1.egress_pb2 import EgressPart, TimelineSample, TrackEgress
from track_server.durations import seconds_of

SUFFIX: Final = ".quality.json"


def document(egress: TrackEgress, part: EgressPart, samples: Iterable[TimelineSample]) -> bytes:
    """What is written: which recording it is, and its samples, each as in the contract. Pure."""
    begin, end = seconds_of(part.start_time), seconds_of(part.end_time) or float("inf")
    within = [sample for sample in samples if begin <= seconds_of(sample.time) <= end]
    about = json_format.MessageToDict(part, preserving_proto_field_name=True)
    about.pop("files", None)
    content = {
        "egress_id": egress.egress_id,
        "room": egress.room,
        "publication_id": egress.publication_id,
        "part": about,
        "samples": [json_format.MessageToDict(sample, preserving_proto_field_name=True) for sample in within],
    }
    return json.dumps(content, ensure_ascii=False, indent=1).encode()


def write(directory: Path, location: str, body: bytes) -> str:
    """Writes it beside the file of that location, at once and whole; returns its path as Egress would name it.

    Returns "" where the file is not in ``directory``. Blocks. Raises OSError.
    """
    recorded = (directory / location).resolve()
    if not recorded.is_relative_to(directory) or not recorded.is_file():
        return ""
    draft = recorded.with_name(f".{recorded.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
            file.write(body)
        draft.replace(recorded.with_name(recorded.name + SUFFIX))
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    return location + SUFFIX
