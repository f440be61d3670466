"""The LiveKit API keys that are good now, and the one under which we call LiveKit ourselves."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import structlog

from track_server.config import Credentials, SettingsError, environment_name
from track_server.filewatch import WatchedFiles, read_file
from track_server.lifetime import Closing

log = structlog.get_logger(__name__)

# As LiveKit demands of its own key_file (`createKeyProvider`).
_OTHERS: Final = 0o007


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A LiveKit API key with its secret."""

    key: str
    secret: str = field(repr=False)


class KeyRing(Closing):
    """The keys, `async with`. With a file, it is read again within half a second of a change.

    Good are the file's keys, and ``own`` beside them unless the file has its key with another secret: then the file's
    counts. A key that the file had and no longer has is good no more, ``own`` included. ``own`` without a secret only
    names a key of the file.

    The *acting* key, under which we call LiveKit ourselves, is ``own`` while it is good, else the first of the file.
    """

    def __init__(self, own: ApiKey, path: Path | None = None) -> None:
        self._own = own
        self._withdrawn = False
        self._listed: dict[str, str] = {}
        self._secrets: dict[str, str] = {}
        self._acting = own
        self._followers: list[Callable[[], None]] = []
        self._path = path
        self._file: WatchedFiles[dict[str, str]] | None = None
        if path is None:
            self._secrets = {own.key: own.secret} if own.key and own.secret else {}
        else:
            self._file = WatchedFiles("keys", [path], lambda: read_keys(path), self._take)

    @classmethod
    def of(cls, credentials: Credentials) -> Self:
        """The ring of those settings. Their file is read by `async with` or `load`, which raise SettingsError."""
        own = ApiKey(credentials.livekit_api_key, credentials.livekit_api_secret.get_secret_value())
        return cls(own, credentials.keys_file)

    def load(self) -> Self:
        """Read the file once, without following it. Blocks."""
        if self._path is not None:
            with _as_settings_error():
                self._take(read_keys(self._path))
        return self

    async def __aenter__(self) -> Self:
        if self._file is not None:
            with _as_settings_error():
                await self._file.__aenter__()
        return self

    async def aclose(self) -> None:
        """Follow the file no more. May be called twice."""
        if self._file is not None:
            await self._file.aclose()

    @property
    def acting(self) -> ApiKey:
        """The key under which we call LiveKit now."""
        return self._acting

    def find(self, key: str) -> ApiKey | None:
        """The key of that name; None where none is good."""
        secret = self._secrets.get(key)
        return None if secret is None else ApiKey(key, secret)

    def good(self, key: ApiKey) -> bool:
        """Whether the key is good, with this secret."""
        return self._secrets.get(key.key) == key.secret

    def follow(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called whenever a key came, went or has another secret. It must not raise."""
        self._followers.append(changed)

    def _take(self, listed: dict[str, str]) -> None:
        own = self._own
        withdrawn = own.key not in listed and (self._withdrawn or own.key in self._listed)
        secrets = dict(listed)
        if own.secret and not withdrawn:
            secrets.setdefault(own.key, own.secret)
        if not secrets:
            raise ValueError("the file has no key, and no other is good")
        first = own.key if own.key in secrets else next(iter(listed))
        changed = secrets != self._secrets or self._acting.key != first
        if withdrawn and own.secret and not self._withdrawn:
            log.warning("own_key_withdrawn", key=own.key, hint="take it out of LIVEKIT_API_KEY before the next start")
        self._withdrawn, self._listed, self._secrets = withdrawn, listed, secrets
        self._acting = ApiKey(first, secrets[first])
        if changed:
            log.info("keys_taken", keys=sorted(secrets), acting=first)
            for follower in self._followers:
                follower()


@contextlib.contextmanager
def _as_settings_error() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise SettingsError([f"{environment_name('keys_file')}: {error}."]) from error


def read_keys(path: Path) -> dict[str, str]:
    """The keys of the file with their secrets, in its order; raises ValueError as a sentence. Blocks.

    A file that others than its owner and group may use is taken, with a warning.
    """
    contents = read_file(path)
    if contents.mode & _OTHERS:
        log.warning("key_file_open_to_others", path=str(path), hint=f"chmod o= {path}")
    return parse_keys(contents.text())


def parse_keys(text: str) -> dict[str, str]:
    """The keys in LiveKit's key_file form: `key: secret` a line, comments and blank lines; raises ValueError.

    The error names the line and shows nothing of it.
    """
    keys: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        bare = _without_comment(line).strip()
        if not bare or bare == "---":
            continue
        key, separator, secret = (part.strip() for part in bare.partition(": "))
        key, secret = _unquoted(key), _unquoted(secret)
        if not (separator or bare.endswith(":")) or not key or not secret or any(map(str.isspace, key + secret)):
            raise ValueError(f"line {number} of the file is not `key: secret`")
        if key in keys:
            raise ValueError(f"line {number} of the file names a key again")
        keys[key] = secret
    return keys


def _without_comment(line: str) -> str:
    """YAML begins a comment at a # that begins the line or follows a space; keys and secrets have no spaces."""
    if line.lstrip().startswith("#"):
        return ""
    return line.partition(" #")[0]


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text
