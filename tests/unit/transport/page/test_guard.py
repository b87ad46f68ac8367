"""Who may ask the page's addresses: the page itself, under a name that is this machine's."""

from __future__ import annotations

import socket

import pytest

from samplerd_server.transport.page.guard import Guard, names_of_machine

JSON = {"CONTENT_TYPE": "application/json"}


def complaint(method: str = "GET", host: str = "127.0.0.1:9464", listen: str = "127.0.0.1:9464", **more: str) -> str:
    return Guard(listen).complaint({"REQUEST_METHOD": method, "HTTP_HOST": host, **more})


@pytest.mark.parametrize(
    "host", ["127.0.0.1:9464", "[::1]:9464", "10.1.2.3", "localhost:9464", "LOCALHOST", socket.gethostname()]
)
def test_a_name_of_this_machine_is_answered(host):
    assert complaint(host=host) == ""


def test_the_names_of_a_machine_come_from_its_own_files(tmp_path):
    assert names_of_machine("box", tmp_path) == {"box"}
    (tmp_path / "hosts").write_text("\n127.0.1.1 box.lan box # other\n10.0.0.1 far\nbox alone\n::1 localhost\n")
    (tmp_path / "resolv.conf").write_text(
        "# search no.test\nsearch corp.test. .\ndomain old.test\nnameserver 10.0.0.2\n\n"
    )
    assert names_of_machine("box", tmp_path) == {"box", "box.lan", "box.corp.test", "box.old.test"}


def test_no_name_is_asked_of_a_resolver(monkeypatch):
    for name in ("getfqdn", "gethostbyaddr", "gethostbyname", "getaddrinfo", "getnameinfo"):
        monkeypatch.setattr(socket, name, lambda *_, name=name: pytest.fail(f"{name} may hang"))
    assert complaint() == ""


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
