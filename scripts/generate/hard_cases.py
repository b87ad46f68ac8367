"""The table of docs/what_goes_wrong.md, from the stored answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scripts.generate.sections import replace_sections

__all__ = ["page"]

_PATH = "docs/what_goes_wrong.md"
_RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "laws" / "hard_cases.json"
_HEAD = "| input | what goes wrong | shown by | samplerd's answer |\n|---|---|---|---|\n"


def _tail(own: dict[str, Any]) -> str:
    return f"{own['drawn']:,} of {own['draws']:,} draws are of the tail; {own['expected']:,.0f} are expected"


def _range(own: dict[str, Any], each: str) -> str:
    return f"each {each} {min(own['counts']):,} to {max(own['counts']):,} times"


def page() -> str:
    """Give the text of the page."""
    got = json.loads(_RESULT.read_text(encoding="utf-8"))["answers"]
    coin, seeds = got["a_coin_for_each_row"], got["seeds_beyond_32_bits"]
    low, high = (got["a_coin_after_a_draw"][name] for name in ("low", "high"))
    rows = (
        (
            "a weight of 1 and a million weights of 5e-8",
            "a float32 running sum loses the tail: no draw is ever of it",
            "torch_multinomial_loses_or_doubles_a_tail",
            _tail(got["lost_tail"]),
        ),
        (
            "a weight of 1 and a million weights of 6e-8",
            "the same sum counts the tail twice",
            "torch_multinomial_loses_or_doubles_a_tail",
            _tail(got["doubled_tail"]),
        ),
        (
            "ten float16 weights of 30,000, 20,000 draws",
            "weight / noise overflows: the first id is drawn 58 times as often as the last",
            "torch_multinomial_of_float16_prefers_low_ids",
            _range(got["large_float16_weights"], "id"),
        ),
        (
            "1,000 equal bfloat16 logits, 100,000 draws",
            "the noise has ties: the first hundred ids take half of all draws",
            "jax_categorical_of_bfloat16_prefers_low_ids",
            _range(got["equal_bfloat16_logits"], "hundred of ids"),
        ),
        (
            "131,072 equal float16 logits",
            "the sum of a softmax overflows: every probability is 0",
            "scipy_softmax_of_float16_is_zero",
            f"a probability of {got['large_vocabulary_in_float16']['probability_times_size']:.6f} / 131,072",
        ),
        (
            "the seeds 3 and 3 + 5 x 2^32",
            "seeds are cut to 32 bits: both streams are the same",
            "torch_seeds_are_cut_to_32_bits",
            f"{seeds['equal']} of {seeds['draws']:,} draws from 1,000 categories agree; 1 is expected",
        ),
        (
            f"{coin['batches']} batches of {coin['rows']} equal rows, XTC with probability 0.5",
            "one coin for a batch: XTC acts on all rows or on none",
            "mlx_lm_xtc_flips_one_coin_for_a_batch",
            f"it acts on {coin['fewest']} to {coin['most']} rows of a batch, {coin['mean']:.1f} on average",
        ),
        (
            "seven equal logits, XTC with probability 0.5, the second token",
            "the coin is the number that drew the first token: XTC acts after tokens 0 to 2, and not after 4 and 5",
            "llama_cpp_xtc_coin_is_an_earlier_draw",
            f"it acts after 0 to 2 on {low['acted']} of {low['rows']}, after 4, 5 on {high['acted']} of {high['rows']}",
        ),
    )
    table = "".join(f"| {given} | {fault} | `findings/{name}.sh` | {answer} |\n" for given, fault, name, answer in rows)
    return replace_sections(_PATH, answers=_HEAD + table)
