"""The rules as they stand: read again when the file changes, and every version told to those who watch."""

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import structlog

from track.v1.access_pb2 import Permission
from track_server.errors import ConsistencyNotReached, InvalidConsistencyToken
from track_server.filewatch import WatchedFiles, read_file
from track_server.lifetime import Closing
from track_server.permissions.rules import RuleSet
from track_server.permissions.rules_file import RulesError, parse

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 0.1
"""How often the file is looked at; the second look that sees a change reads it."""
MAX_WAIT_S: Final = 1.0
"""How long a question waits for the version that its consistency token names."""

# The life of the process, and the version of the rules in it.
_TOKEN: Final = re.compile(r"rules-([0-9a-f]{12})-([1-9][0-9]{0,17})")


class Watch:
    """What changed since somebody looked. Made by `LiveRules.watching`."""

    def __init__(self) -> None:
        self._permissions: frozenset[Permission.ValueType] = frozenset()
        self._changed = asyncio.Event()

    def add(self, permissions: frozenset["Permission.ValueType"]) -> None:
        """There is a new version, which decides otherwise about ``permissions``."""
        self._permissions |= permissions
        self._changed.set()

    async def next(self) -> frozenset["Permission.ValueType"]:
        """Waits for a new version; returns the permissions about which it and those since decide otherwise."""
        await self._changed.wait()
        self._changed.clear()
        permissions, self._permissions = self._permissions, frozenset()
        return permissions


class LiveRules(Closing):
    """The rules of the file at ``path``. `async with` reads them, raising RulesError, and again on change.

    A file that cannot be taken later is logged, and the rules stay as they were. ``refused`` is called for each.
    """

    def __init__(self, path: Path, refused: Callable[[], None]) -> None:
        self.rules = RuleSet()
        self.version = 0
        """Grows with every change; 0: nothing was read yet."""
        self._path = path
        self._refused = refused
        self._life = os.urandom(6).hex()
        self._contents = b""
        self._watches: set[Watch] = set()
        self._file = WatchedFiles("rules", [path], self._read, self._take, interval_s=INTERVAL_S)

    async def __aenter__(self) -> Self:
        await self._file.__aenter__()
        return self

    async def aclose(self) -> None:
        """Follow the file no more. May be called twice."""
        await self._file.aclose()

    @property
    def token(self) -> str:
        """Names the version of the rules that decides now."""
        return f"rules-{self._life}-{self.version}"

    async def reach(self, token: str, wait_s: float, field: str = "consistency_token") -> None:
        """Returns when the rules are those that ``token`` names, or newer ones; "": at once.

        Waits up to ``wait_s``, MAX_WAIT_S at most. A token of another life of this service is reached by what is in the
        file now. Raises InvalidConsistencyToken, which names ``field``, or ConsistencyNotReached.
        """
        if not token:
            return
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise InvalidConsistencyToken("the consistency token is none of this service", field=field)
        life, version = match[1], int(match[2])
        if life != self._life:
            # The first look may only notice a change.
            await self._file.look()
            await self._file.look()
        elif version > self.version:
            await self._wait(version, min(wait_s, MAX_WAIT_S), field)

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """From now on, every new version is told to the Watch."""
        watch = Watch()
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    async def _wait(self, version: int, wait_s: float, field: str) -> None:
        with self.watching() as watch:
            try:
                async with asyncio.timeout(wait_s):
                    while version > self.version:
                        await watch.next()
            except TimeoutError:
                raise ConsistencyNotReached(
                    "the permission service has not reached the rules that the consistency token names", field=field
                ) from None

    def _read(self) -> tuple[bytes, RuleSet]:
        """Blocks, for as long as the conditions take to compile."""
        try:
            raw = read_file(self._path).raw
            return raw, parse(raw)
        except RulesError as error:
            self._refused()
            raise RulesError(f"{self._path}: {sentence}" for sentence in error.sentences) from error
        except ValueError as error:
            self._refused()
            raise RulesError([str(error)]) from error

    def _take(self, read: tuple[bytes, RuleSet]) -> None:
        raw, rules = read
        if raw == self._contents:
            return
        self._contents = raw
        changed = self.rules.changed(rules)
        self.rules = rules
        self.version += 1
        for watch in self._watches:
            watch.add(changed)
        names = sorted(Permission.Name(permission).removeprefix("PERMISSION_") for permission in changed)
        log.info("rules_taken", path=str(self._path), rules=len(rules.rules), version=self.version, changed=names)
