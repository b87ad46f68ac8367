"""The load: what is sent, and what is read of what h2load says."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import load
from benchmarks.load import Load, LoadError, frame, parse_h2load, percentiles_s, run_load, sample_request
from benchmarks.servers import free_ports
from samplerd.v1 import sampler_pb2 as pb
from tests.support.tools import need

OUTPUT = """\
starting benchmark...
spawning thread #0: 4 total client(s). 3000 total requests
Application protocol: h2c
progress: 10% done
progress: 100% done

finished in 536.10ms, 5595.94 req/s, 491.83KB/s
requests: 3000 total, 3000 started, 3000 done, 3000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 263.67KB (269998) total, 41.07KB (42056) headers (space savings 92.41%), 29.30KB (30000) data
                     min         max         mean         sd        +/- sd
time for request:     1.91ms     21.20ms     11.36ms      1.07ms    91.23%
"""


def test_frame_is_a_flag_a_big_endian_length_and_the_message() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x00\x03abc"
    assert frame(bytes(70_000))[:5] == b"\x00\x00\x01\x11\x70"


@pytest.mark.parametrize("vocab_size", [1, 1_024])
def test_sample_request_is_one_f32_row(vocab_size: int) -> None:
    request = pb.SampleRequest.FromString(sample_request(vocab_size).SerializeToString())
    assert (request.tensor.rows, request.tensor.vocab_size) == (1, vocab_size)
    assert len(request.tensor.data) == 4 * vocab_size
    assert np.isfinite(np.frombuffer(request.tensor.data, "<f4")).all()
    assert not request.HasField("seed")
    assert request == sample_request(vocab_size)


def test_sample_request_of_bf16_holds_the_upper_halves_of_the_same_f32() -> None:
    halves = np.frombuffer(sample_request(64, rows=3, dtype="bf16").tensor.data, "<u2")
    whole = np.frombuffer(sample_request(64, rows=3).tensor.data, "<u4")
    assert sample_request(64, rows=3, dtype="bf16").tensor.rows == 3
    assert (halves == whole >> 16).all()


def test_calls_in_flight() -> None:
    assert Load().in_flight == 64
    assert Load(connections=4, streams=1).in_flight == 4


def test_parse_h2load() -> None:
    assert parse_h2load(OUTPUT) == (3000, pytest.approx(0.5361), 5595.94, 30000)


@pytest.mark.parametrize(("printed", "seconds"), [("850us", 850e-6), ("12.50s", 12.5), ("2.00m", 120.0)])
def test_parse_h2load_reads_every_unit(printed: str, seconds: float) -> None:
    assert parse_h2load(OUTPUT.replace("536.10ms", printed))[1] == pytest.approx(seconds)


def test_parse_h2load_counts_only_what_succeeded() -> None:
    assert parse_h2load(OUTPUT.replace("3000 succeeded, 0 failed", "2990 succeeded, 10 failed"))[0] == 2990


def test_parse_h2load_refuses_anything_else() -> None:
    with pytest.raises(LoadError, match="no result"):
        parse_h2load("starting benchmark...\n")


def test_percentiles_are_durations_that_were_measured() -> None:
    durations = np.random.default_rng(1).permutation(np.arange(1, 1001) / 1000)
    assert percentiles_s(durations) == {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
    assert percentiles_s(np.array([0.25])) == dict.fromkeys(["p50", "p90", "p99", "p99.9"], 0.25)


def test_a_missing_h2load_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load.shutil, "which", lambda _: None)
    with pytest.raises(LoadError, match="nghttp2-client"):
        run_load(1, tmp_path / "body", requests=1)


def test_calls_that_nobody_answers_are_an_error(tmp_path: Path) -> None:
    need("h2load")
    body = tmp_path / "body"
    body.write_bytes(frame(b""))
    (port,) = free_ports(1)
    with pytest.raises(LoadError, match=r"0 were answered|exited with"):
        run_load(port, body, requests=4)
