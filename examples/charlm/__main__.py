"""`python -m examples.charlm`: write texts with a running samplerd."""

from __future__ import annotations

import argparse
import asyncio
import sys

from examples.charlm.generate import Text, draw_from, generate
from examples.charlm.model import CharModel
from examples.terminal import bold, clip, columns, dim, heat
from samplerd_client import SamplerClient, SamplerdError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.charlm", description="Write texts with a small character model and a running samplerd."
    )
    parser.add_argument(
        *("--address", "--target"),
        default="127.0.0.1:50051",
        metavar="HOST:PORT",
        help="where samplerd listens (default: %(default)s)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        nargs="+",
        default=[0.0, 0.5, 1.0, 1.5],
        metavar="T",
        help="write at each of these; 0 always takes the likeliest character (default: 0 0.5 1.0 1.5)",
    )
    parser.add_argument(
        "--opening",
        nargs="+",
        default=["How", "My"],
        metavar="WORDS",
        help="begin with each of these (default: How My)",
    )
    parser.add_argument("--texts", type=int, default=2, help="texts for each opening and temperature (default: 2)")
    parser.add_argument("--max-chars", type=int, default=90, help="longest text (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="text n takes seed + n (default: %(default)s)")
    return parser.parse_args(argv)


async def run(args: argparse.Namespace) -> None:
    """Write the texts and print them, coldest first."""
    model = CharModel.load()
    wanted = [(t, opening) for t in sorted(args.temperature) for opening in args.opening for _ in range(args.texts)]
    texts = [
        Text(opening=opening, temperature=temperature, seed=args.seed + number)
        for number, (temperature, opening) in enumerate(wanted)
    ]
    async with SamplerClient(args.address) as client, client.stream() as stream:
        took = await generate(model, texts, draw_from(stream), max_chars=args.max_chars)
    for temperature in sorted(set(args.temperature)):
        print(bold(f"T = {temperature:g}"))
        for text in texts:
            if text.temperature == temperature:
                print("  " + heat(temperature, clip(text.written, 10 * columns()) + ("" if text.is_complete else "…")))
    print(
        dim(
            f"{len(texts)} texts, {took.rows:,} rows in {took.steps} steps: "
            f"{took.forward_s:.2f} s in the model, {took.draw_s:.2f} s waiting for samplerd"
        )
    )


def main() -> int:
    """Run the command."""
    args = parse_args()
    try:
        asyncio.run(run(args))
    except (SamplerdError, ValueError) as error:
        print(f"charlm: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
