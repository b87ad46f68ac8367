package dev.samplerd.client;

import dev.samplerd.v1.CreateDistributionRequest;
import dev.samplerd.v1.DeleteDistributionRequest;
import dev.samplerd.v1.Distribution;
import dev.samplerd.v1.GetDistributionRequest;
import dev.samplerd.v1.GetServerInfoRequest;
import dev.samplerd.v1.GetServerInfoResponse;
import dev.samplerd.v1.ListDistributionsRequest;
import dev.samplerd.v1.ListDistributionsResponse;
import dev.samplerd.v1.SampleRequest;
import dev.samplerd.v1.SampleResponse;
import dev.samplerd.v1.SamplerServiceGrpc;
import dev.samplerd.v1.SamplingParams;
import dev.samplerd.v1.VerifyDraftRequest;
import dev.samplerd.v1.VerifyDraftResponse;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.MethodDescriptor;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

/**
 * Connections to a samplerd, or to several. Any number of threads may share one.
 *
 * <p>Every method that waits throws {@link SamplerdException} when the call fails; a future fails with it. A call has
 * the client's timeout, retries included, or the deadline of the current {@link Context} if that is sooner. Interrupting
 * the thread, cancelling the future or the Context cancels the call, and the server frees its work.
 */
public final class SamplerClient implements AutoCloseable {
  private static final Duration CLOSE_TIMEOUT = Duration.ofSeconds(5);
  private static final int MAX_IN_FLIGHT = 64;

  private final Connections channel;
  private final Duration timeout;
  private final RetryPolicy retry;
  private final RetryBudget budget;

  SamplerClient(Connections channel, Duration timeout, RetryPolicy retry, RetryBudget budget) {
    if (timeout.isNegative() || timeout.isZero()) {
      throw new IllegalArgumentException("the timeout must be more than 0, got " + timeout);
    }
    this.channel = channel;
    this.timeout = timeout;
    this.retry = retry;
    this.budget = budget;
  }

  /**
   * Connects in plain text, with all defaults; the connection is made by the first call.
   *
   * @param target {@code host:port}
   * @return the client, to be closed
   */
  public static SamplerClient connect(String target) {
    return builder(target).build();
  }

  /**
   * For TLS, tokens, and other limits than the default ones.
   *
   * @param target {@code host:port}, or {@code unix:/path} where netty has its native transport
   * @return what makes the client
   */
  public static SamplerClientBuilder builder(String target) {
    return new SamplerClientBuilder(List.of(target));
  }

  /**
   * For several servers, which get the calls in turn as long as they are healthy: one that starts, drains or is gone gets
   * none.
   *
   * @param targets each {@code host:port}; at least one
   * @return what makes the client
   */
  public static SamplerClientBuilder builder(List<String> targets) {
    return new SamplerClientBuilder(targets);
  }

  /**
   * The same connection with another timeout. Closing either closes both.
   *
   * @param timeout more than 0; of each call, with all its attempts
   * @return a client
   */
  public SamplerClient withTimeout(Duration timeout) {
    return new SamplerClient(channel, timeout, retry, budget);
  }

  /**
   * The same connection with another way to try again, and a budget of its own. Closing either closes both.
   *
   * @param retry how often, and after how long
   * @return a client
   */
  public SamplerClient withRetry(RetryPolicy retry) {
    return new SamplerClient(channel, timeout, retry, new RetryBudget(retry));
  }

  /**
   * Draws from one row of logits, with replacement.
   *
   * @param logits float[V], V at least 1; -infinity means never
   * @param params temperature and filters
   * @param numSamples how many; at least 1
   * @return the ids, in the order of the draws
   */
  public int[] sample(float[] logits, SamplingParams params, int numSamples) {
    SampleRequest.Builder request = SampleRequest.newBuilder().setParams(params).setNumSamples(numSamples);
    return Samples.flat(sample(request.setTensor(Tensors.f32(logits)).build()));
  }

  /**
   * Draws from every row of a request.
   *
   * @param request with rows of any kind and all that can be said about them
   * @return the reply; a row that cannot be drawn from fails alone, in {@code row_errors}. See {@link Samples}
   */
  public SampleResponse sample(SampleRequest request) {
    return await(sampleAsync(request));
  }

  /**
   * Draws from every row of a request.
   *
   * @param request as in {@link #sample(SampleRequest)}
   * @return the reply to be; cancelling it cancels the call
   */
  public CompletableFuture<SampleResponse> sampleAsync(SampleRequest request) {
    return callAsync(SamplerServiceGrpc.getSampleMethod(), request);
  }

  /**
   * Draws any number of samples from an uploaded distribution in bounded memory, and waits for the first part. The server
   * draws as the parts are taken.
   *
   * <p>The client's timeout bounds the wait for each part, for the first one with all attempts: until it comes the call is
   * tried again as others are, and not after it. What was broken off can be continued with the same seed and, for one row,
   * a draw_offset that is larger by the samples taken.
   *
   * @param request whose source is a distribution; NOT_FOUND if there is none of that name
   * @return the parts in order, to be closed
   */
  public SampleChunks drawChunks(SampleRequest request) {
    return new SampleChunks(channel, request, retry, budget, timeout);
  }

