"""The page's addresses beside /metrics: what the browser loads, and what its playground asks."""

from __future__ import annotations

import logging
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from samplerd_server.process.log import event
from samplerd_server.transport.page.guard import Guard
from samplerd_server.transport.page.playground import Playground

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

    from samplerd_server.config import ServerConfig
    from samplerd_server.metrics.exporter import Exporter

__all__ = ["offer_page"]

_LOG = logging.getLogger("samplerd.security")
_ASSETS = Path(__file__).with_name("assets")
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
_JSON, _TEXT = _TYPES[".json"], "text/plain; charset=utf-8"
_INFO, _SAMPLE = "/api/info", "/api/sample"
_MOST_BYTES = 4 << 20
"""Longest request of the playground: some 200,000 numbers of text."""
_HEADERS = (
    ("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)


def offer_page(exporter: Exporter | None, config: ServerConfig, address: str) -> None:
    """Serve the page beside /metrics, if the settings ask for it.

    Args:
        exporter: where; None = nothing listens for browsers.
        config: the settings.
        address: an address that this server listens on, with its port.

    """
    if exporter is not None and config.metrics.http_ui:
        if config.security.client_ca and not config.security.token_file:
            text = "whoever reaches the page draws without a certificate; ask for tokens as well, or guard its address"
            event(_LOG, logging.WARNING, text, address=config.metrics.listen)
        page = _Page(Guard(config.metrics.listen), Playground(address, config.security))
        exporter.mount(page.paths, page)


class _Page:
    def __init__(self, guard: Guard, playground: Playground) -> None:
        self._guard = guard
        self._playground = playground
        self._files = {f"/{file.name}": file for file in _ASSETS.iterdir() if file.suffix in _TYPES}
        self._files["/"] = _ASSETS / "index.html"
        self.paths = (*self._files, _INFO, _SAMPLE)

    def __call__(self, environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path, method = environment["PATH_INFO"], environment["REQUEST_METHOD"]
        if complaint := self._guard.complaint(environment):
            return _send(start, HTTPStatus.FORBIDDEN, _TEXT, f"{complaint}\n".encode())
        if path == _SAMPLE:
            return self._sample(environment, start)
        if method not in {"GET", "HEAD"}:
            return _send(start, HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"This address can only be read.\n")
        if path == _INFO:
            status, body = self._playground.info(environment.get("HTTP_AUTHORIZATION", ""))
            kind = _JSON
        else:
            file = self._files[path]
            status, body, kind = HTTPStatus.OK, file.read_bytes(), _TYPES[file.suffix]
        sent = _send(start, status, kind, body)
        return sent if method == "GET" else ()

    def _sample(self, environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environment["REQUEST_METHOD"] != "POST":
            return _send(start, HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"A draw is asked for with POST.\n")
        length = environment.get("CONTENT_LENGTH", "")
        if not length.isascii() or not length.isdigit():
            return _send(start, HTTPStatus.LENGTH_REQUIRED, _TEXT, b"Content-Length is needed.\n")
        if len(length) > len(str(_MOST_BYTES)) or int(length) > _MOST_BYTES:
            text = f"A request of the page has at most {_MOST_BYTES} bytes.\n"
            return _send(start, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TEXT, text.encode())
        try:
            body = environment["wsgi.input"].read(int(length))
        except TimeoutError:
            return _send(start, HTTPStatus.REQUEST_TIMEOUT, _TEXT, b"The rest of the request did not come.\n")
        status, answer = self._playground.sample(body, environment.get("HTTP_AUTHORIZATION", ""))
        return _send(start, status, _JSON, answer)


def _send(start: StartResponse, status: HTTPStatus, kind: str, body: bytes) -> list[bytes]:
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), *_HEADERS]
    start(f"{status.value} {status.phrase}", headers)
    return [body]
