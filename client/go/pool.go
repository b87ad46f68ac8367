package samplerd

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/health" // watches servers, where the service config says so
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// balanced is gRPC's service config: calls go to the servers in turn, and one that starts or drains gets none.
const balanced = `{"loadBalancingConfig": [{"round_robin": {}}],
	"healthCheckConfig": {"serviceName": "samplerd.v1.SamplerService"}}`

// pool is the connections that calls take turns on. A stream stays on the one that it began on.
type pool struct {
	connections []*grpc.ClientConn
	turn        atomic.Uint64
}

func openPool(target string, number int, options []grpc.DialOption) (*pool, error) {
	made := &pool{}
	for range number {
		connection, err := grpc.NewClient(target, options...)
		if err != nil {
			return nil, errors.Join(err, made.Close())
		}
		made.connections = append(made.connections, connection)
	}
	return made, nil
}

// Close ends all connections.
func (p *pool) Close() error {
	var failures []error
	for _, connection := range p.connections {
		failures = append(failures, connection.Close())
	}
	return errors.Join(failures...)
}

func (p *pool) next() *grpc.ClientConn {
	return p.connections[p.turn.Add(1)%uint64(len(p.connections))]
}

// Invoke makes a unary call.
func (p *pool) Invoke(ctx context.Context, method string, request, reply any, options ...grpc.CallOption) error {
	return p.next().Invoke(ctx, method, request, reply, options...)
}

// NewStream begins a stream.
func (p *pool) NewStream(
	ctx context.Context, what *grpc.StreamDesc, method string, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return p.next().NewStream(ctx, what, method, options...)
}

// joint gives the one name by which gRPC is to know these addresses, and what resolves it.
func joint(targets []string) (string, grpc.DialOption) {
	found := manual.NewBuilderWithScheme("samplerd")
	var addresses []resolver.Address
	for _, target := range targets {
		name := target // whom the certificate must name, unless TLS says otherwise
		if isUnix(target) {
			name = "localhost"
		}
		addresses = append(addresses, resolver.Address{Addr: target, ServerName: name})
	}
	found.InitialState(resolver.State{Addresses: addresses})
	return "samplerd:///servers", grpc.WithResolvers(found)
}

func isUnix(target string) bool {
	return strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:")
}
