package samplerd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// MaxMessageBytes is the largest message a client takes or sends unless told otherwise: 256 MiB (gRPC's own limit for
// replies is 4 MiB).
const MaxMessageBytes = 256 << 20

// ErrPlaintextToken is what Dial answers when a token would travel a network in plain text.
var ErrPlaintextToken = errors.New(
	"samplerd: a token is not sent in plain text over a network; use TLS, or AllowPlaintextToken")

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

// WithGRPC passes options on to gRPC, after our own.
func WithGRPC(options ...grpc.DialOption) DialOption {
	return func(c *config) { c.grpc = append(c.grpc, options...) }
}

func (c *config) dialOptions(target string) ([]grpc.DialOption, error) {
	if c.token != "" && c.tls == nil && !c.allowPlaintextToken && !isLocal(target) {
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
	if strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:") {
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

// bearer is a token. That it does not insist on TLS is because dialOptions has already decided.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }
