package samplerd

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

var busy = status.Error(codes.ResourceExhausted, "busy")

// failing answers with each of these errors in turn, then with 7; it counts.
func failing(attempts *int, trailer metadata.MD, failures ...error) func(...grpc.CallOption) (int, error) {
	return func(options ...grpc.CallOption) (int, error) {
		for _, option := range options {
			if taken, ok := option.(grpc.TrailerCallOption); ok {
				*taken.TrailerAddr = trailer
			}
		}
		*attempts++
		if *attempts <= len(failures) {
			return 0, failures[*attempts-1]
		}
		return 7, nil
	}
}

var fast = RetryPolicy{Attempts: 4, Base: time.Microsecond, Max: time.Millisecond}

func TestRetry(t *testing.T) {
	lost := status.Error(codes.Unavailable, "lost")
	wrong := status.Error(codes.InvalidArgument, "wrong")
	pushback := func(texts ...string) metadata.MD { return metadata.MD{"grpc-retry-pushback-ms": texts} }
	for name, c := range map[string]struct {
		trailer  metadata.MD
		failures []error
		attempts int
		code     codes.Code
	}{
		"success":             {nil, nil, 1, codes.OK},
		"busy, then lost":     {nil, []error{busy, lost}, 3, codes.OK},
		"four times busy":     {nil, []error{busy, busy, busy, busy, busy}, 4, codes.ResourceExhausted},
		"a mistake":           {nil, []error{wrong}, 1, codes.InvalidArgument},
		"a deadline":          {nil, []error{status.Error(codes.DeadlineExceeded, "late")}, 1, codes.DeadlineExceeded},
		"cancelled elsewhere": {nil, []error{status.Error(codes.Canceled, "drained")}, 2, codes.OK},
		"closed":              {nil, []error{grpc.ErrClientConnClosing}, 1, codes.Canceled},
		"pushback":            {pushback("1"), []error{busy}, 2, codes.OK},
		"pushback 0":          {pushback("0"), []error{busy}, 2, codes.OK},
		"negative pushback":   {pushback("-1"), []error{busy}, 1, codes.ResourceExhausted},
		"unparsable pushback": {pushback("soon"), []error{busy}, 1, codes.ResourceExhausted},
		"empty pushback":      {pushback(""), []error{busy}, 1, codes.ResourceExhausted},
		"two pushbacks":       {pushback("1", "2"), []error{busy}, 1, codes.ResourceExhausted},
	} {
		attempts := 0
		reply, err := retry(context.Background(), fast, newRetryBudget(fast), failing(&attempts, c.trailer, c.failures...))
		if attempts != c.attempts || status.Code(err) != c.code || (err == nil) != (reply == 7) {
			t.Errorf("%s: %d attempts, %v, %v", name, attempts, reply, err)
		}
	}
}

func TestPushbackIsObeyed(t *testing.T) {
	attempts, start := 0, time.Now()
	_, err := retry(context.Background(), fast, newRetryBudget(fast), failing(&attempts, metadata.Pairs("grpc-retry-pushback-ms", "30"), busy))
	if err != nil || time.Since(start) < 30*time.Millisecond {
		t.Errorf("again after %v: %v", time.Since(start), err)
	}
}

func TestNoWaitGoesPastTheDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	attempts, start := 0, time.Now()
	_, err := retry(ctx, fast, newRetryBudget(fast), failing(&attempts, metadata.Pairs("grpc-retry-pushback-ms", "600000"), busy))
	var failure *Error
	if !errors.As(err, &failure) || failure.RetryAfter != 10*time.Minute || attempts != 1 {
		t.Errorf("%d attempts: %v", attempts, err)
	}
	if time.Since(start) > 30*time.Second {
		t.Error("it waited")
	}
}

func TestCancelEndsTheWait(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	attempts := 0
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err := retry(ctx, fast, newRetryBudget(fast), failing(&attempts, metadata.Pairs("grpc-retry-pushback-ms", "600000"), busy))
	if !errors.Is(err, context.Canceled) || attempts != 1 {
		t.Errorf("%d attempts: %v", attempts, err)
	}
}

