"""The client that the flags ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from samplerd_client.channel import TlsConfig
from samplerd_client.client import SamplerClient
from samplerd_client.samplerctl import environment

if TYPE_CHECKING:
    import argparse

    from samplerd_client.retry import RetryPolicy

__all__ = ["client_of"]


def client_of(
    args: argparse.Namespace,
    *,
    target: str | None = None,
    retry: RetryPolicy | None = None,
    coalesce: bool = False,
    kind: type[SamplerClient] = SamplerClient,
) -> SamplerClient:
    """Return the client, not connected yet. Without `coalesce` each call is a request of its own."""
    files = {"ca": args.tls_ca, "certificate": args.tls_cert, "key": args.tls_key}
    wants_tls = args.tls or args.tls_server_name or any(files.values())
    paths = {name: Path(value) if value else None for name, value in files.items()}
    tls = TlsConfig(**paths, server_name=args.tls_server_name) if wants_tls else None
    servers = (target or args.server).split(",")
    return kind(
        servers if len(servers) > 1 else servers[0],
        balance=args.balance or None,
        connections=args.connections,
        tls=tls,
        token=environment.default_token(),
        timeout_s=args.timeout,
        retry=retry,
        coalesce=coalesce,
    )
