// Code generated from the server's table of sampling parameters by `make generate`. DO NOT EDIT.

package samplerd

import pb "samplerd.dev/go/samplerd/v1"

// Temperature sets temperature. Divide the logits by this before softmax: below 1 sharpens, above 1 flattens, 0 takes
// the argmax.
func Temperature(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).Temperature = &value }
}

// TopK sets top_k. Keep exactly the k most likely; 0 turns it off.
func TopK(value int) Option {
	return func(r *pb.SampleRequest) { params(r).TopK = uint32(value) }
}

// TopP sets top_p. Keep the shortest prefix, most likely first, with at least this much of the probability; 1 turns it
// off.
func TopP(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).TopP = &value }
}

// MinP sets min_p. Keep ids with at least this share of the largest probability; 0 turns it off.
func MinP(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).MinP = value }
}

// TopA sets top_a. Keep ids with at least this share of the square of the largest probability; 0 turns it off.
func TopA(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).TopA = value }
}

// TypicalP sets typical_p. Keep the most typical (the information nearest to the entropy) up to this much of the
// probability; 1 turns it off.
func TypicalP(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).TypicalP = &value }
}

// EpsilonCutoff sets epsilon_cutoff. Keep ids with at least this probability; 0 turns it off.
func EpsilonCutoff(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).EpsilonCutoff = value }
}

// EtaCutoff sets eta_cutoff. Keep ids with at least the probability min(eta, sqrt(eta) x exp(-entropy)); 0 turns it
// off.
func EtaCutoff(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).EtaCutoff = value }
}

// TopH sets top_h. Keep the longest prefix, most likely first, that adds at most this share of the entropy; 1 turns it
// off.
func TopH(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).TopH = &value }
}

// TopNSigma sets top_n_sigma. Keep logits of at least the largest minus this many standard deviations; 0 turns it off.
func TopNSigma(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).TopNSigma = value }
}

// XtcThreshold sets xtc_threshold. When XTC acts, drop all but the least likely of those with at least this
// probability; above 0.5 XTC never acts.
func XtcThreshold(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).XtcThreshold = value }
}

// XtcProbability sets xtc_probability. Probability that XTC acts on a row; 0 turns it off.
func XtcProbability(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).XtcProbability = value }
}

// XtcExemptIds sets xtc_exempt_ids. Tokens that XTC does not drop, such as the end of the text and a new line.
func XtcExemptIds(ids ...int32) Option {
	return func(r *pb.SampleRequest) { params(r).XtcExemptIds = ids }
}

// XtcExemption sets xtc_exemption. Where XTC would drop an exempt token, let it keep that token, by default, or leave
// the whole row alone.
func XtcExemption(xtcExemption pb.XtcExemption) Option {
	return func(r *pb.SampleRequest) { params(r).XtcExemption = xtcExemption }
}

// AdaptiveTarget sets adaptive_target. Prefer tokens near a moving probability, which draws the mean probability of the
// tokens towards this; 0 turns it off.
func AdaptiveTarget(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).AdaptiveTarget = value }
}

// AdaptiveWeightedSum sets adaptive_weighted_sum. The decayed sum of the probabilities of the tokens drawn so far, for
// adaptive_target; 0 by default.
func AdaptiveWeightedSum(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).AdaptiveWeightedSum = value }
}

// AdaptiveTotalWeight sets adaptive_total_weight. The decayed number of the tokens drawn so far, for adaptive_target;
// 0, the default, means none yet.
func AdaptiveTotalWeight(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).AdaptiveTotalWeight = value }
}

// AdaptiveDecay sets adaptive_decay. What a token leaves of the weight of those before it, in the state of adaptive-p
// that is returned; 0.9 by default.
func AdaptiveDecay(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).AdaptiveDecay = &value }
}

// Skew sets skew. Raise the cumulative probabilities of what is kept to the power e^skew: above 0 prefers the less
// likely; 0 turns it off.
func Skew(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).Skew = value }
}

// DynamicTemperatureRange sets dynamic_temperature_range. Vary the temperature by up to this much around `temperature`,
// with the entropy of the row, down to 0 at most; 0 turns it off.
func DynamicTemperatureRange(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).DynamicTemperatureRange = value }
}

// DynamicTemperatureExponent sets dynamic_temperature_exponent. Raise the normalised entropy to this power when the
// temperature is dynamic; 1 by default.
func DynamicTemperatureExponent(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).DynamicTemperatureExponent = value }
}

// DynamicTemperatureCountsAll sets dynamic_temperature_counts_all. Let dynamic temperature count forbidden tokens and
// those that top_n_sigma dropped too, as in llama.cpp.
func DynamicTemperatureCountsAll(value bool) Option {
	return func(r *pb.SampleRequest) { params(r).DynamicTemperatureCountsAll = value }
}

// SmoothingFactor sets smoothing_factor. Bend the logits after the temperature, to -factor x the square of their
// distance below the largest; 0 turns it off.
func SmoothingFactor(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).SmoothingFactor = value }
}

// SmoothingCurve sets smoothing_curve. Shape of the smoothing: the square of the distance at 1, the default, its cube
// at 3, else a mixture.
func SmoothingCurve(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).SmoothingCurve = value }
}

// GuidanceScale sets guidance_scale. Move the logits away from those of the guidance row, to u + scale x (c - u), with
// c of the row and u of the guidance row; 1 turns it off.
func GuidanceScale(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).GuidanceScale = &value }
}

