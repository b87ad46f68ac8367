"""The table of the sampling parameters: everything that is said of a parameter is said here, once.

One row for each field of the contract's SamplingParams (`table`), and one for each filter (`filters`). Derived from
them: the checks of a request, the record of a row and its packing, which filters are on and in which order they run,
what the samplers offer, the clients' options, the flags of samplerctl, and the tables in the documentation.
docs/adding_a_parameter.md says how to add one. Numpy-free and quick to import: the generator of the clients reads it.
"""

from __future__ import annotations

from samplerd_server.sampling.parameters.filters import FILTERS, ORDERS, TEMPERATURE_IS_LAST, Filter, Need
from samplerd_server.sampling.parameters.parameter import Parameter, ParamKind, Range
from samplerd_server.sampling.parameters.table import PARAMETERS

__all__ = [
    "FILTERS",
    "ORDERS",
    "PARAMETERS",
    "TEMPERATURE_IS_LAST",
    "Filter",
    "Need",
    "ParamKind",
    "Parameter",
    "Range",
]
