"""The policy as a server reads it: a method in it that the server does not have is told in the log, with its line.

It is no error: servers of several versions may share a policy, and what nobody answers nobody may call either.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from samplerd_server.config.credentials import read_policy
from samplerd_server.process.log import event
from samplerd_server.transport.rpc.health import HEALTH_METHODS
from samplerd_server.transport.rpc.reflection import SERVICE_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from samplerd_server.transport.rpc.descriptor import Rpc

__all__ = ["methods_of", "read_checked_policy"]

_LOG = logging.getLogger("samplerd.security")
_MOST_LINES = 20
"""The most methods that are told: a file of nothing else would fill the log."""
_MOST_CHARACTERS = 128
"""Of a method in the log."""


def methods_of(rpcs: Iterable[Rpc]) -> frozenset[str]:
    """Give the full names of these RPCs, and of those of health and reflection."""
    own = {f"/{rpc.service}/{rpc.name}" for rpc in rpcs}
    return frozenset(own | HEALTH_METHODS | {f"/{name}/ServerReflectionInfo" for name in SERVICE_NAMES})


def read_checked_policy(path: str, methods: frozenset[str]) -> Mapping[str, tuple[str, ...]] | None:
    """Read a policy, and log the methods in it that are none of these; see `read_policy`.

    Raises:
        ConfigError: the file cannot be read or is not of the form of a policy.

    """
    policy = read_policy(path)
    if policy is None:
        return None
    services = {method.rpartition("/")[0] for method in methods}
    named = dict.fromkeys(method for allowed in policy.values() for method in allowed)
    unknown = [own for own in named if own not in methods and not (own.endswith("/*") and own[:-2] in services)]
    if unknown:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        for method in unknown[:_MOST_LINES]:
            at = [number for number, line in enumerate(lines, 1) if f'{method}"' in line or f"{method}'" in line]
            told = {"policy_file": path, "line": at[0] if at else 0, "method": method[:_MOST_CHARACTERS]}
            event(_LOG, logging.WARNING, "the policy names a method that this server does not have", **told)
    return policy
