"""Certificates, made as they are needed."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Certificate:
    """A certificate with its private key; its files are written by `write`."""

    certificate: x509.Certificate
    private: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key(self) -> bytes:
        """Its private key."""
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def write(self, directory: Path, name: str) -> tuple[Path, Path]:
        """Writes NAME.pem and NAME.key; returns their paths."""
        cert, key = directory / f"{name}.pem", directory / f"{name}.key"
        directory.mkdir(parents=True, exist_ok=True)
        cert.write_bytes(self.pem)
        key.write_bytes(self.key)
        return cert, key


def issue(
    common_name: str,
    issuer: Certificate | None = None,
    *,
    authority: bool = False,
    uris: Sequence[str] = (),
    names: Sequence[str] = (),
    good_for: timedelta = _HOUR,
) -> Certificate:
    """A certificate of that issuer, or one of its own; good from an hour ago."""
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _HOUR)
        .not_valid_after(now + good_for)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    alternatives: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return Certificate(builder.sign(issuer.private if issuer else private, hashes.SHA256()), private)


def authority(name: str = "authority") -> Certificate:
    """A CA."""
    return issue(name, authority=True)


def server_certificate(issuer: Certificate, name: str = "server") -> Certificate:
    """For servers on loopback."""
    return issue(name, issuer, names=["localhost", "127.0.0.1"])
