"""Runs every compiled loop over rows, lists, messages and records that lie between guard pages.

`python -m tests.support.guarded_kernels` prints how often each entry point was called; with `--every`, over many more
widths. A read or a write beside what a loop was given ends it by SIGSEGV. Before that, two children make such a read,
of a row that claims a number which it does not have: it also prints the signals that have ended them.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import count, cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, InputKind, LogprobKind, Order, PenaltyScope, TieRule, XtcExemption
from samplerd_server.core.params import Dry
from samplerd_server.sampling import rows as results_module
from samplerd_server.sampling.kernels import long_draw, partition
from samplerd_server.sampling.kernels import sampler as sampler_module
from samplerd_server.sampling.kernels.compile import ENTRY_POINTS
from samplerd_server.sampling.resumed import ResumedDraw
from samplerd_server.transport.codec import scan, varints
from tests.support.cdf_index import by_name, draw_indexed, make_builder, store_rows
from tests.support.guarded import EDGES, Guarded, GuardedNumpy
from tests.support.samplers import encode, outputs, params, request, sequence_lists, sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from samplerd_server.core.request import SampleRequest
    from samplerd_server.core.rows import DenseRows

FEW_WIDTHS = (1, 33, 513)
"""Around the lengths of vectors, of words of bits, and of blocks."""
EVERY_WIDTH = (*range(1, 70), *range(126, 132), *range(254, 259), *range(509, 516), *range(1022, 1028), 1537, 4099)
_FILTERS: tuple[dict[str, Any], ...] = (
    {"top_n_sigma": 1.5},
    {"top_k": 3},
    {"top_p": 0.6},
    {"min_p": 0.1},
    {"top_a": 0.1},
    {"typical_p": 0.7},
    {"epsilon_cutoff": 0.01},
    {"eta_cutoff": 0.05},
    {"top_h": 0.6},
    {"xtc_threshold": 0.05, "xtc_probability": 1.0},
    {"top_k": 5, "top_p": 0.7, "order": Order.JOINT},
    {"top_p": 0.5, "min_p": 0.05, "typical_p": 0.9, "order": Order.LLAMA_CPP, "ties": TieRule.ALL},
    {"top_k": 2, "ties": TieRule.HIGHEST_ID, "min_tokens_to_keep": 2},
    {"top_p": 0.8, "temperature": 0.0, "steps": np.array([4, 1, 3], np.int32), "top_k": 4},
    {"dynamic_temperature_range": 0.5},
    {"smoothing_factor": 0.3, "smoothing_curve": 1.5},
    {"skew": 0.5, "min_p": 0.01},
    {"adaptive_target": 0.2, "top_k": 6},
)
_RANDOM = np.random.default_rng(20)


class _Calls:
    """Counts the calls of every entry point, by putting itself before each wherever a module names it."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        for entry in ENTRY_POINTS:
            name = entry.py_func.__name__
            for module in [own for key, own in sys.modules.items() if key.startswith("samplerd_server.")]:
                for attribute in [key for key, value in vars(module).items() if value is entry]:
                    setattr(module, attribute, partial(self._call, name, entry))

    def _call(self, name: str, entry: Any, *arguments: Any) -> Any:
        self.counted[name] += 1
        return entry(*arguments)


def _numbers(rows: int, width: int, kind: InputKind) -> Any:
    numbers = _RANDOM.normal(scale=2.0, size=(rows, width)).round(2)
    return np.exp(numbers) if kind == InputKind.PROBABILITIES else numbers


def _ids(width: int, most: int) -> Any:
    return np.sort(_RANDOM.permutation(width)[:most]).astype(np.int32)


def _all_outputs(width: int) -> Any:
    kinds = tuple(LogprobKind)
    return outputs(*kinds, top_n=min(5, width), named=_ids(width, 3), rank=True, entropy=kinds, kept=True)


