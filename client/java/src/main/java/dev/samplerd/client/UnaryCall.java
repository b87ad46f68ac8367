package dev.samplerd.client;

import dev.samplerd.v1.CreateDistributionRequest;
import dev.samplerd.v1.DeleteDistributionRequest;
import dev.samplerd.v1.GetDistributionRequest;
import dev.samplerd.v1.SampleRequest;
import dev.samplerd.v1.SamplerServiceGrpc;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptors;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executor;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * One call with all its attempts.
 *
 * <p>Rule 1: the deadline bounds all attempts together. Rule 2: whoever completes the future (a reply, a failure, the
 * caller who cancels it) ends the call: the attempt in flight is cancelled, and a waiting one is not made.
 */
final class UnaryCall<Q, R> {
  static final Metadata.Key<String> PUSHBACK =
      Metadata.Key.of("grpc-retry-pushback-ms", Metadata.ASCII_STRING_MARSHALLER);

  private static final Metadata.Key<String> DISTRIBUTION =
      Metadata.Key.of("x-samplerd-distribution", Metadata.ASCII_STRING_MARSHALLER);

  private final Channel channel;
  private final MethodDescriptor<Q, R> method;
  private final Q request;
  private final RetryPolicy policy;
  private final RetryBudget budget;
  private final Deadline deadline;
  private final CompletableFuture<R> result = new CompletableFuture<>();
  private final Context context = Context.current();
  private volatile ClientCall<Q, R> current;

  UnaryCall(
      Channel channel,
      MethodDescriptor<Q, R> method,
      Q request,
      RetryPolicy policy,
      RetryBudget budget,
      Deadline deadline) {
    this.channel = channel;
    this.method = method;
    this.request = request;
    this.policy = policy;
    this.budget = budget;
    this.deadline = deadline;
  }

  CompletableFuture<R> start() {
    result.whenComplete((reply, error) -> cancelCurrent());
    attempt(1);
    return result;
  }

  private void attempt(int number) {
    if (result.isDone()) {
      return;
    }
    ClientCall<Q, R> call = about(channel, request).newCall(method, CallOptions.DEFAULT.withDeadline(deadline));
    current = call;
    try {
      ClientCalls.asyncUnaryCall(call, request, new Outcome(number));
    } catch (RuntimeException error) { // cancelled while it began, and then nobody waits for the result
      result.completeExceptionally(SamplerdException.of(error));
    }
    if (result.isDone()) { // cancelled while this attempt began: the callback has seen the one before
      cancelCurrent();
    }
  }

  /** Adds the name of the distribution that the request is about, if any; the server refuses names with other characters. */
  static Channel about(Channel channel, Object asked) {
    String name = "";
    if (asked instanceof SampleRequest sample) {
      name = sample.getDistribution();
    } else if (asked instanceof CreateDistributionRequest create) {
      name = create.getName();
    } else if (asked instanceof GetDistributionRequest get) {
      name = get.getName();
    } else if (asked instanceof DeleteDistributionRequest delete) {
      name = delete.getName();
    }
    if (!name.matches("[\\x21-\\x7e]+")) {
      return channel;
    }
    Metadata headers = new Metadata();
    headers.put(DISTRIBUTION, name);
    return ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  private void cancelCurrent() {
    ClientCall<Q, R> call = current;
    if (call != null) {
      call.cancel("the caller no longer waits", null);
    }
  }

  private void failed(int number, Throwable cause) {
    SamplerdException error = SamplerdException.of(cause);
    Metadata trailers = Status.trailersFromThrowable(cause);
    String pushback = trailers == null ? null : trailers.get(PUSHBACK);
    long remaining = deadline.timeRemaining(TimeUnit.NANOSECONDS);
    double uniform = ThreadLocalRandom.current().nextDouble();
    Optional<Long> delay = policy.nextDelayNanos(number, mayRepeat(error), pushback, remaining, uniform);
    if (delay.isEmpty() || !budget.withdraw()) {
      result.completeExceptionally(error);
      return;
    }
    Executor pool = ForkJoinPool.commonPool();
    Runnable next = context.wrap(() -> attempt(number + 1));
    CompletableFuture.delayedExecutor(delay.get(), TimeUnit.NANOSECONDS, pool).execute(next);
  }

  /** An upload whose connection broke may have been done; a refused one was not. */
  private boolean mayRepeat(SamplerdException error) {
    boolean isUpload = method == (Object) SamplerServiceGrpc.getCreateDistributionMethod();
    boolean isForeignCancel = error.code() == Status.Code.CANCELLED && !result.isDone() && !context.isCancelled();
    if (isUpload && (isForeignCancel || error.code() == Status.Code.UNAVAILABLE)) {
      return false;
    }
    return error.isRetryable() || isForeignCancel;
  }

  /** Takes what comes of one attempt. */
  private final class Outcome implements StreamObserver<R> {
    private final int number;
    private R reply;

    Outcome(int number) {
      this.number = number;
    }

    @Override
    public void onNext(R value) {
      reply = value;
    }

    @Override
    public void onError(Throwable cause) {
      current = null; // over: not to be cancelled by what completes the future
      failed(number, cause);
    }

    @Override
    public void onCompleted() {
      current = null;
      budget.deposit();
      result.complete(reply); // it came before, or gRPC would have called onError
    }
  }
}
