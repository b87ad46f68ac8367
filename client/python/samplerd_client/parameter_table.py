"""The table of the sampling parameters: generated from the server's by `make generate`; not to be edited."""

from __future__ import annotations

from samplerd_client.parameter_kinds import Parameter

__all__ = ["DRY", "PARAMETERS"]

DRY = (
    Parameter(
        "multiplier",
        "float",
        "X",
        "Strength of DRY: a repeat of n tokens costs multiplier x base^(n - allowed_length); 0 turns DRY off.",
    ),
    Parameter("base", "float", "X", "Growth of the DRY penalty for each token of the repeat; 1.75 by default."),
    Parameter(
        "allowed_length", "integer", "N", "Length of the longest repeat that DRY does not penalise; 2 by default."
    ),
    Parameter(
        "range", "integer", "N", "How many of the last tokens of history DRY looks at; 0, the default, means all."
    ),
    Parameter("sequence_breakers", "ids", "ID,..", "Tokens at which DRY ends a repeat."),
    Parameter("breaker_sequences", "sequences", "ID,..;..", "Sequences of tokens at which DRY ends a repeat."),
    Parameter(
        "allow_no_repeat",
        "flag",
        "",
        "Take allowed_length as 0, where a 0 sent as such means 2: DRY then penalises even a repeat of no token.",
    ),
)

