"""Between this service and others outside: webhooks that come in, and where events and recordings may go."""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from yarl import URL

from fuzz.target import Finding, Target, by_choice, chosen, presentable
from track.v1.egress_pb2 import EgressFile, EgressOutput, S3Storage
from track.v1.track_pb2 import Track
from track_server.egress import paths
from track_server.egress.outputs import Places, shown
from track_server.errors import TrackError
from track_server.keys import ApiKey, KeyRing
from track_server.livekit.webhook import WebhookReader
from track_server.webhooks.addresses import may_connect
from track_server.webhooks.targets import Targets

_KEY: Final = ApiKey("APIfuzz", "a-secret-that-no-fuzzer-guesses-in-its-life")
_NOW: Final = 1_800_000_000
_HEADER: Final = b'{"alg":"HS256","typ":"JWT"}'
_BODY: Final = (
    b'{"event":"track_published","room":{"name":"r"},"track":{"sid":"TR_a"},"id":"EV_a","createdAt":"1800000000"}'
)
_TARGETS: Final = Targets(["hooks.example.com", "*.example.org", "http://clear.example.com:8080"], allow_private=False)
_PLACES: Final = Places(
    frozenset({"recordings/"}), frozenset({"s3:minio.example:9000/tapes"}), frozenset({"ears.example"})
)


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def _signed(payload: bytes) -> str:
    said = f"{_encoded(_HEADER)}.{_encoded(payload)}"
    return f"{said}.{_encoded(hmac.digest(_KEY.secret.encode(), said.encode(), hashlib.sha256))}"


def _claims(body: bytes) -> bytes:
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    return json.dumps({"iss": _KEY.key, "exp": _NOW + 300, "nbf": _NOW, "sha256": digest}).encode()


_OURS: Final = _signed(_claims(_BODY))


def _reader() -> WebhookReader:
    return WebhookReader(KeyRing(_KEY), clock=lambda: float(_NOW))


def _authorization(data: bytes) -> None:
    """A whole header."""
    text = data.decode("utf-8", "replace")
    try:
        _reader().signature(text)
    except TrackError as error:
        presentable(error, _KEY.secret)
        return
    if _OURS.rpartition(".")[0] not in text:
        raise Finding("a token that nobody signed is good")


def _claimed(data: bytes) -> None:
    """Claims that are signed, whatever they say."""
    try:
        signature = _reader().signature(_signed(data))
    except TrackError as error:
        presentable(error, _KEY.secret)
        return
    if not _NOW < signature.expire_time <= _NOW + 900:
        raise Finding(f"it is good until {signature.expire_time}")


def _received(data: bytes) -> None:
    """A body that is signed, whatever it is; then the same once more, and another one."""
    reader = _reader()
    token = _signed(_claims(data))
    signature = reader.signature(token)
    _refused(lambda: reader.event(data + b" ", signature), must=True)
    if not _refused(lambda: reader.event(data, signature)):
        _refused(lambda: reader.signature(token), must=True)
        _refused(lambda: reader.event(data, signature), must=True)


def _url(data: bytes) -> None:
    """Where events are to be sent."""
    text = data.decode("utf-8", "replace")
    try:
        url = _TARGETS.checked(text)
    except TrackError as error:
        presentable(error, _KEY.secret)
        return
    host = (URL(str(url)).raw_host or "").lower().removesuffix(".")
    allowed = host == "hooks.example.com" or host.endswith(".example.org")
    allowed = (url.scheme == "https" and allowed) or (host, url.port) == ("clear.example.com", 8080)
    if not allowed or url.user is not None or url.password is not None:
        raise Finding(f"{text!r} is allowed")


def _address(data: bytes) -> None:
    """An address to connect to: as numbers, or as text."""
    texts = [data.decode("utf-8", "replace")]
    if len(data) in (4, 16):
        texts.append(str(ipaddress.ip_address(data)))
    for text in texts:
        if not may_connect(text, allow_private=False):
            continue
        address: Any = ipaddress.ip_address(text)
        inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
        if not inner.is_global or inner.is_multicast or inner.is_loopback or inner.is_link_local:
            raise Finding(f"{text} may be connected to")


