package samplerd

import (
	"context"

	pb "samplerd.dev/go/samplerd/v1"
)

// A Stream carries many requests over one call; each is answered when it is ready, and one that fails fails alone. Its
// methods may be called by many goroutines at once: that is how requests are in flight together. Requests of a stream
// are not tried again; when the stream breaks, everyone who waits gets the failure.
type Stream struct {
	flow *flow[*pb.SampleRequest, *pb.SampleResponse]
}

// Stream opens a stream on which at most maxInFlight requests (64 if below 1) are in flight; further callers wait for
// their turn. The context is the stream's: its end ends all. Close the stream when done.
func (c *Client) Stream(ctx context.Context, maxInFlight int) (*Stream, error) {
	call, cancel, err := open(ctx, c.stub.SampleStream)
	if err != nil {
		return nil, err
	}
	return &Stream{newFlow(call, cancel, flowLimits{maxInFlight, c.maxBytes}, sampleReplies)}, nil
}

// Sample draws from rows as [Client.Sample] does. When ctx ends, the caller stops waiting; the server still answers,
// and until then the request counts as in flight.
func (s *Stream) Sample(ctx context.Context, rows *pb.Tensor, options ...Option) (*Result, error) {
	return s.Do(ctx, Request(rows, options...))
}

// Do sends a request of any kind. Its id need not differ from others': the stream has ids of its own, and the reply has
// the request's. A reply in chunks is put together, in memory; [Client.Chunks] has bounds.
func (s *Stream) Do(ctx context.Context, request *pb.SampleRequest) (*Result, error) {
	reply, err := s.flow.do(ctx, request)
	if err != nil {
		return nil, err
	}
	return newResult(request, reply), nil
}

// Close sends no more, waits until all that is in flight was answered, and says how the stream ended.
func (s *Stream) Close() error { return s.flow.close() }

// A VerifyStream is a [Stream] for VerifyDraft.
type VerifyStream struct {
	flow *flow[*pb.VerifyDraftRequest, *pb.VerifyDraftResponse]
}

// VerifyStream opens a stream for drafts; see [Client.Stream].
func (c *Client) VerifyStream(ctx context.Context, maxInFlight int) (*VerifyStream, error) {
	call, cancel, err := open(ctx, c.stub.VerifyDraftStream)
	if err != nil {
		return nil, err
	}
	return &VerifyStream{newFlow(call, cancel, flowLimits{maxInFlight, c.maxBytes}, draftReplies)}, nil
}

// Do sends one sequence; see [Stream.Do].
func (s *VerifyStream) Do(ctx context.Context, request *pb.VerifyDraftRequest) (*pb.VerifyDraftResponse, error) {
	return s.flow.do(ctx, request)
}

// Close is as [Stream.Close].
func (s *VerifyStream) Close() error { return s.flow.close() }

var draftReplies = replies[*pb.VerifyDraftRequest, *pb.VerifyDraftResponse]{
	idOf:    (*pb.VerifyDraftRequest).GetId,
	isLast:  func(*pb.VerifyDraftResponse) bool { return true },
	failure: func(reply *pb.VerifyDraftResponse) error { return errorOf(reply.GetError()) },
	join:    func(_, reply *pb.VerifyDraftResponse) *pb.VerifyDraftResponse { return reply },
}

var sampleReplies = replies[*pb.SampleRequest, *pb.SampleResponse]{
	idOf:    (*pb.SampleRequest).GetId,
	isLast:  func(reply *pb.SampleResponse) bool { return reply.GetFinal() || reply.GetError() != nil },
	failure: func(reply *pb.SampleResponse) error { return errorOf(reply.GetError()) },
	join:    joinChunks,
}

// joinChunks adds a chunk to those before it (nil before the first): what there is of each sample goes on, what there
// is of each row came with the first.
func joinChunks(all, chunk *pb.SampleResponse) *pb.SampleResponse {
	if all == nil {
		return chunk
	}
	all.Samples = append(all.Samples, chunk.GetSamples()...)
	all.RawSamples = append(all.RawSamples, chunk.GetRawSamples()...)
	all.Ranks = append(all.Ranks, chunk.GetRanks()...)
	all.AdaptiveWeightedSum = append(all.AdaptiveWeightedSum, chunk.GetAdaptiveWeightedSum()...)
	all.AdaptiveTotalWeight = append(all.AdaptiveTotalWeight, chunk.GetAdaptiveTotalWeight()...)
	for i, more := range chunk.GetLogprobs() {
		if i >= len(all.Logprobs) {
			break
		}
		all.Logprobs[i].Samples = append(all.Logprobs[i].Samples, more.GetSamples()...)
		all.Logprobs[i].RawSamples = append(all.Logprobs[i].RawSamples, more.GetRawSamples()...)
	}
	all.Final, all.Error = chunk.GetFinal(), chunk.GetError()
	return all
}
