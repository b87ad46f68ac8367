"""When a certificate expires, beside what openssl says of it."""

from __future__ import annotations

import ssl
import subprocess

import pytest

from samplerd_server.config import ConfigError, SecurityConfig
from samplerd_server.config.certificate import CertificateExpiry, expiry_of
from tests.support.certificates import Authority
from tests.support.tools import need


def said_by_openssl(path) -> float:
    command = [need("openssl"), "x509", "-in", str(path), "-noout", "-enddate"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(ssl.cert_time_to_seconds(text.strip().partition("=")[2]))


def self_signed(path, key, days, *how) -> None:
    command = [need("openssl"), "req", "-x509", *how, "-key", key, "-days", days, "-subj", "/CN=own", "-out", path]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def own(authority):
    return authority.sign("localhost")


def test_the_first_certificate_of_a_chain_is_the_one(authority, own):
    chain = b"a comment\n" + own.certificate.read_bytes() + authority.certificate.read_bytes()
    assert expiry_of(chain) == said_by_openssl(own.certificate)


def test_a_year_beyond_2050_is_written_in_another_way(own, tmp_path):
    path = tmp_path / "long.pem"
    self_signed(path, own.key, 20_000)
    assert expiry_of(path.read_bytes()) == said_by_openssl(path) > 2.5e9


@pytest.mark.parametrize("kind", ["X509 CERTIFICATE", "TRUSTED CERTIFICATE"])
def test_every_name_of_a_certificate_that_openssl_takes_is_read(own, kind):
    text = own.certificate.read_bytes()
    assert expiry_of(text.replace(b"CERTIFICATE", kind.encode())) == said_by_openssl(own.certificate)


@pytest.mark.parametrize("text", [ssl.DER_cert_to_PEM_cert(b"\x30\x03\x02\x01\x05"), "nothing", ""])
def test_what_is_no_certificate_is_an_error(text):
    with pytest.raises(ConfigError, match="validity"):
        expiry_of(text.encode())


def test_a_renewed_certificate_is_seen(own, tmp_path, monkeypatch):
    monkeypatch.setattr("samplerd_server.config.watched_file._LOOK_EVERY_S", 0.0)
    path = tmp_path / "cert.pem"
    path.write_bytes(own.certificate.read_bytes())
    expiry = CertificateExpiry(SecurityConfig(certificate=str(path), key=str(own.key)))
    before = expiry.timestamp
    assert before == said_by_openssl(path)
    self_signed(tmp_path / "new.pem", own.key, 90)
    (tmp_path / "new.pem").replace(path)
    assert expiry.timestamp == said_by_openssl(path) > before
