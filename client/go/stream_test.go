package samplerd

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "samplerd.dev/go/samplerd/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// fake serves streams as a test says.
type fake struct {
	pb.UnimplementedSamplerServiceServer
	serve func(pb.SamplerService_SampleStreamServer) error
}

func (f fake) SampleStream(stream pb.SamplerService_SampleStreamServer) error { return f.serve(stream) }

// against lends a client of a server that serves so.
func against(t *testing.T, serve func(pb.SamplerService_SampleStreamServer) error, options ...DialOption) *Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterSamplerServiceServer(server, fake{serve: serve})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	client, err := Dial(listener.Addr().String(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func open1(t *testing.T, client *Client, maxInFlight int) *Stream {
	t.Helper()
	stream, err := client.Stream(soon(t), maxInFlight)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// answer makes the reply that tells the seed.
func answer(request *pb.SampleRequest) *pb.SampleResponse {
	return &pb.SampleResponse{Id: request.GetId(), Samples: []int32{int32(request.GetSeed())}, Final: true}
}

// backwards collects a number of requests before it answers them, last first.
func backwards(number int) func(pb.SamplerService_SampleStreamServer) error {
	return func(stream pb.SamplerService_SampleStreamServer) error {
		var requests []*pb.SampleRequest
		for range number {
			request, err := stream.Recv()
			if err != nil {
				return err
			}
			requests = append(requests, request)
		}
		for _, request := range slices.Backward(requests) {
			reply := answer(request)
			if request.GetSeed()%5 == 0 {
				reply = &pb.SampleResponse{Id: request.GetId(), Final: true,
					Error: status.New(codes.NotFound, "none").Proto()}
			}
			if err := stream.Send(reply); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestRepliesFindTheirRequests(t *testing.T) {
	stream := open1(t, against(t, backwards(40)), 40)
	var group sync.WaitGroup
	for seed := range uint64(40) {
		group.Add(1)
		go func() {
			defer group.Done()
			request := Request(F32([]float32{1}, 1), Seed(seed))
			request.Id = 99 // the same for all
			result, err := stream.Do(context.Background(), request)
			if seed%5 == 0 {
				if status.Code(err) != codes.NotFound {
					t.Errorf("request %d: %v", seed, err)
				}
			} else if err != nil || result.GetSamples()[0] != int32(seed) || result.GetId() != 99 {
				t.Errorf("request %d: %v, %v", seed, result, err)
			}
			if request.GetId() != 99 {
				t.Errorf("the request was changed: %d", request.GetId())
			}
		}()
	}
	group.Wait()
	if err := stream.Close(); err != nil {
		t.Errorf("closed with %v", err)
	}
	if _, err := stream.Sample(soon(t), F32([]float32{1}, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestNoMoreInFlightThanSaid(t *testing.T) {
	var inFlight, most atomic.Int32
	stream := open1(t, against(t, func(stream pb.SamplerService_SampleStreamServer) error {
		var group sync.WaitGroup
		defer group.Wait()
		var sending sync.Mutex
		for {
			request, err := stream.Recv()
			if err != nil {
				return nil
			}
			most.Store(max(most.Load(), inFlight.Add(1)))
			group.Add(1)
			time.AfterFunc(time.Millisecond, func() {
				defer group.Done()
				inFlight.Add(-1)
				sending.Lock()
				defer sending.Unlock()
				_ = stream.Send(answer(request))
			})
		}
	}), 3)
	var group sync.WaitGroup
	for range 30 {
		group.Add(1)
		go func() {
			defer group.Done()
			if _, err := stream.Sample(soon(t), F32([]float32{1}, 1)); err != nil {
				t.Error(err)
			}
		}()
	}
	group.Wait()
	if err := stream.Close(); err != nil || most.Load() > 3 {
		t.Errorf("%d in flight, closed with %v", most.Load(), err)
	}
}

func TestChunksAreJoined(t *testing.T) {
	client := against(t, func(stream pb.SamplerService_SampleStreamServer) error {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		for chunk := range uint32(3) {
			err = errors.Join(err, stream.Send(&pb.SampleResponse{Id: request.GetId(), Chunk: chunk, Final: chunk == 2,
				Samples: []int32{int32(chunk)}, Logprobs: []*pb.Logprobs{{Samples: []float32{float32(chunk)}}}}))
		}
		return err
	})
	stream := open1(t, client, 1)
	result, err := stream.Sample(soon(t), F32([]float32{1}, 1), NumSamples(3))
	if err != nil || !slices.Equal(result.Row(0), []int32{0, 1, 2}) ||
		!slices.Equal(result.GetLogprobs()[0].GetSamples(), []float32{0, 1, 2}) || !result.GetFinal() {
		t.Errorf("joined to %v, %v", result, err)
	}
	count := 0
	for chunk, err := range client.Chunks(soon(t), FromDistribution("d", NumSamples(3))) {
		if err != nil || chunk.GetSamples()[0] != int32(count) {
			t.Errorf("chunk %d: %v, %v", count, chunk, err)
		}
		count++
	}
	if count != 3 {
		t.Errorf("%d chunks", count)
	}
}

func TestBrokenStreamFailsAll(t *testing.T) {
	stream := open1(t, against(t, func(stream pb.SamplerService_SampleStreamServer) error {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		stream.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", "250"))
		return status.Error(codes.Unavailable, "going away")
	}), 8)
	for range 2 {
		_, err := stream.Sample(soon(t), F32([]float32{1}, 1))
		var failure *Error
		if !errors.As(err, &failure) || failure.Code != codes.Unavailable || failure.RetryAfter != 250*time.Millisecond {
			t.Errorf("ended with %v", err)
		}
	}
	if err := stream.Close(); status.Code(err) != codes.Unavailable {
		t.Errorf("closed with %v", err)
	}
}

func TestGivingUpLeavesTheStreamAlive(t *testing.T) {
	release := make(chan struct{})
	stream := open1(t, against(t, func(stream pb.SamplerService_SampleStreamServer) error {
		for {
			request, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if request.GetSeed() == 1 {
				<-release
			}
			if err := stream.Send(answer(request)); err != nil {
				return err
			}
		}
	}, WithMaxMessageBytes(1000)), 2)
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := stream.Sample(short, F32([]float32{1}, 1), Seed(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
	if _, err := stream.Sample(soon(t), F32(make([]float32, 1000), 1)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a request that is too large: %v", err)
	}
	close(release)
	if result, err := stream.Sample(soon(t), F32([]float32{1}, 1), Seed(2)); err != nil || result.Row(0)[0] != 2 {
		t.Errorf("the next one: %v, %v", result, err)
	}
	if err := stream.Close(); err != nil {
		t.Errorf("closed with %v", err)
	}
}
