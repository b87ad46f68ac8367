package samplerd

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// message is a generated message with an id.
type message interface {
	proto.Message
	GetId() uint64
	comparable
}

// duplex is a bidirectional call; the generated ones are such.
type duplex[R any] interface {
	grpc.ClientStream
	Recv() (R, error)
}

// replies says what the flow must know of the two kinds of stream.
type replies[Q, R any] struct {
	idOf    func(Q) uint64
	isLast  func(R) bool
	failure func(R) error
	join    func(all, chunk R) R
}

// flowLimits are a stream's own.
type flowLimits struct {
	inFlight int
	bytes    int // of a request
}

// flow matches replies to requests. One goroutine takes replies; whoever asks sends, one at a time. A request is
// encoded before it is sent, by its own caller, who may change its array again as soon as do has returned.
type flow[Q, R message] struct {
	call   duplex[R]
	cancel context.CancelFunc
	kind   replies[Q, R]
	limits flowLimits
	slots  chan struct{} // as many as may be in flight
	sender chan struct{} // held by whoever sends, or says that no more will be sent
	ended  chan struct{} // closed when no more replies come; failure is set before
	isDone bool          // nothing may be sent any more; guarded by sender

	mu       sync.Mutex // guards what follows
	waiting  map[uint64]*waiter[R]
	lastID   uint64
	isClosed bool
	failure  error
}

type waiter[R any] struct {
	id    uint64 // of the caller's request
	reply R
	done  chan struct{}
}

func open[C any](
	ctx context.Context, start func(context.Context, ...grpc.CallOption) (C, error),
) (C, context.CancelFunc, error) {
	ctx, cancel := context.WithCancel(ctx)
	call, err := start(ctx)
	if err != nil {
		cancel()
	}
	return call, cancel, newError(err, nil)
}

func newFlow[Q, R message](
	call duplex[R], cancel context.CancelFunc, limits flowLimits, kind replies[Q, R],
) *flow[Q, R] {
	if limits.inFlight < 1 {
		limits.inFlight = 64
	}
	made := &flow[Q, R]{
		call: call, cancel: cancel, kind: kind, limits: limits, slots: make(chan struct{}, limits.inFlight),
		sender: make(chan struct{}, 1), ended: make(chan struct{}), waiting: map[uint64]*waiter[R]{},
	}
	go made.take()
	return made
}

func (f *flow[Q, R]) do(ctx context.Context, request Q) (R, error) {
	var none R
	if err := f.acquire(ctx, f.slots); err != nil {
		return none, err
	}
	waiter, err := f.send(ctx, request)
	if err != nil {
		return none, err
	}
	select {
	case <-waiter.done:
	case <-ctx.Done():
		return none, newError(ctx.Err(), nil)
	case <-f.ended:
		select {
		case <-waiter.done: // the last reply and the end may come together
		default:
			return none, f.end()
		}
	}
	return waiter.reply, f.kind.failure(waiter.reply)
}

// send encodes and sends a request, and releases its slot if that fails.
func (f *flow[Q, R]) send(ctx context.Context, request Q) (*waiter[R], error) {
	id, waiter, err := f.enter(request)
	if err != nil {
		<-f.slots
		return nil, err
	}
	if err = f.encodeAndSend(ctx, withID(request, id)); err != nil {
		f.leave(id)
	}
	return waiter, err
}

func (f *flow[Q, R]) encodeAndSend(ctx context.Context, request proto.Message) error {
	if err := checkSize(request, f.limits.bytes); err != nil {
		return err
	}
	var encoded grpc.PreparedMsg
	if err := encoded.Encode(f.call, request); err != nil {
		return newError(err, nil)
	}
	if err := f.acquire(ctx, f.sender); err != nil {
		return err
	}
	defer func() { <-f.sender }()
	if f.isDone {
		return ErrClosed
	}
	if f.call.SendMsg(&encoded) != nil {
		<-f.ended // Recv tells why
		return f.end()
	}
	return nil
}

// acquire takes a place, unless the caller or the stream ends before.
func (f *flow[Q, R]) acquire(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return newError(ctx.Err(), nil)
	case <-f.ended:
		return f.end()
	}
}

func (f *flow[Q, R]) enter(request Q) (uint64, *waiter[R], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.isClosed {
		return 0, nil, ErrClosed
	}
	f.lastID++
	entered := &waiter[R]{id: f.kind.idOf(request), done: make(chan struct{})}
	f.waiting[f.lastID] = entered
	return f.lastID, entered, nil
}

// leave forgets a request and frees its place, once.
func (f *flow[Q, R]) leave(id uint64) {
	f.mu.Lock()
	_, found := f.waiting[id]
	delete(f.waiting, id)
	f.mu.Unlock()
	if found {
		<-f.slots
	}
}

// take hands replies to who waits for them until the stream ends.
func (f *flow[Q, R]) take() {
	for {
		reply, err := f.call.Recv()
		if err == nil {
			err = f.deliver(reply)
		}
		if err != nil {
			f.mu.Lock()
			if !errors.Is(err, io.EOF) {
				f.failure = newError(err, f.call.Trailer())
			}
			f.mu.Unlock()
			f.cancel()
			close(f.ended)
			return
		}
	}
}

func (f *flow[Q, R]) deliver(reply R) error {
	id := reply.GetId()
	f.mu.Lock()
	waiter := f.waiting[id]
	f.mu.Unlock()
	if waiter == nil {
		return failed(codes.Internal, "the server answered what nobody asked")
	}
	waiter.reply = f.kind.join(waiter.reply, reply)
	if !f.kind.isLast(reply) {
		return nil
	}
	setID(waiter.reply, waiter.id)
	f.leave(id)
	close(waiter.done)
	return nil
}

// end says why the stream ended; called after ended was closed.
func (f *flow[Q, R]) end() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.failure != nil:
		return f.failure
	case f.isClosed:
		return ErrClosed
	}
	return failed(codes.Unavailable, "the server ended the stream")
}

func (f *flow[Q, R]) close() error {
	f.mu.Lock()
	wasClosed := f.isClosed
	f.isClosed = true
	f.mu.Unlock()
	if !wasClosed {
		f.sender <- struct{}{}
		f.isDone = true
		_ = f.call.CloseSend() // never fails, by its contract
		<-f.sender
	}
	<-f.ended
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failure
}

// withID copies a request, not what it holds, under another id.
func withID[Q proto.Message](request Q, id uint64) proto.Message {
	from := request.ProtoReflect()
	to := from.New()
	from.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		to.Set(field, value)
		return true
	})
	to.SetUnknown(from.GetUnknown())
	setID(to.Interface(), id)
	return to.Interface()
}

func setID(m proto.Message, id uint64) {
	reflected := m.ProtoReflect()
	reflected.Set(reflected.Descriptor().Fields().ByName("id"), protoreflect.ValueOfUint64(id))
}
