"""Quantities and addresses: what is read, what is refused, and that what is written is read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samplerd_server.core.units import format_bytes, format_duration, parse_address, parse_bytes, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250us", 250e-6),
        ("10ms", 0.01),
        ("9ms", 0.009),
        ("1.5s", 1.5),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("0", 0.0),
        ("3", 3.0),
        (" 10 ms ", 0.01),
        ("1e-3s", 0.001),
        (3, 3.0),
        (0.25, 0.25),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("64KiB", 65536),
        ("256MiB", 1 << 28),
        ("1GiB", 1 << 30),
        ("10MB", 10**7),
        ("1.5KiB", 1536),
        (4096, 4096),
    ],
)
def test_bytes(text, size):
    assert parse_bytes(text) == size


NOT_QUANTITIES = ["", "ms", "-1s", "1 2", "10 parsecs", "1_000", "nan", "inf", "1e400", "1e308h", "0x10", "1s2", "٣s"]


@pytest.mark.parametrize("text", [*NOT_QUANTITIES, True, float("nan"), float("inf"), -1, -0.5, [1], {}, None])
def test_what_is_no_quantity_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="expected a quantity such as 250us, 10ms"):
        parse_duration(text)
    with pytest.raises(ValueError, match="expected a quantity such as 65536, 64KiB"):
        parse_bytes("1e308GiB" if text == "1e308h" else text)


@pytest.mark.parametrize("unit", ["kb", "mib", "KB", "ms", "KIB"])
def test_units_of_bytes_are_spelt_exactly(unit):
    with pytest.raises(ValueError, match="expected a quantity"):
        parse_bytes(f"1{unit}")


@given(st.floats(0, 1e9, allow_nan=False) | st.integers(0, 10**6).map(lambda n: n / 1000))
def test_a_duration_is_read_back_as_it_was(seconds):
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, 1 << 42) | st.integers(0, 4096).map(lambda n: n << 20))
def test_a_size_is_read_back_as_it_was(size):
    assert parse_bytes(format_bytes(size)) == size


def test_quantities_are_written_for_people():
    assert [format_duration(s) for s in (0, 0.01, 0.009, 0.00025, 1.0, 3600.0)] == [
        "0s", "10ms", "9ms", "250us", "1s", "3600s",
    ]  # fmt: skip
    assert [format_bytes(n) for n in (0, 1000, 1024, 1 << 28, 1 << 30)] == ["0", "1000", "1KiB", "256MiB", "1GiB"]


@pytest.mark.parametrize(
    "address", ["127.0.0.1:0", "localhost:50051", "[::]:65535", "[::1]:1", "unix:/run/s.sock", "unix-abstract:s"]
)
def test_addresses(address):
    assert parse_address(address) == address


@pytest.mark.parametrize(
    "address", ["", "50051", ":50051", "::1:50051", "host:", "host:65536", "host:-1", "host:a", "host:²", "unix:"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match=r"expected host:port, \[v6\]:port, unix:/path or unix-abstract:name"):
        parse_address(address)
