"""The table of the sampling parameters: everything that is said of a parameter is said here, once.

One row for each field of the contract's SamplingParams (`table`), and one for each filter (`filters`). Derived from
them: the checks of a request, the record of a row and its packing (`record`), which filters are on and in which order
they run, what the samplers offer, the clients' options, the flags of samplerctl, and tables of the documentation.
docs/adding_a_parameter.md says how to add one. Quick to import, and without numpy: generators read it too.
"""

from __future__ import annotations

from samplerd_server.sampling.parameters.filters import (
    FILTERS,
    ORDERS,
    Filter,
    Need,
    early_filters,
    has_random_filter,
    has_token_penalties,
    steps_of,
)
from samplerd_server.sampling.parameters.parameter import Parameter, ParamKind, Range
from samplerd_server.sampling.parameters.table import PARAMETERS, PLAIN
from samplerd_server.sampling.parameters.ties import rule_of

__all__ = [
    "FILTERS",
    "ORDERS",
    "PARAMETERS",
    "PLAIN",
    "Filter",
    "Need",
    "ParamKind",
    "Parameter",
    "Range",
    "early_filters",
    "has_random_filter",
    "has_token_penalties",
    "rule_of",
    "steps_of",
]
