"""The environment variables of samplerd; the only module that reads the environment."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["environment", "interpreter_environment", "silence_forks"]

_SERVICE_LINK = re.compile(r"SAMPLERD_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)")
"""Variables that Kubernetes sets in every container of a namespace with a Service named samplerd."""

_EMBEDDING = frozenset({"LD_PRELOAD", "PYTHONHOME"})
"""Variables that make Python run inside Envoy."""

_CLIENTS = frozenset({"SAMPLERD_SERVER", "SAMPLERD_TOKEN"})
"""The variables of samplerctl, which may be set on the machine of a server."""


def environment() -> Mapping[str, str]:
    """Give the variables that begin with ``SAMPLERD_``, except those of Kubernetes' service links and of samplerctl."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("SAMPLERD_") and name not in _CLIENTS and not _SERVICE_LINK.fullmatch(name)
    }


def interpreter_environment() -> dict[str, str]:
    """Give the variables of a Python process that this one starts: its own, those of samplerd excepted.

    Inside Envoy, those that embed Python there would keep another Python from starting.
    """
    embedding = _EMBEDDING if "SAMPLERD_CONFIG" in os.environ and "LD_PRELOAD" in os.environ else frozenset()
    return {
        name: value for name, value in os.environ.items() if not name.startswith("SAMPLERD_") and name not in embedding
    }


def silence_forks() -> None:
    """Keep grpcio from writing to standard error when a process is started; to be called before it is imported.

    It prepares for processes that go on in Python after a fork, and logs when it cannot. Ours only start programs.
    """
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
