"""Random batches of rows for the kernels for a GPU, each made of one number: what differs can be drawn again.

Most rows are short, since an interpreter takes as long for 40 numbers as for 512; some lie on the edges of blocks, and
a few are long. Values are those that `gpu_rows` names, temperatures also any between 1e-8 and 1e6.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd_server.core.enums import Dtype, FilterStep, Order, PenaltyScope, TieRule, XtcExemption
from samplerd_server.core.outputs import NO_OUTPUTS
from samplerd_server.core.params import Dry
from tests.support.gpu_rows import EACH, KINDS, LOGITS, NEVER, TEMPERATURES, WEIGHTS, Row
from tests.support.samplers import encode, outputs, sequence_lists

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from samplerd_server.core.outputs import Outputs

__all__ = ["RandomDraft", "random_batch", "random_draft"]

EDGES = (511, 512, 513, 600, 1_025, 1_500)
LONG = (5_000, 32_768, 40_000)


@dataclasses.dataclass(frozen=True)
class RandomDraft:
    """A draft, by what it is made of."""

    seed: int
    row: Row
    """What the target rows are made of, but for their numbers."""
    ids: list[int]
    parents: list[int]
    dtype: Dtype | None
    """Of the distributions that tokens were drawn from; None = they were certain."""
    likeness: float
    """How much of these distributions is the target's own, before any parameter but the temperature."""
    fault: float | None
    """A number that is wrong in one of these distributions."""

    def ask(self) -> tuple[Any, list[int], list[int], Any]:
        """The target, the tokens, their parents, and the rows that they were drawn from."""
        target = [own.numbers() for own in _targets(self.row, len(self.ids))]
        asked = dataclasses.replace(self.row.ask(), source=encode(target, self.row.dtype))
        if self.dtype is None:
            return asked, self.ids, self.parents, None
        rng = np.random.default_rng(self.seed)
        q = np.array([self._draft(rng, _law(self.row, target[parent + 1])) for parent in self.parents])
        if self.fault is not None:
            q[rng.integers(len(q)), rng.integers(self.row.width)] = self.fault
        return asked, self.ids, self.parents, encode(q, self.dtype)

    def _draft(self, rng: Generator, law: NDArray[np.float64]) -> NDArray[np.float64]:
        other = rng.random(self.row.width)
        other[rng.random(self.row.width) < 0.3] = 0.0
        return law if not other.any() else self.likeness * law + (1 - self.likeness) * other / other.sum()


def _targets(row: Row, tokens: int) -> list[Row]:
    return [dataclasses.replace(row, seed=(row.seed + at) % 2**64) for at in range(tokens + 1)]


