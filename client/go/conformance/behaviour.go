package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	samplerd "samplerd.dev/go"
	pb "samplerd.dev/go/samplerd/v1"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// limits sends and takes more than gRPC does by default.
func (r *runner) limits(ctx context.Context) (string, error) {
	var maxMessageBytes uint64
	err := with(r.target, func(client *samplerd.Client) error {
		info, err := client.ServerInfo(ctx)
		if err != nil {
			return err
		}
		if maxMessageBytes = info.GetLimits().GetMaxMessageBytes(); maxMessageBytes == 0 {
			return errors.New("the server does not tell max_message_bytes")
		}
		if _, err := client.Sample(ctx, samplerd.F32(make([]float32, 3_000_000), 1)); err != nil {
			return err
		}
		// ids above 2^21 take four bytes each: more than 4 MiB
		large := &pb.Candidates{
			VocabSize: 1 << 22, Row: []*pb.Candidates_Row{{Ids: []int32{1<<22 - 1}, Logits: []float32{0}}}}
		result, err := client.Do(ctx, &pb.SampleRequest{
			Source: &pb.SampleRequest_Candidates{Candidates: large}, NumSamples: 2_000_000})
		if err != nil {
			return err
		}
		if len(result.GetSamples()) != 2_000_000 || proto.Size(result.SampleResponse) <= 4<<20 {
			return fmt.Errorf("%d samples in %d bytes", len(result.GetSamples()), proto.Size(result.SampleResponse))
		}
		return nil
	})
	return fmt.Sprintf("max_message_bytes %d", maxMessageBytes), err
}

// slow is a request that takes the server a while.
func (r *runner) slow() *pb.SampleRequest {
	slow := r.vectors.Slow
	row := make([]float32, slow.VocabSize)
	for i := range row {
		row[i] = float32(i % slow.Modulus)
	}
	return samplerd.Request(samplerd.F32(row, 1), samplerd.NumSamples(slow.NumSamples))
}

// deadline is too late.
func (r *runner) deadline(ctx context.Context) (string, error) {
	var code codes.Code
	err := with(r.target, func(client *samplerd.Client) error {
		request := r.slow()
		ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		_, err := client.Do(ctx, request)
		code, err = codeOf(err, codes.DeadlineExceeded, codes.ResourceExhausted)
		return err
	})
	return code.String(), err
}

// cancel changes its mind.
func (r *runner) cancel(ctx context.Context) (string, error) {
	err := with(r.target, func(client *samplerd.Client) error {
		request := r.slow()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		var cancelled time.Time
		time.AfterFunc(100*time.Millisecond, func() { cancelled = time.Now(); cancel() })
		_, err := client.Do(ctx, request)
		if _, err := codeOf(err, codes.Canceled); err != nil {
			return err
		}
		if late := time.Since(cancelled); late > time.Second {
			return fmt.Errorf("ended only %v after it was cancelled", late)
		}
		if !errors.Is(err, context.Canceled) {
			return errors.New("is not a context.Canceled")
		}
		return nil
	})
	return "Canceled", err
}

// retry is refused, and tries again only where that is allowed.
func (r *runner) retry(ctx context.Context) (string, error) {
	err := with(r.retryTarget, func(client *samplerd.Client) error {
		request := func(id uint64) *pb.SampleRequest {
			made := samplerd.Request(samplerd.F32([]float32{0}, 1), samplerd.Seed(id))
			made.Id = id
			return made
		}
		result, err := client.Do(ctx, request(1))
		if err != nil {
			return err
		}
		if !slices.Equal(result.GetSamples(), []int32{7}) {
			return fmt.Errorf("request 1 was answered with %v", result.GetSamples())
		}
		// The server ends it as cancelled, which nobody here asked for.
		if result, err = client.Do(ctx, request(4)); err != nil {
			return err
		}
		if !slices.Equal(result.GetSamples(), []int32{7}) {
			return fmt.Errorf("request 4 was answered with %v", result.GetSamples())
		}
		_, refused := client.Do(ctx, request(2))
		_, wrong := client.Do(ctx, request(3))
		_, refused = codeOf(refused, codes.ResourceExhausted)
		_, wrong = codeOf(wrong, codes.InvalidArgument)
		return errors.Join(refused, wrong)
	})
	return "tried again twice", err
}

// metadata travels with a call, and the name of the distribution that it is about.
func (r *runner) metadata(ctx context.Context) (string, error) {
	err := with(r.retryTarget, func(client *samplerd.Client) error {
		result, err := client.Do(ctx, samplerd.FromDistribution("prior"))
		if err == nil && !slices.Equal(result.GetSamples(), []int32{7}) {
			err = fmt.Errorf("answered with %v", result.GetSamples())
		}
		return err
	}, samplerd.WithMetadata(map[string]string{"x-tenant": "conformance"}))
	return "and the distribution's name", err
}

// overTLS makes the first of the calls.
func (r *runner) overTLS(ctx context.Context, ca string, options ...samplerd.DialOption) error {
	options = append(options, samplerd.WithTLS(samplerd.TLS{CAFile: ca}))
	return with(r.tlsTarget, func(client *samplerd.Client) error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		first := r.vectors.Calls[0]
		reply, err := invoke(ctx, client, first)
		return r.judge(first, reply, err)
	}, options...)
}

// tls asks over TLS, and does not trust a stranger.
func (r *runner) tls(ctx context.Context) (string, error) {
	if err := r.overTLS(ctx, r.ca, samplerd.WithToken(r.token)); err != nil {
		return "", err
	}
	err := r.overTLS(ctx, "", samplerd.WithToken(r.token))
	_, err = codeOf(err, codes.Unavailable, codes.DeadlineExceeded)
	return "and refused without the CA", err
}

// tokens is turned away without the right one.
func (r *runner) tokens(ctx context.Context) (string, error) {
	_, wrong := codeOf(r.overTLS(ctx, r.ca, samplerd.WithToken("wrong")), codes.Unauthenticated)
	_, none := codeOf(r.overTLS(ctx, r.ca), codes.Unauthenticated)
	return "Unauthenticated", errors.Join(wrong, none)
}

// codeOf gives the code of a failure, and complains unless it is one of those wanted.
func codeOf(err error, wanted ...codes.Code) (codes.Code, error) {
	var failure *samplerd.Error
	if errors.As(err, &failure) && slices.Contains(wanted, failure.Code) {
		return failure.Code, nil
	}
	return codes.Unknown, fmt.Errorf("ended with %v, where one of %v was due", err, wanted)
}
