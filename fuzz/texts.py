"""Small texts with a form of their own: cursors, page tokens, consistency tokens; and the files of keys and rules."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from fuzz.target import Finding, Target, choice, chosen
from track_server.errors import InvalidConsistencyToken, InvalidCursor, InvalidPageToken
from track_server.keys import parse_keys
from track_server.paging import page_of, page_token, position_in
from track_server.permissions.rules_file import RulesError, parse
from track_server.private_tracks.consistency import revision_of, token_of
from track_server.rooms.cursor import Cursor, Seal

_EXAMPLE: Final = Path(__file__).resolve().parents[1] / "examples" / "permissions.toml"
_QUERY: Final = ("tracks", "room")
_SEAL: Final = Seal(b"\x01" * 32)
_CURSOR: Final = Cursor("0123456789ab", 17)
_ITEMS: Final = [(number, f"item {number}") for number in range(5)]


def _cursor(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        cursor = _SEAL.read("room", text)
    except InvalidCursor:
        return
    if not text.isascii() or not text.isprintable():
        raise Finding(f"{text!r} is taken for one of another life")
    if cursor is None:
        return
    if _SEAL.text("room", cursor) != text or _SEAL.read("another room", text) is not None:
        raise Finding(f"{text!r} is taken for {cursor}")
    if cursor != _CURSOR:
        raise Finding(f"{text!r} was forged")


def _page_token(data: bytes) -> None:
    """Whatever was sent."""
    try:
        position_in(data.decode("utf-8", "replace"), _QUERY)
    except InvalidPageToken:
        return
    raise Finding("a token that nobody gave is good")


def _page(data: bytes) -> None:
    """Any position, in a token as ours: it is no secret how one is made."""
    try:
        position = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(position, list):
        return
    try:
        page_of(_ITEMS, lambda item: item, size=2, token=page_token(tuple(position), _QUERY), query=_QUERY)
    except InvalidPageToken:
        return


def _consistency_token(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        revision = revision_of(text, "room")
    except InvalidConsistencyToken:
        return
    if text and token_of("room", revision) != text:
        raise Finding(f"{text!r} is taken for {revision}")


def _keys(data: bytes) -> None:
    try:
        keys = parse_keys(data.decode("utf-8", "replace"))
    except ValueError as error:
        if "secret-of-the-seed" in str(error):
            raise Finding("the message shows a secret") from error
        return
    if any(not key or not secret or any(map(str.isspace, key + secret)) for key, secret in keys.items()):
        raise Finding(f"{keys} are no keys")


def _rules(data: bytes) -> None:
    try:
        rules = parse(data)
    except RulesError as error:
        if not all(error.sentences):
            raise Finding("nothing is said of what is wrong") from error
        return
    if not rules.rules:
        raise Finding("no rules are taken for some")


_WAYS: Final[tuple[Callable[[bytes], None], ...]] = (_cursor, _page_token, _page, _consistency_token, _keys, _rules)


def _seeds() -> Iterator[bytes]:
    yield chosen(0, b"0123456789ab-17")
    yield chosen(0, _SEAL.text("room", _CURSOR).encode())
    yield chosen(1, page_token((1, "a"), ("tracks", "another room")).encode())
    yield chosen(2, json.dumps([1, "item 1"]).encode())
    yield chosen(2, b'["a", null, {}]')
    yield chosen(3, token_of("room", 7).encode())
    yield chosen(4, b"# comment\n---\nAPIa: secret-of-the-seed # more\n'APIb': \"other\"\n")
    yield chosen(5, _EXAMPLE.read_bytes())
    yield chosen(
        5,
        b'[[rule]]\nname = "a"\npermissions = ["PUBLISH"]\nwhen = "true"\nlifetime = "5m"\nmax_width = 640\n'
        b'sources = ["CAMERA"]\n',
    )


def target() -> Target:
    """See the module."""

    def run(data: bytes) -> None:
        way, rest = choice(data, len(_WAYS))
        _WAYS[way](rest)

    words = (
        "[[rule]]",
        "name",
        "when",
        "effect",
        "deny",
        "lifetime",
        "permissions",
        "codecs",
        '"true"',
        "= [",
        ": ",
        "---",
    )
    return Target(run, _seeds, [word.encode() for word in words])