  /**
   * Accepts or corrects the drafted tokens of one sequence.
   *
   * @param request n drafted tokens, n + 1 rows of the target, and, unless the draft was greedy, n of the draft
   * @return the accepted tokens and one more
   */
  public VerifyDraftResponse verifyDraft(VerifyDraftRequest request) {
    return call(SamplerServiceGrpc.getVerifyDraftMethod(), request);
  }

  /**
   * Keeps rows on the server, to be sampled by name. Never sent again after UNAVAILABLE, as it may have been done.
   *
   * @param request name, rows, and parameters to fix for every draw
   * @return as it now stands
   */
  public Distribution createDistribution(CreateDistributionRequest request) {
    return call(SamplerServiceGrpc.getCreateDistributionMethod(), request).getDistribution();
  }

  /**
   * Describes a distribution.
   *
   * @param name of an uploaded one; NOT_FOUND otherwise
   * @return as it now stands
   */
  public Distribution getDistribution(String name) {
    GetDistributionRequest request = GetDistributionRequest.newBuilder().setName(name).build();
    return call(SamplerServiceGrpc.getGetDistributionMethod(), request).getDistribution();
  }

  /**
   * Frees a distribution.
   *
   * @param name of an uploaded one; NOT_FOUND otherwise
   */
  public void deleteDistribution(String name) {
    DeleteDistributionRequest request = DeleteDistributionRequest.newBuilder().setName(name).build();
    call(SamplerServiceGrpc.getDeleteDistributionMethod(), request);
  }

  /**
   * Lists all distributions.
   *
   * @return ordered by name
   */
  public List<Distribution> listDistributions() {
    List<Distribution> all = new ArrayList<>();
    String token = "";
    do {
      ListDistributionsRequest request = ListDistributionsRequest.newBuilder().setPageToken(token).build();
      ListDistributionsResponse page = call(SamplerServiceGrpc.getListDistributionsMethod(), request);
      all.addAll(page.getDistributionsList());
      token = page.getNextPageToken();
    } while (!token.isEmpty());
    return all;
  }

  /**
   * Says what the server is, what it can do and where its limits are.
   *
   * @return its own words
   */
  public GetServerInfoResponse serverInfo() {
    return call(SamplerServiceGrpc.getGetServerInfoMethod(), GetServerInfoRequest.getDefaultInstance());
  }

  /**
   * Opens a stream of draws with at most 64 requests in flight.
   *
   * @return the stream, to be closed
   */
  public SamplerStream<SampleRequest, SampleResponse> stream() {
    return stream(MAX_IN_FLIGHT);
  }

  /**
   * Opens a stream of draws.
   *
   * @param maxInFlight how many requests may be in flight; at least 1
   * @return the stream, to be closed
   */
  public SamplerStream<SampleRequest, SampleResponse> stream(int maxInFlight) {
    return new SamplerStream<>(
        channel, SamplerServiceGrpc.getSampleStreamMethod(), Shape.SAMPLE, maxInFlight, timeout);
  }

  /**
   * Opens a stream of drafts to verify.
   *
   * @param maxInFlight how many requests may be in flight; at least 1
   * @return the stream, to be closed
   */
  public SamplerStream<VerifyDraftRequest, VerifyDraftResponse> verifyStream(int maxInFlight) {
    return new SamplerStream<>(
        channel, SamplerServiceGrpc.getVerifyDraftStreamMethod(), Shape.VERIFY, maxInFlight, timeout);
  }

  /**
   * Makes any unary call of the service, with the client's timeout and retries.
   *
   * @param <Q> the request
   * @param <R> the reply
   * @param method one of {@code SamplerServiceGrpc}
   * @param request its request
   * @return the reply
   */
  public <Q, R> R call(MethodDescriptor<Q, R> method, Q request) {
    return await(callAsync(method, request));
  }

  /**
   * Makes any unary call of the service, with the client's timeout and retries.
   *
   * @param <Q> the request
   * @param <R> the reply
   * @param method one of {@code SamplerServiceGrpc}
   * @param request its request
   * @return the reply to be; cancelling it cancels the call
   */
  public <Q, R> CompletableFuture<R> callAsync(MethodDescriptor<Q, R> method, Q request) {
    Deadline own = Deadline.after(timeout.toNanos(), TimeUnit.NANOSECONDS);
    Deadline outer = Context.current().getDeadline();
    Deadline deadline = outer == null ? own : own.minimum(outer);
    return new UnaryCall<>(channel, method, request, retry, budget, deadline).start();
  }

  /** Ends the connections; calls in flight have five seconds to finish. */
  @Override
  public void close() {
    channel.close(CLOSE_TIMEOUT.toSeconds());
  }

  private static <R> R await(CompletableFuture<R> future) {
    try {
      return future.get();
    } catch (InterruptedException error) {
      future.cancel(true);
      Thread.currentThread().interrupt();
      throw SamplerdException.cancelled(error);
    } catch (ExecutionException error) {
      throw SamplerdException.of(error.getCause());
    }
  }
}
