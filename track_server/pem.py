"""Certificates and private keys in PEM files; what is wrong is said in a sentence, where gRPC would only log it."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from track_server.filewatch import read_file


def read_authorities(path: Path, setting: str) -> bytes:
    """The file's certificates of CAs; raises ValueError as a sentence that begins with ``setting``. Blocks."""
    raw = _read(path, setting)
    _first(raw, path, setting)
    return raw


def read_pair(cert: Path, key: Path, settings: tuple[str, str]) -> tuple[bytes, bytes, x509.Certificate]:
    """A certificate chain, the private key of its first certificate, and that certificate.

    Raises ValueError as a sentence that begins with the one of ``settings`` that is at fault, also where the key is
    another certificate's. Blocks.
    """
    its_cert, its_key = settings
    chain, private = _read(cert, its_cert), _read(key, its_key)
    certificate = _first(chain, cert, its_cert)
    try:
        loaded = serialization.load_pem_private_key(private, None)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{its_key}: {key} has no private key in PEM without a password") from error
    if _public(certificate.public_key()) != _public(loaded.public_key()):
        raise ValueError(f"{its_key}: {key} is not the private key of the certificate in {cert}")
    return chain, private, certificate


def _first(raw: bytes, path: Path, setting: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(raw)[0]
    except ValueError as error:
        raise ValueError(f"{setting}: {path} has no certificate in PEM") from error


def _read(path: Path, setting: str) -> bytes:
    try:
        return read_file(path).raw
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from error


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
