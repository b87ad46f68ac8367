"""From the processors that `generate` makes to samplerd's parameters, with the same law.

`generate` turns its settings, and the processors that a user adds, into one list. Its end, which is the temperature and
the filters, becomes parameters; so does its beginning, if samplerd has all of it. Rule 1: what is not known here stays
with transformers and runs there, before the row is sent: nothing is left out. Rule 2: a processor is known by its class
of transformers alone, not by a subclass of it. Rule 3: this module imports neither torch nor transformers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from samplerd_client.sampling_params import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from samplerd_client.parameter_kinds import FilterStep

__all__ = ["Pipeline", "pipeline_of"]

_MODULE = "transformers.generation.logits_process"
_FORBIDDEN = -math.inf
_TOP_H_LOOKS_AT = 100
"""How many of the most likely tokens TopHLogitsWarper looks at: a top_k before top_h says the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """What is done to a row between the model and the token."""

    first: tuple[Any, ...] = ()
    """Processors that transformers runs before the row is sent, in order."""
    params: SamplingParams = field(default_factory=SamplingParams)
    """What samplerd does in every step, and to every row."""
    needs_history: bool = False
    """The parameters look at the tokens so far."""
    ignored: Any = None
    """Tokens at the beginning that the repetition penalty does not look at: a number, one for each row, or None."""
    biases: Mapping[tuple[int, ...], float] = field(default_factory=dict)
    """A bias for a token, which comes last, where the tokens before it are the last ones so far."""
    until: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """Tokens that are forbidden while there are fewer than so many tokens."""
    at: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """Tokens that are forbidden when there are exactly so many tokens."""

    def step(self, tokens: NDArray[Any], vocab_size: int) -> SamplingParams | list[SamplingParams]:
        """Return the parameters of one step: of all rows, or of each.

        Args:
            tokens: the tokens so far, [B, L], padding included.
            vocab_size: V; suppressed tokens beyond it do not exist.

        """
        length = tokens.shape[1]
        names = [
            *(ids for least, ids in self.until if length < least),
            *(ids for when, ids in self.at if length == when),
        ]
        common = {token: bias for (*before, token), bias in self.biases.items() if not before}
        common |= {token: _FORBIDDEN for ids in names for token in ids if token < vocab_size}
        longer = [(before, token, bias) for (*before, token), bias in self.biases.items() if before]
        params = replace(self.params, logit_bias=common) if common else self.params
        if not self.needs_history and not longer:
            return params
        return [self._row(params, row, common, longer, index) for index, row in enumerate(tokens)]

    def _row(
        self,
        params: SamplingParams,
        tokens: NDArray[Any],
        common: dict[int, float],
        longer: Sequence[tuple[list[int], int, float]],
        index: int,
    ) -> SamplingParams:
        own = dict(common)
        for before, token, bias in longer:
            if tokens[-len(before) :].tolist() == before:
                own[token] = own.get(token, 0.0) + bias
        changes: dict[str, Any] = {"logit_bias": own} if own else {}
        if self.needs_history:
            changes["history"] = tokens
            if self.ignored is not None:
                changes["prompt_length"] = min(_of_row(self.ignored, index), len(tokens))
        return replace(params, **changes)


def pipeline_of(processors: Sequence[Any], *, do_sample: bool) -> Pipeline:
    """Say which part of the processors samplerd takes over.

    Args:
        processors: all of them, in the order in which `generate` runs them.
        do_sample: False takes the most likely token of what they leave.

    """
    names = [_name(own) for own in processors]
    if names[-1:] == ["LogitNormalization"]:  # a constant for each row, which no draw depends on
        names, processors = names[:-1], processors[:-1]
    start = _start_of_filters(processors, names) if do_sample else len(processors)
    fields = _filter_fields(processors[start:], names[start:]) if do_sample else {"temperature": 0.0}
    head, own_names = processors[:start], names[:start]
    known = all(name in _HEAD for name in own_names) and len(set(own_names)) == len(own_names)
    if not known or own_names != sorted(own_names, key=list(_HEAD).index):
        return Pipeline(first=tuple(head), params=SamplingParams(**fields))
    made: dict[str, Any] = {"params": fields}
    for own, name in zip(head, own_names, strict=True):
        _HEAD[name](own, made)
    return Pipeline(**{**made, "params": SamplingParams(**made["params"])})


def _name(processor: Any) -> str:
    kind = type(processor)
    return kind.__name__ if kind.__module__ == _MODULE else ""


def _of_row(value: Any, row: int) -> int:
    return int(value if isinstance(value, int) else value[row])


def _ids(values: Any) -> tuple[int, ...]:
    # A tensor may lie on a device, where numpy cannot read it.
    return tuple(int(token) for token in (values.tolist() if hasattr(values, "tolist") else values))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filter:
    """A warper of transformers and the step of samplerd that keeps the same tokens."""

    step: FilterStep
    attribute: str
    """Of the warper, which holds the parameter."""
    fits: Callable[[float], bool]
    """Whether samplerd has the value too."""
    kind: type[int] | type[float] = float


