"""A model for llama.cpp as a GGUF file, with random weights in the shapes of a Qwen3, made from its configuration.

Nothing is downloaded, and its texts mean nothing. It imports gguf and numpy alone, and runs where those are installed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Shape", "write_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The numbers that a configuration of a Qwen3 has. The embedding is also the output, as in its small models."""

    vocab_size: int
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_size: int
    context: int = 2048
    """Tokens that the model says it was trained on."""
    scale: float = 0.02
    """Standard deviation of the weights, the embedding's included: the larger, the more logits differ."""

    @property
    def parameters(self) -> int:
        """How many weights the model has, without the few of its norms."""
        attention = self.hidden * self.head_size * 2 * (self.heads + self.kv_heads)
        return self.vocab_size * self.hidden + self.layers * (attention + 3 * self.hidden * self.feed_forward)


def write_model(path: Path, shape: Shape, *, seed: int, end: int, is_quantized: bool = False) -> None:
    """Write the file.

    Args:
        path: where; what is there is replaced.
        shape: of the model.
        seed: of the weights. Layers have the same ones, which changes no time.
        end: id of the token that ends a text; the other tokens of the vocabulary are words without a meaning.
        is_quantized: matrices are Q8_0, 34 bytes for 32 numbers, and not F32; rows are then of multiples of 32.

    """
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    _add_vocabulary(writer, shape.vocab_size, end)
    rng = np.random.default_rng(seed)
    kind = gguf.GGMLQuantizationType.Q8_0 if is_quantized else gguf.GGMLQuantizationType.F32

    def matrix(rows: int, columns: int) -> Any:
        numbers = rng.standard_normal((rows, columns), np.float32) * np.float32(shape.scale)
        return gguf.quants.quantize(numbers, kind)

    writer.add_tensor("token_embd.weight", matrix(shape.vocab_size, shape.hidden), raw_dtype=kind)
    writer.add_tensor("output_norm.weight", np.ones(shape.hidden, np.float32))
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    matrices = {
        "attn_q": matrix(queries, shape.hidden),
        "attn_k": matrix(keys, shape.hidden),
        "attn_v": matrix(keys, shape.hidden),
        "attn_output": matrix(shape.hidden, queries),
        "ffn_gate": matrix(shape.feed_forward, shape.hidden),
        "ffn_up": matrix(shape.feed_forward, shape.hidden),
        "ffn_down": matrix(shape.hidden, shape.feed_forward),
    }
    norms = {"attn_norm": shape.hidden, "ffn_norm": shape.hidden}
    norms |= {"attn_q_norm": shape.head_size, "attn_k_norm": shape.head_size}
    for layer in range(shape.layers):
        for name, numbers in matrices.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", numbers, raw_dtype=kind)
        for name, size in norms.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(size, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: Any, vocab_size: int, end: int) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"w{token}" for token in range(vocab_size)])
    writer.add_token_scores([0.0] * vocab_size)
    kinds = [gguf.TokenType.NORMAL] * vocab_size
    kinds[end] = gguf.TokenType.CONTROL
    writer.add_token_types(kinds)
    # Those that are not named have the ids 0 to 2, whatever stands there, and 2 ends a text.
    writer.add_unk_token_id(end)
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
