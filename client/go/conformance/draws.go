package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	samplerd "samplerd.dev/go"
	pb "samplerd.dev/go/samplerd/v1"

	"google.golang.org/protobuf/proto"
)

// calls makes all calls, one after the other.
func (r *runner) calls(ctx context.Context) (string, error) {
	err := with(r.target, func(client *samplerd.Client) error {
		for _, call := range r.vectors.Calls {
			reply, err := invoke(ctx, client, call)
			if err := r.judge(call, reply, err); err != nil {
				return err
			}
		}
		return nil
	})
	return fmt.Sprintf("%d calls", len(r.vectors.Calls)), err
}

func invoke(ctx context.Context, client *samplerd.Client, call call) (proto.Message, error) {
	switch call.RPC {
	case "Sample":
		return send(call, func(request *pb.SampleRequest) (proto.Message, error) {
			result, err := client.Do(ctx, request)
			if err != nil {
				return nil, err
			}
			return result.SampleResponse, nil
		})
	case "VerifyDraft":
		return send(call, func(request *pb.VerifyDraftRequest) (proto.Message, error) {
			return client.VerifyDraft(ctx, request)
		})
	case "CreateDistribution":
		return send(call, func(request *pb.CreateDistributionRequest) (proto.Message, error) {
			return client.CreateDistribution(ctx, request)
		})
	case "DeleteDistribution":
		return send(call, func(request *pb.DeleteDistributionRequest) (proto.Message, error) {
			return nil, client.DeleteDistribution(ctx, request.GetName())
		})
	}
	return nil, fmt.Errorf("%s: %s is no RPC of the suite", call.Name, call.RPC)
}

// send decodes a call's request and hands it on.
func send[M any, Q interface {
	*M
	proto.Message
}](call call, do func(Q) (proto.Message, error)) (proto.Message, error) {
	request := Q(new(M))
	if err := proto.Unmarshal(call.Request, request); err != nil {
		return nil, err
	}
	return do(request)
}

// judge holds what became of a call against what should.
func (r *runner) judge(call call, reply proto.Message, err error) error {
	var failure *samplerd.Error
	switch {
	case call.Error == nil && err != nil:
		return fmt.Errorf("%s: %w", call.Name, err)
	case call.Error == nil && (call.RPC == "Sample" || call.RPC == "VerifyDraft"):
		return r.vectors.compare(call.Name, reply, call.Reply)
	case call.Error == nil:
		return nil
	case !errors.As(err, &failure) || uint32(failure.Code) != call.Error.Code:
		return fmt.Errorf("%s: ended with %v, where code %d was due", call.Name, err, call.Error.Code)
	}
	var fields []string
	for _, violation := range failure.Violations {
		fields = append(fields, violation.Field)
	}
	if len(call.Error.Fields) > 0 && !slices.Equal(fields, call.Error.Fields) {
		return fmt.Errorf("%s: names %v, not %v", call.Name, fields, call.Error.Fields)
	}
	return nil
}

// arrays encodes rows, and draws from them.
func (r *runner) arrays(ctx context.Context) (string, error) {
	encoders := map[string]func([]float32, int) *pb.Tensor{"F32": samplerd.F32, "F16": samplerd.F16, "BF16": samplerd.BF16}
	err := with(r.target, func(client *samplerd.Client) error {
		for _, array := range r.vectors.Arrays {
			encode, known := encoders[array.Dtype]
			seed, err := strconv.ParseUint(array.Seed.String(), 10, 64)
			if !known || err != nil {
				return fmt.Errorf("%s: dtype %s, seed %s", array.Name, array.Dtype, array.Seed)
			}
			rows := encode(slices.Concat(array.Rows...), len(array.Rows))
			if !bytes.Equal(rows.GetData(), array.Data) {
				return fmt.Errorf("%s: other bytes", array.Name)
			}
			result, err := client.Sample(ctx, rows, samplerd.Temperature(array.Temperature), samplerd.Seed(seed),
				samplerd.NumSamples(array.NumSamples))
			if err != nil {
				return fmt.Errorf("%s: %w", array.Name, err)
			}
			if !slices.Equal(result.GetSamples(), array.Samples) {
				return fmt.Errorf("%s: drew %v", array.Name, result.GetSamples())
			}
		}
		return nil
	})
	return fmt.Sprintf("%d arrays", len(r.vectors.Arrays)), err
}

