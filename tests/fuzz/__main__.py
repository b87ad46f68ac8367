"""Runs the targets in turn, with one seed after the other, until the time is over or one fails."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import TARGETS

EXAMPLES = 300
"""Inputs of a target for each seed."""


def run(name: str, number: int, examples: int = EXAMPLES) -> None:
    """Run one target with one seed: always the same inputs. The failing one is made small, and is in the error."""
    target = TARGETS[name]

    def check(given_input: object) -> None:
        target.run(given_input)

    phases = (Phase.generate, Phase.shrink)
    checks = settings(
        max_examples=examples, database=None, deadline=None, phases=phases, suppress_health_check=list(HealthCheck)
    )
    seed(number)(checks(given(given_input=target.inputs)(check)))()


def main() -> int:
    """Fuzz; returns 1 once a target has failed."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long (default: 5)")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--rounds", type=int, default=0, help="how many seeds at most (default: as the time allows)")
    asked = parser.parse_args()
    names = asked.target or list(TARGETS)
    end, number, inputs = time.monotonic() + 60 * asked.minutes, asked.seed, 0
    while time.monotonic() < end and (not asked.rounds or number < asked.seed + asked.rounds):
        for name in names:
            if time.monotonic() >= end:
                break
            try:
                run(name, number)
            except Exception:  # noqa: BLE001  # whatever is wrong
                traceback.print_exc()
                print(f"\nreproduce: python -m tests.fuzz --target {name} --seed {number} --rounds 1")
                return 1
            inputs += EXAMPLES
        number += 1
    print(f"{inputs} inputs of {len(names)} targets, seeds {asked.seed} to {number - 1}: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
