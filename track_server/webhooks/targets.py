"""Where events may be sent to: URLs against the operator's allow-list. Pure.

The address behind a name is another matter, see `addresses`: it is looked at when a connection is made.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from yarl import URL

from track_server.errors import DestinationNotAllowed, InvalidField
from track_server.webhooks.addresses import may_connect

_FIELD: Final = "url"
_PORTS: Final = {"https": 443, "http": 80}
_CLEAR: Final = "http://"
# Labels of 1 to 63 bytes (RFC 1035): no resolver looks up another name.
_NAME: Final = re.compile(r"(?=.{1,254}$)[^.:\[\]]{1,63}(\.[^.:\[\]]{1,63})*\.?")
_AUTHORITY_END: Final = re.compile(r"[/?#]")


@dataclass(frozen=True, slots=True)
class _Allowed:
    """An entry of the allow-list. ``port``: None: any. ``below``: names below the host, and not itself."""

    host: str
    port: int | None
    below: bool
    clear: bool

    def names(self, host: str, port: int) -> bool:
        """Whether it names that host and port."""
        named = host.endswith(f".{self.host}") if self.below else host == self.host
        return named and self.port in (None, port)


class Targets:
    """The allow-list. ``hosts``: `host`, `host:port`, `*.host`, each with `http://` before it for clear text too.

    ``allow_private``: see `may_connect`.
    """

    def __init__(self, hosts: Iterable[str], *, allow_private: bool) -> None:
        self._allowed = [_entry(host) for host in hosts]
        self._allow_private = allow_private

    def may_connect(self, address: str) -> bool:
        """Whether a connection to that address may be made."""
        return may_connect(address, allow_private=self._allow_private)

    def checked(self, text: str) -> URL:
        """The URL, if events may be sent there. Raises InvalidField where it is none, DestinationNotAllowed."""
        url = _parsed(text)
        host, port = url.raw_host or "", url.port or 0
        names = [entry for entry in self._allowed if entry.names(_canonical(host), port)]
        if not names:
            raise DestinationNotAllowed(
                "the operator does not allow this host and port: TRACK_WEBHOOK_HOSTS does not name them", field=_FIELD
            )
        if url.scheme == "http" and not any(entry.clear for entry in names):
            raise DestinationNotAllowed(
                "the operator does not allow clear text for this host: use https, or have `http://` put before it in"
                " TRACK_WEBHOOK_HOSTS",
                field=_FIELD,
            )
        if _is_address(host) and not self.may_connect(host):
            raise DestinationNotAllowed("the address is one that must not be connected to", field=_FIELD)
        return url


def _parsed(text: str) -> URL:
    if any(ord(sign) <= 0x20 or ord(sign) == 0x7F or sign == "\\" for sign in text):
        raise InvalidField("the url has spaces, control characters or backslashes", field=_FIELD)
    try:
        url = URL(text)
        host, port = url.raw_host, url.explicit_port
    except ValueError as error:
        raise InvalidField("the url cannot be read", field=_FIELD) from error
    if url.scheme not in _PORTS:
        raise InvalidField("the url must begin with https:// or http://", field=_FIELD)
    if not host or "%" in host or port == 0 or not (_is_address(host) or _NAME.fullmatch(host)):
        raise InvalidField("the url has no host, or no port, that can be connected to", field=_FIELD)
    # An empty user counts too: parsers differ in what such a URL means.
    if "@" in _AUTHORITY_END.split(text.partition("//")[2])[0]:
        raise InvalidField("the url must not have a user or a password", field=_FIELD)
    if "#" in text:
        raise InvalidField("the url must not have a fragment", field=_FIELD)
    return url


def _entry(text: str) -> _Allowed:
    clear = text.startswith(_CLEAR)
    bare = text.removeprefix(_CLEAR).removeprefix("https://")
    below = bare.startswith("*.")
    # As the parser of the URLs writes a name: in lower case, by IDNA.
    url = URL(f"https://{bare.removeprefix('*.')}")
    return _Allowed(_canonical(url.raw_host or ""), url.explicit_port, below, clear)


def _canonical(host: str) -> str:
    return host.lower().removesuffix(".")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
