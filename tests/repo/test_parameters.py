"""What the server's table of sampling parameters says is what the contract, the clients and the protocols have."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest
from google.protobuf.descriptor import FieldDescriptor

from samplerd.v1 import sampler_pb2 as pb
from samplerd_client import parameter_kinds, parameter_table, sampling_params
from samplerd_server.sampling.parameters import PARAMETERS, ParamKind
from samplerd_server.transport.oip.model import metadata

# The types that each kind may have in the contract.
TYPES = {
    ParamKind.FLOAT: FieldDescriptor.TYPE_DOUBLE,
    ParamKind.INTEGER: FieldDescriptor.TYPE_UINT32,
    ParamKind.FLAG: FieldDescriptor.TYPE_BOOL,
    ParamKind.CHOICE: FieldDescriptor.TYPE_ENUM,
    ParamKind.CHOICES: FieldDescriptor.TYPE_ENUM,
    ParamKind.IDS: FieldDescriptor.TYPE_INT32,
    ParamKind.SEQUENCES: FieldDescriptor.TYPE_MESSAGE,
    ParamKind.LOGIT_BIAS: FieldDescriptor.TYPE_MESSAGE,
    ParamKind.BITMASK: FieldDescriptor.TYPE_BYTES,
    ParamKind.GROUP: FieldDescriptor.TYPE_MESSAGE,
}


@pytest.mark.parametrize(
    ("rows", "message"),
    [(PARAMETERS, pb.SamplingParams), (next(row.fields for row in PARAMETERS if row.name == "dry"), pb.DryParams)],
    ids=["SamplingParams", "DryParams"],
)
def test_the_table_and_the_contract_have_the_same_fields(rows, message):
    assert [(row.name, TYPES[row.kind]) for row in rows] == [
        (field.name, field.type) for field in message.DESCRIPTOR.fields
    ]
    for row in rows:
        field = message.DESCRIPTOR.fields_by_name[row.name]
        assert field.is_repeated == (
            row.kind in {ParamKind.CHOICES, ParamKind.IDS, ParamKind.LOGIT_BIAS, ParamKind.SEQUENCES}
        )
        # Absence must be told from 0 where 0 is a value of its own.
        if row.kind is ParamKind.FLOAT and row.default != 0 and 0 in row.range:
            assert field.has_presence, f"{row.name} = 0 would mean {row.default}"


def test_every_parameter_is_in_the_client():
    names = [row.name for row in PARAMETERS]
    assert list(sampling_params.SamplingFields.__annotations__) == names
    assert [field.name for field in fields(sampling_params.SamplingParams)] == names
    assert [row.name for row in parameter_table.PARAMETERS] == names
    for row in PARAMETERS:
        if row.choices is not None:
            names_of_choices = get_args(getattr(parameter_kinds, row.choices.__name__))
            assert names_of_choices == tuple(own.name.lower() for own in row.choices)
    for group in (row for row in PARAMETERS if row.fields):
        own = [field.name for field in fields(sampling_params.GROUPS[group.name])]
        assert own == [row.name for row in group.fields]


def test_every_number_is_an_input_of_the_open_inference_protocol():
    inputs = {tensor.name for tensor in metadata().inputs}
    assert {row.name for row in PARAMETERS if row.kind in {ParamKind.FLOAT, ParamKind.INTEGER}} <= inputs
