"""What is changed of a row, as `adjust` takes it: a record of whole numbers."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CHANGES_PITCH", "Change"]


class Change(IntEnum):
    """Places in what is said of a row's changes, int64[CHANGES_PITCH]."""

    SOURCE = 0
    """The record of the row as it was sent."""
    FIRST = 1
    """The record of the changed row, which says where its copy begins."""
    SECOND = 2
    """Another record of the copy, at another temperature; -1 = there is none."""
    BITMASK = 3
    """The address of int32[BITMASK_LEN]."""
    BITMASK_LEN = 4
    """-1 = there is none."""
    ALLOWED = 5
    ALLOWED_LEN = 6
    BIAS_IDS = 7
    BIAS_VALUES = 8
    """The address of float32[BIAS_LEN]."""
    BIAS_LEN = 9
    HISTORY = 10
    HISTORY_LEN = 11
    """0 where nothing is penalised."""
    REPETITION_FROM = 12
    """The first token of history that the repetition penalty looks at."""
    FREQUENCY_FROM = 13
    PRESENCE_FROM = 14
    REPETITION = 15
    """The bits of a float64, as of the two that follow."""
    FREQUENCY = 16
    PRESENCE = 17
    FORBIDDEN = 18
    """The address of int32[FORBIDDEN_LEN]: the tokens that bad_words and no_repeat_ngram_size forbid."""
    FORBIDDEN_LEN = 19
    LOWERED = 20
    """The address of int32[LOWERED_LEN]: the tokens that DRY lowers, each once."""
    LOSSES = 21
    """The address of float64[LOWERED_LEN]: what they lose."""
    LOWERED_LEN = 22
    GUIDANCE = 23
    """The record of the guidance row; -1 = there is none."""
    GUIDANCE_SCALE = 24
    """The bits of a float64."""
    GUIDANCE_SHIFT = 25
    """`masses.shift_of` of the row's width."""
    BECOMES_LOGITS = 26
    """Whether the copy is logits, if the row is weights."""
    SMOOTHING = 27
    """The bits of a float64, as of the two that follow: the factor; 0 = logits are not smoothed."""
    CURVE = 28
    SMOOTHED_AT = 29
    """The temperature that logits are divided by before."""
    TEMPERATURE = 30
    """The bits of a float64, as of the two that follow: what a dynamic temperature moves around."""
    RANGE = 31
    """0 = the temperature is not dynamic."""
    EXPONENT = 32
    COUNTED = 33
    """How many categories the largest entropy is of; 0 = as many as can be drawn."""


CHANGES_PITCH = 34
