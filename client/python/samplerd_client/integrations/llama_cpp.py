"""Has samplerd draw the tokens of a loop over the low-level API of llama-cpp-python: `LlamaCppSampler`.

`llama_cpp_loop` has the loop, which runs the model over several sequences and asks a function for the tokens. Rule 1:
rows are copied once, from where llama.cpp keeps them into the shared memory or the request. Rule 2: the noise of a
sequence depends on its seed and the number of its token alone. Rule 3: what cannot be done is refused by its name,
before the model runs.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from samplerd_client.errors import RowsFailedError
from samplerd_client.integrations.llama_cpp_loop import decode_loop
from samplerd_client.integrations.rows import RowSampler, renumbered, row_seeds
from samplerd_client.sampling_params import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

    from samplerd_client.integrations.llama_cpp_loop import Outputs
    from samplerd_client.sync import SyncSamplerClient

__all__ = ["LlamaCppSampler"]

_READS_HISTORY = (
    *("repetition_penalty", "frequency_penalty", "presence_penalty", "dry"),
    *("no_repeat_ngram_size", "bad_words"),
)
"""Parameters for which a request has to have the tokens so far."""
_REFUSED = {
    "history": "the loop sends the tokens of each sequence itself",
    "prompt_length": "the loop sends the length of each prompt itself",
    "adaptive_target": "each step would begin anew, since the loop keeps no state of it",
    "guidance_scale": "the loop has no guidance rows",
}
"""Parameters that a user cannot give to the loop, and why."""


class LlamaCppSampler:
    """Draws the tokens of llama-cpp-python's loop with samplerd. For one thread at a time; use it in ``with``.

    ::

        with LlamaCppSampler("127.0.0.1:50051", shared_memory_prefix="logits-") as sampler:
            params = SamplingParams.like("llama.cpp", top_k=50, repetition_penalty=1.1)
            texts = sampler.generate(context, prompts, params, max_tokens=64, seed=42)

    Args:
        server: its address, as for `SyncSamplerClient`; or a client that is open, which stays open.
        shared_memory_prefix: what the server was started with as ``--shared-memory-prefix``. None sends the rows in the
            requests, for a server on another host.

    """

    def __init__(self, server: str | SyncSamplerClient, *, shared_memory_prefix: str | None = None) -> None:
        self._rows = RowSampler(server, shared_memory_prefix=shared_memory_prefix)

    def __enter__(self) -> Self:
        self._rows.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unlink the shared memory, and close the client if it was made here."""
        self._rows.close()

    def generate(
        self,
        context: Any,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams],
        *,
        max_tokens: int,
        seed: int | Sequence[int] | None = None,
    ) -> list[list[int]]:
        """Return the tokens that follow each prompt, without the prompt. Arguments and errors are those of `stream`."""
        texts: list[list[int]] = [[] for _ in prompts]
        for sequence, token in self.stream(context, prompts, params, max_tokens=max_tokens, seed=seed):
            texts[sequence].append(token)
        return texts

    def stream(
        self,
        context: Any,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams],
        *,
        max_tokens: int,
        seed: int | Sequence[int] | None = None,
    ) -> Iterator[tuple[int, int]]:
        """Yield (sequence, token) for each token as soon as it is drawn.

        Args:
            context: as of `decode_loop`, which says when a sequence ends.
            prompts: as of `decode_loop`; the penalties look at them too, as in llama.cpp.
            params: of all sequences, or of each, B of them; `SamplingParams.like("llama.cpp")` has its defaults.
            max_tokens: most tokens to draw for a sequence, at least 1.
            seed: in [0, 2^64): the same seed, prompts and parameters draw from the same rows alike. A sequence has a
                seed for each prompt; a sequence's noise is then the same in any batch. None takes a random seed.

        Raises:
            ValueError: as of `decode_loop`; a parameter is the loop's own, and the text begins with its name; or seeds
                or parameters are not as many as prompts.
            RowsFailedError: a row cannot be drawn from, because it has NaN, or because every token is forbidden. Its
                number is that of its sequence.
            RuntimeError: `llama_decode` failed.
            SamplerdError: the call to samplerd failed.

        """
        each = [params] * len(prompts) if isinstance(params, SamplingParams) else list(params)
        if len(each) != len(prompts):
            raise ValueError(f"params: there are {len(prompts)} prompts, got {len(each)} params")
        for own in each:
            _refuse(own)
        seeds = row_seeds(secrets.randbits(64) if seed is None else seed, len(prompts))
        texts = [
            _Text(prompt, max_tokens) if any(getattr(own, name) is not None for name in _READS_HISTORY) else None
            for prompt, own in zip(prompts, each, strict=True)
        ]

        is_common = isinstance(params, SamplingParams) and not any(texts)

        def draw(outputs: Outputs) -> NDArray[np.int32]:
            given = [_with_history(each[sequence], texts[sequence]) for sequence in outputs.sequences]
            own_seeds = [seeds[sequence] for sequence in outputs.sequences]
            try:
                tokens = self._rows.draw(
                    outputs.logits, params if is_common else given, seeds=own_seeds, step=outputs.step
                )
            except RowsFailedError as error:
                raise renumbered(error, outputs.sequences) from error
            for sequence, token in zip(outputs.sequences, tokens, strict=True):
                text = texts[sequence]
                if text is not None:
                    text.append(token)
            return tokens

        return decode_loop(context, prompts, draw, max_tokens=max_tokens)


class _Text:
    """The tokens of a sequence so far."""

    def __init__(self, prompt: Sequence[int], max_tokens: int) -> None:
        self.prompt_length = self._length = len(prompt)
        self._ids = np.empty(len(prompt) + max_tokens, np.int32)
        self._ids[: len(prompt)] = prompt

    @property
    def ids(self) -> NDArray[np.int32]:
        return self._ids[: self._length]

    def append(self, token: int) -> None:
        self._ids[self._length] = token
        self._length += 1


def _with_history(params: SamplingParams, text: _Text | None) -> SamplingParams:
    return params if text is None else replace(params, history=text.ids, prompt_length=text.prompt_length)


def _refuse(params: SamplingParams) -> None:
    for name, reason in _REFUSED.items():
        if getattr(params, name) is not None:
            raise ValueError(f"{name}: not with LlamaCppSampler: {reason}")
