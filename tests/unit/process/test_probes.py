"""/livez and /readyz: what they answer, and when."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from samplerd_server.metrics.exporter import Exporter
from samplerd_server.process.probes import Probes


@pytest.fixture
def asked():
    """Probes at an address, and what asks there: status and text."""
    probes, exporter = Probes("importing modules"), Exporter("127.0.0.1:0")
    probes.answer_on(exporter)
    port = exporter.start()

    def ask(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    yield probes, ask
    exporter.stop()


def test_a_process_that_starts_is_live_and_not_ready(asked):
    probes, ask = asked
    assert ask("/livez") == (200, "ok\n")
    assert ask("/readyz") == (503, "[-]start failed: importing modules\nreadyz check failed\n")
    probes.stage("warming up")
    assert "start failed: warming up" in ask("/readyz")[1]
    probes.stage("")
    assert ask("/readyz") == (200, "ok\n")


def test_verbose_lists_the_checks(asked):
    probes, ask = asked
    probes.stage("")
    probes.watch("device", lambda: "", is_live=True)
    assert ask("/readyz?verbose") == (200, "[+]start ok\n[+]device ok\nreadyz check passed\n")
    assert ask("/livez?verbose") == (200, "[+]device ok\nlivez check passed\n")


def test_a_check_of_liveness_fails_both_and_one_of_readiness_only_that(asked):
    probes, ask = asked
    probes.stage("")
    reasons = {"device": "hung", "drain": ""}
    probes.watch("device", lambda: reasons["device"], is_live=True)
    probes.watch("drain", lambda: reasons["drain"])
    assert [ask(path)[0] for path in ("/livez", "/readyz")] == [503, 503]
    reasons.update(device="", drain="draining")
    assert [ask(path)[0] for path in ("/livez", "/readyz")] == [200, 503]
    assert ask("/readyz")[1] == "[+]start ok\n[+]device ok\n[-]drain failed: draining\nreadyz check failed\n"
