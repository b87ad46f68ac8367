package dev.samplerd.client;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertThrows;

import java.util.List;
import org.junit.Test;

/** A token is not shown to the network. */
public class SamplerClientBuilderTest {
  /** What is this machine. */
  @Test
  public void loopback() {
    for (String target : List.of("127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "dns:///localhost:1")) {
      assertEquals(target, true, SamplerClientBuilder.isLoopback(target));
    }
    for (String target : List.of("10.0.0.1:1", "localhost.example:1", "127.0.0.1.example:1", "[::2]:1")) {
      assertEquals(target, false, SamplerClientBuilder.isLoopback(target));
    }
  }

  /** Refused unless insisted on. */
  @Test
  public void plaintextToken() {
    assertThrows(IllegalStateException.class, () -> SamplerClient.builder("10.0.0.1:1").token("t").build());
    SamplerClient.builder("10.0.0.1:1").token("t").allowPlaintextToken().build().close();
    SamplerClient.builder("10.0.0.1:1").token("t").tls().build().close();
    SamplerClient.builder("127.0.0.1:1").token("t").build().close();
  }
}
