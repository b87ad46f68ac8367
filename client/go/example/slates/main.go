// Command slates draws ranked lists from a small catalogue: each item at most once, likely ones first more often, as a
// shop or a feed does that wants to show not the same five things to everybody.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"strings"
	"sync"
	"time"

	samplerd "samplerd.dev/go"
	pb "samplerd.dev/go/samplerd/v1"
)

// The catalogue, and how well each item fits; a difference of 1 makes an item e times as likely to come first.
var (
	titles = []string{"Dune", "Emma", "Ulysses", "Walden", "Hamlet", "Middlemarch", "Beloved", "Kim"}
	scores = []float32{2.1, 1.9, 0.2, 0.8, 1.5, 1.2, 1.4, -0.5}
)

const slots, visitors = 4, 1000

func main() {
	log.SetFlags(0)
	target := flag.String("target", "127.0.0.1:50051", "the server's HOST:PORT")
	flag.Parse()
	if err := run(*target); err != nil {
		log.Fatal(err)
	}
}

func run(target string) error {
	client, err := samplerd.Dial(target)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	fmt.Println("One slate at each temperature; the same seed draws the same slate on any day:")
	for _, temperature := range []float64{0, 0.5, 1, 2} {
		result, err := client.Sample(ctx, samplerd.F32(scores, 1), samplerd.Temperature(temperature),
			samplerd.NumSamples(slots), samplerd.WithoutReplacement(), samplerd.Seed(7))
		if err != nil {
			return err
		}
		fmt.Printf("  T = %-3g  %s\n", temperature, names(result.Row(0)))
	}
	if err := firstPlaces(ctx, client); err != nil {
		return err
	}
	return mistake(ctx, client)
}

// firstPlaces draws a slate for every visitor, all of them in flight on one stream, and counts who came first.
func firstPlaces(ctx context.Context, client *samplerd.Client) error {
	stream, err := client.Stream(ctx, 64)
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	results, failures := make([]*samplerd.Result, visitors), make([]error, visitors)
	for visitor := range visitors {
		group.Add(1)
		go func() {
			defer group.Done()
			results[visitor], failures[visitor] = stream.Sample(ctx, samplerd.F32(scores, 1),
				samplerd.NumSamples(slots), samplerd.WithoutReplacement(), samplerd.Seed(uint64(visitor)))
		}()
	}
	group.Wait()
	if err := errors.Join(append(failures, stream.Close())...); err != nil {
		return err
	}
	first, shown := make([]int, len(titles)), make([]int, len(titles))
	for _, result := range results {
		slate := result.Row(0)
		first[slate[0]]++
		for _, id := range slate {
			shown[id]++
		}
	}
	fmt.Printf("\n%d visitors, a slate of %d for each:\n  %-12s %7s %7s %7s\n", visitors, slots, "", "score", "first", "shown")
	for id, title := range titles {
		fmt.Printf("  %-12s %7.1f %7d %7d\n", title, scores[id], first[id], shown[id])
	}
	return nil
}

// mistake shows what an error tells.
func mistake(ctx context.Context, client *samplerd.Client) error {
	_, err := client.Sample(ctx, samplerd.F32(scores, 1), samplerd.Params(&pb.SamplingParams{MinP: 1.5}))
	var failure *samplerd.Error
	if !errors.As(err, &failure) {
		return fmt.Errorf("a min_p of 1.5 gave %v", err)
	}
	fmt.Printf("\nAnd a min_p of 1.5 is refused: %s\n", failure)
	return nil
}

func names(ids []int32) string {
	chosen := make([]string, len(ids))
	for i, id := range ids {
		chosen[i] = titles[id]
	}
	return strings.Join(chosen, ", ")
}
