"""Certificates for the ext_proc port: made at start, or two files that may change under us.

Nothing watches the files: they are looked at when a connection arrives, which costs two `stat`
calls and is never late.
"""

import contextlib
import datetime as dt
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from epp.errors import ConfigError

if TYPE_CHECKING:
    import grpc

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
_TEN_YEARS: Final = dt.timedelta(days=3650)

_VERSIONS: Final = {
    "": ssl.TLSVersion.TLSv1_2,
    "VersionTLS12": ssl.TLSVersion.TLSv1_2,
    "VersionTLS13": ssl.TLSVersion.TLSv1_3,
}
_SUITES: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""The suites HTTP/2 allows under TLS 1.2 (RFC 9113 appendix A rules the others out)."""


class KeyPair(msgspec.Struct, frozen=True):
    """A certificate chain and its private key, both PEM."""

    certificate: bytes
    key: bytes


class TlsSettings(msgspec.Struct, frozen=True):
    """The oldest protocol and the TLS 1.2 suites taken (OpenSSL names); none for the default."""

    oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    suites: tuple[str, ...] = ()


def tls_settings(min_version: str = "", suites: Sequence[str] = ()) -> TlsSettings:
    """Settings from `--tls-min-version` and `--tls-cipher-suites`, in Go's names.

    Raises ConfigError with every name that is unknown.
    """
    problems = []
    if min_version not in _VERSIONS:
        known = ", ".join(filter(None, _VERSIONS))
        problems.append(f"tls-min-version: {min_version!r} is not one of {known}")
    problems += [
        f"tls-cipher-suites: {suite!r} is not one of {', '.join(_SUITES)}"
        for suite in suites
        if suite not in _SUITES
    ]
    if problems:
        raise ConfigError(problems)
    return TlsSettings(_VERSIONS[min_version], tuple(_SUITES[suite] for suite in suites))


class KeyPairs(Protocol):
    """Where the current key pair comes from."""

    def current(self) -> KeyPair:
        """The pair to show to the next connection; the same object while nothing changed."""


def self_signed(now: dt.datetime, names: Sequence[str] = ("localhost",)) -> KeyPair:
    """A fresh ECDSA P-256 certificate for `names`, good for ten years from an hour before `now`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "epp")])
    begin = now - dt.timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + _TEN_YEARS)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


class SelfSigned:
    """One pair for the life of the process."""

    def __init__(self, pair: KeyPair) -> None:
        self._pair = pair

    def current(self) -> KeyPair:
        return self._pair


class KeyPairFiles:
    """`tls.crt` and `tls.key` of a folder, read again when either changes.

    Raises ConfigError at start if they cannot be used. A later change that cannot be used is said
    in one line of the log, and the old pair stays.
    """

    def __init__(
        self, folder: Path, log: structlog.typing.FilteringBoundLogger | None = None
    ) -> None:
        self._folder = folder
        self._log = log or structlog.get_logger("epp.wire")
        self._seen = self._look()
        try:
            self._pair = self._read()
        except (OSError, ValueError) as error:
            raise ConfigError([f"cert-path {folder}: {error}"]) from error

    def current(self) -> KeyPair:
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            self._reload()
        return self._pair

    def _reload(self) -> None:
        try:
            self._pair = self._read()
        except (OSError, ValueError) as error:
            self._log.warning("certificate kept", folder=str(self._folder), why=str(error))
        else:
            self._log.info("certificate reloaded", folder=str(self._folder))

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        """What tells one state of the files from another."""
        return tuple(_mark(self._folder / name) for name in (CERTIFICATE, KEY))

    def _read(self) -> KeyPair:
        pair = KeyPair((self._folder / CERTIFICATE).read_bytes(), (self._folder / KEY).read_bytes())
        context_of(pair, TlsSettings())
        return pair


class TlsContexts:
    """The `ssl.SSLContext` of the moment: call it for each new connection."""

    def __init__(self, pairs: KeyPairs, settings: TlsSettings | None = None) -> None:
        self._pairs = pairs
        self._settings = settings or TlsSettings()
        self._pair = pairs.current()
        self._context = context_of(self._pair, self._settings)

    def __call__(self) -> ssl.SSLContext:
        pair = self._pairs.current()
        if pair is not self._pair:
            self._context = context_of(pair, self._settings)
            self._pair = pair
        return self._context


def context_of(pair: KeyPair, settings: TlsSettings) -> ssl.SSLContext:
    """A server context that speaks h2 by ALPN. Raises ValueError if the pair cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = settings.oldest
    context.set_alpn_protocols(["h2"])
    if settings.suites:
        context.set_ciphers(":".join(settings.suites))
    with tempfile.TemporaryDirectory(prefix="epp-tls-") as folder:
        certificate, key = Path(folder) / CERTIFICATE, Path(folder) / KEY
        certificate.write_bytes(pair.certificate)
        key.write_bytes(pair.key)
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except ssl.SSLError as error:
            reason = error.reason or "unreadable"
            raise ValueError(f"{CERTIFICATE} and {KEY} cannot be used: {reason}") from error
    return context


def grpcio_credentials(
    pairs: KeyPairs, settings: TlsSettings | None = None
) -> "grpc.ServerCredentials":
    """The same pairs for the grpc.aio shell, asked for at each handshake.

    Raises ConfigError for settings that grpc.aio cannot be given.
    """
    if settings is not None and settings != TlsSettings():
        raise ConfigError(["tls-min-version, tls-cipher-suites: not with --wire grpcio"])

    # Loaded by the wire that needs it alone: a tenth of a second of each start, and 10 MB.
    import grpc

    def fetch() -> grpc.ServerCertificateConfiguration:
        pair = pairs.current()
        return grpc.ssl_server_certificate_configuration([(pair.key, pair.certificate)])

    return grpc.dynamic_ssl_server_credentials(fetch(), fetch)


def _no_password() -> str:
    raise ValueError(f"{KEY} is encrypted; give it without a password")


def _mark(path: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        stat = path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
    return None
