"""Schemas whose references multiply, and those that only look like it."""

from typing import Any

import pytest

from track_server.metadata.expansion import multiplied
from track_server.metadata.schemas import places


def levels(keyword: str, count: int, reference: str = "#/$defs/d{}") -> dict[str, Any]:
    """Definitions of which each refers to the next one twice."""
    defined: dict[str, Any] = {
        f"d{n}": {"$anchor": f"d{n}", keyword: [{"$ref": reference.format(n + 1)}] * 2} for n in range(count)
    }
    defined[f"d{count}"] = {"$anchor": f"d{count}", "type": "string"}
    return defined


@pytest.mark.parametrize("keyword", ["allOf", "anyOf", "oneOf"])
@pytest.mark.parametrize("reference", ["#/$defs/d{}", "#d{}", "#/%24defs/d{}"])
def test_what_doubles_at_each_level_is_found_wherever_it_is(keyword: str, reference: str) -> None:
    schema = {"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": levels(keyword, 30, reference)}
    assert multiplied(places(schema)) == "/properties/a"
    assert multiplied(places({"$ref": "#/$defs/d0", **schema})) == ""


def test_so_is_what_doubles_by_other_keywords() -> None:
    defined: dict[str, Any] = {
        f"d{n}": {key: {"$ref": f"#/$defs/d{n + 1}"} for key in ("not", "if", "then", "else")} for n in range(20)
    }
    assert multiplied(places({"items": {"$ref": "#/$defs/d0"}, "$defs": defined})) == "/items"
    defined = {f"d{n}": {"dependentSchemas": {key: {"$ref": f"#/$defs/d{n + 1}"} for key in "ab"}} for n in range(30)}
    assert multiplied(places({"items": {"$ref": "#/$defs/d0"}, "$defs": defined})) == "/items"


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "allOf": [{"$ref": "#/$defs/a"}] * 9},
        {"$defs": levels("anyOf", 8), "$ref": "#/$defs/d0"},
        {"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "additionalProperties": {"$ref": "#"}},
        {"$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}]} for n in range(1500)}, "$ref": "#/$defs/d0"},
        {"anyOf": [{"const": n} for n in range(2000)]},
        {"properties": {"allOf": 1, "not": [], "$ref": "#", "dependentSchemas": 5}, "$ref": "https://example.com/a"},
    ],
)
def test_what_is_large_or_leads_back_to_itself_is_none(schema: Any) -> None:
    assert multiplied(places(schema)) is None
