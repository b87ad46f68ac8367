"""What each system does by default and where it differs from samplerd, as data, with the line of source that says so.

Rule 1: every fact was read in the release that is named, and `test_differences.py` holds those that can be run.
Rule 2: names of parameters, steps and scopes are samplerd's. Rule 3: this module imports nothing of the project.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["SYSTEMS", "Scope", "System", "Ties"]

Ties = Literal["lowest", "highest", "all", "unspecified"]
"""Which of the equal numbers at a filter's cut stay: as many as the cut says, of the lowest or of the highest ids; all
of them; or as many as it says in an order that the system does not promise. torch.sort is not stable unless it is asked
to be: it leaves the highest ids in rows of up to 16 numbers and any in longer ones."""
Scope = Literal["history", "output"]
"""What a penalty looks at: prompt and output, or the output alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One system, of one version."""

    name: str
    """As `SamplingParams.like` takes it."""
    title: str
    package: str | None
    """What is installed from PyPI; None = it is not published there, and its source was read only."""
    version: str
    steps: tuple[str, ...]
    """The steps from the penalties to the last filter, in the system's order."""
    defaults: dict[str, float]
    """What a user who sets nothing gets, where that differs from samplerd's own default."""
    is_greedy_by_default: bool = False
    """Whether a user who sets nothing gets the argmax (the other defaults then count for one who turns sampling on)."""
    ties: dict[str, Ties] = field(default_factory=dict)
    """By filter; a filter that is not named compares values with a threshold, so that equals share their fate."""
    exceeds: frozenset[str] = frozenset()
    """Filters that compare with > where samplerd compares with >=: where a mass reaches top_p or typical_p exactly they
    take one more category, and XTC does not count a category at the threshold."""
    scopes: dict[str, Scope] = field(default_factory=dict)
    """By penalty."""
    range: int = 0
    """How many of the last tokens the penalties look at by default; 0 = all."""
    dry_range: int = 0
    """The same of DRY."""
    lowest_temperature: float = 0.0
    """A temperature below this, and above `greedy_below`, is raised to it."""
    greedy_below: float = 0.0
    """A temperature below this means the argmax; 0 = only 0 does."""
    sources: dict[str, str] = field(default_factory=dict)
    """By fact: file and line."""


