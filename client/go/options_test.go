package samplerd

import (
	"testing"

	pb "samplerd.dev/go/samplerd/v1"

	"google.golang.org/protobuf/proto"
)

// TestOptions holds one option of each kind against the message that it makes.
func TestOptions(t *testing.T) {
	rows, other := F32([]float32{1, 2}, 1), F32([]float32{2, 1}, 1)
	temperature, scale := 0.0, 1.5
	want := &pb.SampleRequest{
		Source:   &pb.SampleRequest_Tensor{Tensor: rows},
		Guidance: &pb.Guidance{Source: &pb.Guidance_Tensor{Tensor: other}},
		Params: &pb.SamplingParams{
			Temperature:    &temperature,
			GuidanceScale:  &scale,
			History:        []int32{3, 1},
			PromptLength:   1,
			FrequencyScope: pb.PenaltyScope_PENALTY_SCOPE_OUTPUT,
			BadWords:       []*pb.TokenSequence{{Ids: []int32{7}}, {Ids: []int32{8, 9}}},
			LogitBias:      []*pb.LogitBias{{Id: 4, Bias: -1}},
			Dry:            &pb.DryParams{BreakerSequences: []*pb.TokenSequence{{Ids: []int32{1, 2}}}},
			TokenBitmask:   []byte{1, 0, 0, 0},
			Steps:          []pb.FilterStep{pb.FilterStep_FILTER_STEP_MIN_P, pb.FilterStep_FILTER_STEP_TOP_K},
		},
	}
	got := Request(rows, Guidance(other), GuidanceScale(1.5), Temperature(0), History(3, 1), PromptLength(1),
		FrequencyScope(pb.PenaltyScope_PENALTY_SCOPE_OUTPUT), BadWords(Tokens(7), Tokens(8, 9)),
		LogitBias(&pb.LogitBias{Id: 4, Bias: -1}), TokenBitmask([]byte{1, 0, 0, 0}),
		Steps(pb.FilterStep_FILTER_STEP_MIN_P, pb.FilterStep_FILTER_STEP_TOP_K),
		Dry(&pb.DryParams{BreakerSequences: []*pb.TokenSequence{Tokens(1, 2)}}))
	if !proto.Equal(got, want) {
		t.Errorf("got %v, not %v", got, want)
	}
}
