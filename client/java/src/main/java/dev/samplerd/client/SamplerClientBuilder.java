package dev.samplerd.client;

import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

/** Says how a client connects. */
public final class SamplerClientBuilder {
  /** Room for 16 million samples with three kinds of log-probabilities; gRPC's own default holds one million samples. */
  private static final int MAX_MESSAGE_BYTES = 256 << 20;

  /** An error may name many rows; gRPC's own default of 8 KiB holds about a hundred. */
  private static final int MAX_METADATA_BYTES = 256 << 10;

  private static final Pattern LOOPBACK =
      Pattern.compile("(dns:///)?(localhost|127(\\.\\d{1,3}){3}|\\[::1])(:\\d+)?");

  private final String target;
  private ChannelCredentials credentials = InsecureChannelCredentials.create();
  private boolean isPlaintext = true;
  private String token;
  private boolean allowsPlaintextToken;
  private String serverName;
  private int maxMessageBytes = MAX_MESSAGE_BYTES;
  private Duration timeout = Duration.ofSeconds(30);
  private RetryPolicy retry = RetryPolicy.DEFAULT;

  SamplerClientBuilder(String target) {
    this.target = Objects.requireNonNull(target, "target");
  }

  /**
   * Over TLS, trusting the authorities that Java trusts.
   *
   * @return this
   */
  public SamplerClientBuilder tls() {
    return tls(TlsChannelCredentials.create());
  }

  /**
   * Over TLS, trusting one authority.
   *
   * @param ca its certificate, a PEM file
   * @return this
   * @throws UncheckedIOException if the file cannot be read
   */
  public SamplerClientBuilder tls(Path ca) {
    try {
      return tls(TlsChannelCredentials.newBuilder().trustManager(ca.toFile()).build());
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  /**
   * Over TLS, trusting one authority, and with a certificate for servers that ask for one.
   *
   * @param ca the authority's certificate, a PEM file
   * @param certificate this client's certificate chain, its own first, a PEM file
   * @param key its private key, an unencrypted PKCS #8 PEM file
   * @return this
   * @throws UncheckedIOException if a file cannot be read
   */
  public SamplerClientBuilder mutualTls(Path ca, Path certificate, Path key) {
    try {
      return tls(
          TlsChannelCredentials.newBuilder()
              .trustManager(ca.toFile())
              .keyManager(certificate.toFile(), key.toFile())
              .build());
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private SamplerClientBuilder tls(ChannelCredentials own) {
    credentials = own;
    isPlaintext = false;
    return this;
  }

  /**
   * Looks for another name in the server's certificate than the target's.
   *
   * @param serverName a host name
   * @return this
   */
  public SamplerClientBuilder serverName(String serverName) {
    this.serverName = serverName;
    return this;
  }

  /**
   * Sends a bearer token with every call: over TLS, or to this machine.
   *
   * @param token the token; null for none
   * @return this
   */
  public SamplerClientBuilder token(String token) {
    this.token = token;
    return this;
  }

  /**
   * Sends the token over an unencrypted network too, where anybody on the way can read it.
   *
   * @return this
   */
  public SamplerClientBuilder allowPlaintextToken() {
    allowsPlaintextToken = true;
    return this;
  }

  /**
   * The largest reply that is taken; 256 MiB by default. Requests are bounded by the server.
   *
   * @param bytes at least 1
   * @return this
   */
  public SamplerClientBuilder maxMessageBytes(int bytes) {
    maxMessageBytes = bytes;
    return this;
  }

  /**
   * The timeout of each call, with all its attempts; 30 s by default.
   *
   * @param timeout more than 0
   * @return this
   */
  public SamplerClientBuilder timeout(Duration timeout) {
    this.timeout = timeout;
    return this;
  }

  /**
   * How often, and after how long, a call is tried again; {@link RetryPolicy#DEFAULT} by default.
   *
   * @param retry the policy
   * @return this
   */
  public SamplerClientBuilder retry(RetryPolicy retry) {
    this.retry = retry;
    return this;
  }

  /**
   * Makes the client; the connection is made by the first call.
   *
   * @return the client, to be closed
   * @throws IllegalStateException if a token would cross the network in plain text
   */
  public SamplerClient build() {
    boolean isExposed = token != null && isPlaintext && !isLoopback(target);
    if (isExposed && !allowsPlaintextToken) {
      throw new IllegalStateException(
          "the token would cross the network to " + target + " in plain text: use tls(), or allowPlaintextToken()");
    }
    ManagedChannelBuilder<?> channel =
        Grpc.newChannelBuilder(target, credentials)
            .userAgent("samplerd-java/0.1.0")
            .maxInboundMessageSize(maxMessageBytes)
            .maxInboundMetadataSize(MAX_METADATA_BYTES)
            // Five minutes is the shortest ping interval that a server with default settings tolerates.
            .keepAliveTime(5, TimeUnit.MINUTES)
            .disableRetry(); // they would multiply with ours
    if (serverName != null) {
      channel.overrideAuthority(serverName);
    }
    if (token != null) {
      Metadata headers = new Metadata();
      headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
      channel.intercept(MetadataUtils.newAttachHeadersInterceptor(headers));
    }
    return new SamplerClient(channel.build(), timeout, retry);
  }

  static boolean isLoopback(String target) {
    return LOOPBACK.matcher(target).matches();
  }
}
