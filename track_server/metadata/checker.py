"""The process that holds metadata against JSON Schemas: one line of JSON in, one out, in turn.

It is a process of its own because a schema may take any time and memory, in native code that cannot be interrupted: the
system ends it once one answer has taken LIMIT_CPU_S. Patterns run on an engine that takes linear time (Rust's `regex`).
"""

import contextlib
import resource
import signal
import sys
from typing import Any, Final

import jsonschema_rs
import orjson

LIMIT_CPU_S: Final = 0.5
"""Of one answer."""
_MEMORY_BYTES: Final = 1 << 30
_PATTERN_BYTES: Final = 1 << 20
"""Of one pattern as a program; a pattern that counts high is larger than that."""
_KEPT: Final = 128
_MESSAGE: Final = 200
# What any schema is tried on, so that one that never ends is found when it is set.
_PROBES: Final[tuple[Any, ...]] = ({}, [], "", 0, None, True, {"a": {"a": 1}}, {"a": [{"a": "a"}]}, "a" * 64)


def compiled(schema: Any) -> jsonschema_rs.Draft202012Validator:
    """The validator. Raises ValueError, as all that is wrong with a schema is."""
    return jsonschema_rs.Draft202012Validator(
        schema,
        validate_formats=False,
        retriever=_refuse,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES, dfa_size_limit=_PATTERN_BYTES),
    )


def _refuse(uri: str) -> Any:
    raise ValueError("another document")


def fault_of(error: ValueError) -> dict[str, Any]:
    """What is wrong: where, by which keyword, in words."""
    path = getattr(error, "instance_path", None) or []
    broken = [step for step in getattr(error, "schema_path", None) or [] if isinstance(step, str)]
    kind = getattr(error, "kind", None)
    message = getattr(error, "message", None) or str(error)
    return {
        "path": list(path),
        "keyword": broken[-1] if broken else getattr(kind, "name", ""),
        "referencing": type(kind).__name__.endswith("Referencing"),
        "message": message.splitlines()[0][:_MESSAGE] if message else "",
    }


def answer(request: dict[str, Any], kept: dict[str, jsonschema_rs.Draft202012Validator]) -> dict[str, Any]:
    """``{"schema": text, "instance": value}``, or without `instance` the schema alone is looked at.

    ``{}``: nothing is wrong; ``{"schema": fault}`` or ``{"instance": fault}``: see `fault_of`.
    """
    text = request["schema"]
    try:
        validator = kept.get(text) or compiled(orjson.loads(text))
        if len(kept) >= _KEPT:
            kept.clear()
        kept[text] = validator
    except ValueError as error:
        return {"schema": fault_of(error)}
    if "instance" not in request:
        for probe in _PROBES:
            validator.is_valid(probe)
        return {}
    try:
        validator.validate(request["instance"])
    except ValueError as error:
        return {"instance": fault_of(error)}
    return {}


def main() -> None:
    """Answers until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kept: dict[str, jsonschema_rs.Draft202012Validator] = {}
    for line in sys.stdin.buffer:
        # Time of this process alone, so that a busy machine makes no difference. SIGPROF ends it, in native code too.
        signal.setitimer(signal.ITIMER_PROF, LIMIT_CPU_S)
        made = orjson.dumps(answer(orjson.loads(line), kept))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.buffer.write(made + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
