package samplerd

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	pb "samplerd.dev/go/samplerd/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// drawing serves large draws as a test says.
type drawing struct {
	pb.UnimplementedSamplerServiceServer
	serve func(*pb.SampleRequest, pb.SamplerService_SampleDistributionServer) error
}

func (d drawing) SampleDistribution(
	request *pb.SampleRequest, stream pb.SamplerService_SampleDistributionServer,
) error {
	return d.serve(request, stream)
}

func drawn(
	t *testing.T, serve func(*pb.SampleRequest, pb.SamplerService_SampleDistributionServer) error,
) *Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterSamplerServiceServer(server, drawing{serve: serve})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	client, err := Dial(listener.Addr().String(), WithRetry(fast))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// part is chunk number at of three.
func part(at int) *pb.SampleResponse {
	return &pb.SampleResponse{Samples: []int32{int32(at), 9}, Chunk: uint32(at), Final: at == 2}
}

func TestChunksComeInOrderAfterRefusals(t *testing.T) {
	var asked atomic.Int32
	client := drawn(t, func(_ *pb.SampleRequest, stream pb.SamplerService_SampleDistributionServer) error {
		if asked.Add(1) < 3 {
			return status.Error(codes.Unavailable, "not yet")
		}
		return errors.Join(stream.Send(part(0)), stream.Send(part(1)), stream.Send(part(2)))
	})
	var offsets []uint64
	var ids []int32
	for chunk, err := range client.DrawChunks(soon(t), time.Minute, FromDistribution("d")) {
		if err != nil {
			t.Fatal(err)
		}
		offsets, ids = append(offsets, chunk.Offset), append(ids, chunk.IDs()...)
	}
	if !slices.Equal(offsets, []uint64{0, 2, 4}) || !slices.Equal(ids, []int32{0, 9, 1, 9, 2, 9}) || asked.Load() != 3 {
		t.Errorf("%v at %v, after %d attempts", ids, offsets, asked.Load())
	}
}

func TestADrawThatHasBegunIsNotTriedAgain(t *testing.T) {
	for name, end := range map[string]error{"broken": status.Error(codes.Unavailable, "gone"), "cut": nil} {
		var asked atomic.Int32
		client := drawn(t, func(_ *pb.SampleRequest, stream pb.SamplerService_SampleDistributionServer) error {
			asked.Add(1)
			if err := stream.Send(part(0)); err != nil {
				return err
			}
			return end
		})
		number, failure := 0, error(nil)
		for _, err := range client.DrawChunks(soon(t), 0, FromDistribution("d")) {
			if failure = err; err == nil {
				number++
			}
		}
		if status.Code(failure) != codes.Unavailable || number != 1 || asked.Load() != 1 {
			t.Errorf("%s: %d chunks, %d attempts, %v", name, number, asked.Load(), failure)
		}
	}
}

func TestAWaitIsBoundedAndLeavingEndsTheCall(t *testing.T) {
	ended := make(chan error, 3)
	client := drawn(t, func(request *pb.SampleRequest, stream pb.SamplerService_SampleDistributionServer) error {
		if request.GetDistribution() != "mute" {
			if err := stream.Send(part(0)); err != nil {
				return err
			}
		}
		<-stream.Context().Done()
		ended <- stream.Context().Err()
		return stream.Context().Err()
	})
	for _, name := range []string{"mute", "silent"} {
		var failure error
		for _, err := range client.DrawChunks(soon(t), 50*time.Millisecond, FromDistribution(name)) {
			failure = err
		}
		if !errors.Is(failure, context.DeadlineExceeded) {
			t.Errorf("%s ended with %v", name, failure)
		}
		<-ended
	}
	for _, err := range client.DrawChunks(soon(t), time.Minute, FromDistribution("left")) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	<-ended
}