def _path(data: bytes) -> None:
    """Where a recording is to go, with a hostile room and participant in it."""
    template, _, identity = data.decode("utf-8", "replace").partition("\n")
    output = EgressOutput(file=EgressFile(filepath=template))
    if _refused(lambda: _PLACES.check(output)):
        return
    track = Track(sid="TR_a", participant_identity=identity)
    made: list[str] = []

    def fill() -> None:
        made.append(paths.filled(template, paths.values_of(track, identity, "RM_a"), 2, "output.file.filepath"))

    if not _refused(fill) and (not made[0].startswith("recordings/") or ".." in made[0].split("/")):
        raise Finding(f"{template!r} leads to {made[0]!r}")


def _output(data: bytes) -> None:
    """A WebSocket, or a service like S3."""
    text = data.decode("utf-8", "replace")
    socket = EgressOutput(websocket_url=text)
    if not _refused(lambda: _PLACES.check(socket)):
        seen = shown(socket).websocket_url
        if not text.lower().startswith("wss:") or any(mark in seen for mark in "@?#"):
            raise Finding(f"{text!r} is allowed, and shown as {seen!r}")
    storage = S3Storage(bucket="tapes", endpoint=text, secret="s", access_key="a")
    file = EgressOutput(file=EgressFile(filepath="a", s3=storage))
    if not _refused(lambda: _PLACES.check(file)) and "minio.example:9000" not in text.lower():
        raise Finding(f"{text!r} is allowed")


def _refused(check: Callable[[], object], *, must: bool = False) -> bool:
    try:
        check()
    except TrackError as error:
        presentable(error, _KEY.secret)
        return True
    if must:
        raise Finding("it is taken")
    return False


_WAYS: Final = (_authorization, _claimed, _received, _url, _address, _path, _output)


def _seeds() -> Iterator[bytes]:
    yield chosen(0, _OURS.encode())
    yield chosen(0, b"Bearer " + _OURS.encode())
    yield chosen(1, _claims(_BODY))
    yield chosen(2, _BODY)
    yield chosen(2, b'{"event":"egress_ended","egressInfo":{"egressId":"EG_a","fileResults":[{"size":"1"}]}}')
    for url in ("https://hooks.example.com/a?b=c", "https://a.example.org:8443", "http://clear.example.com:8080/"):
        yield chosen(3, url.encode())
    yield chosen(3, b"https://hooks.example.com@127.0.0.1/")
    for address in (
        "93.184.216.34",
        "127.0.0.1",
        "::ffff:10.0.0.1",
        "2606:2800:220:1::1",
        "fe80::1%eth0",
        "64:ff9b::a00:1",
    ):
        yield chosen(4, address.encode())
        if "%" not in address:
            yield chosen(4, ipaddress.ip_address(address).packed)
    yield chosen(5, b"recordings/{room_name}/{publisher_identity}-{time}.ogg\n../../etc")
    yield chosen(5, b"recordings/a.ogg\n{time}")
    yield chosen(6, b"wss://ears.example/in?token=secret")
    yield chosen(6, b"https://MINIO.example:9000/")
    # What the claim's text itself is not.
    with_nothing = binascii.b2a_base64(b"").strip()
    yield chosen(1, json.dumps({"iss": _KEY.key, "exp": _NOW + 1e9, "sha256": with_nothing.decode()}).encode())


def target() -> Target:
    """See the module."""
    words = (
        *("iss", "exp", "nbf", "sha256", "event", "egressInfo", "createdAt", "room", "track_published"),
        *("https://", "http://", "wss://", "%2e", "..", "xn--", "hooks.example.com", ".example.org", "@", "\\"),
        *("{room_name}", "{track_id}", "{time}", "recordings/", "ears.example", "minio.example:9000"),
        *("::ffff:", "64:ff9b::", "2002:", "0x7f.1", "127.1", "[::1]"),
    )
    return Target(by_choice(_WAYS), _seeds, [word.encode() for word in words])
