package dev.samplerd.client;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertThrows;
import static org.junit.Assert.assertTrue;

import dev.samplerd.v1.SampleRequest;
import io.grpc.Status.Code;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.concurrent.TimeUnit;
import org.junit.After;
import org.junit.Before;
import org.junit.Test;

/** Large draws from a server within this process. */
public class SampleChunksTest {
  private FakeServer server;
  private SamplerClient client;

  /** Starts a server. */
  @Before
  public void start() throws Exception {
    server = new FakeServer("chunks");
    client = FakeServer.client("chunks");
  }

  /** Stops it. */
  @After
  public void stop() {
    client.close();
    server.close();
  }

  private static SampleRequest from(String name) {
    return SampleRequest.newBuilder().setDistribution(name).build();
  }

  /** Refusals before the first chunk are tried again. */
  @Test
  public void chunksComeInOrder() {
    List<String> got = new ArrayList<>();
    try (SampleChunks chunks = client.drawChunks(from("busy"))) {
      for (SampleChunk chunk : chunks) {
        got.add(chunk.offset() + ":" + chunk.samples()[0]);
      }
      assertThrows(NoSuchElementException.class, chunks::next);
    }
    assertEquals(List.of("0:0", "2:1", "4:2"), got);
    assertEquals(3, server.attempts.get());
  }

  /** What has begun is not tried again, however it ends, and says so once. */
  @Test
  public void nothingIsTriedAgainAfterTheFirst() {
    for (String name : List.of("broken", "cut")) {
      try (SampleChunks chunks = client.drawChunks(from(name))) {
        assertEquals(0, chunks.next().offset());
        assertEquals(Code.UNAVAILABLE, assertThrows(SamplerdException.class, chunks::hasNext).code());
        assertFalse(chunks.hasNext());
      }
    }
    assertEquals(2, server.attempts.get());
  }

  /** A chunk that does not come is waited for no longer than the timeout, and the server is told. */
  @Test
  public void waitsAreBounded() throws Exception {
    try (SampleChunks chunks = client.withTimeout(Duration.ofMillis(300)).drawChunks(from("silent"))) {
      chunks.next();
      assertEquals(Code.DEADLINE_EXCEEDED, assertThrows(SamplerdException.class, chunks::next).code());
      assertTrue(server.cancelled.await(10, TimeUnit.SECONDS));
    }
  }

  /** Whoever leaves ends the call. */
  @Test
  public void closingEndsTheCall() throws Exception {
    try (SampleChunks chunks = client.drawChunks(from("silent"))) {
      chunks.next();
    }
    assertTrue(server.cancelled.await(10, TimeUnit.SECONDS));
  }
}
