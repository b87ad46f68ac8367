"""Hugging Face `generate` with its own sampling and with samplerd, one after the other: tokens and seconds of each.

    pip install transformers
    samplerd --shared-memory-prefix logits-                     # in another terminal
    python -m examples.hugging_face --shared-memory-prefix logits-

The model has the shapes of Qwen3-0.6B with a few of its layers, and random weights made from its configuration: nothing
is downloaded, and the tokens mean nothing. With a model of your own, `sampler.generate` is the only line that changes.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from samplerd_client.integrations.transformers import TransformersSampler


def model_of(vocab_size: int, layers: int) -> Any:
    """Return a model with random weights."""
    torch.manual_seed(1)
    config = Qwen3Config(vocab_size=vocab_size, hidden_size=1024, intermediate_size=3072, num_hidden_layers=layers)
    config.update(
        {
            "tie_word_embeddings": True,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "eos_token_id": None,
        }
    )
    return Qwen3ForCausalLM(config).eval()


def main() -> None:
    """Generate twice, and say how long it took."""
    parser = argparse.ArgumentParser(description="Generate with transformers, and with transformers and samplerd.")
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--shared-memory-prefix", help="as given to samplerd; without it rows travel in the requests")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vocab-size", type=int, default=151_936)
    args = parser.parse_args()

    model = model_of(args.vocab_size, args.layers)
    prompt = torch.randint(0, args.vocab_size, (args.batch, 16))
    settings = {"do_sample": True, "top_k": 50, "top_p": 0.9, "repetition_penalty": 1.1, "max_new_tokens": args.tokens}

    began = time.perf_counter()
    model.generate(prompt, **settings)
    own_s = time.perf_counter() - began
    with TransformersSampler(args.server, shared_memory_prefix=args.shared_memory_prefix) as sampler:
        began = time.perf_counter()
        texts = sampler.generate(model, prompt, seed=42, **settings)
        ours_s = time.perf_counter() - began
    print(f"{args.batch} texts of {args.tokens} tokens, V = {args.vocab_size:,}")
    print(f"generate's own sampling {own_s:.2f} s, samplerd {ours_s:.2f} s")
    print("the first text, as ids:", *texts[0, 16:].tolist())


if __name__ == "__main__":
    main()
