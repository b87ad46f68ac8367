"""`generate` of transformers beside the same with samplerd; prints what a test compares as one JSON object.

Run with the server's address, its prefix of shared memory, and the folders of samplerd's client and of its stubs.
The model is a Qwen3 of two layers with random weights, made from its configuration.
"""

import json
import sys
import warnings

import torch
from transformers import GenerationConfig, LogitsProcessor, Qwen3Config, Qwen3ForCausalLM
from transformers.generation.stopping_criteria import StoppingCriteria

address, prefix, *folders = sys.argv[1:]
sys.path[:0] = folders
from samplerd_client.integrations.transformers import TransformersSampler  # noqa: E402

SEED = 20_261_130
ROWS = 8_000
LAWS = {
    "filters": {"temperature": 0.8, "top_k": 12, "top_p": 0.9},
    "penalties": {"repetition_penalty": 1.6, "no_repeat_ngram_size": 2, "top_k": 0, "min_p": 0.1},
    "others": {"typical_p": 0.7, "epsilon_cutoff": 0.01, "eta_cutoff": 0.02, "top_k": 0},
    "top_h": {"top_h": 0.4, "top_k": 0},
    "kept by transformers": {"encoder_repetition_penalty": 1.5, "top_k": 8, "renormalize_logits": True},
    "a watermark": {"watermarking_config": {"greenlist_ratio": 0.5, "bias": 2.0}, "top_k": 8},
}
GREEDY = {
    "nothing": {},
    "repetition_penalty": {"repetition_penalty": 1.3},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 1},
    "bad_words_ids": {"bad_words_ids": "first and second"},
    "sequence_bias": {"sequence_bias": "first and second"},
    "suppress_tokens": {"suppress_tokens": "first"},
    "begin_suppress_tokens": {"begin_suppress_tokens": "first"},
    "min_new_tokens": {"min_new_tokens": 5, "eos_token_id": "first"},
    "eos_token_id": {"eos_token_id": "third"},
    "guidance_scale": {"guidance_scale": 1.5},
    "exponential_decay_length_penalty": {"exponential_decay_length_penalty": (1, 1.2), "eos_token_id": "third"},
    "num_return_sequences": {"num_return_sequences": 1, "return_dict_in_generate": True},
}


class Streamer:
    """Keeps what it is given."""

    def __init__(self):
        """Begin with nothing."""
        self.pieces, self.ended = [], False

    def put(self, value):
        """Take the prompt, or the tokens of a step."""
        self.pieces.append(value.tolist())

    def end(self):
        """Hear that there is no more."""
        self.ended = True


class OnlyEven(LogitsProcessor):
    """A processor of a user's own: forbids tokens with an odd id."""

    def __call__(self, input_ids, scores):
        """Return the scores, some of them -inf."""
        odd = torch.arange(scores.shape[1]) % 2 == 1
        return scores.masked_fill(odd, -float("inf"))


class AfterFour(StoppingCriteria):
    """Stops each row after four new tokens."""

    def __call__(self, input_ids, scores, **kwargs):
        """Say which rows are done."""
        return torch.full((input_ids.shape[0],), input_ids.shape[1] >= 11)


def model_of(vocab_size):
    """Return the model."""
    torch.manual_seed(SEED)
    config = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        initializer_range=0.15,
        eos_token_id=None,
        pad_token_id=0,
    )
    return Qwen3ForCausalLM(config).eval()


def main():
    """Run all of it."""
    torch.set_num_threads(1)
    answer = {"fields": sorted(vars(GenerationConfig())), "laws": {}, "greedy": {}, "refused": {}}
    small, model = model_of(24), model_of(500)
    prompt = torch.tensor([[5, 6, 7, 6]]).expand(ROWS, 4)
    ids = torch.randint(6, 500, (3, 7))
    mask = torch.ones_like(ids)
    ids[0, :3], mask[0, :3] = 0, 0
    with TransformersSampler(address, shared_memory_prefix=prefix) as sampler:
        for name, settings in LAWS.items():
            own = {"do_sample": True, "max_new_tokens": 2, **settings}
            torch.manual_seed(SEED)
            theirs = small.generate(prompt, **own)[:, 4:].tolist()
            answer["laws"][name] = [theirs, sampler.generate(small, prompt, seed=SEED, **own)[:, 4:].tolist()]

        plain = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=8)[0, 7:].tolist()
        found = {"first": plain[0], "third": plain[2], "first and second": plain[:2]}
        for name, settings in GREEDY.items():
            own = {key: found.get(value, value) if isinstance(value, str) else value for key, value in settings.items()}
            for key, value in own.items():
                if key == "bad_words_ids":
                    own[key] = [[value[1]], value]
                elif key == "sequence_bias":
                    own[key] = {(value[1],): -9.0, tuple(value): -9.0}
                elif key.endswith("suppress_tokens"):
                    own[key] = [value]
            own |= {"attention_mask": mask, "do_sample": False, "max_new_tokens": 8}
            pair = [model.generate(ids, **own), sampler.generate(model, ids, **own)]
            answer["greedy"][name] = [getattr(each, "sequences", each).tolist() for each in pair]
        own = {"attention_mask": mask, "do_sample": False, "max_new_tokens": 8, "logits_processor": [OnlyEven()]}
        own["stopping_criteria"] = [AfterFour()]
        answer["greedy"]["a processor and a criterion of one's own"] = [
            model.generate(ids, **own).tolist(),
            sampler.generate(model, ids, **own).tolist(),
        ]

        sampling = {"attention_mask": mask, "do_sample": True, "max_new_tokens": 6}
        streamer = Streamer()
        first = sampler.generate(model, ids, seed=7, streamer=streamer, **sampling)
        answer["seeded"] = [first.tolist(), sampler.generate(model, ids, seed=7, **sampling).tolist()]
        answer["other seed"] = sampler.generate(model, ids, seed=8, **sampling).tolist()
        answer["streamed"] = [streamer.pieces, streamer.ended]
        seeds = [4, 5, 6]
        together = sampler.generate(model, ids, seed=seeds, **sampling)
        alone = sampler.generate(model, ids[1:2], seed=seeds[1:2], do_sample=True, max_new_tokens=6)
        answer["row alone"] = [together[1].tolist(), alone[0].tolist()]
        torch.manual_seed(SEED)
        of_torch = [sampler.generate(model, ids, **sampling).tolist()]
        torch.manual_seed(SEED)
        answer["torch's seed"] = [*of_torch, sampler.generate(model, ids, **sampling).tolist()]
        for name, value in {"num_beams": 2, "output_scores": True, "prompt_lookup_num_tokens": 3}.items():
            try:
                sampler.generate(model, ids, return_dict_in_generate=True, **sampling, **{name: value})
            except ValueError as error:
                answer["refused"][name] = str(error)
    print(json.dumps(answer))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
