package samplerd

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	pb "samplerd.dev/go/samplerd/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// A Chunk is a part of a large draw; [Client.DrawChunks] yields them in order.
type Chunk struct {
	*pb.SampleResponse
	// Offset is the index of its first id in the row-major sequence of all rows x S ids.
	Offset uint64
}

// IDs gives what was drawn, in whichever form it came.
func (c *Chunk) IDs() []int32 {
	if len(c.RawSamples) > 0 {
		return Int32s(c.RawSamples)
	}
	return c.Samples
}

// DrawChunks draws any number of samples from an uploaded distribution in bounded memory and yields the parts in order;
// [FromDistribution] makes the request. The server draws as the parts are taken. Leaving the loop ends the call, and so
// does the end of ctx.
//
// No part is waited for longer than wait, the first one with all attempts; 0 waits as long as it takes. Until the first
// part the call is tried again as others are, and not after it. What was broken off can be continued with the same seed
// and, for one row, a DrawOffset that is larger by the samples taken. A failure is yielded last, with a nil chunk:
// NotFound if there is no such distribution, DeadlineExceeded if a part took too long, Unavailable if the call ended
// before the last part.
func (c *Client) DrawChunks(
	ctx context.Context, wait time.Duration, request *pb.SampleRequest,
) iter.Seq2[*Chunk, error] {
	return func(yield func(*Chunk, error) bool) {
		if err := checkSize(request, c.maxBytes); err != nil {
			yield(nil, err)
			return
		}
		first, stop := ctx, context.CancelFunc(func() {})
		if wait > 0 {
			first, stop = context.WithTimeout(ctx, wait)
		}
		begun, err := retry(first, c.retry, c.budget, func(...grpc.CallOption) (*draw, error) {
			return c.beginDraw(ctx, first, request)
		})
		stop()
		if err != nil {
			yield(nil, err)
			return
		}
		defer begun.cancel(nil)
		begun.yield(wait, yield)
	}
}

// draw is a call of SampleDistribution whose first reply has come.
type draw struct {
	call   pb.SamplerService_SampleDistributionClient
	cancel context.CancelCauseFunc
	ctx    context.Context
	next   *pb.SampleResponse
}

// beginDraw makes one attempt, which ends with the first reply, or when first does; the call itself lives as long as
// ctx.
func (c *Client) beginDraw(ctx, first context.Context, request *pb.SampleRequest) (*draw, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(first, func() { cancel(context.Cause(first)) })
	made := &draw{cancel: cancel, ctx: ctx}
	var err error
	if made.call, err = c.stub.SampleDistribution(annotate(ctx, request), request); err == nil {
		made.next, err = made.take()
	}
	if !stop() && err == nil { // it expired as the reply came
		err = newError(context.Cause(ctx), nil)
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	return made, nil
}

// take waits for the next reply.
func (d *draw) take() (*pb.SampleResponse, error) {
	reply, err := d.call.Recv()
	switch {
	case err == nil:
		return reply, nil
	case errors.Is(err, io.EOF):
		return nil, failed(codes.Unavailable, "the server ended the call before the last chunk")
	case errors.Is(context.Cause(d.ctx), context.DeadlineExceeded):
		return nil, newError(context.DeadlineExceeded, nil)
	}
	return nil, newError(err, d.call.Trailer())
}

// takeWithin is take with a bound, after which the call is over.
func (d *draw) takeWithin(wait time.Duration) (*pb.SampleResponse, error) {
	if wait <= 0 {
		return d.take()
	}
	late := time.AfterFunc(wait, func() { d.cancel(context.DeadlineExceeded) })
	defer late.Stop()
	return d.take()
}

func (d *draw) yield(wait time.Duration, yield func(*Chunk, error) bool) {
	offset := uint64(0)
	for {
		chunk := &Chunk{d.next, offset}
		if !yield(chunk, nil) {
			return
		}
		next, err := d.takeWithin(wait)
		switch {
		case chunk.GetFinal(): // that was only to let the call end by itself, instead of cancelling it
			return
		case err != nil:
			yield(nil, err)
			return
		}
		offset += uint64(len(chunk.IDs()))
		d.next = next
	}
}
