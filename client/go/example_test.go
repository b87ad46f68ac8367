package samplerd_test

// What README.md shows, so that it compiles; TestReadme holds the two against each other.

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	samplerd "samplerd.dev/go"
	pb "samplerd.dev/go/samplerd/v1"

	"google.golang.org/grpc/codes"
)

func Example() {
	client, err := samplerd.Dial("127.0.0.1:50051")
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	logits := []float32{1.0, 2.0, 0.5, 1.5}
	result, err := client.Sample(ctx, samplerd.F32(logits, 1),
		samplerd.Temperature(0.7), samplerd.NumSamples(5), samplerd.Seed(1234))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Row(0)) // [0 1 1 2 0]
}

func exampleArrays(ctx context.Context, client *samplerd.Client, a, b []float32) error {
	rows := samplerd.F32(slices.Concat(a, b), 2)   // rows one after the other, and their number
	half := samplerd.BF16(slices.Concat(a, b), 2)  // half the bytes; F16 and F64 are there as well
	weights := samplerd.F32([]float32{3, 1, 0}, 1) // not logits: say Probabilities()

	result, err := client.Sample(ctx, rows, samplerd.TopK(50), samplerd.TopP(0.95),
		samplerd.Logprobs(pb.LogprobKind_LOGPROB_KIND_PROCESSED))
	if err != nil {
		return err
	}
	fmt.Println(result.Row(1), result.GetLogprobs()[0].GetSamples(), result.GetSeed())

	if _, err := client.Sample(ctx, half, samplerd.NumSamples(1_000_000), samplerd.Raw()); err != nil {
		return err
	}
	_, err = client.Sample(ctx, weights, samplerd.Probabilities(), samplerd.NumSamples(2), samplerd.WithoutReplacement())
	return err
}

func exampleRequest(ctx context.Context, client *samplerd.Client) error {
	result, err := client.Do(ctx, &pb.SampleRequest{
		Params: &pb.SamplingParams{History: []int32{4, 7, 4}, FrequencyPenalty: 0.5},
		Source: &pb.SampleRequest_Candidates{Candidates: &pb.Candidates{
			VocabSize: 50_000,
			Row:       []*pb.Candidates_Row{{Ids: []int32{4, 7, 11}, Logits: []float32{2, 1.5, 1}}},
		}},
	})
	if err != nil {
		return err
	}
	fmt.Println(result.Row(0))
	return nil
}

func exampleGuidance(
	ctx context.Context, client *samplerd.Client, prompted, bare []float32, history []int32, promptLength int,
) error {
	guided, err := client.Sample(ctx, samplerd.F32(prompted, 1), samplerd.Guidance(samplerd.F32(bare, 1)),
		samplerd.GuidanceScale(1.5)) // logits move from the bare row, through the prompted one, by half as much again
	if err != nil {
		return err
	}
	result, err := client.Sample(ctx, samplerd.F32(prompted, 1), samplerd.History(history...),
		samplerd.PromptLength(promptLength), samplerd.FrequencyPenalty(0.5),
		samplerd.FrequencyScope(pb.PenaltyScope_PENALTY_SCOPE_OUTPUT), // count the tokens after the prompt only
		samplerd.BadWords(samplerd.Tokens(7), samplerd.Tokens(8, 9, 10)))
	if err != nil {
		return err
	}
	fmt.Println(guided.Row(0), result.Row(0))
	return nil
}

func exampleDistribution(ctx context.Context, client *samplerd.Client, logits []float32) error {
	made, err := client.CreateDistribution(ctx, &pb.CreateDistributionRequest{
		Params: &pb.SamplingParams{TopK: 40},
		Source: &pb.CreateDistributionRequest_Tensor{Tensor: samplerd.F32(logits, 1)},
	})
	if err != nil {
		return err
	}
	defer client.DeleteDistribution(ctx, made.GetName())
	request := samplerd.FromDistribution(made.GetName(), samplerd.NumSamples(10_000_000), samplerd.Seed(1), samplerd.Raw())
	for chunk, err := range client.DrawChunks(ctx, 5*time.Second, request) { // 5 s for each chunk at most
		if err != nil {
			return err
		}
		fmt.Println(chunk.Offset, len(chunk.IDs())) // where its first id is in the whole draw
	}
	return nil
}