_FILTERS = {
    "TemperatureLogitsWarper": _Filter(step="temperature", attribute="temperature", fits=lambda value: value > 0),
    "TopHLogitsWarper": _Filter(step="top_h", attribute="top_h", fits=lambda value: 0 < value <= 1),
    "TopKLogitsWarper": _Filter(step="top_k", attribute="top_k", fits=lambda value: value >= 1, kind=int),
    "TopPLogitsWarper": _Filter(step="top_p", attribute="top_p", fits=lambda value: 0 < value <= 1),
    "MinPLogitsWarper": _Filter(step="min_p", attribute="min_p", fits=lambda value: 0 <= value <= 1),
    "TypicalLogitsWarper": _Filter(step="typical_p", attribute="mass", fits=lambda value: 0 < value <= 1),
    "EpsilonLogitsWarper": _Filter(step="epsilon_cutoff", attribute="epsilon", fits=lambda value: 0 <= value < 1),
    "EtaLogitsWarper": _Filter(step="eta_cutoff", attribute="epsilon", fits=lambda value: 0 <= value < 1),
}


def _start_of_filters(processors: Sequence[Any], names: Sequence[str]) -> int:
    """Find where the filters at the end begin that samplerd can take over together."""
    start = len(processors)
    seen: set[str] = set()
    least: set[int] = set()
    while start > 0:
        name, own = names[start - 1], processors[start - 1]
        filter_ = _FILTERS.get(name)
        if filter_ is None or name in seen or not filter_.fits(float(getattr(own, filter_.attribute))):
            break
        if getattr(own, "filter_value", _FORBIDDEN) != _FORBIDDEN:
            break
        least |= {own.min_tokens_to_keep} if hasattr(own, "min_tokens_to_keep") else set()
        if len(least) > 1:
            break
        if name == "TopHLogitsWarper" and (
            least - {1} or _top_k_of(processors[start:], names[start:]) < _TOP_H_LOOKS_AT
        ):
            break  # it has a top_k of its own, which a smaller one cannot follow
        seen.add(name)
        start -= 1
    return start


def _top_k_of(processors: Sequence[Any], names: Sequence[str]) -> float:
    return float(processors[names.index("TopKLogitsWarper")].top_k) if "TopKLogitsWarper" in names else math.inf


def _filter_fields(processors: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of the filters, in their order, and the rule about equals of transformers."""
    fields: dict[str, Any] = {}
    steps: list[FilterStep] = []
    for own, name in zip(processors, names, strict=True):
        filter_ = _FILTERS[name]
        if name == "TopHLogitsWarper":
            fields["top_k"] = _TOP_H_LOOKS_AT
            steps.append("top_k")
        elif name == "TopKLogitsWarper" and "top_h" in fields:
            continue  # top_h has left no more than this keeps
        fields[filter_.step] = filter_.kind(getattr(own, filter_.attribute))
        steps.append(filter_.step)
        least = getattr(own, "min_tokens_to_keep", 1)
        if least != 1:
            fields["min_tokens_to_keep"] = least
    if steps:
        fields |= {"steps": tuple(steps), "ties": "hugging_face"}
    return fields


def _repetition(own: Any, made: dict[str, Any]) -> None:
    made["params"]["repetition_penalty"] = float(own.penalty)
    made["needs_history"] = True
    if own.prompt_ignore_length is not None:
        made["ignored"] = own.prompt_ignore_length
        made["params"]["repetition_scope"] = "output"


def _ngrams(own: Any, made: dict[str, Any]) -> None:
    made["params"]["no_repeat_ngram_size"] = int(own.ngram_size)
    made["needs_history"] = True


def _sequences(own: Any, made: dict[str, Any]) -> None:
    biases = made.setdefault("biases", {})
    for tokens, bias in own.sequence_bias.items():
        biases[_ids(tokens)] = biases.get(_ids(tokens), 0.0) + float(bias)


def _until(least: int, tokens: Any, made: dict[str, Any]) -> None:
    made["until"] = (*made.get("until", ()), (least, _ids(tokens)))


def _at(length: int, tokens: Any, made: dict[str, Any]) -> None:
    made["at"] = (*made.get("at", ()), (length, _ids(tokens)))


_ALWAYS = 1 << 62
"""More tokens than there ever are."""
_HEAD: dict[str, Callable[[Any, dict[str, Any]], None]] = {
    "SequenceBiasLogitsProcessor": _sequences,
    "RepetitionPenaltyLogitsProcessor": _repetition,
    "NoRepeatNGramLogitsProcessor": _ngrams,
    "NoBadWordsLogitsProcessor": _sequences,
    "MinLengthLogitsProcessor": lambda own, made: _until(own.min_length, own.eos_token_id, made),
    "MinNewTokensLengthLogitsProcessor": lambda own, made: _until(
        own.prompt_length_to_skip + own.min_new_tokens, own.eos_token_id, made
    ),
    "SuppressTokensLogitsProcessor": lambda own, made: _until(_ALWAYS, own.suppress_tokens, made),
    "SuppressTokensAtBeginLogitsProcessor": lambda own, made: _at(own.begin_index, own.begin_suppress_tokens, made),
}
"""What samplerd does as well, before the temperature, in the order of `generate`. A bias comes before the penalty, as
in samplerd; what only forbids may stand anywhere."""
