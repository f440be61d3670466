"""The process that holds metadata against schemas: bounded in time and memory, and back after it was ended."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
import pytest_asyncio

from track_server.metadata.checking import Checking


@pytest_asyncio.fixture
async def checking() -> AsyncIterator[Checking]:
    """One of this test alone."""
    async with Checking() as made:
        yield made


def children() -> list[psutil.Process]:
    """The checkers of this process."""
    return [child for child in psutil.Process().children() if "track_server.metadata.checker" in child.cmdline()]


async def ask(checking: Checking, schema: Any, *instance: Any) -> dict[str, Any] | None:
    question = {"schema": json.dumps(schema)}
    return await checking.ask(question | ({"instance": instance[0]} if instance else {}))


async def test_it_answers_and_is_ended_with_its_owner() -> None:
    async with Checking() as checking:
        assert not children()
        assert await ask(checking, {"type": "object"}, {}) == {}
        answer = await ask(checking, {"properties": {"a": {"items": {"maximum": 1}}}}, {"a": [1, 2]})
        assert answer is not None
        assert (answer["instance"]["path"], answer["instance"]["keyword"]) == (["a", 1], "maximum")
        (child,) = children()
        # None of our secrets is there.
        assert not [name for name in child.environ() if name.startswith(("LIVEKIT", "TRACK"))]
        await checking.aclose()
        await checking.aclose()
    assert not children()


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf", "allOf"])
async def test_what_never_ends_is_ended_and_the_next_is_answered(checking: Checking, keyword: str) -> None:
    names = [f"d{n}" for n in range(48)]
    schema: dict[str, Any] = {"$defs": {"d48": {"type": "string"}}, "$ref": "#/$defs/d0"}
    for n, name in enumerate(names):
        reference = {"$ref": f"#/$defs/d{n + 1}"}
        # Each fails at the last step alone.
        schema["$defs"][name] = (
            {"not": {keyword: [reference, reference]}} if n % 2 else {keyword: [reference, reference]}
        )
    first, second = await asyncio.gather(ask(checking, schema), ask(checking, {"type": "object"}, {}))
    assert second == {}
    if keyword != "allOf":  # where one failure is enough to stop
        assert first is None
    assert await ask(checking, {"type": "array"}, {}) is not None


async def test_what_takes_all_memory_is_ended(checking: Checking) -> None:
    schema = {"pattern": "(" * 60 + "a{1,1000}" + "){1,1000}" * 60}
    answer = await ask(checking, schema)
    assert answer is None or "schema" in answer
    assert await ask(checking, True, {}) == {}


async def test_whoever_gives_up_leaves_no_answer_for_the_next(checking: Checking) -> None:
    assert await ask(checking, True, {}) == {}
    for _ in range(5):
        waiting = asyncio.ensure_future(ask(checking, False, {}))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert await ask(checking, True, {}) == {}


async def test_one_that_was_killed_is_started_again(checking: Checking) -> None:
    assert await ask(checking, True, {}) == {}
    (child,) = children()
    os.kill(child.pid, 9)
    # The one that is under way then may go without an answer.
    answers = [await ask(checking, True, {}), await ask(checking, True, {})]
    assert answers[-1] == {}


async def test_formats_are_notes_and_whole_floats_are_integers(checking: Checking) -> None:
    assert await ask(checking, {"properties": {"a": {"format": "email"}}}, {"a": "x"}) == {}
    assert await ask(checking, {"properties": {"a": {"type": "integer"}}}, {"a": 3.0}) == {}