def _law(row: Row, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """About the probabilities of a target row, by its temperature alone; uniform where it has none."""
    with np.errstate(all="ignore"):
        logits = np.log(x) if row.kind is WEIGHTS else x
        y = logits / max(row.temperature, 1e-9)
        p = np.exp(np.where(np.isfinite(y), y - y[np.isfinite(y)].max(initial=NEVER), NEVER))
        p = p / p.sum()
    return p if np.isfinite(p).all() else np.full(len(x), 1 / len(x))


def random_draft(seed: int) -> RandomDraft:
    """Make a draft: a tree of a few tokens, and target rows with any parameters.

    Most tokens are likely, so that about as many drafts are accepted to a leaf, accepted in part and rejected at once:
    each is drawn from what the target says, or is its likeliest, or is any.
    """
    rng = np.random.default_rng([seed, 44])
    row = _row(rng, is_long=False)
    row = dataclasses.replace(row, wanted=NO_OUTPUTS, draws=1, with_replacement=True, guidance=None, is_sparse=False)
    row = dataclasses.replace(row, fault=row.fault if _chance(rng, 0.3) else None)
    if _chance(rng, 0.7):
        row = dataclasses.replace(row, never=_one(rng, 0.0, 0.3))
    if _chance(rng, 0.5):
        row = dataclasses.replace(row, parameters=())
    n = int(rng.integers(1, 8))
    is_chain = _chance(rng, 0.5)
    parents = [at - 1 if is_chain else int(rng.integers(-1, at)) if at else -1 for at in range(n)]
    laws = [_law(row, own.numbers()) for own in _targets(row, n)]
    return RandomDraft(
        seed=int(rng.integers(2**63)),
        row=row,
        ids=[_likely(rng, laws[parent + 1]) for parent in parents],
        parents=parents,
        dtype=None if _chance(rng, 0.3) else Dtype(_one(rng, *Dtype)),
        likeness=_one(rng, 0.0, 0.5, 0.9, 1.0),
        fault=_one(rng, np.nan, -1.0) if _chance(rng, 0.05) else None,
    )


def _likely(rng: Generator, law: NDArray[np.float64]) -> int:
    """Choose a token, most often one that is likely by a law, float64[V]."""
    how = rng.random()
    if how < 0.5:
        return int(rng.choice(len(law), p=law))
    return int(law.argmax() if how < 0.85 else rng.integers(len(law)))


def random_batch(seed: int) -> list[Row]:
    """Make the rows of a batch."""
    rng = np.random.default_rng([seed, 43])
    is_long = rng.random() < 0.005
    return [_row(rng, is_long=is_long) for _ in range(1 if is_long else rng.integers(1, 6))]


def _one(rng: Generator, *values: Any) -> Any:
    return values[rng.integers(len(values))]


def _chance(rng: Generator, share: float) -> bool:
    return bool(rng.random() < share)


def _row(rng: Generator, *, is_long: bool) -> Row:
    width = int(rng.integers(1, 41))
    if is_long:
        width = _one(rng, *LONG)
    elif _chance(rng, 0.06):
        width = _one(rng, *EDGES)
    temperature = _one(rng, *TEMPERATURES) if _chance(rng, 0.5) else float(10.0 ** rng.uniform(-8, 6))
    parameters = _parameters(rng, width, temperature) if _chance(rng, 0.8) else {}
    is_guided = _chance(rng, 0.1)
    if is_guided:
        parameters["guidance_scale"] = _one(rng, 0.0, 1.0, 1.5, -3e38)
    return Row(
        seed=int(rng.integers(2**63)),
        width=width,
        kind=_one(rng, LOGITS, LOGITS, WEIGHTS),
        dtype=Dtype(_one(rng, *Dtype)),
        scale=_one(rng, 0.01, 1.0, 6.0),
        never=_one(rng, 0.0, 0.0, 0.3, 0.99),
        has_ties=_chance(rng, 0.5),
        fault=_one(rng, np.nan, np.inf, -1.0) if _chance(rng, 0.05) else None,
        draws=_one(rng, 1, 1, 2, 3, 9),
        temperature=temperature,
        wanted=_outputs(rng, width),
        parameters=tuple(parameters.items()),
        with_replacement=_chance(rng, 0.75),
        guidance=(Dtype(_one(rng, *Dtype)), _one(rng, None, None, None, np.nan)) if is_guided else None,
        is_sparse=_chance(rng, 0.12) and not is_guided,
    )


def _outputs(rng: Generator, width: int) -> Outputs:
    if _chance(rng, 0.3):
        return NO_OUTPUTS
    kinds = tuple(kind for kind in KINDS if _chance(rng, 0.4))
    return outputs(
        *kinds,
        entropy=tuple(kind for kind in KINDS if _chance(rng, 0.2)),
        top_n=_one(rng, 0, 1, 5) if kinds else 0,
        named=_one(rng, None, [0], [0, width - 1]) if kinds else None,
        rank=_chance(rng, 0.3),
        kept=_chance(rng, 0.4),
        adaptive_state=_chance(rng, 0.2),
    )


def _parameters(rng: Generator, width: int, temperature: float) -> dict[str, Any]:
    own: dict[str, Any] = {}
    if _chance(rng, 0.2):
        own |= {"top_k": int(rng.integers(1, 60)), "top_p": _one(rng, 1.0, 0.5, 0.9), "min_p": _one(rng, 0.0, 0.1, 1.0)}
    elif _chance(rng, 0.6):
        own |= _filters(rng)
    if _chance(rng, 0.35):
        own |= _changes(rng, width)
    if _chance(rng, 0.35):
        own |= _shapes(rng, temperature)
    return own


def _filters(rng: Generator) -> dict[str, Any]:
    own: dict[str, Any] = {
        "order": Order(_one(rng, *Order)),
        "ties": TieRule(_one(rng, TieRule.LOWEST_ID, *TieRule)),
        "min_tokens_to_keep": _one(rng, 0, 1, 1, 3),
        "top_k_is_exact": _chance(rng, 0.3),
    }
    for _ in range(rng.integers(1, 4)):
        chosen: Any = EACH[rng.integers(len(EACH))]
        own |= {name: _one(rng, *values) for name, values in chosen.items()}
    if "xtc_exemption" in own:
        own["xtc_exemption"] = XtcExemption(own["xtc_exemption"])
    if _chance(rng, 0.3):
        own["steps"] = rng.permutation([int(step) for step in FilterStep]).astype(np.int32)
    return own


def _shapes(rng: Generator, temperature: float) -> dict[str, Any]:
    own: dict[str, Any] = {}
    if _chance(rng, 0.5) and temperature > 0:
        own["dynamic_temperature_range"] = _one(rng, 0.3, 1.0, 60.0)
        own["dynamic_temperature_exponent"] = _one(rng, 0.5, 1.0, 2.0)
        own["dynamic_temperature_counts_all"] = _chance(rng, 0.5)
    if _chance(rng, 0.4):
        own["smoothing_factor"], own["smoothing_curve"] = _one(rng, 0.2, 3.0), _one(rng, 1.0, 2.5, 5.0)
    last = rng.random()
    if last < 0.3:
        own["adaptive_target"] = _one(rng, 0.1, 0.5, 0.9)
        own["adaptive_total_weight"], own["adaptive_weighted_sum"] = _one(rng, 0.0, 2.0), _one(rng, 0.0, 0.7)
    elif last < 0.6:
        own["skew"] = _one(rng, -5.0, -0.5, 0.5, 3.0)
    return own


def _changes(rng: Generator, width: int) -> dict[str, Any]:
    def ids(most: int = 20) -> Any:
        return rng.integers(0, width, rng.integers(0, most + 1)).astype(np.int32)

    def sequences() -> list[list[int]]:
        return [rng.integers(0, width, rng.integers(1, 4)).tolist() for _ in range(rng.integers(0, 4))]

    own: dict[str, Any] = {}
    mask = rng.random()
    if mask < 0.2:
        own["allowed_tokens"] = ids()
    elif mask < 0.4:
        own["token_bitmask"] = rng.bytes(4 * int(rng.integers(0, -(-width // 32) + 1)))
    if _chance(rng, 0.5):
        own["bias_ids"] = np.unique(ids())
        amounts = [_one(rng, 1.5, -2.0, NEVER, 3e38, -3e38) for _ in own["bias_ids"]]
        own["bias_values"] = np.array(amounts, np.float32)
    if _chance(rng, 0.3):
        own |= {**sequence_lists("bad_words", sequences()), "bad_words_scope": PenaltyScope(_one(rng, *PenaltyScope))}
    if _chance(rng, 0.6):
        own["history"] = np.resize(ids(), _one(rng, 0, 3, 40, 150)).astype(np.int32)
        own |= {
            "repetition_penalty": _one(rng, 1.0, 1.3, 0.7),
            "frequency_penalty": _one(rng, 0.0, 0.1, -2.0),
            "presence_penalty": _one(rng, 0.0, 0.3, 1e300),
            "prompt_length": _one(rng, 0, 2, 50),
            "penalty_range": _one(rng, 0, 0, 5),
            "no_repeat_ngram_size": _one(rng, 0, 0, 1, 3),
        }
        for name in ("repetition_scope", "frequency_scope", "presence_scope"):
            own[name] = PenaltyScope(_one(rng, *PenaltyScope))
        if _chance(rng, 0.4):
            own["dry"] = Dry(
                multiplier=_one(rng, 0.8, 1e300),
                base=_one(rng, 1.0, 1.75),
                allowed_length=int(rng.integers(0, 4)),
                range=_one(rng, 0, 0, 7),
                sequence_breakers=ids(2),
                allow_no_repeat=_chance(rng, 0.5),
                **sequence_lists("breaker_sequences", sequences()),
            )
    return own
