"""Who /metrics is served to over TLS, by real handshakes in memory."""

import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from epp.app.metrics_tls import metrics_tls
from epp.config.options import RunOptions
from epp.errors import ConfigError
from epp.wire.tls import self_signed


@pytest.fixture
def folder(tmp_path):
    pair = self_signed(dt.datetime.now(dt.UTC))
    (tmp_path / "tls.crt").write_bytes(pair.certificate)
    (tmp_path / "tls.key").write_bytes(pair.key)
    return tmp_path


@pytest.fixture
def authority(folder):
    """A client's own certificate, `client.pem` with its key in one file."""
    now, key = dt.datetime.now(dt.UTC), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "scraper")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    made = made.public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    file = folder / "client.pem"
    file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem) + private)
    return file


def client(folder, shows=None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(folder / "tls.crt")
    if shows:
        context.load_cert_chain(shows)
    return context


def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Both sides to the end of the handshake. Raises ssl.SSLError when one refuses."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(down, up, server_hostname="localhost"),
        server.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_none_is_asked_for_none_is_served():
    assert metrics_tls(RunOptions()) is None


def test_serves_as_the_certificate_of_the_folder(folder):
    shake(metrics_tls(RunOptions(metrics_cert_dir=str(folder))), client(folder))


def test_with_authorities_only_their_clients_are_served(folder, authority):
    options = RunOptions(metrics_cert_dir=str(folder), metrics_client_ca_file=str(authority))

    shake(metrics_tls(options), client(folder, shows=authority))
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake(metrics_tls(options), client(folder))


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ({"metrics_cert_dir": "nowhere"}, "--metrics-cert-dir nowhere"),
        ({"metrics_client_ca_file": "none.crt"}, "--metrics-client-ca-file none.crt"),
    ],
    ids=["folder", "authorities"],
)
def test_files_that_cannot_be_used_are_named_with_their_flag(folder, given, flag):
    with pytest.raises(ConfigError, match=flag):
        metrics_tls(RunOptions(**{"metrics_cert_dir": str(folder)} | given))