func exampleDraft(ctx context.Context, client *samplerd.Client, target, draft []float32, tokens []int32) error {
	verdict, err := client.VerifyDraft(ctx, &pb.VerifyDraftRequest{
		DraftIds: tokens,                                  // n tokens,
		Draft:    samplerd.F32(draft, len(tokens)),        // the n rows of probabilities they were drawn from,
		Target:   samplerd.F32(target, len(tokens)+1),     // and the n + 1 rows of the target's logits
		Params:   &pb.SamplingParams{TopK: 40, MinP: 0.1}, // of the target
	})
	if err != nil {
		return err
	}
	fmt.Println(verdict.GetAccepted(), verdict.GetSamples()) // the accepted ones, and one more
	return nil
}

func exampleTree(ctx context.Context, client *samplerd.Client, target []float32) error {
	verdict, err := client.VerifyDraft(ctx, &pb.VerifyDraftRequest{
		DraftIds: []int32{11, 42, 7, 42}, // 11 or 42 come next; then 7 after 11, or 42 after 42
		Parents:  []int32{-1, -1, 0, 1},  // the index of the token that each one follows; -1 is the sequence
		Target:   samplerd.F32(target, 5),
	})
	if err != nil {
		return err
	}
	fmt.Println(verdict.GetPath(), verdict.GetSamples()) // the indices of the accepted ones; they, and one more
	return nil
}

func exampleDeadline(client *samplerd.Client, rows *pb.Tensor) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel() // or earlier, from anywhere: the server then frees the work

	_, err := client.Sample(ctx, rows)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		fmt.Println("too late, or no longer wanted")
	}
}

func exampleErrors(ctx context.Context, client *samplerd.Client, rows *pb.Tensor) {
	result, err := client.Sample(ctx, rows, samplerd.TopP(1.5))
	var failure *samplerd.Error
	if errors.As(err, &failure) {
		switch failure.Code {
		case codes.InvalidArgument:
			fmt.Println(failure.Violations[0].Field) // params.top_p
		case codes.ResourceExhausted:
			fmt.Println("busy; ask again in", failure.RetryAfter)
		default:
			fmt.Println(failure)
		}
		return
	}
	for _, row := range result.GetRowErrors() { // a row with a NaN fails alone; its samples are -1
		fmt.Println(row.GetRow(), row.GetReason(), row.GetMessage())
	}
}

func exampleStream(ctx context.Context, client *samplerd.Client, rows [][]float32) error {
	stream, err := client.Stream(ctx, 64) // at most 64 in flight; the 65th waits for its turn
	if err != nil {
		return err
	}
	var group sync.WaitGroup
	for i, row := range rows {
		group.Add(1)
		go func() {
			defer group.Done()
			result, err := stream.Sample(ctx, samplerd.F32(row, 1), samplerd.Seed(uint64(i)))
			if err != nil {
				fmt.Println("request", i, "failed alone:", err)
				return
			}
			fmt.Println(i, result.Row(0))
		}()
	}
	group.Wait()
	return stream.Close()
}

func exampleTLS() (*samplerd.Client, error) {
	return samplerd.Dial("sampler.example:50051",
		samplerd.WithTLS(samplerd.TLS{CAFile: "authority.pem", CertFile: "client.pem", KeyFile: "client-key.pem"}),
		samplerd.WithToken(os.Getenv("SAMPLERD_TOKEN")))
}

func exampleRetry() (*samplerd.Client, error) {
	return samplerd.Dial("127.0.0.1:50051",
		samplerd.WithRetry(samplerd.RetryPolicy{Attempts: 6, Base: 20 * time.Millisecond, Max: time.Second}))
}

// examples keeps the compiler from calling them unused.
var examples = []any{exampleArrays, exampleRequest, exampleGuidance, exampleDistribution, exampleDraft, exampleTree,
	exampleDeadline, exampleErrors, exampleStream, exampleTLS, exampleRetry}

func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	compiled := withoutIndent(string(code))
	blocks := strings.Split(string(readme), "```go\n")[1:]
	if len(blocks) != len(examples)+1 {
		t.Errorf("%d snippets, and %d examples", len(blocks), len(examples)+1)
	}
	for _, block := range blocks {
		snippet, _, _ := strings.Cut(block, "```")
		if !strings.Contains(compiled, withoutIndent(snippet)) {
			t.Errorf("not compiled:\n%s", snippet)
		}
	}
}

func withoutIndent(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "\n")
}
