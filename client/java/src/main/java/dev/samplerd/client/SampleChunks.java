package dev.samplerd.client;

import dev.samplerd.v1.SampleRequest;
import dev.samplerd.v1.SampleResponse;
import io.grpc.Channel;
import io.grpc.Context;
import io.grpc.Metadata;
import io.grpc.Status;
import java.time.Duration;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Optional;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * A large draw from an uploaded distribution, chunk by chunk, in bounded memory. For one thread; to be closed.
 *
 * <p>The server draws as the chunks are taken. {@link #close} ends the call wherever it is, and so do the cancellation of
 * the {@link Context} in which it began and an interruption of the thread that waits.
 */
public final class SampleChunks implements Iterator<SampleChunk>, Iterable<SampleChunk>, AutoCloseable {
  private final Context context = Context.current();
  private final Duration wait;
  private final ChunkReplies replies;
  private Optional<SampleResponse> next;
  private long offset;
  private boolean isOver;

  /** Begins, and waits for the first chunk, trying again as the policy says. */
  SampleChunks(Channel channel, SampleRequest request, RetryPolicy policy, RetryBudget budget, Duration wait) {
    this.wait = wait;
    Channel about = UnaryCall.about(channel, request);
    long end = System.nanoTime() + wait.toNanos();
    ChunkReplies begun = new ChunkReplies(about, request);
    for (int attempt = 1; ; attempt++) {
      try {
        next = begun.next(end - System.nanoTime());
        break;
      } catch (SamplerdException error) {
        pause(delay(attempt, error, policy, budget, end - System.nanoTime()));
        begun = new ChunkReplies(about, request);
      }
    }
    budget.deposit();
    replies = begun;
  }

  /** How long to wait before the next attempt, in nanoseconds. */
  private long delay(int attempt, SamplerdException error, RetryPolicy policy, RetryBudget budget, long remaining) {
    Metadata trailers = Status.trailersFromThrowable(error);
    String pushback = trailers == null ? null : trailers.get(UnaryCall.PUSHBACK);
    boolean isForeignCancel =
        error.code() == Status.Code.CANCELLED && !context.isCancelled() && !Thread.currentThread().isInterrupted();
    double uniform = ThreadLocalRandom.current().nextDouble();
    Optional<Long> delay =
        policy.nextDelayNanos(attempt, error.isRetryable() || isForeignCancel, pushback, remaining, uniform);
    if (delay.isEmpty() || !budget.withdraw()) {
      throw error;
    }
    return delay.get();
  }

  private static void pause(long nanos) {
    try {
      TimeUnit.NANOSECONDS.sleep(nanos);
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
      throw SamplerdException.cancelled(error);
    }
  }

  /**
   * Waits for the next chunk, no longer than the client's timeout.
   *
   * @return whether there is one
   * @throws SamplerdException DEADLINE_EXCEEDED if it took too long, UNAVAILABLE if the call ended before the last one, or
   *     as the server says
   */
  @Override
  public boolean hasNext() {
    if (isOver) {
      return false;
    }
    if (next == null) {
      try {
        next = replies.next(wait.toNanos());
      } catch (SamplerdException error) {
        isOver = true;
        throw error;
      }
    }
    if (next.isEmpty()) {
      isOver = true;
      Status ended = Status.UNAVAILABLE.withDescription("the server ended the call before the last chunk");
      throw SamplerdException.of(ended.asRuntimeException());
    }
    return true;
  }

  @Override
  public SampleChunk next() {
    if (!hasNext()) {
      throw new NoSuchElementException("the last chunk was taken");
    }
    SampleResponse reply = next.get();
    SampleChunk chunk = new SampleChunk(offset, Samples.flat(reply), reply);
    offset += chunk.samples().length;
    next = null;
    isOver = reply.getFinal();
    return chunk;
  }

  /** The chunks that are left: each is given once. */
  @Override
  public Iterator<SampleChunk> iterator() {
    return this;
  }

  /** Ends the call, unless the last chunk was taken: then it ends by itself. */
  @Override
  public void close() {
    if (!isOver) {
      isOver = true;
      replies.cancel();
    }
  }
}
