"""A request and its reply in one file, which ``samplerctl sample --save`` writes and ``samplerctl replay`` reads.

The file is JSON: an object with the members ``request`` and ``reply``, each a message in JSON as the contract has it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.client import SamplerClient
from samplerd_client.samplerctl.flag_values import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KeepingClient", "save"]


class KeepingClient(SamplerClient):
    """A client that keeps the last request of Sample, and its reply, as they were sent. Without coalescing."""

    kept: tuple[bytes, pb.SampleResponse] | None = None

    async def _call(self, name: str, body: bytes, decode: Callable[[bytes], Any], *rest: Any, **options: Any) -> Any:
        reply = await super()._call(name, body, decode, *rest, **options)
        if name == "Sample":
            self.kept = body, reply
        return reply


def save(client: SamplerClient, path: str) -> None:
    """Write what the client has kept.

    Raises:
        InputError: the file cannot be written.

    """
    assert isinstance(client, KeepingClient), "a client that keeps nothing. This is a bug."
    assert client.kept is not None, "nothing was drawn. This is a bug."
    body, reply = client.kept
    whole = {"request": MessageToDict(pb.SampleRequest.FromString(body)), "reply": MessageToDict(reply)}
    try:
        Path(path).write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"--save: cannot write {path}: {error.strerror}") from None
