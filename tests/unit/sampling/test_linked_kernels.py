"""Linked kernels: the bits of those that numba compiles, and a file that is used only where it is what was saved."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.batching.pack import pack
from samplerd_server.core.enums import Dtype, InputKind
from samplerd_server.core.request import SampleRequest
from samplerd_server.sampling.kernels import linked, linked_file
from samplerd_server.sampling.kernels.compile import ENTRY_POINTS
from samplerd_server.sampling.resumed import ResumedDraw
from samplerd_server.transport.codec.scan import scan
from samplerd_server.transport.codec.varints import varints
from tests.support.cdf_index import by_name, draw_indexed, store_rows
from tests.support.drafts import ask_sampler, chain
from tests.support.linked import linked_kernels, linked_path, with_linked_kernels
from tests.support.samplers import EVERYTHING, draw, encode, make_sampler, params, request, sequence_lists, sparse

ROWS = (np.random.default_rng(3).normal(size=(3, 1500)) * 3).round(3)
VERIFICATION = "samplerd_server.sampling.kernels.verify.verify_rows"
HISTORY = np.tile(np.arange(40, dtype=np.int32), 8)
VARIED: tuple[dict[str, Any], ...] = (
    {"temperature": 0.7},
    {"temperature": 0.0},
    {"temperature": 1.3, "top_k": 40, "top_p": 0.9, "min_p": 0.01},
    {"typical_p": 0.8, "top_n_sigma": 2.0, "epsilon_cutoff": 1e-4, "eta_cutoff": 1e-4, "top_a": 0.1},
    {"top_p": 0.95, "frequency_penalty": 0.4, "presence_penalty": 0.3, "repetition_penalty": 1.2, "history": HISTORY},
    {"xtc_threshold": 0.02, "xtc_probability": 0.5, "smoothing_factor": 0.3},
    {"no_repeat_ngram_size": 3, "history": HISTORY, "bias_ids": np.array([5, 9], np.int32),
     "bias_values": np.array([2.0, -3.0], np.float32)},
    {"history": HISTORY, **sequence_lists("bad_words", [[3, 4], [7], [39, 0, 1]])},
    {"dynamic_temperature_range": 0.5, "top_h": 0.8},
)  # fmt: skip


def requests() -> list[SampleRequest]:
    """Rows of each dtype with each of the parameters, and everything that can be asked for."""
    own = [
        request(ROWS, dtype, params=params(**fields), seed=11, num_samples=4, outputs=EVERYTHING)
        for dtype in Dtype
        for fields in VARIED
    ]
    own += [request(ROWS, dtype, seed=5, num_samples=7) for dtype in Dtype]
    own += [request(np.exp(ROWS), kind=InputKind.PROBABILITIES, seed=5, num_samples=3, outputs=EVERYTHING)]
    own += [request(ROWS, seed=2, num_samples=100, with_replacement=False, outputs=EVERYTHING)]
    own += [request(np.full((2, 9), -np.inf), seed=1), request([[1.0, np.nan]], seed=1)]
    own += [sparse([4, 9, 2], [3.0, 2.0, 1.0], 0.5, 100, seed=3, outputs=EVERYTHING)]
    return own


def bits(answer: Any) -> Any:
    """All of an answer, so that two are equal only to the bit."""
    if isinstance(answer, np.ndarray):
        return answer.dtype.str, answer.tobytes()
    if is_dataclass(answer):
        return [bits(getattr(answer, own.name)) for own in fields(answer)]
    if isinstance(answer, dict):
        return {name: bits(own) for name, own in answer.items()}
    return repr(answer)


def drawn_slice_by_slice() -> Any:
    own = ResumedDraw(pack([request(ROWS[:1], seed=3, num_samples=300, with_replacement=False, outputs=EVERYTHING)]))
    while (results := make_sampler("numba").resume(own)) is None:
        own.draws = 64
    return results


def indexed(**fields: Any) -> Any:
    asked = request(ROWS, seed=9, num_samples=400, params=params(**fields))
    return draw_indexed(by_name(asked, store_rows(asked)))


def verified() -> Any:
    target, draft = request(ROWS, seed=8, params=params(top_p=0.9)), encode(np.exp(ROWS[:2]))
    ids = ROWS[:2].argmax(axis=1).tolist()
    return [ask_sampler(make_sampler("numba"), target, ids, chain(2), own) for own in (None, draft)]


def answers() -> list[Any]:
    """What every kernel does."""
    sampler = make_sampler("numba")
    made: list[Any] = [draw(sampler, own) for own in requests()]
    made += [sampler.sample(replace(pack([request(ROWS, seed=4)]), work=1))]  # known to be small
    made += [draw(sampler, *requests()[:12]), drawn_slice_by_slice(), indexed(), indexed(top_k=30), verified()]
    message = pb.SampleRequest(id=7, seed=3, num_samples=2, params=pb.SamplingParams(temperature=0.5))
    made += [scan(message.SerializeToString()), scan(b"\x08"), varints(np.array([0, 5, 300, -1, 2**31 - 1], np.int32))]
    return [bits(own) for own in made]


def test_they_have_the_bits_of_the_kernels_that_numba_compiles() -> None:
    linked_kernels()
    compiled = answers()
    with with_linked_kernels() as called:
        assert answers() == compiled
    assert called | {"samplerd_server.sampling.kernels.partition.share_out"} == {
        f"{own.py_func.__module__}.{own.py_func.__qualname__}"
        for own in ENTRY_POINTS
        if own.py_func.__module__.startswith("samplerd_server.")
    }


def test_rows_are_shared_out_alike() -> None:
    rows = pack(requests()[:3]).rows
    compiled = make_sampler("numba")
    bounds = [np.zeros(4, np.int64), np.zeros(4, np.int64)]
    from samplerd_server.sampling.kernels.partition import share_out  # noqa: PLC0415

    price = share_out(rows, bounds[0])
    assert linked_kernels()["samplerd_server.sampling.kernels.partition.share_out"](rows, bounds[1]) == price
    assert bounds[0].tolist() == bounds[1].tolist()
    assert compiled.name == "numba"


ROW = pack([request([[1.0, 2.0]], seed=1)]).rows
INT32, INT64 = np.zeros(1, np.int32), np.zeros(1, np.int64)
GOOD = (ROW, 0, 0, INT32, INT32, INT64, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        GOOD[:-1],
        (*GOOD, 0),
        (INT32, *GOOD[1:]),
        (None, *GOOD[1:]),
        (*GOOD[:3], np.zeros(1, np.float32), *GOOD[4:]),
        (*GOOD[:3], np.zeros(4, np.int32)[::2], *GOOD[4:]),
        (*GOOD[:3], np.zeros((1, 1), np.int32), *GOOD[4:]),
        (*GOOD[:3], np.frombuffer(bytes(5), np.int32, 1, 1), *GOOD[4:]),
        (*GOOD[:3], [0], *GOOD[4:]),
        (ROW, "0", *GOOD[2:]),
        (ROW, 0.5, *GOOD[2:]),
    ],
    ids=["few", "many", "dtype", "none", "float", "gaps", "two axes", "unaligned", "list", "text", "fraction"],
)
def test_what_a_kernel_does_not_take_is_refused(arguments: tuple[Any, ...]) -> None:
    kernel = linked_kernels()["samplerd_server.sampling.kernels.kernel.draw_few"]
    with pytest.raises(TypeError):
        kernel(*arguments)


def test_a_number_too_large_is_refused() -> None:
    kernel = linked_kernels()["samplerd_server.sampling.kernels.kernel.draw_few"]
    with pytest.raises(OverflowError):
        kernel(ROW, 2**70, *GOOD[2:])


def test_a_dtype_that_is_equal_is_the_same() -> None:
    kernel = linked_kernels()["samplerd_server.sampling.kernels.kernel.draw_few"]
    twin = np.zeros(1, np.dtype(np.int32, copy=True))
    for _ in range(2):
        assert kernel(*GOOD[:3], twin, INT32, INT64, make_sampler("numba")._workspaces[0].space) == 0  # type: ignore[attr-defined]


def rewrite(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Change the description in a file, and make its checksum right again."""
    end = linked_file._END
    length, _, magic = end.unpack(content[-end.size :])
    body = content[: -end.size]
    about = json.loads(body[-length:])
    change(about)
    text = json.dumps(about).encode()
    body = body[:-length] + text
    return body + end.pack(len(text), hashlib.sha256(body).digest(), magic)


