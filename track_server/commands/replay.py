"""`track-server replay`: what a recorded room would have been told, and what adaptation would have done."""

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from google.protobuf import json_format
from protovalidate import Validator

from track.v1.quality_policy_pb2 import QualityActionKind, QualityPolicy
from track_server.commands.wording import time_of, words_of
from track_server.config import SettingsError
from track_server.errors import TrackError
from track_server.faults import fault_of, path_of
from track_server.quality.core.recording import BadRecording
from track_server.quality.policies.checking import checked
from track_server.quality.recordings.replaying import Replayed, Replaying

_WRONG: Final = 2
_LONGEST_LINE: Final = 1024 * 1024
"""In characters: a hundred times what is recorded of one source."""
_PREFIX: Final = "QUALITY_ACTION_KIND_"


def replay(file: str, *, policy: str | None, allowed: Sequence[str], seed: int, as_json: bool) -> int:
    """Prints a line for each alert, level and action; returns the exit status, 2 for a recording that is none.

    ``file``: its path, `-` for stdin. ``policy``: path of a QualityPolicy as JSON. Raises SettingsError.
    """
    if policy is not None and allowed:
        raise SettingsError(["--policy says what is allowed: leave --allow out."])
    replaying = Replaying(_read(policy) if policy is not None else _allowing(allowed), seed)
    told: Counter[str] = Counter()
    try:
        for replayed in replaying.events(_lines(file)):
            told[replayed.event.WhichOneof("change") or ""] += 1
            print(_json(replayed) if as_json else _text(replayed))
    except BadRecording as error:
        print(f"{file}: {error}.", file=sys.stderr)
        return _WRONG
    except BrokenPipeError:
        # Who reads has seen enough. What is left in the buffer would be complained of at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    counts = ", ".join(f"{count} {change}" for change, count in sorted(told.items()))
    print(f"{file}: {counts or 'nothing happened'}", file=sys.stderr)
    return 0


def _lines(file: str) -> Iterator[str]:
    """Raises SettingsError where it cannot be read, BadRecording where a line has no end."""
    try:
        with contextlib.nullcontext(sys.stdin) if file == "-" else Path(file).open(encoding="utf-8") as opened:
            number = 0
            while line := opened.readline(_LONGEST_LINE + 1):
                number += 1
                if len(line) > _LONGEST_LINE:
                    raise BadRecording(number, f"it has more than {_LONGEST_LINE} characters")
                yield line
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{file} cannot be read: {_reason(error)}."]) from error


def _read(path: str) -> QualityPolicy:
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"--policy {path} cannot be read: {_reason(error)}."]) from error
    except (ValueError, RecursionError) as error:
        raise SettingsError([f"--policy {path} is no QualityPolicy as JSON: it is no JSON."]) from error
    # As GetQualityPolicy answers, or the policy alone.
    inner = given.get("policy", given) if isinstance(given, dict) else given
    if not isinstance(inner, dict):
        raise SettingsError([f"--policy {path} is no QualityPolicy as JSON: it is no object."])
    try:
        policy = json_format.ParseDict(inner, QualityPolicy())
    except json_format.ParseError as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise SettingsError([f"--policy {path} is no QualityPolicy as JSON: {reason}."]) from error
    violations = Validator().collect_violations(policy)
    if violations:
        raise SettingsError(
            [f"--policy {path}: {path_of(violation)}: {fault_of(violation)}." for violation in violations]
        )
    try:
        return checked(policy, policy.room, policy.participant_identity, policy.track_sid)
    except TrackError as error:
        raise SettingsError([f"--policy {path}: {error.message}."]) from error


def _allowing(allowed: Sequence[str]) -> QualityPolicy:
    policy = QualityPolicy()
    for name in allowed:
        try:
            policy.allowed_actions.append(QualityActionKind.Value(f"{_PREFIX}{name.upper()}"))
        except ValueError as error:
            known = ", ".join(kind.removeprefix(_PREFIX).lower() for kind in QualityActionKind.keys()[1:])
            raise SettingsError([f"--allow {name} is none of {known}."]) from error
    return policy


def _text(replayed: Replayed) -> str:
    event = replayed.event
    time = [time_of(event.time.ToNanoseconds() / 1e9)] if event.HasField("time") else []
    return " ".join([f"{replayed.at_s:.1f}", *time, *words_of(event)])


def _json(replayed: Replayed) -> str:
    event = json_format.MessageToDict(replayed.event, preserving_proto_field_name=True)
    return json.dumps({"at_s": round(replayed.at_s, 3), "event": event})


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is no UTF-8 text"
