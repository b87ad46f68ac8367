package samplerd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A RetryPolicy says how calls are tried again that fail with ResourceExhausted or Unavailable. Attempt n is followed
// by a wait between nothing and Base x 2^(n - 1), at most Max, unless the server says how long to wait, or not to try
// again. No wait goes past the deadline of the context: the failure is returned at once instead.
type RetryPolicy struct {
	// Attempts is how often a request is sent at most; 1 or less never tries again. 4 unless said.
	Attempts int
	// Base is the longest first wait. 50 ms unless said.
	Base time.Duration
	// Max is the longest wait. 2 s unless said.
	Max time.Duration
}

var defaultRetry = RetryPolicy{Attempts: 4, Base: 50 * time.Millisecond, Max: 2 * time.Second}

// pushback is what the trailer grpc-retry-pushback-ms said.
type pushback struct {
	isGiven   bool
	isRefusal bool
	wait      time.Duration
}

func readPushback(trailer metadata.MD) pushback {
	values := trailer.Get("grpc-retry-pushback-ms")
	if len(values) == 0 {
		return pushback{}
	}
	ms, err := strconv.ParseInt(values[0], 10, 32)
	if err != nil || ms < 0 || len(values) > 1 {
		return pushback{isGiven: true, isRefusal: true}
	}
	return pushback{isGiven: true, wait: time.Duration(ms) * time.Millisecond}
}

// wait says how long to wait after a failed attempt, counted from 1; draw gives a number in [0, 1).
func (p RetryPolicy) wait(attempt int, failure *Error, draw func() float64) (time.Duration, bool) {
	switch {
	case attempt >= p.Attempts || !failure.Retryable():
		return 0, false
	case failure.pushback.isGiven || failure.RetryAfter > 0:
		return failure.RetryAfter, true
	}
	longest := p.Max
	if attempt < 30 { // further doubling would overflow, and Max is shorter
		longest = min(p.Max, p.Base<<(attempt-1))
	}
	return time.Duration(draw() * float64(longest)), true
}

// retry calls until it succeeds, fails for good or runs out of attempts or time.
func retry[R any](ctx context.Context, policy RetryPolicy, call func(...grpc.CallOption) (R, error)) (R, error) {
	for attempt := 1; ; attempt++ {
		var trailer metadata.MD
		reply, err := call(grpc.Trailer(&trailer))
		err = newError(err, trailer)
		var failure *Error
		if !errors.As(err, &failure) {
			return reply, err
		}
		wait, again := policy.wait(attempt, failure, rand.Float64)
		if deadline, ok := ctx.Deadline(); !again || ok && time.Until(deadline) <= wait {
			return reply, err
		}
		if err := sleep(ctx, wait); err != nil {
			return reply, err
		}
	}
}

func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return newError(ctx.Err(), nil)
	}
}

// checkSize fails if a request is larger than the client may send. The same request will never be smaller, so it is
// not to be tried again, whatever its code is elsewhere.
func checkSize(request proto.Message, maxBytes int) error {
	size := proto.Size(request)
	if size <= maxBytes {
		return nil
	}
	text := fmt.Sprintf("a request of %d bytes is larger than WithMaxMessageBytes allows, %d", size, maxBytes)
	return fromStatus(status.New(codes.ResourceExhausted, text), pushback{isRefusal: true})
}

// failed makes an Error of the client's own.
func failed(code codes.Code, text string) error { return newError(status.Error(code, text), nil) }
