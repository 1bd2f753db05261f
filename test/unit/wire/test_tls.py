"""Certificates: made at start, read from files, and read again when they change."""

import contextlib
import datetime as dt
import ssl

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from epp.errors import ConfigError
from epp.wire.tls import (
    KeyPairFiles,
    SelfSigned,
    TlsContexts,
    TlsSettings,
    context_of,
    grpcio_credentials,
    self_signed,
    tls_settings,
)

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def write(folder, pair):
    (folder / "tls.crt").write_bytes(pair.certificate)
    (folder / "tls.key").write_bytes(pair.key)


def handshake(context, **client):
    """A handshake in memory: the certificate shown, the protocol agreed, the TLS version."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE
    client_context.set_alpn_protocols(["h2", "http/1.1"])
    for name, value in client.items():
        setattr(client_context, name, value)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client_context.wrap_bio(to_client, to_server)
    far = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (near, far):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    shown = x509.load_der_x509_certificate(near.getpeercert(binary_form=True))
    return shown, near.selected_alpn_protocol(), near.version()


def test_a_made_certificate_is_ecdsa_p256_and_good_for_ten_years():
    certificate = x509.load_pem_x509_certificate(self_signed(NOW).certificate)

    key = certificate.public_key()

    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert certificate.not_valid_before_utc < NOW
    assert certificate.not_valid_after_utc.year == 2035


def test_a_handshake_agrees_on_h2():
    contexts = TlsContexts(SelfSigned(self_signed(NOW)))

    _, protocol, _ = handshake(contexts())

    assert protocol == "h2"


def test_the_context_stays_while_nothing_changes(tmp_path):
    write(tmp_path, self_signed(NOW))
    contexts = TlsContexts(KeyPairFiles(tmp_path))

    assert contexts() is contexts()


def test_changed_files_are_shown_to_the_next_connection(tmp_path):
    write(tmp_path, self_signed(NOW))
    contexts = TlsContexts(KeyPairFiles(tmp_path))
    before, _, _ = handshake(contexts())

    write(tmp_path, self_signed(NOW))
    after, _, _ = handshake(contexts())

    assert before.serial_number != after.serial_number


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda folder: (folder / "tls.crt").write_text("no"), id="unreadable"),
        pytest.param(lambda folder: (folder / "tls.key").unlink(), id="key gone"),
        pytest.param(
            lambda folder: (folder / "tls.crt").write_bytes(self_signed(NOW).certificate),
            id="of different pairs",
        ),
    ],
)
def test_broken_files_keep_the_old_pair_and_are_said_once(tmp_path, break_it):
    good = self_signed(NOW)
    write(tmp_path, good)
    pairs = KeyPairFiles(tmp_path, structlog.get_logger())

    with structlog.testing.capture_logs() as lines:
        break_it(tmp_path)
        shown = [pairs.current() for _ in range(3)]

    assert shown == [good] * 3
    assert [line["event"] for line in lines] == ["certificate kept"]


def test_files_that_heal_are_used(tmp_path):
    write(tmp_path, self_signed(NOW))
    pairs = KeyPairFiles(tmp_path, structlog.get_logger())
    healed = self_signed(NOW)

    with structlog.testing.capture_logs() as lines:
        (tmp_path / "tls.crt").write_bytes(healed.certificate)
        pairs.current()
        (tmp_path / "tls.key").write_bytes(healed.key)

        assert pairs.current() == healed

    assert [line["event"] for line in lines] == ["certificate kept", "certificate reloaded"]


def test_files_that_cannot_be_used_at_start_are_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match="cert-path"):
        KeyPairFiles(tmp_path)


def test_the_oldest_version_is_kept_to():
    settings = tls_settings("VersionTLS13")

    _, _, version = handshake(context_of(self_signed(NOW), settings))
    with pytest.raises(ssl.SSLError):
        handshake(context_of(self_signed(NOW), settings), maximum_version=ssl.TLSVersion.TLSv1_2)

    assert version == "TLSv1.3"


def test_suites_are_given_in_go_names():
    settings = tls_settings("", ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"])

    ciphers = {cipher["name"] for cipher in context_of(self_signed(NOW), settings).get_ciphers()}

    assert {name for name in ciphers if not name.startswith("TLS_")} == {
        "ECDHE-ECDSA-AES256-GCM-SHA384"
    }


def test_every_unknown_name_is_told_at_once():
    with pytest.raises(ConfigError) as error:
        tls_settings("VersionSSL3", ["TLS_RSA_WITH_RC4_128_SHA", "NULL"])

    assert len(error.value.problems) == 3


def test_grpcio_says_what_it_cannot_do():
    pairs = SelfSigned(self_signed(NOW))

    with pytest.raises(ConfigError, match="--wire grpcio"):
        grpcio_credentials(pairs, TlsSettings(ssl.TLSVersion.TLSv1_3))
    assert grpcio_credentials(pairs) is not None