// halves draws from 16-bit numbers as they are.
func (r *runner) halves(ctx context.Context) (string, error) {
	encoders := map[string]func([]uint16, int) *pb.Tensor{"F16": samplerd.F16Bits, "BF16": samplerd.BF16Bits}
	tried := 0
	err := with(r.target, func(client *samplerd.Client) error {
		for _, array := range r.vectors.Arrays {
			encode, isHalf := encoders[array.Dtype]
			if !isHalf {
				continue
			}
			tried++
			bits := make([]uint16, len(array.Data)/2)
			for i := range bits {
				bits[i] = binary.LittleEndian.Uint16(array.Data[2*i:])
			}
			seed, err := strconv.ParseUint(array.Seed.String(), 10, 64)
			if err != nil {
				return err
			}
			result, err := client.Sample(ctx, encode(bits, len(array.Rows)), samplerd.Temperature(array.Temperature),
				samplerd.Seed(seed), samplerd.NumSamples(array.NumSamples))
			if err != nil {
				return fmt.Errorf("%s: %w", array.Name, err)
			}
			if !slices.Equal(result.GetSamples(), array.Samples) {
				return fmt.Errorf("%s: drew %v", array.Name, result.GetSamples())
			}
		}
		return nil
	})
	return fmt.Sprintf("%d arrays", tried), err
}

// frequencies holds unseeded draws against their law.
func (r *runner) frequencies(ctx context.Context) (string, error) {
	err := with(r.target, func(client *samplerd.Client) error {
		for _, law := range r.vectors.Frequencies {
			request := &pb.SampleRequest{}
			if err := proto.Unmarshal(law.Request, request); err != nil {
				return err
			}
			result, err := client.Do(ctx, request)
			if err != nil {
				return fmt.Errorf("%s: %w", law.Name, err)
			}
			if err := law.judge(result); err != nil {
				return fmt.Errorf("%s: %w", law.Name, err)
			}
		}
		return nil
	})
	return fmt.Sprintf("%d laws", len(r.vectors.Frequencies)), err
}

func (f *frequency) judge(result *samplerd.Result) error {
	counts := make([]float64, len(f.Probabilities))
	total := 0.0
	for row := range result.Rows() {
		for _, id := range result.Row(row) {
			if id < 0 || int(id) >= len(counts) || f.Probabilities[id] <= 0 {
				return fmt.Errorf("%d was drawn, which cannot be", id)
			}
			counts[id]++
			total++
		}
	}
	if total != f.Draws {
		return fmt.Errorf("%v draws, not %v", total, f.Draws)
	}
	statistic := 0.0
	for id, probability := range f.Probabilities {
		if expected := probability * f.Draws; expected > 0 {
			statistic += (counts[id] - expected) * (counts[id] - expected) / expected
		}
	}
	if statistic > f.Critical {
		return fmt.Errorf("statistic %v > %v", statistic, f.Critical)
	}
	return nil
}

// stream asks everything at once over one stream.
func (r *runner) stream(ctx context.Context) (string, error) {
	type asked struct {
		call    call
		request *pb.SampleRequest
	}
	var all []asked
	for _, call := range r.vectors.Calls {
		request := &pb.SampleRequest{}
		if call.RPC != "Sample" || call.Error != nil {
			continue
		}
		if err := proto.Unmarshal(call.Request, request); err != nil {
			return "", err
		}
		if request.GetDistribution() != "" || request.Seed == nil && len(request.GetRowSeeds()) == 0 {
			continue
		}
		request.Id = 1000 + uint64(len(all))
		call.Reply = maps.Clone(call.Reply)
		call.Reply["id"] = strconv.FormatUint(request.GetId(), 10)
		all = append(all, asked{call, request})
	}
	err := with(r.target, func(client *samplerd.Client) error {
		stream, err := client.Stream(ctx, len(all))
		if err != nil {
			return err
		}
		failures := make([]error, len(all))
		var group sync.WaitGroup
		for i, one := range all {
			group.Add(1)
			go func() {
				defer group.Done()
				result, err := stream.Do(ctx, one.request)
				if err == nil {
					err = r.vectors.compare(one.call.Name, result.SampleResponse, one.call.Reply)
				}
				failures[i] = err
			}()
		}
		group.Wait()
		return errors.Join(append(failures, stream.Close())...)
	})
	return fmt.Sprintf("%d requests in flight", len(all)), err
}