func TestBackoffDoublesUpToMax(t *testing.T) {
	policy := RetryPolicy{Attempts: 100, Base: 50 * time.Millisecond, Max: 2 * time.Second}
	failure := newError(busy, nil).(*Error)
	var waits []time.Duration
	for _, attempt := range []int{1, 2, 5, 6, 7, 99} {
		wait, again := policy.wait(attempt, failure, func() float64 { return 0.5 })
		if !again {
			t.Errorf("no attempt after %d", attempt)
		}
		waits = append(waits, wait/time.Millisecond)
	}
	if !slices.Equal(waits, []time.Duration{25, 50, 400, 800, 1000, 1000}) {
		t.Errorf("waits of %v ms", waits)
	}
	if _, again := (RetryPolicy{}).wait(1, failure, nil); again {
		t.Error("the zero policy tries again")
	}
}

func TestBudgetBoundsTheRetriesOfAllCalls(t *testing.T) {
	policy := RetryPolicy{Attempts: 4, Budget: 5, BudgetRefill: 0.5}
	budget, attempts := newRetryBudget(policy), 0
	always := func(...grpc.CallOption) (int, error) { attempts++; return 0, busy }
	for range 10 {
		if _, err := retry(context.Background(), policy, budget, always); err == nil {
			t.Fatal("succeeded")
		}
	}
	if attempts != 10+5 {
		t.Errorf("%d attempts of 10 calls", attempts)
	}
	for range 2 { // of which each gives back half a retry
		if _, err := retry(context.Background(), policy, budget, failing(new(int), nil)); err != nil {
			t.Fatal(err)
		}
	}
	attempts = 0
	_, _ = retry(context.Background(), policy, budget, always)
	if attempts != 2 {
		t.Errorf("%d attempts after two successes", attempts)
	}
	for _, policy := range []RetryPolicy{{Budget: -1}, {BudgetRefill: -1}} {
		budget := newRetryBudget(policy)
		budget.retries = 0
		budget.deposit()
		if budget.retries != 0 {
			t.Errorf("%+v gives back %v", policy, budget.retries)
		}
	}
}

func TestErrorTellsTheDetails(t *testing.T) {
	detailed, err := status.New(codes.InvalidArgument, "wrong").WithDetails(
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "params.top_p", Description: "too large"}}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	var failure *Error
	if !errors.As(newError(detailed.Err(), nil), &failure) {
		t.Fatal("not an Error")
	}
	if !slices.Equal(failure.Violations, []Violation{{"params.top_p", "too large"}}) || failure.RetryAfter != time.Second {
		t.Errorf("made %+v", failure)
	}
	if text := failure.Error(); text != "samplerd: InvalidArgument: wrong; params.top_p: too large" {
		t.Errorf("says %q", text)
	}
	if failure.Retryable() || errors.Is(failure, context.Canceled) {
		t.Error("is taken for something else")
	}
}

func TestTokensAndPlaintext(t *testing.T) {
	for target, isLocal := range map[string]bool{
		"127.0.0.1:1": true, "localhost:1": true, "[::1]:1": true, "unix:/run/s": true, "unix:///run/s": true,
		"dns:///localhost:1": true, "passthrough:///127.0.0.2:1": true,
		"10.0.0.1:1": false, "sampler.example:1": false, "dns:///sampler.example:1": false, "localhost.example:1": false,
		"dns://8.8.8.8/localhost:1": false,
	} {
		client, err := Dial(target, WithToken("secret"))
		if (err == nil) != isLocal || err != nil && !errors.Is(err, ErrPlaintextToken) {
			t.Errorf("%s: %v", target, err)
		}
		if err == nil {
			client.Close()
		}
	}
	for local, targets := range map[bool][]string{true: {"127.0.0.1:1", "unix:/s"}, false: {"127.0.0.1:1", "10.0.0.1:1"}} {
		client, err := DialServers(targets, WithToken("secret"))
		if (err == nil) != local {
			t.Errorf("%v: %v", targets, err)
		}
		if err == nil {
			client.Close()
		}
	}
	if _, err := DialServers(nil); err == nil {
		t.Error("no servers are enough")
	}
	for _, option := range []DialOption{AllowPlaintextToken(), WithTLS(TLS{})} {
		client, err := Dial("sampler.example:1", WithToken("secret"), option)
		if err != nil {
			t.Fatal(err)
		}
		client.Close()
	}
}