def another_processor(about: dict[str, Any]) -> None:
    about["processor"][1] ^= 1


def without_verification(about: dict[str, Any]) -> None:
    about["kernels"] = [own for own in about["kernels"] if own["name"] != VERIFICATION]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda content: content[: len(content) // 2], "not what was saved"),
        (lambda content: b"", "not what was saved"),
        (lambda content: content[:9000] + bytes([content[9000] ^ 1]) + content[9001:], "not what was saved"),
        (lambda content: content[:-1] + b"x", "not what was saved"),
        (lambda content: rewrite(content, lambda about: about.update(key="0" * 64)), "not what was saved"),
        (lambda content: rewrite(content, another_processor), "of another processor"),
        (lambda content: rewrite(content, lambda about: about["kernels"][0].update(entry="absent")), "absent"),
        (lambda content: rewrite(content, without_verification), f"it lacks {VERIFICATION}"),
    ],
    ids=["truncated", "empty", "a bit", "magic", "other sources", "other processor", "no such kernel", "one too few"],
)
def test_a_file_that_is_not_what_was_saved_here_is_not_used(
    damage: Callable[[bytes], bytes], told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path = tmp_path / linked_path().name
    path.write_bytes(damage(linked_path().read_bytes()))
    assert linked._load(path) is None
    assert told in caplog.text


def test_what_is_no_shared_object_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / linked_path().name
    kernels = [{"name": name} for name in linked_file.kernel_names()]
    linked_file.write(path, b"not of ELF", {"kernels": kernels, "processor": []})
    assert linked._load(path) is None
    assert "linked kernels are not used" in caplog.text
    assert "it lacks" not in caplog.text


def test_the_sources_name_every_kernel() -> None:
    linked_kernels()
    assert linked_file.kernel_names() == {
        f"{own.py_func.__module__}.{own.py_func.__qualname__}"
        for own in ENTRY_POINTS
        if own.py_func.__module__.startswith("samplerd_server.")
    }


START = """
import logging, sys
from pathlib import Path
logging.basicConfig(level="WARNING", format="%(message)s")
from samplerd_server.sampling.kernels import linked, linked_file
path = Path(sys.argv[1])
linked.paths = lambda: iter([path])
from samplerd_server.config import EngineConfig
from samplerd_server.engine.engine import Engine
engine = Engine(EngineConfig(device="cpu", threads=1))
print("used" if linked.is_used() else "not used")
from samplerd_server.transport.codec.compiled import compiled_scan, compiled_varints
engine.warm_up()
compiled_scan(), compiled_varints()
engine.link_kernels()
print("whole" if linked_file.read(path) is not None else "damaged")
"""


def test_a_start_that_finds_a_kernel_missing_compiles_and_links_again(tmp_path: Path) -> None:
    path = tmp_path / linked_path().name
    path.write_bytes(rewrite(linked_path().read_bytes(), without_verification))
    command = [sys.executable, "-c", START, str(path)]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2))
    assert first.stdout.split("\n") == ["not used", "whole", ""]
    assert f"linked kernels are not used: {path}: it lacks {VERIFICATION}" in first.stderr
    assert (second.stdout.split("\n"), second.stderr) == (["used", "whole", ""], "")


