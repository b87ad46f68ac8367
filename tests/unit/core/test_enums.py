"""The enumerations have the names and numbers of the contract."""

from __future__ import annotations

import pytest

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core import enums


@pytest.mark.parametrize("name", ["Dtype", "InputKind", "LogprobKind", "Order", "RowErrorReason"])
def test_names_and_numbers_are_those_of_the_contract(name):
    own = {member.name: int(member) for member in getattr(enums, name) if int(member)}
    contract = {value.name: value.number for value in pb.DESCRIPTOR.enum_types_by_name[name].values if value.number}
    prefix = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in name).removeprefix("_") + "_"
    assert {f"{prefix}{key}": number for key, number in own.items()} == contract


def test_every_dtype_has_a_size():
    assert all(dtype.itemsize in {2, 4, 8} for dtype in enums.Dtype)
