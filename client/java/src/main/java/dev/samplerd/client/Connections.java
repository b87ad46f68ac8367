package dev.samplerd.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** Channels that calls take turns on; a stream stays on the one that it began on. */
final class Connections extends Channel {
  private final List<ManagedChannel> channels;
  private final AtomicInteger turn = new AtomicInteger();

  Connections(List<ManagedChannel> channels) {
    this.channels = channels;
  }

  @Override
  public <Q, R> ClientCall<Q, R> newCall(MethodDescriptor<Q, R> method, CallOptions options) {
    return channels.get(Math.floorMod(turn.getAndIncrement(), channels.size())).newCall(method, options);
  }

  @Override
  public String authority() {
    return channels.get(0).authority();
  }

  /** Ends all connections; calls in flight have this long to finish. */
  void close(long seconds) {
    channels.forEach(ManagedChannel::shutdown);
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
    try {
      boolean areOver = true;
      for (ManagedChannel channel : channels) {
        areOver &= channel.awaitTermination(end - System.nanoTime(), TimeUnit.NANOSECONDS);
      }
      if (areOver) {
        return;
      }
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
    }
    channels.forEach(ManagedChannel::shutdownNow);
  }
}
