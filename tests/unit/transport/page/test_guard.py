"""Who may ask the page's addresses: the page itself, under a name that is this machine's."""

from __future__ import annotations

import socket

import pytest

from samplerd_server.transport.page.guard import Guard

JSON = {"CONTENT_TYPE": "application/json"}


def complaint(method: str = "GET", host: str = "127.0.0.1:9464", listen: str = "127.0.0.1:9464", **more: str) -> str:
    return Guard(listen).complaint({"REQUEST_METHOD": method, "HTTP_HOST": host, **more})


@pytest.mark.parametrize(
    "host", ["127.0.0.1:9464", "[::1]:9464", "10.1.2.3", "localhost:9464", "LOCALHOST", socket.gethostname()]
)
def test_a_name_of_this_machine_is_answered(host):
    assert complaint(host=host) == ""


def test_the_name_in_metrics_listen_is_answered():
    assert complaint(host="sampler.test:9464", listen="sampler.test:9464") == ""
    assert "sampler.test" in complaint(host="sampler.test:9464")


@pytest.mark.parametrize(
    "host", ["", "attacker.test", "127.0.0.1.attacker.test:9464", "[::1", "localhost.attacker.test"]
)
def test_another_name_is_refused_so_that_no_site_can_take_this_address_for_its_own(host):
    assert "not served as" in complaint(host=host)


def test_a_draw_comes_as_json_and_from_this_page():
    assert complaint("POST", **JSON) == ""
    assert complaint("POST", HTTP_ORIGIN="http://127.0.0.1:9464", **JSON) == ""
    assert complaint("POST", CONTENT_TYPE="application/json; charset=utf-8") == ""
    assert "application/json" in complaint("POST")
    assert "application/json" in complaint("POST", CONTENT_TYPE="text/plain")
    for origin in ("http://attacker.test", "null", "http://127.0.0.1:1", "http://localhost:9464", "http://[", ""):
        assert complaint("POST", HTTP_ORIGIN=origin, **JSON) == "Only this page may ask for a draw."
