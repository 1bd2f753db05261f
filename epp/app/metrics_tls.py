"""TLS on /metrics, where a folder with a certificate is given; its files may change under us.

Nothing watches them: they are looked at when a connection arrives, as on the ext_proc port.
"""

import contextlib
import ssl
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from epp.config.options import RunOptions
from epp.errors import ConfigError
from epp.wire.tls import KeyPair, KeyPairFiles, TlsSettings, context_of


def metrics_tls(options: RunOptions, log: FilteringBoundLogger) -> ssl.SSLContext | None:
    """Who /metrics is served as, and to whom; None serves without TLS.

    With `--metrics-client-ca-file` only clients with a certificate of these authorities are served.
    Raises ConfigError naming the flag whose files cannot be used. A later change that cannot be
    used is said in one line of the log, and what was there stays.
    """
    folder, authorities = options.metrics_cert_dir, options.metrics_client_ca_file
    if not folder:
        return None
    try:
        pairs = KeyPairFiles(Path(folder), log)
    except ConfigError as error:
        why = "; ".join(error.problems)
        raise ConfigError([f"--metrics-cert-dir {folder}: cannot be used: {why}"]) from error
    try:
        trusted = AuthorityFile(Path(authorities), log) if authorities else None
    except (OSError, ValueError) as error:
        flag = f"--metrics-client-ca-file {authorities}"
        raise ConfigError([f"{flag}: cannot be used: {error}"]) from error
    return MetricsTls(pairs, trusted).first


class MetricsTls:
    """The context of the moment. `first` is for the listener, and hands each connection on."""

    def __init__(self, pairs: KeyPairFiles, trusted: "AuthorityFile | None") -> None:
        self._pairs = pairs
        self._trusted = trusted
        self._made_of = self._look()
        self.first = self._context = made(*self._made_of)
        self.first.sni_callback = self._greet

    def _greet(self, shaking: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        """A client says hello, whether or not it names whom it wants."""
        now = self._look()
        if now != self._made_of:
            self._made_of, self._context = now, made(*now)
        shaking.context = self._context

    def _look(self) -> tuple[KeyPair, str]:
        return self._pairs.current(), self._trusted.current() if self._trusted else ""


class AuthorityFile:
    """Certificates of authorities, PEM, read again when the file changes.

    Raises OSError or ValueError at start if they cannot be used.
    """

    def __init__(self, path: Path, log: FilteringBoundLogger) -> None:
        self._path = path
        self._log = log
        self._seen = self._look()
        self._pem = self._read()

    def current(self) -> str:
        """The certificates to hold clients against now."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._pem = self._read()
            except (OSError, ValueError) as error:
                self._log.warning("authorities kept", file=str(self._path), why=str(error))
            else:
                self._log.info("authorities reloaded", file=str(self._path))
        return self._pem

    def _look(self) -> tuple[int, int, int] | None:
        """What tells one state of the file from another."""
        with contextlib.suppress(OSError):
            stat = self._path.stat()
            return stat.st_mtime_ns, stat.st_size, stat.st_ino
        return None

    def _read(self) -> str:
        pem = self._path.read_text("ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem)
        return pem


def made(pair: KeyPair, authorities: str) -> ssl.SSLContext:
    """A context that shows `pair`, and serves only clients of the authorities if there are any."""
    context = context_of(pair, TlsSettings())
    context.set_alpn_protocols(["http/1.1"])
    if authorities:
        context.load_verify_locations(cadata=authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
