"""Certificates, keys and tokens that cannot be used: said on standard error, on both transports, before it serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.test_start import last_line, run
from tests.support.certificates import Authority, tls_flags

TRANSPORTS = pytest.mark.parametrize("transport", ["grpcio", "envoy"])


def test_with_envoy_tls_and_a_unix_socket_exclude_each_other(authority, tmp_path):
    flags = ("--transport=envoy", *tls_flags(authority.sign("server")), f"--listen=unix:{tmp_path}/s")
    code, text = run(*flags)
    assert code == 2
    assert "TLS is for all addresses or for none" in last_line(text)


@TRANSPORTS
@pytest.mark.parametrize("problem", ["missing", "no PEM", "another's key", "encrypted key", "bad authority"])
def test_what_cannot_be_used_is_named_at_the_start(transport, problem, authority, other, tmp_path):
    pair = authority.sign("server")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    certificate, key, extra, told = pair.certificate, pair.key, (), "no PEM certificate with its unencrypted key"
    if problem == "missing":
        key, told = tmp_path / "missing.pem", "missing.pem: No such file or directory"
    elif problem == "no PEM":
        certificate = nonsense
    elif problem == "another's key":
        key = other.sign("somebody").key
    elif problem == "encrypted key":
        key = encrypted(pair.key, tmp_path / "encrypted.pem", authority)
    else:
        extra, told = (f"--tls-client-ca={nonsense}",), "nonsense.pem: no PEM certificates"
    code, text = run(f"--transport={transport}", f"--tls-cert={certificate}", f"--tls-key={key}", *extra)
    assert code == 2
    line = last_line(text)
    assert line.startswith("samplerd: --tls-")
    assert told in line


def encrypted(key: Path, path: Path, authority: Authority) -> Path:
    authority._run("pkcs8", "-topk8", "-in", key, "-out", path, "-passout", "pass:secret")
    return path


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--tls-cert=x",), "--tls-cert and --tls-key need each other"),
        (("--tls-key=x",), "--tls-cert and --tls-key need each other"),
        (("--tls-client-ca=x",), "--tls-client-ca needs --tls-cert and --tls-key"),
    ],
)
def test_half_a_configuration_is_refused(flags, told):
    code, text = run(*flags)
    assert (code, last_line(text)) == (2, f"samplerd: {told}")


@TRANSPORTS
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "tokens: No such file or directory"),
        ("\n \n", "no token in it"),
        ("a b\n", "line 1: the token has a space"),
    ],
    ids=["missing", "empty", "a space"],
)
def test_tokens_that_cannot_be_used_are_refused_at_the_start(transport, content, told, tmp_path):
    file = tmp_path / "tokens"
    if content is not None:
        file.write_text(content)
    code, text = run(f"--transport={transport}", f"--token-file={file}")
    assert code == 2
    assert told in last_line(text)
    assert "a b" not in text
