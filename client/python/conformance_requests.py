"""The features that try what the Python client makes of keywords and arrays, and not of bytes: see `conformance`."""

from __future__ import annotations

import base64
import importlib
import importlib.util
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import Dry, SamplerClient
from samplerd_client.arrays import as_rows
from samplerd_client.parameter_kinds import choices

__all__ = ["MismatchError", "RequestFeatures", "expect"]


class MismatchError(Exception):
    """A reply differs from what the suite expects."""


def expect(condition: object, text: str) -> None:
    """Raise MismatchError unless the condition holds."""
    if not condition:
        raise MismatchError(text)


def keyword(field: FieldDescriptor, value: Any, *, is_item: bool = False) -> Any:
    """Return what the client takes for a parameter, from its ProtoJSON."""
    if field.name == "logit_bias":
        return {entry["id"]: float(entry["bias"]) for entry in value}
    if isinstance(value, list) and not is_item:
        return [keyword(field, item, is_item=True) for item in value]
    if field.enum_type is not None:
        numbers = {number: name for name, number in choices(field).items()}
        return numbers.get(field.enum_type.values_by_name[value].number)  # None: unspecified
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64decode(value)
    if field.message_type is None:
        return float(value) if isinstance(value, str) else value
    members = {name: keyword(field.message_type.fields_by_name[name], own) for name, own in value.items()}
    return members["ids"] if field.message_type.name == "TokenSequence" else Dry(**members)


def _halves(bits: Any, dtype: str) -> Any:
    """View 16-bit numbers by their own type; None for bfloat16 where there is no torch."""
    if dtype == "F16":
        return bits.view(np.float16)
    if importlib.util.find_spec("torch") is None:
        return None
    torch = importlib.import_module("torch")
    return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)


class RequestFeatures:
    """Requests that the client builds."""

    def __init__(self, *, target: str, vectors: dict[str, Any]) -> None:
        self._target = target
        self._vectors = vectors

    def _client(self) -> SamplerClient:
        return SamplerClient(self._target)

    async def _samples(self, client: SamplerClient, rows: Any, options: dict[str, Any]) -> list[int]:
        result = await client.sample(rows, **options)
        return [int(token) for token in result.samples.ravel()]

    async def parameters(self) -> str:
        """Set parameters by keyword."""
        own, fields = self._vectors["parameters"], pb.SamplingParams.DESCRIPTOR.fields_by_name
        tables, failed = [np.array(table, np.float32) for table in own["tables"]], []
        async with self._client() as client:
            for case in own["cases"]:
                options = {name: keyword(fields[name], value) for name, value in case["params"].items()}
                options |= {name: own[name] for name in ("seed", "num_samples")}
                if await self._samples(client, tables[case["table"]], options) != case["samples"]:
                    failed.append(case["name"])
        expect(not failed, "; ".join(failed))
        return f"{len(own['cases'])} sets of parameters"

    async def arrays(self) -> str:
        """Encode arrays, and draw from them."""
        async with self._client() as client:
            for case in self._vectors["arrays"]:
                rows = np.array(case["rows"], np.float32)
                data = bytes(as_rows(rows, case["dtype"].lower()).data)
                expect(data == base64.b64decode(case["data"]), f"{case['name']}: other bytes")
                options = {name: case[name] for name in ("temperature", "seed", "num_samples")}
                samples = await self._samples(client, rows, {**options, "dtype": case["dtype"].lower()})
                expect(samples == case["samples"], f"{case['name']}: {samples}")
        return f"{len(self._vectors['arrays'])} arrays"

    async def halves(self) -> str:
        """Draw from arrays of 16-bit numbers as they are: numpy's f16, and torch's bf16 where there is torch."""
        cases = [case for case in self._vectors["arrays"] if case["dtype"] != "F32"]
        async with self._client() as client:
            for case in cases:
                bits = np.frombuffer(base64.b64decode(case["data"]), np.uint16).reshape(len(case["rows"]), -1).copy()
                rows = _halves(bits, case["dtype"])
                if rows is None:
                    continue
                sent = np.frombuffer(as_rows(rows, None).data, np.uint16)
                expect(np.shares_memory(sent, bits), f"{case['name']}: was copied")
                options = {name: case[name] for name in ("temperature", "seed", "num_samples")}
                samples = await self._samples(client, rows, options)
                expect(samples == case["samples"], f"{case['name']}: {samples}")
        return f"{len(cases)} arrays"

    async def guidance(self) -> str:
        """Guide arrays by arrays."""
        async with self._client() as client:
            for case in self._vectors["guidance"]:
                options = {name: case[name] for name in ("guidance_scale", "top_k", "seed", "num_samples")}
                options["guidance"] = np.array(case["guidance"], np.float32)
                samples = await self._samples(client, np.array(case["rows"], np.float32), options)
                expect(samples == case["samples"], f"{case['name']}: {samples}")
        return f"{len(self._vectors['guidance'])} pairs of rows"

    async def drafts(self) -> str:
        """Verify chains and trees of drafted tokens."""
        async with self._client() as client:
            for case in self._vectors["drafts"]:
                draft = np.array(case["draft"], np.float32) if case["draft"] else None
                options = {name: case[name] for name in ("parents", "temperature", "seed")}
                result = await client.verify_draft(
                    np.array(case["target"], np.float32), case["draft_ids"], draft, **options
                )
                found = (result.samples.tolist(), result.accepted, result.path.tolist())
                expect(found == (case["samples"], case["accepted"], case["path"]), f"{case['name']}: {found}")
        return f"{len(self._vectors['drafts'])} drafts"
