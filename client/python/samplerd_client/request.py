"""From a call's arguments to the bytes of a request.

Rule 1: every way of asking takes the same keywords, `SampleOptions`, and goes through `build`. Rule 2: what a call says
beside its rows and its seed is its `Recipe`; calls repeat themselves, so recipes are remembered and never changed. Rule
3: the rows are copied exactly once, from the caller's array into the message's bytes (see `wire`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client.arrays import ArrayLike, Rows, as_rows
from samplerd_client.options import SampleOptions
from samplerd_client.params import FIELD_NAMES, integers, kind_number, params_message
from samplerd_client.wire import length_delimited, with_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from samplerd_client.params import Ids, LogprobKind, SamplingParams, SharedMemory
    from samplerd_client.shared_memory import Slot

__all__ = ["Plan", "Recipe", "Split", "build", "set_params", "set_scalars"]

_SAMPLING = frozenset(FIELD_NAMES)
_SCALARS = ("num_samples", "draw_offset", "priority")
_OUTPUTS = frozenset({"logprobs", "top_n", "logprob_ids", "rank", "entropy", "kept"})
_OPTIONS = frozenset(SampleOptions.__annotations__)
_SOURCES = ("candidates", "distribution", "values", "shared_memory")
_ONCE = f"give the rows exactly once: as the first argument, or as one of {', '.join(_SOURCES)}"


class Recipe:
    """All of a request but its id, its seed and its dense rows. Shared by requests, so never changed."""

    __slots__ = ("_split", "has_source", "is_plain", "is_row_wise", "message", "num_samples")

    def __init__(self, message: pb.SampleRequest) -> None:
        self.message = message
        self.num_samples = message.num_samples or 1
        """S."""
        self.has_source = message.WhichOneof("source") is not None
        """It names the rows; there are no dense ones, in the message or in shared memory."""
        self.is_row_wise = bool(message.row_params or message.row_seeds)
        """It says something of each row."""
        outputs = message.outputs
        self.is_plain = not (
            outputs.logprobs or outputs.entropy or outputs.logprob_ids or outputs.top_n or outputs.rank or outputs.kept
        )
        """It asks for samples and nothing beside them."""
        self._split: Split | None = None

    @property
    def split(self) -> Split:
        """The message, encoded, with its parameters apart."""
        if self._split is None:
            self._split = _split(self.message)
        return self._split


class Split(NamedTuple):
    """An encoded request, apart from id, seed and dense rows, cut in two."""

    common: bytes
    """All but the parameters: requests that agree in it can become rows of one."""
    params: bytes
    """The parameters as the field `params`; empty when there are none."""
    row_params: bytes
    """The parameters as an entry of the field `row_params`."""


def _split(message: pb.SampleRequest) -> Split:
    params = message.params.SerializeToString()
    common = message
    if message.HasField("params"):
        common = pb.SampleRequest()
        common.CopyFrom(message)
        common.ClearField("params")
    return Split(
        common=common.SerializeToString(),
        params=_field(pb.SampleRequest.PARAMS_FIELD_NUMBER, params) if params else b"",
        row_params=_field(pb.SampleRequest.ROW_PARAMS_FIELD_NUMBER, params),
    )


class Plan(NamedTuple):
    """A request that waits to be numbered and sent."""

    recipe: Recipe
    seed: int | None
    """None: the server draws one."""
    rows: Rows | None
    """Dense rows."""
    memory: SharedMemory | Slot | None = None
    """Dense rows in shared memory; a slot is held as long as the request is on its way."""

    def encode(self, request_id: int = 0) -> bytes:
        """Return the bytes of the request."""
        message = pb.SampleRequest()
        message.CopyFrom(self.recipe.message)
        message.id = request_id
        if self.seed is not None:
            message.seed = self.seed
        if self.memory is not None:
            message.shared_memory.CopyFrom(self.memory.to_proto())
        return with_tensor(message.SerializeToString(), self.rows)


def build(logits: ArrayLike | None, options: SampleOptions) -> Plan:
    """Return the request.

    Args:
        logits: [V] or [B, V], or None when an option names the rows.
        options: the keywords of `sample`.

    Raises:
        TypeError: an unknown keyword, or something that is no array of numbers.
        ValueError: no rows or two kinds of them, a number that its field cannot hold, arguments that exclude others.

    """
    recipe = _recipe(cast("dict[str, Any]", options))
    memory: SharedMemory | Slot | None = options.get("shared_memory")
    if recipe.has_source + (logits is not None) + (memory is not None) != 1:
        raise ValueError(_ONCE)
    rows = None if logits is None else as_rows(logits, options.get("dtype"))
    return Plan(recipe, _seed(options.get("seed")), rows, memory)


_recipes: dict[object, Recipe] = {}
_MAX_RECIPES = 256
"""Bounded, since callers choose their parameters freely."""
_MAX_KEY = 1024
"""Characters of a key; what takes more is not worth its memory."""
_CHANGING = frozenset({"seed", "shared_memory"})
"""What differs from call to call, and is no part of a recipe."""
_TELLING = frozenset({int, float, str, bool, type(None)})
"""Types whose values, with the type beside them, are told apart by `==`: 1 from 1.0 and from True. But for zeros."""


def _recipe(options: dict[str, Any]) -> Recipe:
    """Return the recipe of these options, which may be one that was made for equal ones."""
    said = options
    if not _CHANGING.isdisjoint(options):
        said = {name: value for name, value in options.items() if name not in _CHANGING}
    values = said.values()
    key: object
    # 0.0 == -0.0, and they are not the same on the wire: `repr` tells them apart, and takes longer.
    if _TELLING.issuperset(map(type, values)) and 0 not in values:
        key = (*said.items(), *map(type, values))
    elif all(type(value) in _TELLING or _is_names(value) for value in values):
        key = repr(said)
    else:
        return _new_recipe(options)
    recipe = _recipes.get(key)
    if recipe is None:
        recipe = _new_recipe(options)
        if len(_recipes) >= _MAX_RECIPES:
            _recipes.clear()
        if len(repr(said)) <= _MAX_KEY:
            _recipes[key] = recipe
    return recipe


def _is_names(value: Any) -> bool:
    return type(value) is tuple and all(type(name) is str for name in value)


def _new_recipe(options: dict[str, Any]) -> Recipe:
    if unknown := sorted(options.keys() - _OPTIONS):
        raise TypeError(f"sample() has no argument {unknown[0]!r}")
    message = pb.SampleRequest()
    message.num_samples = 1
    set_scalars(message, options, _SCALARS)
    _set_row_seeds(message, options.get("row_seeds"))
    if not options.get("replacement", True):
        message.replacement = pb.REPLACEMENT_WITHOUT
    if options.get("probabilities", False):
        message.kind = pb.INPUT_KIND_PROBABILITIES
    set_params(message, options)
    _set_outputs(message.outputs, options)
    _set_source(message, options)
    return Recipe(message)


def _seed(seed: Any) -> int | None:
    """Return the seed, which its field must be able to hold."""
    if seed is None or (type(seed) is int and 0 <= seed < 1 << 64):
        return seed
    message = pb.SampleRequest()
    set_scalars(message, {"seed": seed}, ("seed",))
    return message.seed


def set_scalars(
    message: pb.SampleRequest | pb.VerifyDraftRequest, options: Mapping[str, Any], names: Sequence[str]
) -> None:
    """Set the fields of these names, where they are given.

    Raises:
        TypeError, ValueError: one cannot hold what it is given; the text begins with its name.

    """
    for name in names:
        value = options.get(name)
        if value is None:
            continue
        try:
            setattr(message, name, value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error


def _set_row_seeds(message: pb.SampleRequest, row_seeds: Ids | None) -> None:
    if row_seeds is None:
        return
    try:
        message.row_seeds.extend(integers(row_seeds))
    except (TypeError, ValueError) as error:
        raise type(error)(f"row_seeds: {error}") from error


def set_params(message: pb.SampleRequest | pb.VerifyDraftRequest, options: Mapping[str, Any]) -> None:
    """Set the sampling parameters, which are given at once, row by row, or as single keywords.

    Raises:
        ValueError: they are given in two of these ways, or a value cannot be held by its field.

    """
    single = {name: value for name, value in options.items() if name in _SAMPLING and value is not None}
    params: SamplingParams | None = options.get("params")
    row_params: Sequence[SamplingParams] | None = options.get("row_params")
    if (bool(single) + (params is not None) + (row_params is not None)) > 1:
        raise ValueError("give params, or row_params, or single parameters, not two of them")
    if row_params is not None:
        message.row_params.extend(entry.to_proto() for entry in row_params)
    elif params is not None:
        message.params.CopyFrom(params.to_proto())
    elif single:
        message.params.CopyFrom(params_message(single))


def _set_outputs(outputs: pb.Outputs, options: Mapping[str, Any]) -> None:
    outputs.raw_samples = True
    if not options.keys() & _OUTPUTS:
        return
    outputs.logprobs.extend(map(kind_number, _several(options.get("logprobs", ()))))
    outputs.entropy.extend(map(kind_number, _several(options.get("entropy", ()))))
    outputs.logprob_ids.extend(integers(_present(options.get("logprob_ids"))))
    outputs.top_n = options.get("top_n", 0)
    outputs.rank = options.get("rank", False)
    outputs.kept = options.get("kept", False)


def _set_source(message: pb.SampleRequest, options: Mapping[str, Any]) -> None:
    given = [name for name in _SOURCES if name not in _CHANGING and options.get(name) is not None]
    if len(given) > 1:
        raise ValueError(_ONCE)
    if (candidates := options.get("candidates")) is not None:
        message.candidates.CopyFrom(candidates.to_proto())
    elif (distribution := options.get("distribution")) is not None:
        message.distribution = distribution
    else:
        # Even without rows the message then has a source, and the server says what is wrong with it.
        for row in options.get("values") or ():
            message.values.row.add(values=row)
        if given:
            message.values.SetInParent()


def _several(kinds: Sequence[LogprobKind] | LogprobKind) -> Sequence[str]:
    return (kinds,) if isinstance(kinds, str) else kinds


def _present(ids: Ids | None) -> Ids:
    return () if ids is None else ids


def _field(number: int, content: bytes) -> bytes:
    return length_delimited(number, len(content)) + content
