package dev.samplerd.client;

import io.grpc.ChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.TlsChannelCredentials;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
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

  private final List<String> targets;
  private ChannelCredentials credentials = InsecureChannelCredentials.create();
  private boolean isPlaintext = true;
  private String token;
  private boolean allowsPlaintextToken;
  private String serverName;
  private int maxMessageBytes = MAX_MESSAGE_BYTES;
  private Duration timeout = Duration.ofSeconds(30);
  private RetryPolicy retry = RetryPolicy.DEFAULT;
  private final Metadata headers = new Metadata();
  private boolean isBalanced;
  private int connections = 1;

  SamplerClientBuilder(List<String> targets) {
    if (targets.isEmpty()) {
      throw new IllegalArgumentException("no servers were given");
    }
    this.targets = List.copyOf(targets);
    isBalanced = targets.size() > 1;
  }

  /**
   * Sends calls in turn to every healthy address of the target, for a name that stands for several ({@code
   * dns:///host:port}). A client of several targets always does.
   *
   * @return this
   */
  public SamplerClientBuilder balance() {
    isBalanced = true;
    return this;
  }

  /**
   * Opens this many connections to each server, on which calls take turns; 1 by default. A server with several workers
   * gives a connection to one of them.
   *
   * @param connections at least 1
   * @return this
   */
  public SamplerClientBuilder connections(int connections) {
    if (connections < 1) {
      throw new IllegalArgumentException("connections must be at least 1, got " + connections);
    }
    this.connections = connections;
    return this;
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
   * Sends this with every call. Calls about an uploaded distribution carry its name as {@code
   * x-samplerd-distribution} in any case, by which a proxy can choose the server.
   *
   * @param key lower-case, not ending in {@code -bin}
   * @param value visible ASCII characters
   * @return this
   */
  public SamplerClientBuilder metadata(String key, String value) {
    headers.put(Metadata.Key.of(key, Metadata.ASCII_STRING_MARSHALLER), value);
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
   * Makes the client; the connections are made by the first calls.
   *
   * @return the client, to be closed
   * @throws IllegalStateException if a token would cross the network in plain text
   */
  public SamplerClient build() {
    boolean isExposed = token != null && isPlaintext && !targets.stream().allMatch(SamplerClientBuilder::isLoopback);
    if (isExposed && !allowsPlaintextToken) {
      throw new IllegalStateException(
          "the token would cross the network to "
              + String.join(", ", targets)
              + " in plain text: use tls(), or allowPlaintextToken()");
    }
    List<ManagedChannel> channels = new ArrayList<>();
    for (int i = 0; i < connections; i++) {
      channels.add(open());
    }
    return new SamplerClient(new Connections(channels), timeout, retry, new RetryBudget(retry));
  }

  private ManagedChannel open() {
    String target = targets.size() == 1 ? targets.get(0) : ServerList.target(targets);
    ManagedChannelBuilder<?> channel =
        Grpc.newChannelBuilder(target, credentials)
            .userAgent("samplerd-java/0.1.0")
            .maxInboundMessageSize(maxMessageBytes)
            .maxInboundMetadataSize(MAX_METADATA_BYTES)
            // A frozen server keeps its connections and says nothing: while calls are in flight, it is asked whether
            // it is there. Ten seconds are the shortest interval that gRPC takes here.
            .keepAliveTime(10, TimeUnit.SECONDS)
            .keepAliveTimeout(10, TimeUnit.SECONDS)
            .disableRetry(); // they would multiply with ours
    if (isBalanced) {
      HealthyRoundRobin.register();
      channel.defaultLoadBalancingPolicy(HealthyRoundRobin.POLICY);
    }
    if (serverName != null) {
      channel.overrideAuthority(serverName);
    }
    Metadata sent = new Metadata();
    sent.merge(headers);
    if (token != null) {
      sent.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
    }
    channel.intercept(MetadataUtils.newAttachHeadersInterceptor(sent));
    return channel.build();
  }

  static boolean isLoopback(String target) {
    return target.startsWith("unix:") || LOOPBACK.matcher(target).matches();
  }
}
