package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	samplerd "samplerd.dev/go"

	"google.golang.org/grpc/codes"
)

// budget meets an outage: retries are bounded over all calls, and successes give some back.
func (r *runner) budget(ctx context.Context) (string, error) {
	distributions := slices.Concat(slices.Repeat([]string{"outage"}, 40), slices.Repeat([]string{"steady"}, 11),
		[]string{"outage"})
	err := with(r.retryTarget, func(client *samplerd.Client) error {
		for _, distribution := range distributions {
			_, err := client.Do(ctx, samplerd.FromDistribution(distribution))
			if distribution == "outage" {
				_, err = codeOf(err, codes.Unavailable)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return "21 retries of 41 calls", err
}

// severalServers draws from servers some of which are not serving, or not for long.
func (r *runner) severalServers(ctx context.Context) (string, error) {
	client, err := samplerd.DialServers(strings.Split(r.servers, ","))
	if err != nil {
		return "", err
	}
	defer client.Close()
	for range 200 {
		result, err := client.Sample(ctx, samplerd.F32([]float32{0}, 1))
		if err != nil {
			return "", err
		}
		if !slices.Equal(result.GetSamples(), []int32{0}) {
			return "", fmt.Errorf("drew %v", result.GetSamples())
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "200 draws", nil
}

// connections takes turns on four.
func (r *runner) connections(ctx context.Context) (string, error) {
	counted := with(r.retryTarget, func(client *samplerd.Client) error {
		for range 40 {
			if _, err := client.Do(ctx, samplerd.FromDistribution("connections")); err != nil {
				return err
			}
		}
		return nil
	}, samplerd.WithConnections(4))
	live := with(r.target, func(client *samplerd.Client) error {
		for range 8 {
			if err := r.worked(ctx, client); err != nil {
				return err
			}
		}
		return nil
	}, samplerd.WithConnections(4))
	return "4 connections", errors.Join(counted, live)
}

// unix calls over a Unix socket, where a token needs no TLS.
func (r *runner) unix(ctx context.Context) (string, error) {
	err := with(r.unixTarget, func(client *samplerd.Client) error { return r.worked(ctx, client) },
		samplerd.WithToken("unasked"))
	return "and a token in plain text", err
}

// worked makes the first of the calls.
func (r *runner) worked(ctx context.Context, client *samplerd.Client) error {
	first := r.vectors.Calls[0]
	reply, err := invoke(ctx, client, first)
	return r.judge(first, reply, err)
}