// RepetitionPenalty sets repetition_penalty. Divide positive and multiply other logits of the tokens in history by
// this; 1 turns it off.
func RepetitionPenalty(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).RepetitionPenalty = &value }
}

// FrequencyPenalty sets frequency_penalty. Subtract this from a token's logit for each time that it occurs in history;
// 0 turns it off.
func FrequencyPenalty(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).FrequencyPenalty = value }
}

// PresencePenalty sets presence_penalty. Subtract this once from the logit of every token that occurs in history; 0
// turns it off.
func PresencePenalty(value float64) Option {
	return func(r *pb.SampleRequest) { params(r).PresencePenalty = value }
}

// RepetitionScope sets repetition_scope. Let repetition_penalty look at these tokens of history: all of them, by
// default, or those of the output.
func RepetitionScope(penaltyScope pb.PenaltyScope) Option {
	return func(r *pb.SampleRequest) { params(r).RepetitionScope = penaltyScope }
}

// FrequencyScope sets frequency_scope. Let frequency_penalty count these tokens of history: all of them, by default, or
// those of the output.
func FrequencyScope(penaltyScope pb.PenaltyScope) Option {
	return func(r *pb.SampleRequest) { params(r).FrequencyScope = penaltyScope }
}

// PresenceScope sets presence_scope. Let presence_penalty look at these tokens of history: all of them, by default, or
// those of the output.
func PresenceScope(penaltyScope pb.PenaltyScope) Option {
	return func(r *pb.SampleRequest) { params(r).PresenceScope = penaltyScope }
}

// PenaltyRange sets penalty_range. How many of the last tokens of history the repetition, frequency and presence
// penalties look at; 0, the default, means all.
func PenaltyRange(value int) Option {
	return func(r *pb.SampleRequest) { params(r).PenaltyRange = uint32(value) }
}

// Dry sets dry. Penalise tokens that would continue a repetition of history (DRY: don't repeat yourself).
func Dry(all *pb.DryParams) Option {
	return func(r *pb.SampleRequest) { params(r).Dry = all }
}

// History sets history. The tokens so far, oldest first: what the penalties look at.
func History(ids ...int32) Option {
	return func(r *pb.SampleRequest) { params(r).History = ids }
}

// PromptLength sets prompt_length. How many of the first tokens of history are the prompt, which scopes can leave out;
// 0 by default.
func PromptLength(value int) Option {
	return func(r *pb.SampleRequest) { params(r).PromptLength = uint32(value) }
}

// LogitBias sets logit_bias. Add an amount to the logit of each of these tokens; -inf forbids the token.
func LogitBias(biases ...*pb.LogitBias) Option {
	return func(r *pb.SampleRequest) { params(r).LogitBias = biases }
}

// AllowedTokens sets allowed_tokens. Allow only these tokens to be drawn.
func AllowedTokens(ids ...int32) Option {
	return func(r *pb.SampleRequest) { params(r).AllowedTokens = ids }
}

// TokenBitmask sets token_bitmask. Allow token j to be drawn only if bit j mod 32 of int32 word j div 32 is set.
func TokenBitmask(words []byte) Option {
	return func(r *pb.SampleRequest) { params(r).TokenBitmask = words }
}

// NoRepeatNgramSize sets no_repeat_ngram_size. Forbid a token that would complete a sequence of this many tokens which
// history has already; 0 turns it off.
func NoRepeatNgramSize(value int) Option {
	return func(r *pb.SampleRequest) { params(r).NoRepeatNgramSize = uint32(value) }
}

// BadWords sets bad_words. Forbid the last token of each of these sequences where history ends with the tokens before
// it.
func BadWords(sequences ...*pb.TokenSequence) Option {
	return func(r *pb.SampleRequest) { params(r).BadWords = sequences }
}

// BadWordsScope sets bad_words_scope. Forbid bad words that begin within these tokens of history: all, by default, or
// those of the output.
func BadWordsScope(penaltyScope pb.PenaltyScope) Option {
	return func(r *pb.SampleRequest) { params(r).BadWordsScope = penaltyScope }
}

// MinTokensToKeep sets min_tokens_to_keep. Keep at least this many tokens in every filter; 1 by default.
func MinTokensToKeep(value int) Option {
	return func(r *pb.SampleRequest) { params(r).MinTokensToKeep = uint32(value) }
}

// TopKIsExact sets top_k_is_exact. Let top_k and top_n_sigma keep what they ask for, even if that is less than
// min_tokens_to_keep.
func TopKIsExact(value bool) Option {
	return func(r *pb.SampleRequest) { params(r).TopKIsExact = value }
}

// Order sets order. Apply the filters in the order of this system; hugging_face by default.
func Order(order pb.Order) Option {
	return func(r *pb.SampleRequest) { params(r).Order = order }
}

// Steps sets steps. Apply the temperature and the filters in this order, first to last, in place of `order`.
func Steps(filterSteps ...pb.FilterStep) Option {
	return func(r *pb.SampleRequest) { params(r).Steps = filterSteps }
}

// Ties sets ties. Decide which of several equal categories a filter keeps where it cuts; lowest_id by default.
func Ties(tieRule pb.TieRule) Option {
	return func(r *pb.SampleRequest) { params(r).Ties = tieRule }
}