def test_a_process_that_has_not_imported_every_kernel_links_nothing(tmp_path: Path) -> None:
    path = tmp_path / linked_path().name
    own = """
import sys
from pathlib import Path
from samplerd_server.sampling.kernels import linked
linked.paths = lambda: iter([Path(sys.argv[1])])  # with nothing there yet
from samplerd_server.sampling.kernels.linking import save_linked
from samplerd_server.transport.codec.varints import varints
import numpy as np
varints(np.zeros(1, np.int32))
print(save_linked())
"""
    done = subprocess.run([sys.executable, "-c", own, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert not path.exists()


def test_an_absent_file_is_not_worth_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert linked._load(tmp_path / "absent.so") is None
    assert linked._load(linked_path() / "below a file") is None
    assert not caplog.records


def test_a_file_that_was_saved_can_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / linked_path().name
    path.write_bytes(rewrite(linked_path().read_bytes(), lambda _: None))
    assert linked._load(path) is not None


def test_old_versions_are_forgotten(tmp_path: Path) -> None:
    suffix = ".".join(linked_path().name.split(".")[1:])
    for version in range(6):
        linked_file.write(tmp_path / f"linked-{version}.{suffix}", b"", {})
    assert len(list(tmp_path.iterdir())) == 4
    assert (tmp_path / f"linked-5.{suffix}").exists()


def test_nothing_is_linked_where_numba_is_told_how_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_OPT", "1")
    assert linked_file._key.__wrapped__() is None
    monkeypatch.delenv("NUMBA_OPT")
    assert linked_file._key.__wrapped__() is not None


def test_the_folders_are_those_of_numba(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    folders = [path.parent for path in linked_file.paths()]
    beside = Path(linked.__file__).parent / "__pycache__"
    assert folders == [tmp_path / "own" / "linked_kernels", beside, tmp_path / "home" / "numba" / "linked_kernels"]


def test_a_user_without_a_home_has_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "~")
    assert [path.parent for path in linked_file.paths()] == [Path(linked.__file__).parent / "__pycache__"]


def test_the_file_depends_on_every_source_that_kernels_are_made_of() -> None:
    """A module that defines a kernel or a part of one, and is not among the sources, would change nothing."""
    linked_path()
    sources = {path for pattern in linked_file._SOURCES for path in linked_file._ROOT.glob(pattern)}
    names = [name for name in sys.modules if name.startswith("samplerd_server.")]
    defining = {
        Path(str(sys.modules[name].__file__))
        for name in names
        if any(
            isinstance(own, Dispatcher) and own.py_func.__module__ == name for own in vars(sys.modules[name]).values()
        )
    }
    assert len(defining) > 20
    assert defining <= sources
