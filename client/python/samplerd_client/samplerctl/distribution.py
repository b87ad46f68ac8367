"""``samplerctl distribution``: uploads, lists, shows and deletes distributions, and draws any number from one."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from samplerd_client.params import SamplingParams
from samplerd_client.samplerctl import inputs, render
from samplerd_client.samplerctl.connection import client_of
from samplerd_client.samplerctl.distribution_draw import draw
from samplerd_client.samplerctl.sampling_flags import sampling_options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from samplerd_client.client import SamplerClient
    from samplerd_client.distributions import Distribution

__all__ = ["run"]


async def run(args: argparse.Namespace) -> int:
    """Run the action."""
    rows = inputs.read_rows(args) if args.action == "create" else None
    async with client_of(args) as client:
        match args.action:
            case "create":
                params = cast("dict[str, Any]", sampling_options(args))
                made = await client.create_distribution(
                    rows,
                    name=args.name,
                    probabilities=args.probabilities is not None or args.weights,
                    ttl_s=args.ttl,
                    params=SamplingParams(**params) if params else None,
                    dtype=args.dtype,
                )
                _print([made], as_json=args.json)
            case "draw":
                await draw(client, args)
            case "show":
                _print([await client.get_distribution(args.name)], as_json=args.json)
            case "delete":
                await client.delete_distribution(args.name)
            case _:
                _print(await _all(client), as_json=args.json)
    return 0


async def _all(client: SamplerClient) -> list[Distribution]:
    return [own async for own in client.list_distributions()]


def _print(distributions: Sequence[Distribution], *, as_json: bool) -> None:
    if as_json:
        for own in distributions:
            record = asdict(own)
            record["create_time"] = own.create_time.isoformat()
            record["expire_time"] = own.expire_time and own.expire_time.isoformat()
            sys.stdout.write(json.dumps(record) + "\n")
        return
    cells = [
        [
            own.name,
            render.count(own.rows),
            render.count(own.vocab_size),
            "weights" if own.are_probabilities else "logits",
            render.size(own.memory_bytes),
            own.expire_time.isoformat(sep=" ", timespec="seconds") if own.expire_time else "never",
        ]
        for own in distributions
    ]
    header = ["name", "rows", "vocabulary", "numbers", "memory", "expires"]
    sys.stdout.write(render.table(header, cells, "<>><><") + "\n")