HUGGING_FACE = System(
    name="hugging_face",
    title="Hugging Face transformers",
    package="transformers",
    version="5.24.0",
    steps=(
        *("guidance", "logit_bias", "repetition_penalty", "no_repeat_ngram_size", "bad_words"),
        *("temperature", "top_h", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
    ),
    defaults={"top_k": 50},
    is_greedy_by_default=True,
    ties={"top_k": "all", "top_p": "unspecified", "typical_p": "all", "top_h": "unspecified"},
    scopes={"repetition_penalty": "history", "no_repeat_ngram_size": "history", "bad_words": "history"},
    sources={
        "steps": "generation/utils.py:1416, 1619",
        "defaults": "generation/configuration_utils.py:610",
        "top_k": "generation/logits_process.py:622",
        "top_p": "generation/logits_process.py:561",
        "min_p": "generation/logits_process.py:798",
        "typical_p": "generation/logits_process.py:889",
        "top_h": "generation/logits_process.py:719",
        "epsilon_cutoff": "generation/logits_process.py:956",
        "eta_cutoff": "generation/logits_process.py:1039",
        "repetition_penalty": "generation/logits_process.py:378, 403",
        "no_repeat_ngram_size": "generation/logits_process.py:1102",
        "bad_words": "generation/logits_process.py:1432",
    },
)

VLLM = System(
    name="vllm",
    title="vLLM",
    package="vllm",
    version="0.33.0",
    steps=(
        *("allowed_tokens", "bad_words", "logit_bias"),
        *("repetition_penalty", "frequency_penalty", "presence_penalty"),
        *("temperature", "min_p", "top_k", "top_p"),
    ),
    defaults={},
    ties={"top_k": "all", "top_p": "unspecified"},
    scopes={
        "repetition_penalty": "history",
        "frequency_penalty": "output",
        "presence_penalty": "output",
        "bad_words": "output",
    },
    lowest_temperature=0.01,
    sources={
        "steps": "v1/sample/sampler.py:69, 346",
        "defaults": "sampling_params.py:308",
        "top_k": "v1/sample/ops/topk_topp_sampler.py:552",
        "top_p": "v1/sample/ops/topk_topp_sampler.py:559",
        "min_p": "v1/sample/logits_processor/builtin.py:113",
        "scopes": "model_executor/layers/utils.py:43",
        "bad_words": "v1/sample/ops/bad_words.py:9",
        "lowest_temperature": "sampling_params.py:33, 560",
        "logit_bias": "sampling_params.py:496 (clamped to [-100, 100])",
        "rank": "v1/sample/ops/logprobs.py:27 (counts ties with the chosen token)",
        "processed_logprobs": "v1/sample/sampler.py:334 (of a greedy row: log_softmax at T = 1, no filter)",
    },
)

LLAMA_CPP = System(
    name="llama.cpp",
    title="llama.cpp",
    package="llama-cpp-python",
    version="0.3.36",
    steps=(
        *("logit_bias", "repetition_penalty", "frequency_penalty", "presence_penalty", "dry"),
        *("top_n_sigma", "top_k", "typical_p", "top_p", "min_p", "xtc", "temperature", "adaptive_p"),
    ),
    defaults={"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05, "xtc_threshold": 0.1},
    ties={"top_k": "unspecified", "top_p": "unspecified", "typical_p": "unspecified", "xtc": "unspecified"},
    exceeds=frozenset({"typical_p"}),
    scopes={
        "repetition_penalty": "history",
        "frequency_penalty": "history",
        "presence_penalty": "history",
        "dry": "history",
    },
    range=64,
    dry_range=64,
    sources={
        "steps": "common/common.h:263",
        "defaults": "common/common.h:230",
        "top_k": "src/llama-sampler.cpp:321",
        "top_p": "src/llama-sampler.cpp:1582",
        "min_p": "src/llama-sampler.cpp:1766",
        "typical_p": "src/llama-sampler.cpp:1951",
        "top_n_sigma": "src/llama-sampler.cpp:3270",
        "xtc": "src/llama-sampler.cpp:2355, 2364",
        "temperature": "src/llama-sampler.cpp:270",
        "dynamic_temperature": "src/llama-sampler.cpp:2136, 2147",
        "repetition_penalty": "src/llama-sampler.cpp:2970",
        "dry": "src/llama-sampler.cpp:3541",
        "mirostat": "src/llama-sampler.cpp:2580",
        "adaptive_p": "src/llama-sampler.cpp:3750",
    },
)

TEXT_GENERATION_WEBUI = System(
    name="text-generation-webui",
    title="text-generation-webui",
    package=None,
    version="commit 1dcde41d0 (3 May 2026)",
    steps=(
        *("guidance", "bad_words"),
        *("repetition_penalty", "presence_penalty", "frequency_penalty", "dry"),
        *("top_n_sigma", "temperature", "dynamic_temperature", "smoothing_factor", "top_k", "top_p", "typical_p"),
        *("epsilon_cutoff", "eta_cutoff", "top_a", "min_p", "adaptive_p", "xtc", "no_repeat_ngram_size"),
    ),
    defaults={"xtc_threshold": 0.1},
    ties={"top_k": "all", "top_p": "unspecified", "typical_p": "all", "xtc": "unspecified"},
    scopes={
        "repetition_penalty": "history",
        "frequency_penalty": "history",
        "presence_penalty": "history",
        "dry": "history",
    },
    range=1024,
    dry_range=1024,
    sources={
        "steps": "modules/presets.py:55",
        "defaults": "modules/presets.py:13",
        "top_n_sigma": "modules/sampler_hijack.py:191 (sample deviation, where -inf counts as 0)",
        "top_a": "modules/sampler_hijack.py:162",
        "smoothing_factor": "modules/sampler_hijack.py:101",
        "xtc": "modules/sampler_hijack.py:311 (does nothing if newline or end of text would be dropped)",
        "dry": "modules/sampler_hijack.py:344 (a repeat counts up to 50 tokens, and from 1 token)",
    },
)

KOBOLDCPP = System(
    name="koboldcpp",
    title="KoboldCpp",
    package=None,
    version="1.76 (commit 2da346a5f)",
    steps=(
        *("logit_bias", "dry", "repetition_penalty", "presence_penalty"),
        *("top_k", "top_a", "typical_p", "top_p", "min_p", "temperature", "xtc"),
    ),
    defaults={"temperature": 0.7, "top_k": 100, "top_p": 0.92, "xtc_threshold": 0.2},
    ties={"top_k": "unspecified", "top_p": "unspecified", "typical_p": "unspecified", "xtc": "unspecified"},
    exceeds=frozenset({"typical_p"}),
    scopes={"repetition_penalty": "history", "presence_penalty": "history", "dry": "history"},
    range=320,
    dry_range=320,
    sources={
        "steps": "koboldcpp.py:897, gpttype_adapter.cpp:1362, 1430",
        "defaults": "koboldcpp.py:876",
        "top_k": "gpttype_adapter.cpp:1365 (always the first 5,000 at most)",
        "top_p": "gpttype_adapter.cpp:1025",
        "repetition_penalty": "gpttype_adapter.cpp:950 (weaker in the older half of the range: rep_pen_slope)",
        "xtc": "gpttype_adapter.cpp:703 (lowers by 999 after the temperature)",
        "dynamic_temperature": "gpttype_adapter.cpp:1205",
    },
)

SGLANG = System(
    name="sglang",
    title="SGLang",
    package="sglang",
    version="0.5.23",
    steps=(
        *("frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias"),
        *("temperature", "joint", "min_p"),
    ),
    defaults={},
    ties={"joint": "unspecified"},
    exceeds=frozenset({"joint"}),
    scopes={"repetition_penalty": "output", "frequency_penalty": "output", "presence_penalty": "output"},
    greedy_below=1e-6,
    sources={
        "steps": "srt/sampling/sampling_batch_info.py:426, 440, srt/layers/sampler.py:775",
        "defaults": "srt/sampling/sampling_params.py:157",
        "joint": "srt/layers/sampler.py:825, 827",
        "min_p": "srt/layers/sampler.py:835",
        "scopes": "srt/sampling/penaltylib/repetition_penalty.py:21",
        "greedy_below": "srt/sampling/sampling_params.py:245",
    },
)

MLX_LM = System(
    name="mlx-lm",
    title="mlx-lm",
    package="mlx-lm",
    version="0.32.2",
    steps=(
        *("logit_bias", "repetition_penalty", "presence_penalty", "frequency_penalty"),
        *("top_p", "min_p", "xtc", "top_k", "temperature"),
    ),
    defaults={"xtc_threshold": 0.1},
    is_greedy_by_default=True,
    ties={"top_k": "unspecified", "top_p": "all", "xtc": "all"},
    exceeds=frozenset({"xtc"}),
    scopes={
        "repetition_penalty": "history",
        "frequency_penalty": "history",
        "presence_penalty": "history",
    },
    range=20,
    sources={
        "steps": "sample_utils.py:55, 115",
        "defaults": "generate.py:40, server.py:1312",
        "top_k": "sample_utils.py:155",
        "top_p": "sample_utils.py:227",
        "min_p": "sample_utils.py:195",
        "xtc": "sample_utils.py:258 (above the threshold, not at it)",
        "repetition_penalty": "sample_utils.py:299",
    },
)

SYSTEMS: dict[str, System] = {
    own.name: own for own in (HUGGING_FACE, VLLM, LLAMA_CPP, TEXT_GENERATION_WEBUI, KOBOLDCPP, SGLANG, MLX_LM)
}
"""By name."""
