package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	samplerd "samplerd.dev/go"
	pb "samplerd.dev/go/samplerd/v1"

	"google.golang.org/protobuf/encoding/protojson"
)

// parameters sets them by their names, and names the cases that failed.
func (r *runner) parameters(ctx context.Context) (string, error) {
	all := r.vectors.Parameters
	var failed []string
	err := with(r.target, func(client *samplerd.Client) error {
		for _, one := range all.Cases {
			params := &pb.SamplingParams{}
			if err := protojson.Unmarshal(one.Params, params); err != nil {
				return fmt.Errorf("%s: %w", one.Name, err)
			}
			result, err := client.Sample(ctx, rowsOf(all.Tables[one.Table]), samplerd.Params(params),
				samplerd.Seed(all.Seed), samplerd.NumSamples(all.NumSamples))
			if err != nil || !slices.Equal(result.GetSamples(), one.Samples) {
				failed = append(failed, one.Name)
			}
		}
		return nil
	})
	if len(failed) > 0 {
		err = errors.Join(err, errors.New(strings.Join(failed, "; ")))
	}
	return fmt.Sprintf("%d sets of parameters", len(all.Cases)), err
}

// guidance guides rows by rows.
func (r *runner) guidance(ctx context.Context) (string, error) {
	err := with(r.target, func(client *samplerd.Client) error {
		for _, one := range r.vectors.Guidance {
			result, err := client.Sample(ctx, rowsOf(one.Rows), samplerd.Guidance(rowsOf(one.Guidance)),
				samplerd.GuidanceScale(one.Scale), samplerd.TopK(one.TopK), samplerd.Seed(one.Seed),
				samplerd.NumSamples(one.NumSamples))
			if err != nil {
				return fmt.Errorf("%s: %w", one.Name, err)
			}
			if !slices.Equal(result.GetSamples(), one.Samples) {
				return fmt.Errorf("%s: drew %v", one.Name, result.GetSamples())
			}
		}
		return nil
	})
	return fmt.Sprintf("%d pairs of rows", len(r.vectors.Guidance)), err
}

// drafts verifies chains and trees.
func (r *runner) drafts(ctx context.Context) (string, error) {
	err := with(r.target, func(client *samplerd.Client) error {
		for _, one := range r.vectors.Drafts {
			request := &pb.VerifyDraftRequest{
				DraftIds: one.DraftIDs, Parents: one.Parents, Target: rowsOf(one.Target), Seed: &one.Seed,
				Params: &pb.SamplingParams{Temperature: &one.Temperature},
			}
			if len(one.Draft) > 0 {
				request.Draft = rowsOf(one.Draft)
			}
			verdict, err := client.VerifyDraft(ctx, request)
			if err != nil {
				return fmt.Errorf("%s: %w", one.Name, err)
			}
			isSame := slices.Equal(verdict.GetSamples(), one.Samples) && slices.Equal(verdict.GetPath(), one.Path)
			if !isSame || verdict.GetAccepted() != one.Accepted {
				return fmt.Errorf("%s: %v", one.Name, verdict)
			}
		}
		return nil
	})
	return fmt.Sprintf("%d drafts", len(r.vectors.Drafts)), err
}

func rowsOf(rows [][]float32) *pb.Tensor { return samplerd.F32(slices.Concat(rows...), len(rows)) }
