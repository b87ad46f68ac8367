// Command conformance runs the conformance suite through the Go client: see client/conformance/README.md for what is
// tried and printed.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	samplerd "samplerd.dev/go"
)

// runner holds what the flags say.
type runner struct {
	target, retryTarget, servers, unixTarget, tlsTarget, ca, token string
	vectors                                                        vectors
}

func main() {
	var r runner
	flag.StringVar(&r.target, "target", "", "a samplerd, plaintext")
	flag.StringVar(&r.retryTarget, "retry-target", "", "a server that refuses")
	flag.StringVar(&r.servers, "servers", "", "several servers, with commas between them")
	flag.StringVar(&r.unixTarget, "unix-target", "", "a samplerd on a Unix socket")
	flag.StringVar(&r.tlsTarget, "tls-target", "", "a samplerd that speaks TLS and wants a token")
	flag.StringVar(&r.ca, "ca", "", "who signed its certificate")
	flag.StringVar(&r.token, "token", "", "the token")
	path := flag.String("vectors", "", "vectors.json")
	flag.Parse()
	text, err := os.ReadFile(*path)
	if err == nil {
		err = json.Unmarshal(text, &r.vectors)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if !r.run() {
		os.Exit(1)
	}
}

// run tries everything and says whether all passed.
func (r *runner) run() bool {
	features := []struct {
		name string
		try  func(context.Context) (string, error)
	}{
		{"calls", r.calls}, {"parameters", r.parameters}, {"arrays", r.arrays}, {"halves", r.halves},
		{"guidance", r.guidance}, {"drafts", r.drafts}, {"frequencies", r.frequencies}, {"stream", r.stream}, {"chunks", r.chunks},
		{"limits", r.limits}, {"deadline", r.deadline}, {"cancel", r.cancel}, {"retry", r.retry}, {"budget", r.budget},
		{"metadata", r.metadata}, {"servers", r.severalServers}, {"connections", r.connections}, {"unix", r.unix}, {"tls", r.tls}, {"token", r.tokens},
	}
	passed := true
	for _, feature := range features {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		detail, err := feature.try(ctx)
		cancel()
		if err != nil {
			passed = false
			fmt.Fprintf(os.Stderr, "%s: %v\n", feature.name, err)
			fmt.Printf("%s\tfail\t%s\n", feature.name, strings.Join(strings.Fields(err.Error()), " "))
			continue
		}
		fmt.Printf("%s\tpass\t%s\n", feature.name, detail)
	}
	return passed
}

// with lends a client of a target.
func with(target string, use func(*samplerd.Client) error, options ...samplerd.DialOption) error {
	client, err := samplerd.Dial(target, options...)
	if err != nil {
		return err
	}
	defer client.Close()
	return use(client)
}
