"""What must be so before HTTP can be served, looked at before anything slow begins."""

from __future__ import annotations

from importlib.util import find_spec

from samplerd_server.config import ConfigError
from samplerd_server.transport.grpcio.listen import check_free

__all__ = ["check_http"]


def check_http(address: str, *, shares_port: bool) -> None:
    """Check that the packages are there and, unless workers share the address, that no other program has it.

    Raises:
        BindError: a program listens there, or the address cannot be used.
        ConfigError: uvicorn is not installed.

    """
    if find_spec("uvicorn") is None:
        raise ConfigError("--http-listen needs uvicorn: pip install 'samplerd[http]'")
    if not shares_port:
        check_free(address)
