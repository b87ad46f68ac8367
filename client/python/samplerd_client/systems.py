"""What users of other samplers get by default, in samplerd's parameters: `SamplingParams.like`.

Each preset is of one version of the system. What parameters cannot say, and which of the system's own parameters is
which field, is told in docs/coming_from.md. `tests/peers/systems.py` has the same facts with the lines of source that
say so; a test holds this table against it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

if TYPE_CHECKING:
    from samplerd_client.sampling_params import SamplingFields

__all__ = ["PRESETS", "Preset", "System", "preset_fields"]

System: TypeAlias = Literal[
    "hugging_face", "vllm", "llama.cpp", "text-generation-webui", "koboldcpp", "sglang", "mlx-lm"
]
"""Another sampler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What a user of one system gets who sets nothing."""

    version: str
    """The version of the system that this is of."""
    fields: SamplingFields = field(default_factory=lambda: cast("SamplingFields", {}))
    """The parameters that differ from samplerd's defaults."""
    dry_range: int | None = None
    """How many of the last tokens DRY looks at, once it is on; None = all."""
    lowest_temperature: float = 0.0
    """A temperature below this, and not below `greedy_below`, is raised to it."""
    greedy_below: float = 0.0
    """A temperature below this means the argmax."""
    greedy_skips_filters: bool = False
    """At a temperature of 0 no filter acts, although some come before the temperature in the order."""


PRESETS: dict[System, Preset] = {
    "hugging_face": Preset(
        version="5.24.0",
        fields={"temperature": 0.0, "top_k": 50, "order": "hugging_face", "ties": "hugging_face"},
    ),
    "vllm": Preset(
        version="0.33.0",
        fields={
            "order": "vllm",
            "ties": "hugging_face",
            "frequency_scope": "output",
            "presence_scope": "output",
            "bad_words_scope": "output",
        },
        lowest_temperature=0.01,
    ),
    "llama.cpp": Preset(
        version="0.3.36",
        fields={
            "temperature": 0.8,
            "top_k": 40,
            "top_p": 0.95,
            "min_p": 0.05,
            "xtc_threshold": 0.1,
            "penalty_range": 64,
            "order": "llama_cpp",
            "dynamic_temperature_counts_all": True,
            "top_k_is_exact": True,
        },
        dry_range=64,
    ),
    "text-generation-webui": Preset(
        version="commit 1dcde41d0 (3 May 2026)",
        fields={
            "xtc_threshold": 0.1,
            "xtc_exemption": "row",
            "penalty_range": 1024,
            "steps": (
                *("top_n_sigma", "temperature", "top_k", "top_p", "typical_p"),
                *("epsilon_cutoff", "eta_cutoff", "top_a", "min_p", "xtc"),
            ),
            "ties": "hugging_face",
        },
        dry_range=1024,
    ),
    "koboldcpp": Preset(
        version="1.76 (commit 2da346a5f)",
        fields={
            "temperature": 0.7,
            "top_k": 100,
            "top_p": 0.92,
            "xtc_threshold": 0.2,
            "penalty_range": 320,
            "steps": ("top_k", "top_a", "typical_p", "top_p", "min_p", "temperature", "xtc"),
            "dynamic_temperature_counts_all": True,
        },
        dry_range=320,
    ),
    "sglang": Preset(
        version="0.5.23",
        fields={
            "order": "joint",
            "repetition_scope": "output",
            "frequency_scope": "output",
            "presence_scope": "output",
        },
        greedy_below=1e-6,
    ),
    "mlx-lm": Preset(
        version="0.32.2",
        fields={
            "temperature": 0.0,
            "xtc_threshold": 0.1,
            "penalty_range": 20,
            "steps": ("top_p", "min_p", "xtc", "top_k", "temperature"),
            "ties": "mlx_lm",
        },
        greedy_skips_filters=True,
    ),
}
"""By the name of the system."""


def preset_fields(system: System, given: SamplingFields) -> SamplingFields:
    """Put the fields that a user gives on top of what a system does by default.

    Steps take the place of an order, and the reverse. A temperature is raised, or taken for 0, as in the system.

    Raises:
        ValueError: there is no preset of this name.

    """
    preset = PRESETS.get(system)
    if preset is None:
        raise ValueError(f"system: must be one of {', '.join(PRESETS)}; got {system!r}")
    own: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    base = dict(preset.fields)
    if own.keys() & {"order", "steps"}:
        base = {name: value for name, value in base.items() if name not in {"order", "steps"}}
    fields = base | own
    temperature = fields.get("temperature")
    if isinstance(temperature, int | float):
        if temperature < preset.greedy_below:
            fields["temperature"] = 0.0
        elif 0 < temperature < preset.lowest_temperature:
            fields["temperature"] = preset.lowest_temperature
    if fields.get("temperature") == 0 and preset.greedy_skips_filters and not own.keys() & {"order", "steps"}:
        others = [step for step in preset.fields.get("steps") or () if step != "temperature"]
        fields["steps"] = ("temperature", *others)
    dry = own.get("dry")
    if dry is not None and dry.range is None and preset.dry_range is not None:
        fields["dry"] = replace(dry, range=preset.dry_range)
    return cast("SamplingFields", fields)
