package dev.samplerd.client;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import dev.samplerd.v1.SampleRequest;
import dev.samplerd.v1.SampleResponse;
import io.grpc.Status.Code;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.junit.After;
import org.junit.Before;
import org.junit.Test;

/** Calls and streams against a server within this process. */
public class SamplerClientTest {
  private FakeServer server;
  private SamplerClient client;

  /** Starts a server. */
  @Before
  public void start() throws Exception {
    server = new FakeServer("fake");
    client = FakeServer.client("fake");
  }

  /** Stops it. */
  @After
  public void stop() {
    client.close();
    server.close();
  }

  private static SamplerdException failureOf(CompletableFuture<?> future) {
    ExecutionException error = assertThrows(ExecutionException.class, () -> future.get(10, TimeUnit.SECONDS));
    return (SamplerdException) error.getCause();
  }

  /** A refusal with a hint is tried again, one without hope is not. */
  @Test
  public void retries() {
    assertArrayEquals(new int[] {7}, Samples.flat(client.sample(FakeServer.request(FakeServer.REFUSED_TWICE))));
    assertEquals(3, server.attempts.get());
    SampleRequest hopeless = FakeServer.request(FakeServer.REFUSED_FOR_GOOD);
    SamplerdException error = assertThrows(SamplerdException.class, () -> client.sample(hopeless));
    assertEquals(Code.RESOURCE_EXHAUSTED, error.code());
    assertTrue(error.isRetryable());
    assertEquals(4, server.attempts.get());
  }

  /** Where nobody listens every attempt fails at once, and the caller is told of nothing else. */
  @Test
  public void nobodyListens() {
    try (SamplerClient lost = SamplerClient.builder("127.0.0.1:1").retry(RetryPolicy.NEVER).build()) {
      for (int i = 0; i < 200; i++) {
        SampleRequest request = FakeServer.request(i);
        SamplerdException error = assertThrows(SamplerdException.class, () -> lost.sample(request));
        assertEquals(Code.UNAVAILABLE, error.code());
      }
    }
  }

  /** An error names the field. */
  @Test
  public void violations() {
    SampleRequest wrong = FakeServer.request(FakeServer.WRONG);
    SamplerdException error = assertThrows(SamplerdException.class, () -> client.sample(wrong));
    assertEquals(Code.INVALID_ARGUMENT, error.code());
    assertEquals(List.of(new SamplerdException.Violation("params.top_p", "no")), error.violations());
    assertEquals(1, server.attempts.get());
  }

  /** A deadline ends the call, and so does the caller. */
  @Test
  public void deadlineAndCancel() throws Exception {
    SampleRequest slow = FakeServer.request(FakeServer.NEVER_ANSWERED);
    SamplerClient hasty = client.withTimeout(Duration.ofMillis(20));
    assertEquals(Code.DEADLINE_EXCEEDED, assertThrows(SamplerdException.class, () -> hasty.sample(slow)).code());
    server.close();
    server = new FakeServer("other");
    try (SamplerClient other = FakeServer.client("other")) {
      CompletableFuture<SampleResponse> future = other.sampleAsync(slow);
      while (server.attempts.get() == 0) {
        Thread.onSpinWait();
      }
      future.cancel(true);
      assertTrue(server.cancelled.await(10, TimeUnit.SECONDS));
    }
  }

  /** Replies find their requests in whatever order they come; an error is its own request's. */
  @Test
  public void streamMatchesById() throws Exception {
    try (SamplerStream<SampleRequest, SampleResponse> stream = client.stream()) {
      CompletableFuture<SampleResponse> one = stream.send(SampleRequest.newBuilder().setNumSamples(3).build());
      CompletableFuture<SampleResponse> two = stream.send(FakeServer.request(FakeServer.WRONG));
      assertThrows(IllegalArgumentException.class, () -> stream.send(FakeServer.request(FakeServer.WRONG)));
      CompletableFuture<SampleResponse> three =
          stream.send(SampleRequest.newBuilder().setId(1L << 63).setNumSamples(2).build());
      assertEquals(List.of(0, 1, 2), one.get(10, TimeUnit.SECONDS).getSamplesList());
      assertEquals(List.of(1, 2, 3), one.get().getRanksList());
      assertEquals("params.top_p", failureOf(two).violations().get(0).field());
      assertEquals(List.of(0, 1), three.get(10, TimeUnit.SECONDS).getSamplesList());
    }
  }

  /** Parts can be taken as they come; what they throw is the future's. */
  @Test
  public void streamOfParts() throws Exception {
    List<Integer> chunks = new ArrayList<>();
    SampleRequest large = SampleRequest.newBuilder().setNumSamples(3).build();
    SamplerStream<SampleRequest, SampleResponse> stream = client.stream();
    CompletableFuture<Void> all = stream.send(large, part -> chunks.add(part.getChunk()));
    CompletableFuture<Void> thrown = stream.send(large, part -> Integer.parseInt("x"));
    stream.close();
    all.get(10, TimeUnit.SECONDS);
    assertThrows(ExecutionException.class, () -> thrown.get(10, TimeUnit.SECONDS));
    assertThrows(IllegalStateException.class, () -> stream.send(large));
    assertEquals(List.of(0, 1, 2), chunks);
  }

  /** A stream with no room waits; ending it wakes and fails everybody. */
  @Test
  public void streamHoldsBack() throws Exception {
    SampleRequest request = SampleRequest.newBuilder().setNumSamples(1).build();
    try (SamplerStream<SampleRequest, SampleResponse> stream = client.stream(2)) {
      CompletableFuture<SampleResponse> first = stream.send(request);
      CompletableFuture<SampleResponse> second = stream.send(request);
      CompletableFuture<SampleResponse> third =
          CompletableFuture.supplyAsync(() -> stream.send(request)).thenCompose(reply -> reply);
      assertThrows(java.util.concurrent.TimeoutException.class, () -> third.get(50, TimeUnit.MILLISECONDS));
      stream.cancel();
      for (CompletableFuture<SampleResponse> each : List.of(first, second, third)) {
        assertEquals(Code.CANCELLED, failureOf(each).code());
      }
    }
  }
}
