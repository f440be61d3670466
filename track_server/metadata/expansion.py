"""How many steps a schema takes for one value: references that are taken twice at each level multiply. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

STEPS: Final = 10_000
"""Schemas that are held against one and the same value, each as often as it is. By hand nobody comes near that."""

# Keywords whose schemas are held against the value itself, not its members: JSON Schema 2020-12, Core 10.2, 8.2.3.
_ONE: Final = ("not", "if", "then", "else")
_LISTS: Final = ("allOf", "anyOf", "oneOf")
_REFERENCES: Final = ("$ref", "$dynamicRef")
_NAMES: Final = (("$anchor", "#"), ("$dynamicAnchor", "#"), ("$id", ""))


def multiplied(places: Mapping[str, Any]) -> str | None:
    """Where the schema takes more than STEPS, as JSON Pointer, rather than where it defines that; None: nowhere.

    ``places``: all that is in the schema by JSON Pointer.
    """
    targets = {f"#{place}": value for place, value in places.items()}
    for value in places.values():
        if isinstance(value, dict):
            targets |= {before + value[key]: value for key, before in _NAMES if isinstance(value.get(key), str)}
    counted: dict[int, int] = {}
    there = [
        place for place, value in places.items() if isinstance(value, dict) and _count(value, targets, counted) > STEPS
    ]
    return min(there, key=lambda place: ("/$defs/" in place, place.count("/"), place), default=None)


def _count(schema: dict[str, Any], targets: Mapping[str, Any], counted: dict[int, int]) -> int:
    """Steps of that schema. ``counted``: of others, by identity. What leads back to itself is no further step."""
    begun: set[int] = set()
    waiting = [schema]
    while waiting:
        current = waiting[-1]
        if id(current) in counted:
            waiting.pop()
            continue
        begun.add(id(current))
        inside = list(_inside(current, targets))
        before = [found for found in inside if id(found) not in counted and id(found) not in begun]
        if before:
            waiting += before
            continue
        counted[id(current)] = min(1 + sum(counted.get(id(found), 0) for found in inside), STEPS + 1)
    return counted[id(schema)]


def _inside(schema: dict[str, Any], targets: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas that are held against the same value, each as often as it is."""
    found: list[Any] = [schema.get(key) for key in _ONE]
    for key in _LISTS:
        listed = schema.get(key)
        found += listed if isinstance(listed, list) else []
    dependent = schema.get("dependentSchemas")
    found += dependent.values() if isinstance(dependent, dict) else []
    for key in _REFERENCES:
        reference = schema.get(key)
        if isinstance(reference, str):
            found.append(targets.get(unquote(reference)))
    return (each for each in found if isinstance(each, dict))
