package dev.samplerd.client;

import dev.samplerd.v1.SampleRequest;
import dev.samplerd.v1.SampleResponse;
import dev.samplerd.v1.SamplerServiceGrpc;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.Status;
import java.util.Optional;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * The replies of one call of SampleDistribution, for one thread.
 *
 * <p>Rule 1: the next reply is asked for when one is taken, so at most one waits here. Rule 2: whoever gives up cancels.
 */
final class ChunkReplies extends ClientCall.Listener<SampleResponse> {
  /** What gRPC brings: a reply, or how the call ended. */
  private record Event(SampleResponse reply, Status status, Metadata trailers) {}

  private final ClientCall<SampleRequest, SampleResponse> call;
  private final BlockingQueue<Event> events = new LinkedBlockingQueue<>();

  ChunkReplies(Channel channel, SampleRequest request) {
    call = channel.newCall(SamplerServiceGrpc.getSampleDistributionMethod(), CallOptions.DEFAULT);
    call.start(this, new Metadata());
    call.request(1);
    call.sendMessage(request);
    call.halfClose();
  }

  /**
   * Gives the next reply; empty after the last.
   *
   * @param nanos how long to wait
   * @throws SamplerdException the call failed, or no reply came in time, or the thread was interrupted
   */
  Optional<SampleResponse> next(long nanos) {
    Event event;
    try {
      event = events.poll(nanos, TimeUnit.NANOSECONDS);
    } catch (InterruptedException error) {
      cancel();
      Thread.currentThread().interrupt();
      throw SamplerdException.cancelled(error);
    }
    if (event == null) {
      cancel();
      throw SamplerdException.of(Status.DEADLINE_EXCEEDED.withDescription("no chunk came in time").asRuntimeException());
    }
    if (event.reply != null) {
      call.request(1);
      return Optional.of(event.reply);
    }
    events.add(event); // it stays how the call ended, whoever asks again
    if (event.status.isOk()) {
      return Optional.empty();
    }
    throw SamplerdException.of(event.status.asRuntimeException(event.trailers));
  }

  /** Ends the call, if it has not ended. */
  void cancel() {
    call.cancel("the caller takes no more", null);
  }

  @Override
  public void onMessage(SampleResponse reply) {
    events.add(new Event(reply, null, null));
  }

  @Override
  public void onClose(Status status, Metadata trailers) {
    events.add(new Event(null, status, trailers));
  }
}
