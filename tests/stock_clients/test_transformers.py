"""Hugging Face `generate` with samplerd, in the transformers that is pinned: its law, argmax, streamers and seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from samplerd_client.integrations import transformers
from tests.stock_clients.run import run
from tests.support.documents import blocks_of
from tests.support.regions import PREFIX
from tests.support.same_law import assert_one_law

FOLDERS = (Path(__file__).parents[2] / "client" / "python", Path(__file__).parents[2] / "protos" / "gen" / "python")
AS_PROCESSORS = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "top_h",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "renormalize_logits",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "remove_invalid_values",
    "exponential_decay_length_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
    "sequence_bias",
    "guidance_scale",
    "watermarking_config",
    "min_length",
    "min_new_tokens",
    "do_sample",
]
"""Settings of which `generate` makes processors: they become parameters, or run in transformers."""
OF_THE_LOOP = [
    "max_length",
    "max_new_tokens",
    "max_time",
    "stop_strings",
    "use_cache",
    "cache_implementation",
    "cache_config",
    "max_cache_len",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "return_dict_in_generate",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "decoder_start_token_id",
    "compile_config",
    "disable_compile",
    "prefill_chunk_size",
    "continuous_batching_config",
]
"""Settings that `generate` and its loop see to, as they do without samplerd."""
OF_OTHER_MODES = [
    "early_stopping",
    "length_penalty",
    "diversity_penalty",
    "low_memory",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "assistant_confidence_threshold",
    "max_matching_ngram_size",
    "assistant_lookbehind",
    "target_lookbehind",
    "assistant_ensemble_weight",
]
"""Settings that matter only with beams or with an assistant, which are refused."""
ABOUT_ITSELF = {"transformers_version"}


@pytest.fixture(scope="module")
def answer(daemon) -> Any:
    return run("transformers", "transformers_generate.py", daemon.address, PREFIX, *map(str, FOLDERS))


@pytest.mark.stock
def test_every_setting_is_accounted_for(answer) -> None:
    known = {*AS_PROCESSORS, *OF_THE_LOOP, *OF_OTHER_MODES, *ABOUT_ITSELF, *transformers._REFUSED}
    assert {name for name in answer["fields"] if not name.startswith("_")} - known == set()


@pytest.mark.stock
def test_samplerd_and_generate_follow_one_law(answer) -> None:
    """Null: both samples are of one law. Two tokens after one prompt, n = 8,000 each; seed 20261130, alpha = 1e-6."""
    assert len(answer["laws"]) == 6
    for theirs, ours in answer["laws"].values():
        assert_one_law([pair[:1] for pair in theirs], [pair[:1] for pair in ours])
        assert_one_law(theirs, ours)


@pytest.mark.stock
def test_the_argmax_is_the_same_under_every_setting(answer) -> None:
    greedy = answer["greedy"]
    assert len(greedy) == 13
    for name, (theirs, ours) in greedy.items():
        assert ours == theirs, name
    same = [name for name, (theirs, _) in greedy.items() if theirs == greedy["nothing"][0]]
    assert same == ["nothing", "num_return_sequences"], "a setting that changes nothing proves nothing"


@pytest.mark.stock
def test_the_program_of_the_page(daemon) -> None:
    [block] = [block for block in blocks_of("docs/engines.md") if "TransformersSampler" in block.text]
    text = block.text.replace("127.0.0.1:50051", daemon.address).replace('"logits-"', repr(PREFIX))
    drawn = run("transformers", "page_block.py", text, *map(str, FOLDERS))
    for texts in drawn.values():
        assert [len(own) for own in texts] == [8, 8]
        assert [own[:3] for own in texts] == [[11, 12, 13], [21, 22, 23]]


@pytest.mark.stock
def test_seeds_decide(answer) -> None:
    first, again = answer["seeded"]
    assert first == again != answer["other seed"]
    assert answer["torch's seed"][0] == answer["torch's seed"][1]
    assert answer["row alone"][0] == answer["row alone"][1]


@pytest.mark.stock
def test_a_streamer_gets_the_prompt_and_every_token(answer) -> None:
    (prompt, *steps), ended = answer["streamed"]
    tokens = [list(row) for row in zip(*steps, strict=True)]
    assert [own + new for own, new in zip(prompt, tokens, strict=True)] == answer["seeded"][0]
    assert ended


@pytest.mark.stock
def test_what_is_not_supported_is_refused_by_name(answer) -> None:
    assert len(answer["refused"]) == 3
    assert all(text.startswith(f"{name}: ") for name, text in answer["refused"].items())
