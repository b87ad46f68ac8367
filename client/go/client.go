package samplerd

import (
	"context"
	"errors"
	"io"
	"iter"

	pb "samplerd.dev/go/samplerd/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// A Client asks a server, or several in turn, over connections that are made when they are first needed and again when
// they break. All its methods may be called by many goroutines at once. Make one with [Dial] or [DialServers].
//
// Calls that fail with ResourceExhausted or Unavailable are tried again as [RetryPolicy] says, except
// [Client.CreateDistribution]. Every failure is an [*Error]. A call without a deadline in its context waits as long as
// it takes.
type Client struct {
	pool     *pool
	stub     pb.SamplerServiceClient
	retry    RetryPolicy
	budget   *retryBudget
	maxBytes int
}

// Dial makes a client of the server at target (HOST:PORT, or unix:PATH). It does not wait for a connection: a server
// that is not there is found out by the first call. Plain text, unless there is [WithTLS].
func Dial(target string, options ...DialOption) (*Client, error) {
	chosen := newConfig(options)
	chosen.nameOnSockets(target)
	return chosen.dial(target, isLocal(target))
}

// DialServers makes a client of several servers (each HOST:PORT, or unix:PATH), which get its calls in turn as long as
// they are healthy: one that starts, drains or is gone gets none. See [Dial] for the rest, and [WithBalance] for a name
// that stands for several addresses.
func DialServers(targets []string, options ...DialOption) (*Client, error) {
	if len(targets) == 0 {
		return nil, errors.New("samplerd: no servers were given")
	}
	chosen := newConfig(options)
	chosen.isBalanced = true
	chosen.nameOnSockets(targets...)
	areLocal := true
	for _, target := range targets {
		areLocal = areLocal && isLocal(target)
	}
	target, resolves := joint(targets)
	chosen.grpc = append([]grpc.DialOption{resolves}, chosen.grpc...)
	return chosen.dial(target, areLocal)
}

func (c *config) dial(target string, isLocal bool) (*Client, error) {
	dialOptions, err := c.dialOptions(isLocal)
	if err != nil {
		return nil, err
	}
	opened, err := openPool(target, c.connections, dialOptions)
	if err != nil {
		return nil, err
	}
	stub := pb.NewSamplerServiceClient(opened)
	return &Client{opened, stub, c.retry, newRetryBudget(c.retry), c.maxMessageBytes}, nil
}

// Close ends the connections; calls that are in flight fail.
func (c *Client) Close() error { return c.pool.Close() }

// Stub gives the generated client, for calls without retries and with gRPC's own errors.
func (c *Client) Stub() pb.SamplerServiceClient { return c.stub }

// Sample draws from rows, such as F32(logits, 1). A row that cannot be drawn from fails alone: see RowErrors of the
// result. If all of them do, the call fails with InvalidArgument.
func (c *Client) Sample(ctx context.Context, rows *pb.Tensor, options ...Option) (*Result, error) {
	return c.Do(ctx, Request(rows, options...))
}

// Do sends a request of any kind: from candidates, values, shared memory or an uploaded distribution.
func (c *Client) Do(ctx context.Context, request *pb.SampleRequest) (*Result, error) {
	reply, err := unary(ctx, c, c.retry, request, c.stub.Sample)
	if err != nil {
		return nil, err
	}
	return newResult(request, reply), nil
}

// Chunks draws from rows of any kind over a stream of its own and yields the reply piece by piece. Leaving the loop ends
// the call. A failure is yielded last, with a nil chunk; it is not tried again. From an uploaded distribution
// [Client.DrawChunks] is the better one.
func (c *Client) Chunks(ctx context.Context, request *pb.SampleRequest) iter.Seq2[*pb.SampleResponse, error] {
	return func(yield func(*pb.SampleResponse, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		call, err := c.stub.SampleStream(annotate(ctx, request))
		if err == nil {
			err = errors.Join(call.Send(request), call.CloseSend())
		}
		if err != nil && !errors.Is(err, io.EOF) { // EOF: Recv tells why
			yield(nil, newError(err, nil))
			return
		}
		for {
			chunk, err := call.Recv()
			switch {
			case errors.Is(err, io.EOF):
				err = failed(codes.Unavailable, "the server ended the stream")
			case err == nil:
				err = errorOf(chunk.GetError())
			}
			if err != nil {
				yield(nil, newError(err, call.Trailer()))
				return
			}
			if !yield(chunk, nil) {
				return
			}
			if chunk.GetFinal() {
				_, _ = call.Recv() // let the call end by itself instead of cancelling it
				return
			}
		}
	}
}

// VerifyDraft accepts or corrects drafted tokens (speculative decoding). A target row that cannot be drawn from ends
// the tokens before it: see RowErrors of the reply.
func (c *Client) VerifyDraft(ctx context.Context, request *pb.VerifyDraftRequest) (*pb.VerifyDraftResponse, error) {
	return unary(ctx, c, c.retry, request, c.stub.VerifyDraft)
}

// CreateDistribution uploads rows, to be drawn from by name. It is never sent twice: after Unavailable nobody can know
// whether the first one arrived.
func (c *Client) CreateDistribution(
	ctx context.Context, request *pb.CreateDistributionRequest,
) (*pb.Distribution, error) {
	reply, err := unary(ctx, c, RetryPolicy{}, request, c.stub.CreateDistribution)
	return reply.GetDistribution(), err
}

// GetDistribution describes an uploaded distribution; NotFound if there is none of that name.
func (c *Client) GetDistribution(ctx context.Context, name string) (*pb.Distribution, error) {
	reply, err := unary(ctx, c, c.retry, &pb.GetDistributionRequest{Name: name}, c.stub.GetDistribution)
	return reply.GetDistribution(), err
}

// DeleteDistribution frees an uploaded distribution; NotFound if there is none of that name.
func (c *Client) DeleteDistribution(ctx context.Context, name string) error {
	_, err := unary(ctx, c, c.retry, &pb.DeleteDistributionRequest{Name: name}, c.stub.DeleteDistribution)
	return err
}

// Distributions yields all uploaded distributions, ordered by name, page by page. A failure is yielded last.
func (c *Client) Distributions(ctx context.Context) iter.Seq2[*pb.Distribution, error] {
	return func(yield func(*pb.Distribution, error) bool) {
		request := &pb.ListDistributionsRequest{}
		for {
			page, err := unary(ctx, c, c.retry, request, c.stub.ListDistributions)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, distribution := range page.GetDistributions() {
				if !yield(distribution, nil) {
					return
				}
			}
			if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
				return
			}
		}
	}
}

// ServerInfo says what the server is, what it can do and where its limits are.
func (c *Client) ServerInfo(ctx context.Context) (*pb.GetServerInfoResponse, error) {
	return unary(ctx, c, c.retry, &pb.GetServerInfoRequest{}, c.stub.GetServerInfo)
}

// unary makes one call, with retries. What is too large to be sent is not worth a second attempt.
func unary[Q proto.Message, R any](
	ctx context.Context, c *Client, policy RetryPolicy, request Q,
	call func(context.Context, Q, ...grpc.CallOption) (R, error),
) (R, error) {
	if err := checkSize(request, c.maxBytes); err != nil {
		var none R
		return none, err
	}
	return retry(ctx, policy, c.budget, func(options ...grpc.CallOption) (R, error) { return call(ctx, request, options...) })
}
