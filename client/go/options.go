package samplerd

import pb "samplerd.dev/go/samplerd/v1"

// An Option sets one thing of a request. A function of this type may set any field:
//
//	client.Sample(ctx, rows, func(r *pb.SampleRequest) { r.Priority = 10 })
type Option func(*pb.SampleRequest)

// Request builds a request for rows; what is not said is the server's default.
func Request(rows *pb.Tensor, options ...Option) *pb.SampleRequest {
	request := &pb.SampleRequest{Source: &pb.SampleRequest_Tensor{Tensor: rows}}
	apply(request, options)
	return request
}

// FromDistribution builds a request for the rows of an uploaded distribution, to be sent with [Client.Do].
func FromDistribution(name string, options ...Option) *pb.SampleRequest {
	request := &pb.SampleRequest{Source: &pb.SampleRequest_Distribution{Distribution: name}}
	apply(request, options)
	return request
}

func apply(request *pb.SampleRequest, options []Option) {
	for _, option := range options {
		option(request)
	}
}

// NumSamples is how many samples are drawn from each row; 1 unless said.
func NumSamples(n int) Option { return func(r *pb.SampleRequest) { r.NumSamples = uint32(n) } }

// Seed is the key of the noise: the same request with the same seed draws the same. Without it the server chooses one
// and tells it in the reply.
func Seed(seed uint64) Option { return func(r *pb.SampleRequest) { r.Seed = &seed } }

// RowSeeds gives every row a key of its own, so that it draws the same whichever request carries it.
func RowSeeds(seeds ...uint64) Option { return func(r *pb.SampleRequest) { r.RowSeeds = seeds } }

// DrawOffset is the index of the first draw, to go on with a seeded sequence.
func DrawOffset(first uint64) Option { return func(r *pb.SampleRequest) { r.DrawOffset = first } }

// WithoutReplacement draws each id of a row at most once, in the order of the draws: a ranked list.
func WithoutReplacement() Option {
	return func(r *pb.SampleRequest) { r.Replacement = pb.Replacement_REPLACEMENT_WITHOUT }
}

// Probabilities says that the numbers are weights >= 0 with any positive sum, not logits.
func Probabilities() Option {
	return func(r *pb.SampleRequest) { r.Kind = pb.InputKind_INPUT_KIND_PROBABILITIES }
}

// Guidance gives every row a second one, as many numbers long: what the model says without its prompt, or with another
// (classifier-free guidance). How far the logits move away from it is [GuidanceScale].
func Guidance(rows *pb.Tensor) Option {
	return func(r *pb.SampleRequest) {
		r.Guidance = &pb.Guidance{Source: &pb.Guidance_Tensor{Tensor: rows}}
	}
}

// Tokens makes one sequence of tokens, as [BadWords] takes them.
func Tokens(ids ...int32) *pb.TokenSequence { return &pb.TokenSequence{Ids: ids} }

// Priority is who goes first when not all can, in [-100, 100]; larger is sooner, 0 unless said.
func Priority(priority int) Option { return func(r *pb.SampleRequest) { r.Priority = int32(priority) } }

// Logprobs asks for the log-probabilities of the samples, in these kinds.
func Logprobs(kinds ...pb.LogprobKind) Option {
	return func(r *pb.SampleRequest) { outputs(r).Logprobs = kinds }
}

// TopN asks, for each kind of [Logprobs], for the most likely n ids as well.
func TopN(n int) Option { return func(r *pb.SampleRequest) { outputs(r).TopN = uint32(n) } }

// Raw asks for samples as bytes, which costs less with many; [Result.Row] reads both forms.
func Raw() Option { return func(r *pb.SampleRequest) { outputs(r).RawSamples = true } }

// Outputs sets all that is returned beside the samples.
func Outputs(all *pb.Outputs) Option { return func(r *pb.SampleRequest) { r.Outputs = all } }

// Params sets all parameters at once, for all rows. Options after it change the message it was given.
func Params(all *pb.SamplingParams) Option { return func(r *pb.SampleRequest) { r.Params = all } }

// RowParams sets the parameters of each row, instead of those of all.
func RowParams(each ...*pb.SamplingParams) Option {
	return func(r *pb.SampleRequest) { r.RowParams = each }
}

func params(r *pb.SampleRequest) *pb.SamplingParams {
	if r.Params == nil {
		r.Params = &pb.SamplingParams{}
	}
	return r.Params
}

func outputs(r *pb.SampleRequest) *pb.Outputs {
	if r.Outputs == nil {
		r.Outputs = &pb.Outputs{}
	}
	return r.Outputs
}

// A Result is the reply to one request, all its chunks together.
type Result struct {
	*pb.SampleResponse
	// NumSamples is how many samples were drawn from each row, S.
	NumSamples int
}

// Rows is how many rows were drawn from.
func (r *Result) Rows() int { return r.count() / r.NumSamples }

// Row gives the samples of one row in the order of the draws: S ids, all -1 if the row failed (see RowErrors). It
// panics if there is no such row.
func (r *Result) Row(row int) []int32 {
	begin, end := row*r.NumSamples, (row+1)*r.NumSamples
	if len(r.RawSamples) > 0 {
		return Int32s(r.RawSamples[4*begin : 4*end])
	}
	return r.Samples[begin:end:end]
}

func (r *Result) count() int { return len(r.Samples) + len(r.RawSamples)/4 }

func newResult(request *pb.SampleRequest, reply *pb.SampleResponse) *Result {
	return &Result{SampleResponse: reply, NumSamples: max(int(request.GetNumSamples()), 1)}
}
