"""Who calls: tokens, whole or their claims, operations, and client certificates. Nobody gets in unsigned."""

import base64
import datetime
import hashlib
import hmac
import json
import math
from collections.abc import Iterator
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fuzz.target import Finding, Target, choice, chosen
from track.v1.access_pb2 import Permission
from track_server.access import rules
from track_server.access.certificates import ClientCertificates, parse_clients
from track_server.access.operation import claim_of, read_claim
from track_server.access.principal import Grants, Principal, remembered
from track_server.access.question import Question
from track_server.access.tokens import bearer, verify
from track_server.errors import PermissionDenied, Unauthenticated
from track_server.keys import ApiKey, KeyRing

_KEY: Final = ApiKey("APIfuzz", "a-secret-that-no-fuzzer-guesses-in-its-life")
_NOW: Final = 1_800_000_000
_ROOM: Final = "room"
_HEADER: Final = b'{"alg":"HS256","typ":"JWT"}'
_CLAIMS: Final[tuple[dict[str, Any], ...]] = (
    {"video": {"room": _ROOM, "roomJoin": True, "canPublishSources": ["camera"]}},
    {"video": {"room": _ROOM, "roomAdmin": True}, "nbf": _NOW - 10},
    {"video": {"roomList": True, "agent": False, "canPublish": None}, "jti": "id"},
    {"video": {"roomJoin": True}, "track": {"operation": "publish", "bounds": {"max_width": 640, "codecs": ["H264"]}}},
)
_CLIENTS: Final = (
    '["a.example.org"]\nidentity = "a"\nroom = "room"\nroom_join = true\ncan_publish_sources = ["camera"]\n'
)


class _Callers:
    """Keys and certificates, made once."""

    def __init__(self) -> None:
        self.keys = KeyRing(_KEY)
        self.certificates = ClientCertificates({"a.example.org": Principal("a", Grants(room_list=True))})
        self.ours = {_signed(json.dumps(_filled(claims)).encode()) for claims in _CLAIMS}
        """Tokens that were really signed: what they say may be said again."""
        self.said = {token.rpartition(".")[0] for token in self.ours}


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def _signed(payload: bytes, header: bytes = _HEADER) -> str:
    said = f"{_encoded(header)}.{_encoded(payload)}"
    return f"{said}.{_encoded(hmac.digest(_KEY.secret.encode(), said.encode(), hashlib.sha256))}"


def _filled(claims: dict[str, Any]) -> dict[str, Any]:
    return {"iss": _KEY.key, "sub": "alice", "exp": _NOW + 600, **claims}


def _token(callers: _Callers, data: bytes) -> None:
    """A whole `authorization`."""
    authorization = data.decode("utf-8", "replace")
    try:
        token = bearer(authorization)
        verify(token, callers.keys, _NOW)
    except Unauthenticated as error:
        _presentable(error)
        return
    if token.rpartition(".")[0] not in callers.said:
        raise Finding("a token that nobody signed is good")


def _claims(callers: _Callers, data: bytes) -> None:
    """Claims that are signed, whatever they say."""
    try:
        principal, good_until = verify(_signed(data), callers.keys, _NOW)
    except Unauthenticated as error:
        _presentable(error)
        return
    if not (math.isfinite(good_until) and good_until > _NOW):
        raise Finding(f"it is good until {good_until}")
    if remembered(principal.message).message != principal.message:
        raise Finding("it is remembered as somebody else")
    principal.identity.encode()
    for permission in Permission.values():
        for room in ("", _ROOM):
            try:
                rules.admit(principal, permission, room)
                rules.require(principal, Question(permission, room, principal.identity))
            except PermissionDenied as error:
                _presentable(error)


def _header(callers: _Callers, data: bytes) -> None:
    """A signed header, whatever it says, over good claims."""
    try:
        verify(_signed(json.dumps(_filled(_CLAIMS[0])).encode(), data), callers.keys, _NOW)
    except Unauthenticated as error:
        _presentable(error)
        return
    if json.loads(data).get("alg") != "HS256":
        raise Finding("another algorithm is good")


def _operation(callers: _Callers, data: bytes) -> None:
    """The claim of an operation token."""
    try:
        operation, bounds = read_claim(json.loads(data))
    except (ValueError, RecursionError):  # the latter from json; `verify` has its own
        return
    if read_claim(claim_of(operation, bounds)) != (operation, bounds):
        raise Finding("the claim reads as something else when it is written again")


def _certificate(callers: _Callers, data: bytes) -> None:
    """A client certificate: any bytes, as PEM or put into one."""
    bodies = (data, b"-----BEGIN CERTIFICATE-----\n%b\n-----END CERTIFICATE-----\n" % base64.encodebytes(data))
    for pem in bodies:
        try:
            callers.certificates.principal(pem, _NOW)
        except Unauthenticated as error:
            _presentable(error)


def _clients(callers: _Callers, data: bytes) -> None:
    """The file that maps certificates."""
    try:
        parse_clients(data.decode("utf-8", "replace"))
    except ValueError as error:
        if not str(error):
            raise Finding("nothing is said of what is wrong") from error


_WAYS: Final = (_token, _claims, _header, _operation, _certificate, _clients)


def _presentable(error: PermissionDenied | Unauthenticated) -> None:
    if not error.message or len(error.message) > 500 or _KEY.secret in error.message:
        raise Finding(f"not a sentence for callers: {error.message!r}")


def _seeds() -> Iterator[bytes]:
    for claims in _CLAIMS:
        payload = json.dumps(_filled(claims)).encode()
        yield chosen(0, b"Bearer " + _signed(payload).encode())
        yield chosen(1, payload)
        yield chosen(3, json.dumps(claims.get("track", {"operation": "observe"})).encode())
    yield chosen(2, _HEADER)
    yield chosen(2, b'{"alg":"none"}')
    certificate = _made_certificate()
    yield chosen(4, certificate.public_bytes(serialization.Encoding.PEM))
    yield chosen(4, certificate.public_bytes(serialization.Encoding.DER))
    yield chosen(5, _CLIENTS.encode())


def _made_certificate() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.example.org")])
    begin = datetime.datetime.fromtimestamp(_NOW, datetime.UTC)
    alternative = x509.SubjectAlternativeName(
        [x509.DNSName("a.example.org"), x509.UniformResourceIdentifier("spiffe://example.org/a")]
    )
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + datetime.timedelta(days=1))
    return builder.add_extension(alternative, False).sign(key, hashes.SHA256())


def target() -> Target:
    """See the module."""
    callers = _Callers()

    def run(data: bytes) -> None:
        way, rest = choice(data, len(_WAYS))
        _WAYS[way](callers, rest)

    words = (
        "iss",
        "sub",
        "exp",
        "nbf",
        "video",
        "track",
        "operation",
        "bounds",
        "roomAdmin",
        "canPublishSources",
        "none",
    )
    return Target(run, _seeds, [word.encode() for word in words])
