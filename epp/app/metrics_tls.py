"""TLS on /metrics, where a folder with a certificate is given."""

import ssl
from pathlib import Path

from epp.config.options import RunOptions
from epp.errors import ConfigError


def metrics_tls(options: RunOptions) -> ssl.SSLContext | None:
    """Who /metrics is served as, and to whom: read at start; None serves without TLS.

    With `--metrics-client-ca-file` only clients with a certificate of these authorities are served.
    Raises ConfigError naming the flag whose files cannot be used.
    """
    if not options.metrics_cert_dir:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder, authorities = Path(options.metrics_cert_dir), options.metrics_client_ca_file
    flag = f"--metrics-cert-dir {folder}"
    try:
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key", password=_no_password)
        if authorities:
            flag = f"--metrics-client-ca-file {authorities}"
            context.load_verify_locations(authorities)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        raise ConfigError([f"{flag}: cannot be used: {error}"]) from error
    return context


def _no_password() -> str:
    raise ValueError("tls.key is encrypted; give it without a password")
