"""TLS of the listening port: a certificate in files, read again when they change, or a new one."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm_sim.options import TransportOptions

LOOK_S = 1.0
"""How often the files are looked at."""
VALID = timedelta(days=365)


class CertificateError(Exception):
    """A certificate that cannot be used; the message names the flags and the files."""


class Certificate:
    """One server certificate and the context that connections are made with."""

    def __init__(self, certificate: str, key: str) -> None:
        self._paths = (Path(certificate), Path(key))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._seen = self._times()
        self._load()

    def _load(self) -> None:
        certificate, key = self._paths
        try:
            self.context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise CertificateError(
                f"--ssl-certfile {certificate} with --ssl-keyfile {key} cannot be used: {error}"
            ) from error

    def _times(self) -> tuple[int, ...]:
        return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in self._paths)

    async def follow(self) -> None:
        """Loads the files again whenever they change; a pair that does not fit is left alone."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> bool:
        """Loads the files if they changed since the last look; whether new connections get them."""
        now = self._times()
        if now == self._seen:
            return False
        try:
            self._load()
        except CertificateError:
            return False
        self._seen = now
        return True


def certificate_of(transport: TransportOptions) -> Certificate | None:
    """The certificate that the flags name, None where they name no file."""
    return Certificate(transport.certificate, transport.key) if transport.certificate else None


def self_signed() -> ssl.SSLContext:
    """A context with a certificate for this machine's own names that nobody vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with TemporaryDirectory() as folder:
        pem = Path(folder) / "pair.pem"
        pem.touch(mode=0o600)
        pem.write_bytes(b"".join(self_signed_pair()))
        context.load_cert_chain(pem)
    return context


def self_signed_pair() -> tuple[bytes, bytes]:
    """Key and certificate in PEM, for localhost, good for a year."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vllm-sim")])
    names = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return secret, certificate.public_bytes(serialization.Encoding.PEM)