def _lists(width: int) -> Iterator[dict[str, Any]]:
    """Everything that points to a list, each with the last id of the vocabulary in it."""
    last = width - 1
    history = np.append(_RANDOM.integers(0, width, 9), [last, 0, last]).astype(np.int32)
    ids = np.unique(np.append(_ids(width, 4), last)).astype(np.int32)
    penalties: dict[str, Any] = {"history": history, "prompt_length": 4, "repetition_penalty": 1.3}
    penalties |= {"frequency_penalty": 0.2, "presence_penalty": 0.1, "frequency_scope": PenaltyScope.OUTPUT}
    yield penalties
    yield penalties | {"penalty_range": 5}
    yield {"bias_ids": ids, "bias_values": np.full(len(ids), 0.5, np.float32)}
    yield {"allowed_tokens": ids}
    words = -(-width // 32)
    yield {"token_bitmask": _RANDOM.integers(0, 256, 4 * words).astype(np.uint8).tobytes()[:-1] + b"\xff"}
    yield {"history": history, "no_repeat_ngram_size": 2}
    yield {"history": history, **sequence_lists("bad_words", [[last], [0, last], [last, 0, 0]])}
    yield {"xtc_threshold": 0.01, "xtc_probability": 1.0, "xtc_exempt_ids": ids, "xtc_exemption": XtcExemption.ROW}
    for breakers in ({}, sequence_lists("breaker_sequences", [[0], [last, 0]]), {"sequence_breakers": ids[:2]}):
        yield {"history": history, "dry": Dry(multiplier=0.8, allowed_length=1, **breakers)}


def _requests(width: int, dtype: Dtype, kind: InputKind) -> Iterator[SampleRequest]:
    """Requests of this width whose every part may be placed anywhere."""
    dense = partial(request, dtype=dtype, kind=kind, seed=7)
    row, two = _numbers(1, width, kind), _numbers(2, width, kind)
    yield dense(two, num_samples=3)
    yield dense(two, row_seeds=np.array([1, 2], np.uint64))
    yield dense(row, params=params(temperature=0.0))
    yield dense(row, params=params(temperature=0.7), num_samples=min(3, width), with_replacement=False)
    broken = two.copy()
    broken[1, -1] = np.nan
    yield dense(broken)
    every = _all_outputs(width)
    for number, fields in enumerate((*_FILTERS, *_lists(width))):
        draws = {"num_samples": 2, "with_replacement": number % 2 == 0 or width < 2}
        yield dense(two, params=params(**fields), outputs=every if number % 3 else outputs(), **draws)
    other = Dtype(1 + int(dtype) % 4)
    guided = encode(_numbers(2, width, kind), other)
    yield dense(two, params=params(guidance_scale=1.5, top_p=0.9), guidance=guided, outputs=every)
    if kind == InputKind.LOGITS and dtype == Dtype.F32:
        for rest in (-np.inf, 0.5):
            own = [params(top_k=1), params(min_p=0.5), params()]
            for fields_of in own:
                yield sparse(
                    _ids(width, 9).tolist(), row[0, :9].tolist(), rest, width, params=fields_of, outputs=every, seed=3
                )


class _Run:
    """The loops, and the memory that they are given."""

    def __init__(self) -> None:
        self.sampler = sampler_module.NumbaSampler(1)
        self.sampler.warm_up()
        make_builder()
        self.memory = Guarded()
        self.gaps = count()
        self.cases = 0

    def guard(self, asked: SampleRequest, edge: str) -> Any:
        """Pack a request, with all that it refers to, and its records, beside guard pages."""
        self.cases += 1
        self.memory.reset(edge)
        batch = pack([self.memory.entity(asked, self.gaps)])
        return replace(batch, rows=self.memory.copy(batch.rows))

    def draw(self, asked: SampleRequest) -> None:
        """The same answer, wherever its parts lie."""
        expected = self.sampler.sample(pack([asked]))
        for edge in EDGES:
            for work in (0, 1):  # with and without the interpreter lock
                batch = replace(self.guard(asked, edge), work=work)
                own = self._guarding_results(partial(self.sampler.sample, batch))
                assert own.samples.tolist() == expected.samples.tolist(), asked
                assert own.status.tolist() == expected.status.tolist(), asked
            partition.share_out(batch.rows, self.memory.copy(np.zeros(3, np.int64)))

    def _guarding_results(self, function: Any) -> Any:
        modules = results_module, sampler_module, long_draw
        for module in modules:
            vars(module)["np"] = GuardedNumpy(self.memory)
        try:
            return function()
        finally:
            for module in modules:
                vars(module)["np"] = np

    def draw_in_slices(self, asked: SampleRequest) -> None:
        for edge in EDGES:
            batch = self.guard(asked, edge)
            own = ResumedDraw(batch)
            while self._guarding_results(partial(self.sampler.resume, own)) is None:
                own.draws = 2

    def verify(self, target: SampleRequest, draft: DenseRows | None) -> None:
        ids = _RANDOM.integers(0, target.source.vocab_size, target.rows - 1).astype(np.int32)
        for parents in (np.arange(-1, len(ids) - 1), np.minimum(np.arange(len(ids)) - 1, 0)):
            for edge in EDGES:
                batch = self.guard(target, edge)
                lists = self.memory.copy(ids), self.memory.copy(parents.astype(np.int32))
                own = None if draft is None else self.memory.entity(draft, self.gaps)
                self._guarding_results(partial(self.sampler.verify, batch, *lists, own))

    def draw_by_index(self, asked: SampleRequest) -> None:
        """The index lies at a multiple of 64 bytes, so that fewer than these are left before the last guard page."""
        size = store_rows(asked).size_bytes
        for edge in EDGES:
            self.memory.reset(edge)
            memory = self.memory.take(size, -size % 64 if edge == "end" else 0)
            memory[:] = 0
            draw_indexed(by_name(asked, store_rows(asked, memory=memory)))

    def scan(self, message: bytes) -> None:
        """Every beginning of a message, which ends where the memory does."""
        for size in range(len(message) + 1):
            self.cases += 1
            self.memory.reset("end")
            assert scan.scan(self.memory.message(message[:size])) == scan.scan(message[:size])

    def write_varints(self, numbers: Any) -> None:
        expected = varints.varints(numbers)
        for edge in EDGES:
            self.memory.reset(edge)
            own, out = self.memory.copy(numbers), self.memory.take(len(expected))
            assert varints._write(own.ctypes.data, len(own), out.ctypes.data, len(out)) == len(out)
            assert out.tobytes() == expected.tobytes()


def _messages() -> Iterator[bytes]:
    tensor = pb.Tensor(dtype=1, rows=2, vocab_size=2, data=bytes(16))
    full = pb.SampleRequest(id=2**63, num_samples=3, seed=2**64 - 1, priority=-1, draw_offset=300, tensor=tensor)
    full.params.temperature, full.outputs.rank, full.replacement = 0.5, True, 1
    yield full.SerializeToString()
    full.guidance.tensor.CopyFrom(tensor)
    full.row_seeds.extend([1, 2**64 - 1])
    yield full.SerializeToString()
    yield pb.SampleRequest(id=1, shared_memory=pb.SharedMemory(key="abc", rows=300)).SerializeToString()
    announced = pb.SampleRequest(tensor=tensor).SerializeToString()
    for size in (0x7F, 0xFF):  # lengths that go beyond the end, of the tensor and of its data
        for at in (2, len(announced) - 17):
            yield announced[:at] + bytes((size,)) + announced[at + 1 :]
    yield b"\xff" * 30
    yield b"\xa2\x06" + b"\xff" * 9 + b"\x01"


def _read_beside(run: _Run, edge: str) -> int:
    """Draw, in a child, from a row of 8 numbers that says it has 9: one more at this edge. Returns the signal."""
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        batch = run.guard(request(_numbers(1, 8, InputKind.LOGITS)), edge)
        batch.rows["data"] -= 4 * (edge == "begin")
        batch.rows["width"] = batch.rows["vocab_size"] = 9
        run.sampler.sample(batch)
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def main(widths: tuple[int, ...]) -> None:
    """Run all cases."""
    run = _Run()
    signals = {edge: _read_beside(run, edge) for edge in EDGES}
    calls = _Calls()
    choose = cycle(range(3))
    for width in widths:
        for dtype in Dtype:
            for kind in InputKind:
                for asked in _requests(width, dtype, kind):
                    run.draw(asked)
                numbers = encode(_numbers(3, width, kind), dtype)
                slow = request(_numbers(1, width, kind), dtype, kind=kind, num_samples=width, with_replacement=False)
                run.draw_in_slices(replace(slow, params=(params(top_p=0.95),), outputs=_all_outputs(width)))
                draft = encode(_numbers(2, width, InputKind.PROBABILITIES), dtype)
                target = request(np.zeros((3, width)), dtype, kind=kind, params=params(top_p=0.999))
                run.verify(replace(target, source=numbers), draft if next(choose) else None)
                if dtype is not Dtype.F64:
                    for own in (params(temperature=0.7), params(top_p=0.9)):
                        run.draw_by_index(
                            request(_numbers(2, width, kind), dtype, kind=kind, params=own, num_samples=9)
                        )
    for message in _messages():
        run.scan(message)
    for size in (1, 2, 17):
        run.write_varints(_RANDOM.integers(-(2**31), 2**31, size).astype(np.int32))
        run.write_varints(_RANDOM.integers(0, 200, size).astype(np.int32))
    named = {entry.py_func.__name__: calls.counted[entry.py_func.__name__] for entry in ENTRY_POINTS}
    print(json.dumps({"cases": run.cases, "calls": named, "signals": signals}))


if __name__ == "__main__":
    main(EVERY_WIDTH if "--every" in sys.argv else FEW_WIDTHS)
