package samplerd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	pb "samplerd.dev/go/samplerd/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

// MaxMessageBytes is the largest message a client takes or sends unless told otherwise: 256 MiB (gRPC's own limit for
// replies is 4 MiB).
const MaxMessageBytes = 256 << 20

// ErrPlaintextToken is what Dial answers when a token would travel a network in plain text.
var ErrPlaintextToken = errors.New(
	"samplerd: a token is not sent in plain text over a network; use TLS, or AllowPlaintextToken")

// pings ask a server from which nothing comes, while calls are in flight, whether it is there: one that is frozen keeps its
// connections. Ten seconds are the shortest interval that gRPC takes here.
var pings = keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 10 * time.Second}

// A TLS says whom to trust and who we are. The zero value trusts the system's authorities.
type TLS struct {
	// CAFile holds the authorities to trust, as PEM; empty: the system's.
	CAFile string
	// CertFile and KeyFile are our own certificate and key, as PEM, for servers that want one (mutual TLS).
	CertFile, KeyFile string
	// ServerName is whom the certificate must name; empty: the host of the target.
	ServerName string
}

// A DialOption sets one thing of a client.
type DialOption func(*config)

type config struct {
	tls                 *TLS
	token               string
	allowPlaintextToken bool
	maxMessageBytes     int
	retry               RetryPolicy
	metadata            metadata.MD
	connections         int
	isBalanced          bool
	grpc                []grpc.DialOption
}

// WithTLS speaks TLS 1.2 or newer.
func WithTLS(tls TLS) DialOption { return func(c *config) { c.tls = &tls } }

// WithToken sends `authorization: Bearer TOKEN` with every call.
func WithToken(token string) DialOption { return func(c *config) { c.token = token } }

// AllowPlaintextToken sends the token without TLS to any host, not to loopback and Unix sockets alone.
func AllowPlaintextToken() DialOption { return func(c *config) { c.allowPlaintextToken = true } }

// WithMaxMessageBytes sets the largest message taken or sent, in bytes.
func WithMaxMessageBytes(n int) DialOption { return func(c *config) { c.maxMessageBytes = n } }

// WithRetry sets how calls are tried again; the zero policy never does.
func WithRetry(policy RetryPolicy) DialOption { return func(c *config) { c.retry = policy } }

// WithMetadata sends these with every call, by lower-case keys. Calls about an uploaded distribution carry its name as
// x-samplerd-distribution in any case, by which a proxy can choose the server.
func WithMetadata(pairs map[string]string) DialOption {
	return func(c *config) { c.metadata = metadata.New(pairs) }
}

// WithConnections opens this many connections, each to every server in use, on which calls take turns; 1 unless said. A
// server with several workers gives a connection to one of them.
func WithConnections(n int) DialOption { return func(c *config) { c.connections = max(n, 1) } }

// WithBalance sends calls in turn to every healthy address of the target, for a name that stands for several
// (dns:///HOST:PORT).
func WithBalance() DialOption { return func(c *config) { c.isBalanced = true } }

// WithGRPC passes options on to gRPC, after our own.
func WithGRPC(options ...grpc.DialOption) DialOption {
	return func(c *config) { c.grpc = append(c.grpc, options...) }
}

func newConfig(options []DialOption) *config {
	chosen := &config{maxMessageBytes: MaxMessageBytes, retry: defaultRetry, connections: 1}
	for _, option := range options {
		option(chosen)
	}
	return chosen
}

// dialOptions says how to reach a target, which is local if it, or all that it stands for, is on this machine.
func (c *config) dialOptions(isLocal bool) ([]grpc.DialOption, error) {
	if c.token != "" && c.tls == nil && !c.allowPlaintextToken && !isLocal {
		return nil, ErrPlaintextToken
	}
	transport := insecure.NewCredentials()
	if c.tls != nil {
		settings, err := c.tls.load()
		if err != nil {
			return nil, err
		}
		transport = credentials.NewTLS(settings)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(c.maxMessageBytes), grpc.MaxCallSendMsgSize(c.maxMessageBytes)),
		grpc.WithDisableRetry(), // retry.go does that, and must not be doubled
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(pings),
		grpc.WithChainUnaryInterceptor(c.annotateUnary),
		grpc.WithChainStreamInterceptor(c.annotateStream),
	}
	if c.isBalanced {
		options = append(options, grpc.WithDefaultServiceConfig(balanced))
	}
	if isLocal {
		options = append(options, grpc.WithNoProxy()) // a proxy for the world outside cannot reach this machine
	}
	if c.token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(c.token)))
	}
	return append(options, c.grpc...), nil
}

func (t *TLS) load() (*tls.Config, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		text, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("samplerd: CAFile: %w", err)
		}
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("samplerd: CAFile: %s holds no certificate", t.CAFile)
		}
	}
	if t.CertFile != "" || t.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("samplerd: CertFile, KeyFile: %w", err)
		}
		settings.Certificates = []tls.Certificate{pair}
	}
	return settings, nil
}

// isLocal says whether a target is a Unix socket or this host's loopback.
func isLocal(target string) bool {
	if isUnix(target) {
		return true
	}
	for _, scheme := range []string{"dns:///", "dns:", "passthrough:///", "passthrough:"} {
		if rest, found := strings.CutPrefix(target, scheme); found {
			target = rest
			break
		}
	}
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		host = target
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

const distributionKey = "x-samplerd-distribution"

// clientKey names a client to the server, which cannot tell callers of one Unix socket apart by their addresses.
const clientKey = "x-samplerd-client"

// nameOnSockets gives the client a name if a target is a Unix socket, so that it has a fair share of its own.
func (c *config) nameOnSockets(targets ...string) {
	if !slices.ContainsFunc(targets, isUnix) {
		return
	}
	c.metadata = metadata.Join(c.metadata, nil)
	c.metadata.Set(clientKey, fmt.Sprintf("%016x", rand.Uint64()))
}

// annotateUnary adds the client's metadata to a call, and the name of the distribution that it is about.
func (c *config) annotateUnary(
	ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker,
	options ...grpc.CallOption,
) error {
	return invoke(annotate(c.annotated(ctx), request), method, request, reply, connection, options...)
}

// annotateStream adds the client's metadata to a stream.
func (c *config) annotateStream(
	ctx context.Context, what *grpc.StreamDesc, connection *grpc.ClientConn, method string, open grpc.Streamer,
	options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	return open(c.annotated(ctx), what, connection, method, options...)
}

func (c *config) annotated(ctx context.Context) context.Context {
	for key, values := range c.metadata {
		ctx = metadata.AppendToOutgoingContext(ctx, key, values[0])
	}
	return ctx
}

// annotate adds the name of the distribution that a request is about, if any. The server refuses names with other
// characters than these.
func annotate(ctx context.Context, request any) context.Context {
	name := ""
	switch request := request.(type) {
	case *pb.SampleRequest:
		name = request.GetDistribution()
	case interface{ GetName() string }:
		name = request.GetName()
	}
	isPrintable := func(r rune) bool { return r > ' ' && r < 0x7f }
	if name == "" || strings.IndexFunc(name, func(r rune) bool { return !isPrintable(r) }) >= 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, distributionKey, name)
}

// bearer is a token. That it does not insist on TLS is because dialOptions has already decided.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }
