package dev.samplerd.client;

import com.google.rpc.Status;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.MethodDescriptor;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;
import java.util.function.Supplier;

/**
 * Many requests over one call, each answered when it is ready.
 *
 * <p>Any number of threads may send. At most {@code maxInFlight} requests are in flight; with more, {@link #send} waits
 * for a reply. A request that fails fails its own future alone; when the stream itself breaks, all futures fail, and
 * nothing is sent again.
 *
 * @param <Q> the request
 * @param <R> the reply
 */
public final class SamplerStream<Q, R> implements AutoCloseable {
  private final Shape<Q, R> shape;
  private final Semaphore room;
  private final int maxInFlight;
  private final Duration closeTimeout;
  private final AtomicLong lastId = new AtomicLong();
  private final Map<Long, Pending<R>> pending = new ConcurrentHashMap<>();
  private final CompletableFuture<Void> ended = new CompletableFuture<>();
  private final ClientCall<Q, R> call;
  private final StreamObserver<Q> requests;
  private boolean closed; // guarded by this

  /** Who waits for a reply: where its parts go, and what the future then is. */
  private record Pending<R>(Consumer<R> onPart, Runnable onLast, Consumer<Throwable> onFailure) {}

  SamplerStream(
      Channel channel, MethodDescriptor<Q, R> method, Shape<Q, R> shape, int maxInFlight, Duration closeTimeout) {
    if (maxInFlight < 1) {
      throw new IllegalArgumentException("maxInFlight must be at least 1, got " + maxInFlight);
    }
    this.shape = shape;
    this.maxInFlight = maxInFlight;
    this.closeTimeout = closeTimeout;
    room = new Semaphore(maxInFlight);
    call = channel.newCall(method, CallOptions.DEFAULT);
    requests = ClientCalls.asyncBidiStreamingCall(call, new Replies());
  }

  /**
   * Sends one request. Waits while {@code maxInFlight} others are in flight.
   *
   * <p>Cancelling the future drops the reply, but not the work: that belongs to the stream. {@code orTimeout} bounds it.
   *
   * @param request its id, if it has one, must differ from all that are in flight; if it is 0 the stream chooses one
   * @return the reply, the parts of a large one put together; or {@link SamplerdException}
   * @throws IllegalArgumentException if a request with its id is in flight
   * @throws IllegalStateException if the stream was closed
   */
  public CompletableFuture<R> send(Q request) {
    Shape.Whole<R> whole = shape.newWhole();
    return send(request, whole, whole);
  }

  /**
   * Sends one request whose reply may be too large to keep, and takes it part by part.
   *
   * @param request as in {@link #send(Q)}
   * @param onPart takes each part in order, on the thread that brings them: while it runs no other reply arrives, and
   *     the server stops sending
   * @return done when the last part was taken; or {@link SamplerdException}, or what onPart threw
   */
  public CompletableFuture<Void> send(Q request, Consumer<? super R> onPart) {
    return send(request, onPart::accept, () -> null);
  }

  private <T> CompletableFuture<T> send(Q request, Consumer<R> onPart, Supplier<T> result) {
    takeRoom();
    CompletableFuture<T> future = new CompletableFuture<>();
    // Completed on another thread: what follows may send again, and waiting there must not keep replies from coming.
    Runnable onLast = () -> future.completeAsync(result);
    Consumer<Throwable> onFailure = error -> CompletableFuture.runAsync(() -> future.completeExceptionally(error));
    try {
      long id = register(shape.idOf(request), new Pending<>(onPart, onLast, onFailure));
      transmit(request, id);
    } catch (IllegalArgumentException | IllegalStateException error) {
      room.release();
      throw error;
    }
    return future;
  }

  private void takeRoom() {
    try {
      room.acquire();
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
      throw SamplerdException.cancelled(error);
    }
  }

  private long register(long id, Pending<R> entry) {
    if (id != 0) {
      if (pending.putIfAbsent(id, entry) != null) {
        throw new IllegalArgumentException("request " + Long.toUnsignedString(id) + " is under way");
      }
      return id;
    }
    long free = lastId.incrementAndGet();
    while (pending.putIfAbsent(free, entry) != null) {
      free = lastId.incrementAndGet();
    }
    return free;
  }

  private synchronized void transmit(Q request, long id) {
    if (closed) {
      pending.remove(id);
      throw new IllegalStateException("the stream is closed");
    }
    if (!ended.isDone()) {
      try {
        requests.onNext(shape.withId(request, id));
        return;
      } catch (IllegalStateException error) { // it broke in between; whoever noticed fails all that are pending
        call.cancel("a message could not be sent", error);
      }
    }
    ended.whenComplete((nothing, cause) -> failPending(cause)); // at once, or when it has ended
  }

  /**
   * Sends no more, and waits for the replies in flight, no longer than the client's timeout; what is then missing is
   * cancelled.
   */
  @Override
  public void close() {
    synchronized (this) {
      if (!closed && !ended.isDone()) {
        try {
          requests.onCompleted();
        } catch (IllegalStateException error) { // it was cancelled, and will have ended
          call.cancel("closed after it was cancelled", error);
        }
      }
      closed = true;
    }
    try {
      ended.get(closeTimeout.toNanos(), TimeUnit.NANOSECONDS);
    } catch (TimeoutException error) {
      cancel();
    } catch (InterruptedException error) {
      cancel();
      Thread.currentThread().interrupt();
    } catch (ExecutionException error) {
      return; // the futures have told it
    }
  }

  /** Ends the stream at once; the futures of all that are in flight fail as CANCELLED. */
  public void cancel() {
    call.cancel("cancelled by the caller", null);
  }

  private void failPending(Throwable cause) {
    Throwable error = cause == null ? SamplerdException.cancelled(null) : cause;
    for (Long id : pending.keySet()) {
      finish(id, entry -> entry.onFailure().accept(error));
    }
  }

  /** Takes the entry out, once: whoever gets it may end it. */
  private void finish(long id, Consumer<Pending<R>> ending) {
    Pending<R> entry = pending.remove(id);
    if (entry != null) {
      room.release();
      ending.accept(entry);
    }
  }

  /** Hands each reply to whom it belongs. */
  private final class Replies implements StreamObserver<R> {
    @Override
    public void onNext(R reply) {
      long id = shape.requestOf(reply);
      Pending<R> entry = pending.get(id);
      Status error = shape.errorOf(reply);
      if (entry == null) {
        return; // its onPart threw, and it was given up
      }
      if (error != null) {
        finish(id, failed -> failed.onFailure().accept(SamplerdException.of(error)));
        return;
      }
      try {
        entry.onPart().accept(reply);
      } catch (RuntimeException thrown) {
        finish(id, failed -> failed.onFailure().accept(thrown));
        return;
      }
      if (shape.isLast(reply)) {
        finish(id, done -> done.onLast().run());
      }
    }

    @Override
    public void onError(Throwable cause) {
      end(SamplerdException.of(cause));
    }

    @Override
    public void onCompleted() {
      end(SamplerdException.of(
          io.grpc.Status.UNAVAILABLE.withDescription("the server closed the stream").asRuntimeException()));
    }

    private void end(SamplerdException cause) {
      ended.completeExceptionally(cause);
      failPending(cause);
      room.release(maxInFlight); // wakes those who wait for room: they find that it has ended
    }
  }
}
