"""The page for browsers over real HTTP: with both transports, with workers, tokens and TLS, and when it is off."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.support.certificates import tls_flags
from tests.support.daemon import Daemon

ROW = {"values": {"row": [{"values": [2.0, 1.0, 0.0]}]}, "numSamples": 4, "seed": "7"}


def fetch(daemon: Daemon, path: str, body: Any = None, **headers: str) -> tuple[int, Any, str]:
    """The status, the headers and the text of an answer."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    own = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(f"http://{daemon.metrics_address}{path}", data, own)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, reply.headers, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


@pytest.mark.parametrize("flags", [("grpcio",), ("envoy",), ("grpcio", "--workers", "2")], ids=" ".join)
def test_the_page_is_served_and_draws(flags):
    with Daemon("--http-ui", "--transport", *flags) as daemon:
        status, headers, text = fetch(daemon, "/")
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "<h2" in text
        for name in (
            "page.css",
            "live.js",
            "playground.js",
            "reading.js",
            "snippets.js",
            "parameters.json",
            "rows.json",
            "icon.svg",
        ):
            assert fetch(daemon, f"/{name}")[0] == 200
        info = json.loads(fetch(daemon, "/api/info")[2])
        assert (info["kernel"], info["address"], info["tls"]) == ("numba", daemon.address, False)
        status, _, text = fetch(daemon, "/api/sample", ROW)
        drawn = json.loads(text)
        assert (status, drawn["seed"], len(drawn["samples"])) == (200, "7", 4)
        assert json.loads(fetch(daemon, "/api/sample", ROW)[2])["samples"] == drawn["samples"]


@pytest.fixture(scope="module")
def page():
    with Daemon("--http-ui") as daemon:
        yield daemon


def test_an_error_names_its_field(page):
    status, _, text = fetch(page, "/api/sample", ROW | {"params": {"topP": 2, "minP": 0.1}})
    assert (status, json.loads(text)["code"]) == (400, "INVALID_ARGUMENT")
    assert json.loads(text)["fields"] == [{"field": "params.top_p", "description": "2.0 is not in (0.0, 1.0]"}]


@pytest.mark.parametrize(
    "body", [b"{", b'{"nothing": 1}', b"\xff", b'{"params": ' + b"[" * 5000, b"[]", b'{"numSamples": -1}']
)
def test_what_is_no_request_is_refused(page, body):
    status, _, text = fetch(page, "/api/sample", body)
    assert (status, json.loads(text)["code"]) == (400, "INVALID_ARGUMENT")


def test_only_the_page_may_ask_and_only_so_much(page):
    assert fetch(page, "/api/sample", ROW, content_type="text/plain")[0] == 403
    assert fetch(page, "/api/sample", ROW, origin="http://attacker.test")[0] == 403
    assert fetch(page, "/api/sample", ROW, host="attacker.test")[0] == 403
    assert fetch(page, "/", host="attacker.test")[0] == 403
    assert fetch(page, "/api/sample")[0] == 405
    assert fetch(page, "/page.css", {})[0] == 405
    assert fetch(page, "/api/sample", b"", content_length="5000000")[0] == 413
    # What was there before is as it was: whoever scrapes uses what name he likes.
    assert fetch(page, "/metrics", host="attacker.test")[0] == 200


def test_a_token_is_passed_on(tmp_path):
    (tmp_path / "tokens").write_text("a-token\n")
    with Daemon("--http-ui", "--token-file", str(tmp_path / "tokens")) as daemon:
        assert json.loads(fetch(daemon, "/api/sample", ROW)[2])["code"] == "UNAUTHENTICATED"
        assert (
            json.loads(fetch(daemon, "/api/sample", ROW, authorization="Bearer wrong")[2])["code"] == "UNAUTHENTICATED"
        )
        assert fetch(daemon, "/api/sample", ROW, authorization="Bearer a-token")[0] == 200


@pytest.mark.parametrize("asks_for_certificates", [False, True], ids=["tls", "mutual tls"])
def test_tls(authority, asks_for_certificates):
    flags = tls_flags(authority.sign("page.test"))
    if asks_for_certificates:
        flags += ("--tls-client-ca", str(authority.certificate))
    with Daemon("--http-ui", *flags) as daemon:
        assert fetch(daemon, "/api/sample", ROW)[0] == 200
        assert any("draws without a certificate" in line for line in daemon.log) == asks_for_certificates


def test_it_is_off_by_default():
    with Daemon() as daemon:
        assert fetch(daemon, "/")[0] == 404
        assert fetch(daemon, "/api/sample", ROW)[0] == 404
        done = subprocess.run(
            [sys.executable, "-m", "samplerd_server", "--check-config", "--http-ui", "--metrics-listen", "off"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        2,
        "samplerd: --http-ui serves its page on --metrics-listen, which is off\n",
    )
