"""The table of parameters against the contract, and the orders against the filters."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest
from google.protobuf.descriptor import FieldDescriptor

from samplerd.v1 import sampler_pb2 as pb
from samplerd_server.core.enums import FilterStep, Order, Step
from samplerd_server.core.params import Dry, SamplingParams
from samplerd_server.sampling.parameters import FILTERS, ORDERS, PARAMETERS, Parameter, ParamKind

TYPES = {
    FieldDescriptor.CPPTYPE_DOUBLE: ParamKind.FLOAT,
    FieldDescriptor.CPPTYPE_UINT32: ParamKind.INTEGER,
    FieldDescriptor.CPPTYPE_INT32: ParamKind.IDS,
    FieldDescriptor.CPPTYPE_STRING: ParamKind.BITMASK,
    FieldDescriptor.CPPTYPE_ENUM: ParamKind.CHOICE,
    FieldDescriptor.CPPTYPE_BOOL: ParamKind.FLAG,
}
MESSAGES = {
    "DryParams": ParamKind.GROUP,
    "LogitBias": ParamKind.LOGIT_BIAS,
    "TokenSequence": ParamKind.SEQUENCES,
}
BY_NAME = {parameter.name: parameter for parameter in PARAMETERS}
DRY = BY_NAME["dry"].fields


def kind(field: FieldDescriptor) -> ParamKind:
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return MESSAGES[field.message_type.name]
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM and field.is_repeated:
        return ParamKind.CHOICES
    return TYPES[field.cpp_type]


@pytest.mark.parametrize(("table", "message"), [(PARAMETERS, pb.SamplingParams), (DRY, pb.DryParams)])
def test_the_table_is_the_contract(table: tuple[Parameter, ...], message: type) -> None:
    assert [(row.name, row.kind) for row in table] == [(f.name, kind(f)) for f in message.DESCRIPTOR.fields]
    assert {f.name for f in message.DESCRIPTOR.fields if f.is_repeated} == {
        row.name
        for row in table
        if row.kind in {ParamKind.CHOICES, ParamKind.IDS, ParamKind.LOGIT_BIAS, ParamKind.SEQUENCES}
    }


@pytest.mark.parametrize(("table", "entity"), [(PARAMETERS, SamplingParams), (DRY, Dry)])
def test_the_entity_has_the_fields_and_the_defaults_of_the_table(table: tuple[Parameter, ...], entity: type) -> None:
    names = [name for row in table for name in row.attributes]
    assert [field.name for field in fields(entity) if field.name != "is_plain"] == names
    default = entity()
    for row in table:
        if row.default is not None:
            assert getattr(default, row.name) == row.default, row.name
            assert type(getattr(default, row.name)) is type(row.default), row.name
        if row.kind is ParamKind.CHOICE:
            assert getattr(default, row.name) is next(iter(row.choices)), row.name


@pytest.mark.parametrize("row", [*PARAMETERS, *DRY], ids=lambda row: row.name)
def test_a_row_agrees_with_itself(row: Parameter) -> None:
    is_number = row.kind in {ParamKind.FLOAT, ParamKind.INTEGER}
    assert is_number == (row.default is not None)
    if row.default is not None:
        assert row.default in row.range
        assert row.off is None or row.off in row.range
    assert row.help.endswith(".")
    assert row.help[0].isupper()
    assert "\n" not in row.help
    assert bool(row.metavar) == (row.kind is not ParamKind.FLAG)
    assert (row.choices is not None) == (row.kind in {ParamKind.CHOICE, ParamKind.CHOICES})
    assert bool(row.fields) == (row.kind is ParamKind.GROUP)
    if Step.INPUT < row.step <= Step.PENALTIES:
        assert row.changes_argmax
    assert not row.excludes or row.excludes in BY_NAME


@pytest.mark.parametrize("row", [row for row in PARAMETERS if row.choices], ids=lambda row: row.name)
def test_choices_are_those_of_the_contract(row: Parameter) -> None:
    own = pb.SamplingParams.DESCRIPTOR.fields_by_name[row.name].enum_type
    assert own.name == row.choices.__name__
    prefix = own.values_by_number[0].name.removesuffix("UNSPECIFIED")
    assert {value.name: value.number for value in own.values if value.number} == {
        prefix + choice.name: int(choice) for choice in row.choices
    }


def test_zero_that_a_message_cannot_tell_from_absence_is_in_range_or_means_the_default():
    # Where it is in range, absence must mean 0 too: the contract says "0 = off" or "0 means ...".
    for row, field in zip(PARAMETERS, pb.SamplingParams.DESCRIPTOR.fields, strict=True):
        if row.kind is ParamKind.FLOAT and not field.has_presence and 0.0 in row.range:
            assert row.default == 0.0, row.name


def test_every_order_runs_every_filter_once():
    names = {own.name for own in FILTERS}
    assert set(ORDERS) == set(Order)
    for order, steps in ORDERS.items():
        assert len(set(steps)) == len(steps)
        replaced = {"top_k", "top_p"} if order == Order.JOINT else {"joint"}
        assert set(steps) == (names | {"temperature"}) - replaced, order


def test_every_filter_is_a_step_of_a_free_order():
    names = {own.name for own in FILTERS} - {"joint"}
    assert {step.name.lower() for step in FilterStep} == names | {"temperature"}


def test_every_filter_is_off_by_default_and_turned_on_by_its_parameters():
    default = SamplingParams()
    assert not any(own.is_on(default) for own in FILTERS)
    filtering = {row.name for row in PARAMETERS if row.step is Step.FILTERS and row.off is not None}
    leading = {own.name for own in FILTERS} - {"xtc", "joint"}
    assert filtering == leading | {"xtc_probability", "min_tokens_to_keep"}
    for name in leading:
        on = SamplingParams(**{name: 1 if BY_NAME[name].off == 0 else 0.5})
        assert {own.name for own in FILTERS if own.is_on(on)} - {"joint"} == {name}


def test_the_table_is_quick_to_import():
    code = (
        "import sys, samplerd_server.sampling.parameters; "
        "print({'numpy', 'torch', 'numba', 'grpc', 'google.protobuf'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