PARAMETERS = (
    Parameter(
        "temperature",
        "float",
        "T",
        "Divide the logits by this before softmax: below 1 sharpens, above 1 flattens, 0 takes the argmax.",
    ),
    Parameter("top_k", "integer", "K", "Keep exactly the k most likely; 0 turns it off."),
    Parameter(
        "top_p",
        "float",
        "P",
        "Keep the shortest prefix, most likely first, with at least this much of the probability; 1 turns it off.",
    ),
    Parameter("min_p", "float", "P", "Keep ids with at least this share of the largest probability; 0 turns it off."),
    Parameter(
        "top_a",
        "float",
        "P",
        "Keep ids with at least this share of the square of the largest probability; 0 turns it off.",
    ),
    Parameter(
        "typical_p",
        "float",
        "P",
        "Keep the most typical (the information nearest to the entropy) up to this much of the probability; 1 turns "
        "it off.",
    ),
    Parameter("epsilon_cutoff", "float", "P", "Keep ids with at least this probability; 0 turns it off."),
    Parameter(
        "eta_cutoff",
        "float",
        "P",
        "Keep ids with at least the probability min(eta, sqrt(eta) x exp(-entropy)); 0 turns it off.",
    ),
    Parameter(
        "top_h",
        "float",
        "H",
        "Keep the longest prefix, most likely first, that adds at most this share of the entropy; 1 turns it off.",
    ),
    Parameter(
        "top_n_sigma",
        "float",
        "N",
        "Keep logits of at least the largest minus this many standard deviations; 0 turns it off.",
    ),
    Parameter(
        "xtc_threshold",
        "float",
        "P",
        "When XTC acts, drop all but the least likely of those with at least this probability; above 0.5 XTC never "
        "acts.",
    ),
    Parameter("xtc_probability", "float", "P", "Probability that XTC acts on a row; 0 turns it off."),
    Parameter(
        "xtc_exempt_ids", "ids", "ID,..", "Tokens that XTC does not drop, such as the end of the text and a new line."
    ),
    Parameter(
        "xtc_exemption",
        "choice",
        "WHAT",
        "Where XTC would drop an exempt token, let it keep that token, by default, or leave the whole row alone.",
    ),
    Parameter(
        "adaptive_target",
        "float",
        "P",
        "Prefer tokens near a moving probability, which draws the mean probability of the tokens towards this; 0 "
        "turns it off.",
    ),
    Parameter(
        "adaptive_weighted_sum",
        "float",
        "X",
        "The decayed sum of the probabilities of the tokens drawn so far, for adaptive_target; 0 by default.",
    ),
    Parameter(
        "adaptive_total_weight",
        "float",
        "X",
        "The decayed number of the tokens drawn so far, for adaptive_target; 0, the default, means none yet.",
    ),
    Parameter(
        "adaptive_decay",
        "float",
        "X",
        "What a token leaves of the weight of those before it, in the state of adaptive-p that is returned; 0.9 by "
        "default.",
    ),
    Parameter(
        "skew",
        "float",
        "X",
        "Raise the cumulative probabilities of what is kept to the power e^skew: above 0 prefers the less likely; 0 "
        "turns it off.",
    ),
    Parameter(
        "dynamic_temperature_range",
        "float",
        "X",
        "Vary the temperature by up to this much around `temperature`, with the entropy of the row, down to 0 at "
        "most; 0 turns it off.",
    ),
    Parameter(
        "dynamic_temperature_exponent",
        "float",
        "X",
        "Raise the normalised entropy to this power when the temperature is dynamic; 1 by default.",
    ),
    Parameter(
        "dynamic_temperature_counts_all",
        "flag",
        "",
        "Let dynamic temperature count forbidden tokens and those that top_n_sigma dropped too, as in llama.cpp.",
    ),
    Parameter(
        "smoothing_factor",
        "float",
        "X",
        "Bend the logits after the temperature, to -factor x the square of their distance below the largest; 0 turns "
        "it off.",
    ),
    Parameter(
        "smoothing_curve",
        "float",
        "X",
        "Shape of the smoothing: the square of the distance at 1, the default, its cube at 3, else a mixture.",
    ),
    Parameter(
        "guidance_scale",
        "float",
        "X",
        "Move the logits away from those of the guidance row, to u + scale x (c - u), with c of the row and u of the "
        "guidance row; 1 turns it off.",
    ),
    Parameter(
        "repetition_penalty",
        "float",
        "X",
        "Divide positive and multiply other logits of the tokens in history by this; 1 turns it off.",
    ),
    Parameter(
        "frequency_penalty",
        "float",
        "X",
        "Subtract this from a token's logit for each time that it occurs in history; 0 turns it off.",
    ),
    Parameter(
        "presence_penalty",
        "float",
        "X",
        "Subtract this once from the logit of every token that occurs in history; 0 turns it off.",
    ),
    Parameter(
        "repetition_scope",
        "choice",
        "SCOPE",
        "Let repetition_penalty look at these tokens of history: all of them, by default, or those of the output.",
    ),
    Parameter(
        "frequency_scope",
        "choice",
        "SCOPE",
        "Let frequency_penalty count these tokens of history: all of them, by default, or those of the output.",
    ),
    Parameter(
        "presence_scope",
        "choice",
        "SCOPE",
        "Let presence_penalty look at these tokens of history: all of them, by default, or those of the output.",
    ),
    Parameter(
        "penalty_range",
        "integer",
        "N",
        "How many of the last tokens of history the repetition, frequency and presence penalties look at; 0, the "
        "default, means all.",
    ),
    Parameter(
        "dry",
        "group",
        "DRY",
        "Penalise tokens that would continue a repetition of history (DRY: don't repeat yourself).",
        DRY,
    ),
    Parameter("history", "ids", "ID,..", "The tokens so far, oldest first: what the penalties look at."),
    Parameter(
        "prompt_length",
        "integer",
        "N",
        "How many of the first tokens of history are the prompt, which scopes can leave out; 0 by default.",
    ),
    Parameter(
        "logit_bias",
        "logit_bias",
        "ID:B,..",
        "Add an amount to the logit of each of these tokens; -inf forbids the token.",
    ),
    Parameter("allowed_tokens", "ids", "ID,..", "Allow only these tokens to be drawn."),
    Parameter(
        "token_bitmask",
        "bitmask",
        "HEX",
        "Allow token j to be drawn only if bit j mod 32 of int32 word j div 32 is set.",
    ),
    Parameter(
        "no_repeat_ngram_size",
        "integer",
        "N",
        "Forbid a token that would complete a sequence of this many tokens which history has already; 0 turns it off.",
    ),
    Parameter(
        "bad_words",
        "sequences",
        "ID,..;..",
        "Forbid the last token of each of these sequences where history ends with the tokens before it.",
    ),
    Parameter(
        "bad_words_scope",
        "choice",
        "SCOPE",
        "Forbid bad words that begin within these tokens of history: all, by default, or those of the output.",
    ),
    Parameter("min_tokens_to_keep", "integer", "N", "Keep at least this many tokens in every filter; 1 by default."),
    Parameter(
        "top_k_is_exact",
        "flag",
        "",
        "Let top_k and top_n_sigma keep what they ask for, even if that is less than min_tokens_to_keep.",
    ),
    Parameter("order", "choice", "ORDER", "Apply the filters in the order of this system; hugging_face by default."),
    Parameter(
        "steps",
        "choices",
        "STEP,..",
        "Apply the temperature and the filters in this order, first to last, in place of `order`.",
    ),
    Parameter(
        "ties",
        "choice",
        "RULE",
        "Decide which of several equal categories a filter keeps where it cuts; lowest_id by default.",
    ),
)
