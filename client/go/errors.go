package samplerd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// ErrClosed is what a stream answers once it was closed.
var ErrClosed = errors.New("samplerd: the stream is closed")

// An Error is how a call fails, after its retries. Get at it with errors.As. It matches context.DeadlineExceeded and
// context.Canceled under errors.Is where its code says so, and status.Code gives its code.
type Error struct {
	// Code is gRPC's. InvalidArgument: look at Violations. ResourceExhausted: the server is busy. Unauthenticated: no
	// token, or another one than the server takes.
	Code codes.Code
	// Message is the server's, for people.
	Message string
	// Violations name what was wrong with the request, field by field.
	Violations []Violation
	// RetryAfter is when the server would be asked again at the earliest; 0 where it did not say.
	RetryAfter time.Duration

	pushback pushback
	status   *status.Status
	// isForeign: somebody other than the caller cancelled it.
	isForeign bool
}

// A Violation is one field that the server refused.
type Violation struct {
	// Field is its path in the request, such as params.top_p or row[3].
	Field string
	// Description says what is wrong with it.
	Description string
}

// Error says the code, the message and the fields in error.
func (e *Error) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "samplerd: %s: %s", e.Code, e.Message)
	for _, violation := range e.Violations {
		if !strings.Contains(e.Message, violation.Field) { // the server's message often names it already
			fmt.Fprintf(&text, "; %s: %s", violation.Field, violation.Description)
		}
	}
	return text.String()
}

// Is says whether the code is that of a context's own error.
func (e *Error) Is(target error) bool {
	return target == context.DeadlineExceeded && e.Code == codes.DeadlineExceeded ||
		target == context.Canceled && e.Code == codes.Canceled
}

// GRPCStatus gives the status with all its details.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// Retryable says whether the same request may succeed later.
func (e *Error) Retryable() bool {
	isTransient := e.Code == codes.ResourceExhausted || e.Code == codes.Unavailable || e.isForeign
	return isTransient && !e.pushback.isRefusal
}

// newError makes an Error of what gRPC or a context returned; nil of nil.
func newError(err error, trailer metadata.MD) error {
	if err == nil {
		return nil
	}
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	found := status.Convert(err)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		found = status.FromContextError(err)
	}
	return fromStatus(found, readPushback(trailer))
}

// errorOf makes an Error of the error in a reply of a stream; nil of nil.
func errorOf(failure *statuspb.Status) error {
	if failure == nil {
		return nil
	}
	return fromStatus(status.FromProto(failure), pushback{})
}

func fromStatus(found *status.Status, hint pushback) *Error {
	made := &Error{Code: found.Code(), Message: found.Message(), pushback: hint, status: found}
	for _, detail := range found.Details() {
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				made.Violations = append(made.Violations, Violation{violation.GetField(), violation.GetDescription()})
			}
		case *errdetails.RetryInfo:
			made.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	if hint.isGiven && !hint.isRefusal {
		made.RetryAfter = hint.wait
	}
	return made
}
