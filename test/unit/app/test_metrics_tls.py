"""Who /metrics is served to over TLS, by real handshakes in memory."""

import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.stores import Log

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
    return client_certificate(folder / "client.pem")


def client_certificate(file):
    now, key = dt.datetime.now(dt.UTC), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "scraper")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    made = made.public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem) + private)
    return file


def served(options, log=None):
    return metrics_tls(options, log or Log())


def client(folder, shows=None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(folder / "tls.crt")
    if shows:
        context.load_cert_chain(shows)
    return context


def shake(server: ssl.SSLContext, client: ssl.SSLContext, *, names_it: bool = True) -> None:
    """Both sides to the end of the handshake. Raises ssl.SSLError when one refuses."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client.check_hostname = names_it
    sides = [
        client.wrap_bio(down, up, server_hostname="localhost" if names_it else None),
        server.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_none_is_asked_for_none_is_served():
    assert served(RunOptions()) is None


def test_serves_as_the_certificate_of_the_folder(folder):
    shake(served(RunOptions(metrics_cert_dir=str(folder))), client(folder))


def test_with_authorities_only_their_clients_are_served(folder, authority):
    options = RunOptions(metrics_cert_dir=str(folder), metrics_client_ca_file=str(authority))

    shake(served(options), client(folder, shows=authority))
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake(served(options), client(folder))


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
        served(RunOptions(**{"metrics_cert_dir": str(folder)} | given))


# -- files that change ----------------------------------------------------------------------------


def renew(folder) -> None:
    """Another certificate under the same names."""
    pair = self_signed(dt.datetime.now(dt.UTC))
    for name, text in (("tls.key", pair.key), ("tls.crt", pair.certificate)):
        (folder / "new").write_bytes(text)
        (folder / "new").replace(folder / name)


@pytest.mark.parametrize("names_it", [True, False], ids=["by-name", "by-address"])
def test_a_new_certificate_serves_the_next_connection(folder, names_it):
    log = Log()
    server = served(RunOptions(metrics_cert_dir=str(folder)), log)
    old = client(folder)
    shake(server, old, names_it=names_it)
    renew(folder)

    shake(server, client(folder), names_it=names_it)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(server, old, names_it=names_it)
    assert log.events() == ["certificate reloaded"]


def test_a_certificate_that_cannot_be_used_leaves_the_one_that_was_there(folder):
    log = Log()
    server, old = served(RunOptions(metrics_cert_dir=str(folder)), log), client(folder)
    (folder / "tls.crt").write_text("none")
    for _ in range(3):
        shake(server, old)

    assert log.events() == ["certificate kept"]


def test_other_authorities_serve_other_clients(folder, authority):
    log, later = Log(), client_certificate(folder / "later.pem")
    options = RunOptions(metrics_cert_dir=str(folder), metrics_client_ca_file=str(authority))
    server, early = served(options, log), client(folder, shows=authority)
    shake(server, early)
    authority.write_bytes(later.read_bytes())

    shake(server, client(folder, shows=later))
    with pytest.raises(ssl.SSLError):
        shake(server, early)
    assert log.events() == ["authorities reloaded"]


def test_authorities_that_cannot_be_read_leave_those_that_were_there(folder, authority):
    log = Log()
    options = RunOptions(metrics_cert_dir=str(folder), metrics_client_ca_file=str(authority))
    server, known = served(options, log), client(folder, shows=authority)
    authority.unlink()
    for _ in range(3):
        shake(server, known)

    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake(server, client(folder))
    assert log.events() == ["authorities kept"]
