"""What the flags of ``samplerctl sample`` mean as arguments of `sample`, and which of them exclude each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from samplerd_client.samplerctl.flag_values import InputError
from samplerd_client.samplerctl.sampling_flags import sampling_options

if TYPE_CHECKING:
    import argparse

    from samplerd_client.options import SampleOptions

__all__ = ["sample_options"]


def sample_options(args: argparse.Namespace) -> SampleOptions:
    """Return the keywords of `sample`, except for the rows."""
    names = (
        *("num_samples", "seed", "row_seeds", "draw_offset", "dtype", "priority", "distribution"),
        *("logprobs", "top_n", "rank", "entropy", "kept", "adaptive_state"),
    )
    options = cast("SampleOptions", {name: getattr(args, name) for name in names})
    options["replacement"] = not args.without_replacement
    options["probabilities"] = args.probabilities is not None or args.weights
    options.update(sampling_options(args))
    _check_options(args)
    return options


def _check_options(args: argparse.Namespace) -> None:
    """Refuse what one flag asks for and another one would drop.

    Raises:
        InputError: there is such a flag.

    """
    extra = [flag for flag in _OUTPUTS if getattr(args, flag[2:].replace("-", "_"))]
    if args.output == "npy" and extra:
        raise InputError(f"--output npy holds the samples alone, without {', '.join(extra)}: take npz or jsonl")
    if args.top_n and not args.logprobs:
        raise InputError("--top-n: give --logprobs too, which says of which kind")
    if args.show is not None and args.output != "table":
        raise InputError(f"--show is for --output table, not for {args.output}")
    if args.weights and args.npy is None:
        raise InputError("--weights says what the numbers of --npy are; for others, take --probabilities")
    if args.seed is not None and args.row_seeds is not None:
        raise InputError("--seed and --row-seeds exclude each other")
    if args.distribution is not None and args.dtype is not None:
        raise InputError("--dtype converts rows that are sent; those of --distribution are at the server already")


_OUTPUTS = ("--logprobs", "--top-n", "--rank", "--entropy", "--kept", "--adaptive-state")
"""The flags that ask for more than samples."""
