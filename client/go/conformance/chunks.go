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
)

const (
	endless = 2_000_000_000
	patient = 20 * time.Second
)

// chunks draws in chunks from a samplerd, and from a server that refuses, breaks off and waits.
func (r *runner) chunks(ctx context.Context) (string, error) {
	live := with(r.target, func(client *samplerd.Client) error { return r.drawChunks(ctx, client) })
	refusing := with(r.retryTarget, func(client *samplerd.Client) error { return refuseChunks(ctx, client) })
	return fmt.Sprintf("%d draws", len(r.vectors.Chunks.Cases)), errors.Join(live, refusing)
}

func (r *runner) drawChunks(ctx context.Context, client *samplerd.Client) error {
	own := r.vectors.Chunks
	rows := samplerd.F32(slices.Concat(own.Rows...), len(own.Rows))
	made, err := client.CreateDistribution(ctx, &pb.CreateDistributionRequest{
		Source: &pb.CreateDistributionRequest_Tensor{Tensor: rows}})
	if err != nil {
		return err
	}
	for i, each := range own.Cases {
		if err := each.draw(ctx, client, made.GetName(), i == 1); err != nil {
			return fmt.Errorf("%s: %w", each.Name, err)
		}
	}
	if err := stopEarly(ctx, client, made.GetName()); err != nil {
		return err
	}
	var failure *samplerd.Error
	_, err = counted(ctx, client, patient, samplerd.FromDistribution(made.GetName(), samplerd.Temperature(-1)))
	if !errors.As(err, &failure) || failure.Code != codes.InvalidArgument || len(failure.Violations) != 1 ||
		failure.Violations[0].Field != "params.temperature" {
		return fmt.Errorf("a wrong temperature ended with %v", err)
	}
	_, err = counted(ctx, client, patient, samplerd.FromDistribution("there.is.none"))
	if _, err = codeOf(err, codes.NotFound); err != nil {
		return err
	}
	return client.DeleteDistribution(ctx, made.GetName())
}

func (c *chunked) draw(ctx context.Context, client *samplerd.Client, name string, isRaw bool) error {
	request := samplerd.FromDistribution(name, samplerd.Seed(c.Seed), samplerd.DrawOffset(c.DrawOffset),
		samplerd.Temperature(c.Temperature), samplerd.NumSamples(c.NumSamples))
	if isRaw {
		samplerd.Raw()(request)
	}
	var ids []int32
	var last *samplerd.Chunk
	number := uint32(0)
	for chunk, err := range client.DrawChunks(ctx, patient, request) {
		switch {
		case err != nil:
			return err
		case chunk.GetChunk() != number || chunk.Offset != uint64(len(ids)) || chunk.GetSeed() != c.Seed:
			return fmt.Errorf("chunk %d is number %d at %d, of seed %d", number, chunk.GetChunk(), chunk.Offset, chunk.GetSeed())
		case last != nil && last.GetFinal():
			return errors.New("a chunk came after the last one")
		}
		ids, last, number = append(ids, chunk.IDs()...), chunk, number+1
	}
	if number < 2 || !last.GetFinal() || !slices.Equal(ids, c.Samples) {
		return fmt.Errorf("drew %v in %d chunks", ids, number)
	}
	return nil
}

// refuseChunks meets a server that is busy before the first chunk, and one that is not there after it.
func refuseChunks(ctx context.Context, client *samplerd.Client) error {
	for _, each := range []struct {
		name   string
		wait   time.Duration
		chunks int
		code   codes.Code
	}{
		{"busy", patient, 2, codes.OK},
		{"broken", patient, 1, codes.Unavailable},
		{"cut", patient, 1, codes.Unavailable},
		{"slow", 2 * time.Second, 5, codes.OK}, // longer in all than one wait
		{"silent", 300 * time.Millisecond, 1, codes.DeadlineExceeded},
	} {
		number, err := counted(ctx, client, each.wait, samplerd.FromDistribution(each.name))
		if each.code != codes.OK {
			_, err = codeOf(err, each.code)
		}
		if err != nil || number != each.chunks {
			return fmt.Errorf("%s: %d chunks: %w", each.name, number, err)
		}
	}
	if err := stopEarly(ctx, client, "endless"); err != nil {
		return err
	}
	// It is answered once no draw is in flight.
	result, err := client.Do(ctx, samplerd.FromDistribution("left"))
	if err == nil && !slices.Equal(result.GetSamples(), []int32{7}) {
		err = fmt.Errorf("answered with %v", result.GetSamples())
	}
	return err
}

// counted says how many chunks came, and how the draw ended.
func counted(
	ctx context.Context, client *samplerd.Client, wait time.Duration, request *pb.SampleRequest,
) (int, error) {
	number := 0
	for _, err := range client.DrawChunks(ctx, wait, request) {
		if err != nil {
			return number, err
		}
		number++
	}
	return number, nil
}

// stopEarly leaves a draw after two chunks.
func stopEarly(ctx context.Context, client *samplerd.Client, name string) error {
	number := 0
	request := samplerd.FromDistribution(name, samplerd.NumSamples(endless))
	for _, err := range client.DrawChunks(ctx, patient, request) {
		if err != nil {
			return err
		}
		if number++; number == 2 {
			return nil
		}
	}
	return fmt.Errorf("%s ended after %d chunks", name, number)
}
