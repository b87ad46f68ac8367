"""The forward pass of a small real character model (textgenrnn), in numpy.

Two LSTM layers on an embedding, attention over time, one dense layer. The model looks at the last 40 characters, padded
on the left, and says how likely each of 465 characters is to come next. All texts advance one character by one call.

Letters: B texts, L = 40 characters of a window, U = 128 units, V = 465 characters.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["PAD", "WINDOW", "CharModel", "LstmLayer"]

WINDOW = 40
"""L: how many of a text's last characters the model looks at."""
PAD = 0
"""The id that fills a window on the left."""
_WEIGHTS = Path(__file__).with_name("charlm.npz")


@dataclass(frozen=True, slots=True, kw_only=True)
class LstmLayer:
    """One LSTM layer: sigmoid gates in the order input, forget, cell, output; tanh cell."""

    kernel: NDArray[np.float32]
    """float32[D, 4U], from the layer's input."""
    recurrent: NDArray[np.float32]
    """float32[U, 4U], from its last output."""
    bias: NDArray[np.float32]
    """float32[4U]."""

    def run(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run float32[L, B, D] to float32[L, B, U]: the output at every position, from a state of zeros."""
        length, texts, _ = inputs.shape
        units = self.recurrent.shape[0]
        # The inputs' share of all gates in one product; only the recurrent share must go step by step.
        gates_in = inputs.reshape(length * texts, -1) @ self.kernel + self.bias
        gates_in = gates_in.reshape(length, texts, 4 * units)
        outputs = np.empty((length, texts, units), np.float32)
        hidden = np.zeros((texts, units), np.float32)
        cell = np.zeros((texts, units), np.float32)
        for step in range(length):
            gates = gates_in[step] + hidden @ self.recurrent
            take, keep, new, show = np.split(gates, 4, axis=1)
            cell = _sigmoid(keep) * cell + _sigmoid(take) * np.tanh(new)
            hidden = _sigmoid(show) * np.tanh(cell)
            outputs[step] = hidden
        return outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class CharModel:
    """The model's weights, and its alphabet."""

    embedding: NDArray[np.float32]
    """float32[V, 100]."""
    layers: tuple[LstmLayer, LstmLayer]
    attention: NDArray[np.float32]
    """float32[F, 1], F = 100 + 2U features of a position."""
    output_kernel: NDArray[np.float32]
    """float32[F, V]."""
    output_bias: NDArray[np.float32]
    """float32[V]."""
    chars: tuple[str, ...]
    """The character of every id; the last one, `<s>`, starts and ends a text."""

    @classmethod
    def load(cls, path: Path = _WEIGHTS) -> CharModel:
        """Read the weights from an `.npz` file."""
        with np.load(path, allow_pickle=False) as arrays:
            layers = tuple(
                LstmLayer(
                    kernel=arrays[f"{name}_kernel"].astype(np.float32),
                    recurrent=arrays[f"{name}_recurrent"].astype(np.float32),
                    bias=arrays[f"{name}_bias"].astype(np.float32),
                )
                for name in ("rnn_1", "rnn_2")
            )
            return cls(
                embedding=arrays["embedding"].astype(np.float32),
                layers=(layers[0], layers[1]),
                attention=arrays["attention"].astype(np.float32),
                output_kernel=arrays["output_kernel"].astype(np.float32),
                output_bias=arrays["output_bias"].astype(np.float32),
                chars=tuple(str(char) for char in arrays["chars"]),
            )

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self.chars)

    @property
    def boundary(self) -> int:
        """The id of `<s>`, which starts and ends a text."""
        return self.vocab_size - 1

    def encode(self, text: str) -> list[int]:
        """Turn a text into ids, `<s>` before them.

        Raises ValueError if the model does not know one of them.
        """
        ids = {char: index for index, char in enumerate(self.chars)}
        unknown = sorted({char for char in text if char not in ids})
        if unknown:
            msg = f"the model does not know {', '.join(map(repr, unknown))}"
            raise ValueError(msg)
        return [self.boundary, *(ids[char] for char in text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into a text; `<s>` and padding are silent."""
        return "".join(self.chars[index] for index in ids if index not in {PAD, self.boundary})

    def windows(self, texts: Sequence[Sequence[int]]) -> NDArray[np.int32]:
        """Cut B texts to int32[B, L]: the last characters of each, padded on the left."""
        windows = np.full((len(texts), WINDOW), PAD, np.int32)
        for row, ids in enumerate(texts):
            tail = ids[-WINDOW:]
            windows[row, WINDOW - len(tail) :] = tail
        return windows

    def logits(self, windows: NDArray[np.int32]) -> NDArray[np.float32]:
        """Run int32[B, L] to float32[B, V]: the logits of each text's next character. Padding is never next: -inf."""
        embedded = self.embedding[windows.T]  # time first, so that a step of all texts is one contiguous block
        first = self.layers[0].run(embedded)
        second = self.layers[1].run(first)
        features = np.concatenate([embedded, first, second], axis=2)  # float32[L, B, F]
        scores = (features @ self.attention)[:, :, 0]
        weights = np.exp(scores - scores.max(axis=0))
        weights /= weights.sum(axis=0)
        context = np.einsum("lb,lbf->bf", weights, features)
        logits: NDArray[np.float32] = context @ self.output_kernel + self.output_bias
        logits[:, PAD] = -np.inf
        return logits


def _sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)), by tanh so that nothing overflows."""
    half = np.float32(0.5)
    result: NDArray[np.float32] = half * np.tanh(half * x) + half
    return result
