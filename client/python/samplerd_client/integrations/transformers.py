"""Hugging Face `generate` with samplerd in place of its own sampling: `TransformersSampler(...).generate(model, ...)`.

It is `generate` itself, with its loop, cache, stopping criteria and streamers. One processor takes the place of all
that `generate` makes, and has samplerd draw the token; `pipeline` says how the others become parameters. Rule 1: the
law of the tokens is that of `generate`. Rule 2: what cannot be done is refused by its name, before the model runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch

from samplerd_client.integrations.pipeline import pipeline_of
from samplerd_client.integrations.rows import RowSampler, row_seeds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from samplerd_client.integrations.pipeline import Pipeline
    from samplerd_client.sync import SyncSamplerClient

__all__ = ["TransformersSampler"]

_REFUSED: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "constraints": (),
    "force_words_ids": (),
    "penalty_alpha": (0.0,),
    "dola_layers": (),
    "prompt_lookup_num_tokens": (0,),
    "assistant_early_exit": (0,),
    "use_mtp": (False,),
    "is_assistant": (False,),
    "speculation_type": (),
    "output_scores": (False,),
    "token_healing": (False,),
}
"""Settings that ask for another way of decoding, or for what only `generate` itself has; and the values that turn them
off, beside None."""
_MODES = {"sample", "greedy_search"}


class TransformersSampler:
    """Draws the tokens of `generate` with samplerd. For one thread at a time; use it in ``with``, or close it.

    ::

        with TransformersSampler("127.0.0.1:50051", shared_memory_prefix="logits-") as sampler:
            texts = sampler.generate(model, **inputs, do_sample=True, top_p=0.9, max_new_tokens=64)

    Args:
        server: its address, as for `SyncSamplerClient`; or a client that is open, which stays open.
        shared_memory_prefix: what the server was started with as ``--shared-memory-prefix``. None sends the rows in the
            requests, for a server on another host.
        cuda_shared_memory: the model is on the CUDA device that the server draws on, with ``--cuda-shared-memory``: the
            rows stay there. False copies them to the host.

    """

    def __init__(
        self,
        server: str | SyncSamplerClient,
        *,
        shared_memory_prefix: str | None = None,
        cuda_shared_memory: bool = False,
    ) -> None:
        self._rows = RowSampler(
            server, shared_memory_prefix=shared_memory_prefix, cuda_shared_memory=cuda_shared_memory
        )

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
        model: Any,
        inputs: torch.Tensor | None = None,
        *,
        seed: int | Sequence[int] | None = None,
        **arguments: Any,
    ) -> Any:
        """Return what ``model.generate(inputs, **arguments)`` returns, with tokens that samplerd draws.

        Args:
            model: a model with `generate`, decoder or encoder-decoder.
            inputs: as of `generate`, usually token ids [B, L], padded on the left.
            seed: in [0, 2^64): the same seed and inputs give the same tokens. A sequence has a seed for each row that
                is generated, B x num_return_sequences of them; a row's noise is then the same in any batch. None takes
                a seed from torch's default generator, so that `torch.manual_seed` decides, as it does in `generate`.
            arguments: as of `generate`: a generation config or its settings, streamer, stopping criteria, processors.

        Raises:
            ValueError: a setting or an argument is not supported, and the text begins with its name; or seeds are not
                as many as rows.
            RowsFailedError: a row cannot be drawn from, because it has NaN, or because every token is forbidden.
            SamplerdError: the call to samplerd failed.

        """
        for name in ("assistant_model", "assistant_tokenizer", "custom_generate"):
            if arguments.get(name) is not None:
                raise ValueError(f"{name}: not with samplerd, which draws one token for each row of a step")
        streamer = arguments.pop("streamer", None)
        _make_stop_strings(arguments)

        def loop(
            own_model: Any,
            input_ids: torch.Tensor,
            logits_processor: Any,
            stopping_criteria: Any,
            generation_config: Any,
            **others: Any,
        ) -> Any:
            _refuse(generation_config)
            others.pop("streamer", None)  # of this method alone, in whichever version
            processor = _DrawingProcessor(
                self._rows,
                pipeline_of(logits_processor, do_sample=bool(generation_config.do_sample)),
                type(logits_processor),
                _seeds(seed, input_ids.shape[0]),
            )
            if streamer is not None:
                streamer.put(input_ids.cpu())
            # The processor leaves one token to each row, which the loop for greedy decoding takes.
            do_sample, generation_config.do_sample = generation_config.do_sample, False
            try:
                return type(own_model)._sample(  # noqa: SLF001  # the loop that custom_generate stands for
                    own_model,
                    input_ids,
                    logits_processor=processor,
                    stopping_criteria=stopping_criteria,
                    generation_config=generation_config,
                    streamer=streamer,
                    **others,
                )
            finally:
                generation_config.do_sample = do_sample

        return model.generate(inputs, custom_generate=loop, **arguments)


class _DrawingProcessor:
    """Stands for all processors of one `generate`: samplerd draws, and each row's token gets the only high score."""

    def __init__(self, rows: RowSampler, pipeline: Pipeline, kind: type[Any], seeds: list[int]) -> None:
        self._rows = rows
        self._pipeline = pipeline
        self._first = kind(pipeline.first)
        self._seeds = seeds
        self._step = 0
        self._scores: torch.Tensor | None = None
        self._tokens: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return uint8[B, V], 1 at each row's token and 0 elsewhere, for the logits [B, V] after the tokens [B, L]."""
        if self._first:
            scores = self._first(input_ids, scores)
        params = self._pipeline.step(input_ids.cpu().numpy(), scores.shape[1])
        drawn = self._rows.draw(scores, params, seeds=self._seeds, step=self._step)
        self._step += 1
        tokens = torch.from_numpy(drawn).to(device=scores.device, dtype=torch.long)[:, None]
        if self._scores is None or self._tokens is None or self._scores.shape != scores.shape:
            # One byte a number: argmax, all that is done with them, is four times as fast as over float32.
            self._scores = torch.zeros(scores.shape, dtype=torch.uint8, device=scores.device)
        else:
            self._scores.scatter_(1, self._tokens, 0)
        self._tokens = tokens
        return self._scores.scatter_(1, tokens, 1)


def _refuse(config: Any) -> None:
    """Raise ValueError, naming the setting, for what samplerd cannot do; whatever it is, `generate` alone does it."""
    for name, off in _REFUSED.items():
        value = getattr(config, name, None)
        if value is not None and value not in off:
            raise ValueError(f"{name}: not with samplerd, got {value!r}; the model's own generate has it")
    mode = config.get_generation_mode()
    if mode.value not in _MODES:
        raise ValueError(f"generation_config: asks for {mode.value}; samplerd samples, or decodes greedily")


def _make_stop_strings(arguments: dict[str, Any]) -> None:
    """Make the stopping criterion of `stop_strings`, whose tokenizer `generate` gives to no loop but its own."""
    tokenizer, texts = arguments.pop("tokenizer", None), arguments.get("stop_strings")
    if tokenizer is None or texts is None:
        return
    from transformers import StoppingCriteriaList, StopStringCriteria  # noqa: PLC0415  # the caller has it

    del arguments["stop_strings"]
    given = arguments.get("stopping_criteria") or []
    arguments["stopping_criteria"] = StoppingCriteriaList([*given, StopStringCriteria(tokenizer, texts)])


def _seeds(seed: int | Sequence[int] | None, rows: int) -> list[int]:
    if seed is None:
        seed = int(torch.randint(0, 1 << 62, ()).item())
    return row_seeds(seed, rows)
